//! The built-in layouts, as `data/layouts.tsv` holds them (its first lines say how).

use std::sync::OnceLock;

use crate::layout::Field;

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

/// All sets, by version.
pub(crate) fn sets() -> &'static [Set] {
    static TYPES: OnceLock<Vec<(u32, Type)>> = OnceLock::new();
    static SETS: OnceLock<Vec<Set>> = OnceLock::new();
    let text = include_str!("../data/layouts.tsv");
    SETS.get_or_init(|| {
        let types = TYPES.get_or_init(|| text.lines().filter_map(parse_type).collect());
        text.lines().filter_map(|line| parse_set(line, types)).collect()
    })
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
        let text = include_str!("../data/layouts.tsv");
        let count = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count();
        assert_eq!(sets().len(), count("L\t"));
        assert_eq!(text.lines().filter_map(parse_type).count(), count("T\t"));
        let fields: usize = text.lines().filter_map(parse_type).map(|(_, ty)| ty.fields.len()).sum();
        let written =
            text.lines().filter(|line| line.starts_with("T\t")).map(|line| line.matches('=').count());
        assert_eq!(fields, written.sum::<usize>());
        for set in sets() {
            assert!(set.versions.iter().all(|version| build_and_revision(version).is_some()));
            assert!(set.types.is_sorted_by_key(|ty| ty.name));
            assert_eq!(set.ty("_LIST_ENTRY").unwrap().size, 16, "{:?}", set.versions);
            for ty in ["_KPRCB", "_KTHREAD", "_ETHREAD", "_KPROCESS", "_EPROCESS"] {
                assert!(set.ty(ty).is_some(), "{ty} of {:?}", set.versions);
            }
        }
    }
}
