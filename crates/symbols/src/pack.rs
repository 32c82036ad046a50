//! The built-in layouts, as `data/layouts.tsv` and `data/layouts-x86.tsv` hold them (their first lines say how).

use std::sync::OnceLock;

use stopcode_base::Arch;

use crate::field::Field;

/// One structure as some kernels have it.
pub(crate) struct Type {
    pub(crate) name: &'static str,
    pub(crate) size: u32,
    /// The public declaration ends early: the fields hold, the size does not.
    pub(crate) cut: bool,
    /// By name.
    fields: Vec<(&'static str, Field)>,
}

impl Type {
    pub(crate) fn field_names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|(name, _)| *name)
    }

    pub(crate) fn field(&self, name: &str) -> Option<Field> {
        let at = self.fields.binary_search_by_key(&name, |(field, _)| field).ok()?;
        self.fields.get(at).map(|(_, field)| *field)
    }
}

/// The structures of one or several kernels.
pub(crate) struct Set {
    pub(crate) source: &'static str,
    /// `10.0.19041.804`; a set may name only the build, `10.0.19041`.
    pub(crate) versions: Vec<&'static str>,
    /// By name of the type.
    types: Vec<&'static Type>,
}

impl Set {
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.types.iter().map(|ty| ty.name)
    }

    pub(crate) fn ty(&self, name: &str) -> Option<&'static Type> {
        let at = self.types.binary_search_by_key(&name, |ty| ty.name).ok()?;
        self.types.get(at).copied()
    }
}

/// `19041` and `804` of `10.0.19041.804`; the revision is 0 where none is given.
pub(crate) fn build_and_revision(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').skip(2);
    let build = parts.next()?.parse().ok()?;
    Some((build, parts.next().map_or(Some(0), |revision| revision.parse().ok())?))
}

/// One file, and what was read of it.
struct Pack {
    text: &'static str,
    types: OnceLock<Vec<(u32, Type)>>,
    sets: OnceLock<Vec<Set>>,
}

static X64: Pack = Pack::new(include_str!("../data/layouts.tsv"));
static X86: Pack = Pack::new(include_str!("../data/layouts-x86.tsv"));

impl Pack {
    const fn new(text: &'static str) -> Self {
        Self { text, types: OnceLock::new(), sets: OnceLock::new() }
    }

    fn sets(&'static self) -> &'static [Set] {
        self.sets.get_or_init(|| {
            let types = self.types.get_or_init(|| self.text.lines().filter_map(parse_type).collect());
            self.text.lines().filter_map(|line| parse_set(line, types)).collect()
        })
    }
}

/// All sets of an architecture, by version.
pub(crate) fn sets(arch: Arch) -> &'static [Set] {
    match arch {
        Arch::X64 => X64.sets(),
        Arch::X86 => X86.sets(),
        _ => &[],
    }
}

fn parse_type(line: &'static str) -> Option<(u32, Type)> {
    let mut cells = line.strip_prefix("T\t")?.split('\t');
    let number = hex(cells.next()?)?;
    let name = cells.next()?;
    let size = cells.next()?;
    let mut fields: Vec<_> = cells.next()?.split(' ').filter_map(parse_field).collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    Some((
        number,
        Type { name, size: hex(size.trim_start_matches('~'))?, cut: size.starts_with('~'), fields },
    ))
}

fn parse_field(text: &'static str) -> Option<(&'static str, Field)> {
    let (name, place) = text.split_once('=')?;
    let mut numbers = place.split('.').map(hex);
    let offset = numbers.next()??;
    let bits = numbers.next().flatten().zip(numbers.next().flatten());
    Some((name, Field { offset, bits }))
}

fn parse_set(line: &'static str, types: &'static [(u32, Type)]) -> Option<Set> {
    let mut cells = line.strip_prefix("L\t")?.split('\t');
    let source = cells.next()?;
    let versions = cells.next()?.split(' ').collect();
    let numbers = cells.next()?.split(' ').filter_map(hex);
    let types = numbers
        .filter_map(|number| types.binary_search_by_key(&number, |(known, _)| *known).ok())
        .filter_map(|at| types.get(at).map(|(_, ty)| ty))
        .collect();
    Some(Set { source, versions, types })
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        for (arch, pack, list_entry) in [(Arch::X64, &X64, 16), (Arch::X86, &X86, 8)] {
            let count = |prefix: &str| pack.text.lines().filter(|line| line.starts_with(prefix)).count();
            assert_eq!(sets(arch).len(), count("L\t"));
            let types = || pack.text.lines().filter_map(parse_type);
            assert_eq!(types().count(), count("T\t"));
            let fields: usize = types().map(|(_, ty)| ty.fields.len()).sum();
            let lines = pack.text.lines().filter(|line| line.starts_with("T\t"));
            assert_eq!(fields, lines.map(|line| line.matches('=').count()).sum::<usize>());
            for set in sets(arch) {
                assert!(set.versions.iter().all(|version| build_and_revision(version).is_some()));
                assert!(set.types.is_sorted_by_key(|ty| ty.name));
                assert_eq!(set.ty("_LIST_ENTRY").unwrap().size, list_entry, "{:?}", set.versions);
                for ty in ["_KPRCB", "_KTHREAD", "_ETHREAD", "_KPROCESS", "_EPROCESS"] {
                    assert!(set.ty(ty).is_some(), "{ty} of {:?}", set.versions);
                }
            }
        }
    }
}
