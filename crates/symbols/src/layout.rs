//! Where the fields of kernel structures lie, by build.
//!
//! Offsets change with the build, now and then with an update of it. The pack holds some updates of most builds, so
//! a layout is a *set of candidates*, and a field is told only if every candidate left has it in the same place.
//! What a dump says of itself (three structure sizes and two dozen offsets in KDBG) narrows the set, and withholds
//! what it contradicts.

use std::collections::BTreeSet;
use std::fmt;

use stopcode_base::Arch;

use crate::field::Field;
use crate::pack::{self, Set, Type, build_and_revision};

mod inferred;

/// Structure sizes a dump gives (KDBG `SizePrcb`, `SizeEThread`, `SizeEProcess`), in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// `_KPRCB`.
    pub prcb: u32,
    /// `_ETHREAD`.
    pub ethread: u32,
    /// `_EPROCESS`.
    pub eprocess: u32,
}

/// An offset the dump itself gives; [`crate::KDBG_OFFSETS`] says which there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownOffset {
    /// The structure.
    pub ty: &'static str,
    /// Its field.
    pub field: &'static str,
    /// Where the field lies.
    pub offset: u32,
}

/// What is known of the kernel whose layout is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its architecture.
    pub arch: Arch,
    /// Its build: 19041.
    pub build: u32,
    /// Its update, if known: 804.
    pub revision: Option<u32>,
    /// Structure sizes out of the dump.
    pub sizes: Option<Sizes>,
    /// Offsets out of the dump.
    pub offsets: &'a [KnownOffset],
}

/// Why there is no layout.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoLayout {
    /// The packs are of x64 and x86 kernels, and of this one nothing can be inferred from them.
    #[error("no layouts of {0} kernels are built in")]
    Architecture(Arch),
    /// The pack has no kernel of this build, and the dump gives no sizes to compare with others.
    #[error("no layout of build {0} is built in, and the dump gives no structure sizes to find one like it")]
    UnknownBuild(u32),
    /// The pack has no kernel of this build, and none with these sizes.
    #[error(
        "no layout of build {build} is built in; that of the nearest build, {nearest}, has other structure sizes: not used"
    )]
    SizesDiffer {
        /// The build wanted.
        build: u32,
        /// The nearest build in the pack.
        nearest: u32,
    },
}

/// The built-in layouts.
#[derive(Clone, Copy, Debug)]
pub struct Layouts;

impl Layouts {
    /// The layout to use for a kernel.
    ///
    /// # Errors
    /// If none can be trusted; the error says why.
    pub fn for_kernel(wanted: &Wanted<'_>) -> Result<Layout, NoLayout> {
        if wanted.arch == Arch::Arm64 {
            return inferred::fields(wanted).map(|fields| Layout::inferred(fields, wanted));
        }
        let branch = branch(wanted.build);
        let same: Vec<&Set> = pack::sets(wanted.arch).iter().filter(|set| of_branch(set, branch)).collect();
        if same.is_empty() {
            return nearest(wanted, branch);
        }
        let near = match wanted.revision {
            Some(revision) => around(&same, branch, revision),
            None => same,
        };
        Ok(Layout::new(near, Choice::Build(wanted.build), wanted))
    }
}

/// The build a kernel is of: feature updates that only switch things on run the kernel of the build before them.
fn branch(build: u32) -> u32 {
    match build {
        18363 => 18362,
        19042..=19045 => 19041,
        22631..=22635 => 22621,
        26120 | 26200..=26220 => 26100,
        other => other,
    }
}

fn of_branch(set: &Set, wanted: u32) -> bool {
    set.versions.iter().filter_map(|v| build_and_revision(v)).any(|(build, _)| branch(build) == wanted)
}

/// The sets of the updates next to this one: the one it is in, or that of the last before it and the first after it.
fn around(sets: &[&'static Set], wanted: u32, revision: u32) -> Vec<&'static Set> {
    let updates = || {
        sets.iter().flat_map(|&set| {
            set.versions
                .iter()
                .filter_map(|version| build_and_revision(version))
                .filter(|(build, _)| branch(*build) == wanted)
                .map(move |(_, update)| (update, set))
        })
    };
    let before = updates().filter(|(update, _)| *update <= revision).max_by_key(|(update, _)| *update);
    let after = updates().filter(|(update, _)| *update >= revision).min_by_key(|(update, _)| *update);
    let mut near: Vec<&Set> = before.into_iter().chain(after).map(|(_, set)| set).collect();
    near.dedup_by(|a, b| std::ptr::eq(*a, *b));
    near
}

/// A layout for a build the pack does not have: that of the nearest build, if all three sizes are the same.
fn nearest(wanted: &Wanted<'_>, build: u32) -> Result<Layout, NoLayout> {
    let Some(sizes) = wanted.sizes else { return Err(NoLayout::UnknownBuild(wanted.build)) };
    let distance = |set: &Set| {
        let builds = set.versions.iter().filter_map(|version| build_and_revision(version));
        builds.map(|(there, _)| (there.abs_diff(build), there)).min()
    };
    let alike = |set: &&Set| Family::ALL.iter().all(|family| family.size_in(set) == Some(family.size(sizes)));
    let closest = pack::sets(wanted.arch).iter().filter(alike).filter_map(distance).min();
    let Some((_, there)) = closest else {
        let nearest = pack::sets(wanted.arch).iter().filter_map(distance).min().map_or(0, |(_, there)| there);
        return Err(NoLayout::SizesDiffer { build: wanted.build, nearest });
    };
    let sets =
        pack::sets(wanted.arch).iter().filter(alike).filter(|set| of_branch(set, branch(there))).collect();
    Ok(Layout::new(sets, Choice::Nearest { build: wanted.build, there }, wanted))
}

/// Structures that change together: the outer one, whose size a dump gives, and what lies in or around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    Prcb,
    Thread,
    Process,
}

impl Family {
    const ALL: [Self; 3] = [Self::Prcb, Self::Thread, Self::Process];

    fn of(ty: &str) -> Option<Self> {
        match ty {
            "_KPRCB" | "_KPCR" => Some(Self::Prcb),
            "_ETHREAD" | "_KTHREAD" => Some(Self::Thread),
            "_EPROCESS" | "_KPROCESS" => Some(Self::Process),
            _ => None,
        }
    }

    /// The structure whose size is known.
    fn outer(self) -> &'static str {
        match self {
            Self::Prcb => "_KPRCB",
            Self::Thread => "_ETHREAD",
            Self::Process => "_EPROCESS",
        }
    }

    fn size(self, sizes: Sizes) -> u32 {
        match self {
            Self::Prcb => sizes.prcb,
            Self::Thread => sizes.ethread,
            Self::Process => sizes.eprocess,
        }
    }

    /// The size a set has; `None` if its declaration is cut short.
    fn size_in(self, set: &Set) -> Option<u32> {
        set.ty(self.outer()).filter(|ty| !ty.cut).map(|ty| ty.size)
    }
}

/// What the candidates of a family rest on.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Footing {
    /// The dump gives no size.
    Unchecked,
    /// The size is the dump's.
    SizeAgrees,
    /// Only the public part is known, which has no size to compare.
    PublicPart,
    /// The dump's size lies between those of earlier and later kernels of the build: fields on which they agree.
    Between { here: u32, least: u32, most: u32 },
    /// The size differs: fields up to the last one whose place the dump confirms.
    Confirmed { here: u32, there: u32, upto: Option<(&'static str, u32)> },
}

struct FamilyChoice {
    family: Family,
    sets: Vec<&'static Set>,
    footing: Footing,
}

impl FamilyChoice {
    fn new(family: Family, all: &[&'static Set], wanted: &Wanted<'_>) -> Self {
        let known: Vec<&KnownOffset> =
            wanted.offsets.iter().filter(|known| Family::of(known.ty) == Some(family)).collect();
        let contradicted = |set: &&'static Set| {
            known.iter().any(|known| {
                let there = set.ty(known.ty).and_then(|ty| ty.field(known.field));
                there.is_some_and(|field| field.offset != known.offset)
            })
        };
        let mut sets: Vec<&Set> = all.iter().copied().filter(|set| !contradicted(set)).collect();
        let footing = match wanted.sizes.map(|sizes| family.size(sizes)) {
            None => Footing::Unchecked,
            Some(here) => Self::by_size(family, &mut sets, here, &known),
        };
        Self { family, sets, footing }
    }

    /// Narrows the sets to those of the dump's size, or says what else can be used of them.
    fn by_size(family: Family, sets: &mut Vec<&Set>, here: u32, known: &[&KnownOffset]) -> Footing {
        if sets.iter().any(|set| family.size_in(set) == Some(here)) {
            sets.retain(|set| family.size_in(set) == Some(here));
            return Footing::SizeAgrees;
        }
        let sizes = || sets.iter().filter_map(|set| family.size_in(set));
        match (sizes().min(), sizes().max()) {
            (Some(least), Some(most)) if least < here && here < most => {
                Footing::Between { here, least, most }
            }
            (Some(_), Some(there)) => {
                Footing::Confirmed { here, there, upto: confirmed(family, sets, known) }
            }
            _ => Footing::PublicPart,
        }
    }

    /// Whether a field of that type and place may be told.
    fn allows(&self, ty: &Type, field: Field) -> bool {
        match &self.footing {
            Footing::Confirmed { upto, .. } => upto.is_some_and(|(confirmed, last)| {
                // The inner structure of a thread or process is the first member of the outer one.
                (confirmed == ty.name || confirmed == self.family.outer()) && field.offset <= last
            }),
            _ => true,
        }
    }
}

/// The furthest place in a structure that the dump confirms; the outer structure's counts for the inner one, too.
fn confirmed(family: Family, sets: &[&Set], known: &[&KnownOffset]) -> Option<(&'static str, u32)> {
    known
        .iter()
        .filter(|known| {
            sets.iter().all(|set| set.ty(known.ty).and_then(|ty| ty.field(known.field)).is_some())
        })
        .map(|known| (known.ty, known.offset))
        .max_by_key(|(ty, offset)| (*ty == family.outer(), *offset))
}

/// How the sets were chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    Build(u32),
    Nearest {
        build: u32,
        there: u32,
    },
    /// From the dump's own offsets and the x64 layout of the same build.
    Inferred {
        arch: Arch,
        build: u32,
    },
}

/// Where fields lie in one kernel.
pub struct Layout {
    choice: Choice,
    /// The exact version, if the pack has the very update.
    exact: Option<&'static str>,
    families: [FamilyChoice; 3],
    /// For all other types.
    sets: Vec<&'static Set>,
    known: Vec<KnownOffset>,
    sizes: Option<Sizes>,
    /// Of [`Choice::Inferred`], which has no sets.
    inferred: Vec<(&'static str, &'static str, Field)>,
}

impl Layout {
    fn inferred(fields: Vec<(&'static str, &'static str, Field)>, wanted: &Wanted<'_>) -> Self {
        let choice = Choice::Inferred { arch: wanted.arch, build: wanted.build };
        Self { choice, inferred: fields, ..Self::new(Vec::new(), choice, wanted) }
    }

    fn new(sets: Vec<&'static Set>, choice: Choice, wanted: &Wanted<'_>) -> Self {
        let families = Family::ALL.map(|family| FamilyChoice::new(family, &sets, wanted));
        let agreed = |set: &&Set| {
            families.iter().all(|choice| {
                choice.footing != Footing::SizeAgrees
                    || choice.sets.iter().any(|other| std::ptr::eq(*other, *set))
            })
        };
        let narrowed: Vec<&Set> = sets.iter().copied().filter(agreed).collect();
        let sets = if narrowed.is_empty() { sets } else { narrowed };
        let exact = wanted.revision.and_then(|revision| {
            let version = |v: &&&str| build_and_revision(v) == Some((branch(wanted.build), revision));
            sets.iter().flat_map(|set| set.versions.iter()).find(version).copied()
        });
        Self {
            choice,
            exact,
            families,
            sets,
            known: wanted.offsets.to_vec(),
            sizes: wanted.sizes,
            inferred: Vec::new(),
        }
    }

    /// Where a field lies. What the dump itself says comes first. `None` if the structure or field is not known, if
    /// the updates of the build differ on it, or if the dump contradicts the layout there.
    pub fn field(&self, ty: &str, field: &str) -> Option<Field> {
        if let Some(known) = self.known.iter().find(|known| known.ty == ty && known.field == field) {
            return Some(Field { offset: known.offset, bits: None });
        }
        if let Some((.., place)) = self.inferred.iter().find(|(of, name, _)| *of == ty && *name == field) {
            return Some(*place);
        }
        let family = self.family(ty);
        let sets = family.map_or(&self.sets, |family| &family.sets);
        agreed(sets.iter().map(|set| {
            let ty = set.ty(ty)?;
            ty.field(field).filter(|place| family.is_none_or(|family| family.allows(ty, *place)))
        }))
    }

    /// The size of a structure in bytes, under the same conditions.
    pub fn size(&self, ty: &str) -> Option<u32> {
        let family = self.family(ty);
        if let (Some(family), Some(sizes)) = (family, self.sizes)
            && family.family.outer() == ty
        {
            return Some(family.family.size(sizes));
        }
        if family.is_some_and(|family| matches!(family.footing, Footing::Confirmed { .. })) {
            return None;
        }
        let sets = family.map_or(&self.sets, |family| &family.sets);
        agreed(sets.iter().map(|set| set.ty(ty).filter(|ty| !ty.cut).map(|ty| ty.size)))
    }

    /// The structures it has, by name.
    pub fn types(&self) -> Vec<&'static str> {
        let inferred =
            self.inferred.iter().map(|(ty, ..)| *ty).chain(self.known.iter().map(|known| known.ty));
        match self.sets.first() {
            Some(set) => set.names().collect(),
            None => inferred.collect::<BTreeSet<_>>().into_iter().collect(),
        }
    }

    /// The fields of a structure that [`Self::field`] tells.
    pub fn fields(&self, ty: &str) -> Vec<(&'static str, Field)> {
        let sets = self.family(ty).map_or(&self.sets, |family| &family.sets);
        let names = sets.first().and_then(|set| set.ty(ty)).into_iter().flat_map(Type::field_names);
        let known = self.known.iter().filter(|known| known.ty == ty).map(|known| known.field);
        let inferred = self.inferred.iter().filter(|(of, ..)| *of == ty).map(|(_, name, _)| *name);
        let names: BTreeSet<&'static str> = names.chain(known).chain(inferred).collect();
        names.into_iter().filter_map(|name| Some((name, self.field(ty, name)?))).collect()
    }

    fn family(&self, ty: &str) -> Option<&FamilyChoice> {
        let family = Family::of(ty)?;
        self.families.iter().find(|choice| choice.family == family)
    }

    /// Where the offsets come from, and what is withheld, in words for the reader.
    pub fn provenance(&self) -> String {
        self.to_string()
    }
}

/// What all say alike; `None` if one does not say, or two differ, or there is none.
fn agreed<T: PartialEq>(mut all: impl Iterator<Item = Option<T>>) -> Option<T> {
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exact, self.choice) {
            (Some(version), Choice::Build(_)) => write!(f, "layout of {version}, exact build")?,
            (_, Choice::Build(build)) => {
                write!(f, "layout of build {build}")?;
                match self.sets.as_slice() {
                    [one] => write!(f, " ({})", range(one))?,
                    several => write!(f, " (what {} variants of it agree on)", several.len())?,
                }
            }
            (_, Choice::Nearest { build, there }) => {
                write!(f, "layout of build {there}, the nearest to {build}")?;
            }
            (_, Choice::Inferred { arch, build }) => {
                return write!(
                    f,
                    "{arch} layout of build {build}, inferred from the offsets this dump gives and the x64 layout of \
                     that build: only fields near which the dump's moved by one distance"
                );
            }
        }
        let same = self.families.iter().all(|family| family.footing == Footing::SizeAgrees);
        if same {
            return f.write_str(", sizes agree");
        }
        for family in &self.families {
            let name = family.family.outer();
            if family.sets.is_empty() {
                write!(f, "; {name} lies otherwise in this dump: not used")?;
                continue;
            }
            match &family.footing {
                Footing::Unchecked | Footing::SizeAgrees => {}
                Footing::PublicPart => write!(f, "; of {name} only the public first part")?,
                Footing::Between { here, least, most } => write!(
                    f,
                    "; {name} has {here:#x} bytes here, {least:#x} to {most:#x} in kernels before and after: only \
                     fields on which they agree"
                )?,
                Footing::Confirmed { here, there, upto: Some((ty, last)) } => write!(
                    f,
                    "; {name} has {here:#x} bytes here, {there:#x} there: only fields up to {ty}+{last:#x}, which \
                     this dump confirms"
                )?,
                Footing::Confirmed { here, there, upto: None } => {
                    write!(f, "; {name} has {here:#x} bytes here, {there:#x} there: not used")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layout({self})")
    }
}

/// `10.0.19041.804 to 10.0.19041.2006`, or the one version.
fn range(set: &Set) -> String {
    match set.versions.as_slice() {
        [] => set.source.to_owned(),
        [one] => (*one).to_owned(),
        [first, .., last] => format!("{first} to {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES_19041: Sizes = Sizes { prcb: 0xaf00, ethread: 0x898, eprocess: 0xa40 };

    fn wanted(build: u32, sizes: Option<Sizes>) -> Wanted<'static> {
        Wanted { arch: Arch::X64, build, revision: None, sizes, offsets: &[] }
    }

    #[test]
    fn an_exact_build() {
        let wanted = Wanted { revision: Some(804), ..wanted(19041, Some(SIZES_19041)) };
        let layout = Layouts::for_kernel(&wanted).unwrap();
        assert_eq!(layout.provenance(), "layout of 10.0.19041.804, exact build, sizes agree");
        assert_eq!(layout.field("_KPRCB", "IpiFrozen"), Some(Field { offset: 0x2d88, bits: None }));
        assert_eq!(layout.field("_KPRCB", "DpcStack").unwrap().offset, 0x3110);
        assert_eq!(layout.field("_EPROCESS", "ImageFileName").unwrap().offset, 0x5a8);
        assert_eq!(layout.size("_KPRCB"), Some(0xaf00));
        assert_eq!(layout.size("_KTRAP_FRAME"), Some(0x190));
        assert!(layout.field("_KPRCB", "PendingTick").unwrap().bits.is_some());
        assert_eq!(layout.field("_KPRCB", "Nonsense"), None);
        assert_eq!(layout.field("_NONSENSE", "X"), None);
    }

    /// Figures of the public headers: pointers are four bytes wide, and the processor's number moved with its groups.
    #[test]
    fn an_x86_kernel_has_a_pack_of_its_own() {
        let x86 = |build| Layouts::for_kernel(&Wanted { arch: Arch::X86, ..wanted(build, None) }).unwrap();
        let place = |build, ty, field| x86(build).field(ty, field).map(|field| field.offset);
        assert_eq!(place(2600, "_KPRCB", "Number"), Some(0x10));
        assert_eq!(place(7601, "_KPRCB", "Number"), Some(0x3cc));
        assert_eq!(place(7601, "_EPROCESS", "ImageFileName"), Some(0x16c));
        assert_eq!(place(19041, "_KTRAP_FRAME", "Eip"), Some(0x68));
        assert_eq!((x86(7601).size("_KPRCB"), x86(7601).size("_LIST_ENTRY")), (Some(0x3628), Some(8)));
        let unknown = Layouts::for_kernel(&Wanted { arch: Arch::X86, ..wanted(26100, None) });
        assert_eq!(unknown.unwrap_err(), NoLayout::UnknownBuild(26100));
    }

    #[test]
    fn a_build_without_revision_tells_what_its_updates_agree_on() {
        let layout = Layouts::for_kernel(&wanted(19045, Some(SIZES_19041))).unwrap();
        assert!(layout.provenance().starts_with("layout of build 19045 (what "), "{layout}");
        assert!(layout.provenance().ends_with("sizes agree"), "{layout}");
        assert_eq!(layout.field("_KPRCB", "IpiFrozen").unwrap().offset, 0x2d88);
        let variants = pack::sets(Arch::X64).iter().filter(|set| of_branch(set, 19041));
        let places = variants.map(|set| set.ty("_KUSER_SHARED_DATA").map(|ty| ty.size));
        assert_eq!(layout.size("_KUSER_SHARED_DATA"), agreed(places));
    }

    #[test]
    fn no_layout_is_better_than_a_wrong_one() {
        let arm = Wanted { arch: Arch::Arm64, ..wanted(22000, None) };
        assert_eq!(Layouts::for_kernel(&arm).unwrap_err(), NoLayout::Architecture(Arch::Arm64));
        assert_eq!(Layouts::for_kernel(&wanted(25398, None)).unwrap_err(), NoLayout::UnknownBuild(25398));
        let odd = Sizes { prcb: 0xdead, ..SIZES_19041 };
        let error = Layouts::for_kernel(&wanted(19100, Some(odd))).unwrap_err();
        assert_eq!(error, NoLayout::SizesDiffer { build: 19100, nearest: 19041 });
        assert!(error.to_string().ends_with("other structure sizes: not used"));
        let near = Layouts::for_kernel(&wanted(19100, Some(SIZES_19041))).unwrap();
        assert_eq!(near.provenance(), "layout of build 19041, the nearest to 19100, sizes agree");
    }

    #[test]
    fn a_size_between_two_updates_gives_what_both_agree_on() {
        let sizes = Sizes { prcb: 0x5d80, ethread: 0x778, eprocess: 0x6f0 };
        let layout = Layouts::for_kernel(&wanted(9600, Some(sizes))).unwrap();
        assert!(layout.provenance().contains("_EPROCESS has 0x6f0 bytes here, 0x6b8 to 0x708"), "{layout}");
        assert_eq!(layout.field("_EPROCESS", "ImageFileName").unwrap().offset, 0x438);
        assert_eq!(layout.size("_EPROCESS"), Some(0x6f0));
    }

    #[test]
    fn a_size_beyond_all_gives_what_the_dump_confirms() {
        let offsets = [KnownOffset { ty: "_ETHREAD", field: "IrpList", offset: 0x540 }];
        let sizes = Sizes { prcb: 0xcf00, ethread: 0x788, eprocess: 0x840 };
        let with = Wanted { offsets: &offsets, ..wanted(26100, Some(sizes)) };
        let layout = Layouts::for_kernel(&with).unwrap();
        assert_eq!(layout.field("_ETHREAD", "Cid").unwrap().offset, 0x508);
        assert_eq!(layout.field("_KTHREAD", "StackBase").unwrap().offset, 0x38);
        assert_eq!(layout.field("_ETHREAD", "ThreadName"), None);
        assert_eq!(layout.field("_KPRCB", "Number").unwrap().offset, 0x24);
        assert_eq!((layout.size("_KPRCB"), layout.size("_KPCR")), (Some(0xcf00), None));
        let without = Layouts::for_kernel(&wanted(26100, Some(sizes))).unwrap();
        assert_eq!(without.field("_ETHREAD", "Cid"), None);
        assert!(
            without.provenance().contains("_ETHREAD has 0x788 bytes here, 0x798 there: not used"),
            "{without}"
        );
    }

    #[test]
    fn a_dump_that_contradicts_is_believed() {
        let offsets = [KnownOffset { ty: "_KTHREAD", field: "StackLimit", offset: 0x99 }];
        let with = Wanted { offsets: &offsets, ..wanted(19041, Some(SIZES_19041)) };
        let layout = Layouts::for_kernel(&with).unwrap();
        assert_eq!(layout.field("_KTHREAD", "StackLimit").unwrap().offset, 0x99);
        assert_eq!(layout.field("_KTHREAD", "StackBase"), None);
        assert!(layout.field("_EPROCESS", "UniqueProcessId").is_some());
        assert!(layout.provenance().contains("_ETHREAD lies otherwise"), "{layout}");
    }
}
