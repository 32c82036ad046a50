//! Which kernel a dump is of, by where its globals lie.
//!
//! A dump that holds no image of the kernel still holds dozens of pointers into it. Relative to the image's base each
//! is the address of a known global; a vote over them tells builds apart that share any one of them.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use crate::table::SymbolTable;
use crate::{PdbKey, kdbg};

/// A pointer out of a dump: its name in KDBG or the dump header, and its target relative to the kernel's base.
pub type Pointer<'a> = (&'a str, u64);

/// A kernel the built-in pack knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelBuild {
    /// Its PDB.
    pub key: PdbKey,
    /// File version: `10.0.19041.804`.
    pub version: &'static str,
    /// Addresses in the order of the pack's columns.
    globals: Vec<Option<u32>>,
}

impl KernelBuild {
    /// The address of a well-known global, relative to the image.
    pub fn address_of(&self, name: &str) -> Option<u32> {
        let column = pack().names.iter().position(|&known| known == name)?;
        self.globals.get(column).copied().flatten()
    }

    /// `19041` and `804` of `10.0.19041.804`.
    pub fn build_and_revision(&self) -> Option<(u32, u32)> {
        crate::pack::build_and_revision(self.version)
    }

    fn votes(&self, pointers: &[Pointer<'_>]) -> Votes {
        Votes::count(distinct(pointers).into_iter().filter_map(|(names, rva)| {
            let mut addresses = names.iter().filter_map(|name| self.address_of(name)).peekable();
            addresses.peek()?;
            Some((addresses.any(|address| u64::from(address) == rva), is_code(names)))
        }))
    }

    /// What a dump of this kernel would give.
    fn pointers(&self) -> Vec<Pointer<'static>> {
        VOTERS.iter().filter_map(|name| Some((*name, u64::from(self.address_of(name)?)))).collect()
    }
}

/// The pointers that a dump gives and the pack knows: fields of KDBG and of the dump header, under their symbols' names.
const VOTERS: [&str; 22] = [
    "CmNtCSDVersion",
    "ExpSystemResourcesList",
    "IopErrorLogListHead",
    "IopNumTriageDumpDataBlocks",
    "IopTriageDumpDataBlocks",
    "KdDebuggerDataBlock",
    "KeBugCheckCallbackListHead",
    "KeBugCheckEx",
    "KiBugCheckData",
    "KiCallUserMode",
    "KiProcessorBlock",
    "MmLastUnloadedDriver",
    "MmPfnDatabase",
    "MmPhysicalMemoryBlock",
    "MmSpecialPoolTag",
    "MmUnloadedDrivers",
    "MmVerifierData",
    "NtBuildLabEx",
    "PoolTrackTable",
    "PsActiveProcessHead",
    "PsLoadedModuleList",
    "PspCidTable",
];

/// The best candidate of a vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Best {
    /// Its PDB.
    pub key: PdbKey,
    /// Its file version.
    pub version: String,
    /// How many pointers hit their symbol.
    pub matched: usize,
}

/// The outcome of a vote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identification {
    /// This kernel and no other that is known. Without `version` a doubt remains: kernels exist that differ in code
    /// alone, and then only the few pointers into code tell them apart.
    Exact {
        /// The kernel.
        build: &'static KernelBuild,
        /// How many pointers hit their symbol.
        matched: usize,
        /// How many pointers the vote was over.
        of: usize,
        /// The most hits any other kernel has.
        runner_up: usize,
    },
    /// These fit, but it may be a neighbour the pack does not have: updates of this build often leave every global
    /// where it was and move only code. The version (from TimeDateStamp and SizeOfImage) would decide.
    Alike {
        /// The kernels that fit, by version.
        builds: Vec<&'static KernelBuild>,
        /// How many pointers hit their symbol.
        matched: usize,
        /// How many pointers the vote was over.
        of: usize,
    },
    /// No kernel in the pack is the one.
    None {
        /// The one with most hits, if any has one.
        best: Option<Best>,
        /// How many pointers the vote was over.
        of: usize,
    },
}

/// Hits that make a kernel the one. Of the pointers of a real dump all or all but one hit the right kernel, and a
/// fifth the next best.
const ENOUGH: usize = 10;

/// Pointers into code, under their symbols' names. Updates that leave the data alone still move these as a rule.
const CODE: [&str; 3] = ["KeBugCheckEx", "KiCallUserMode", "DbgBreakPointWithStatus"];

/// The votes for one candidate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Votes {
    /// Pointers that hit their symbol.
    pub(crate) matched: usize,
    /// Pointers whose symbol the candidate has.
    pub(crate) of: usize,
    /// Whether there was a pointer into code, and all of them hit.
    code: bool,
}

impl Votes {
    fn count(votes: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut total = Self::default();
        let mut code = None;
        for (hit, is_code) in votes {
            total.of += 1;
            total.matched += usize::from(hit);
            if is_code {
                code = Some(code.unwrap_or(true) && hit);
            }
        }
        total.code = code == Some(true);
        total
    }

    /// The votes for a symbol table.
    pub(crate) fn of_table(table: &SymbolTable, pointers: &[Pointer<'_>]) -> Self {
        Self::count(distinct(pointers).into_iter().filter_map(|(names, rva)| {
            let mut addresses = names.iter().filter_map(|name| table.address_of(name)).peekable();
            addresses.peek()?;
            Some((addresses.any(|address| u64::from(address) == rva), is_code(names)))
        }))
    }

    /// Enough hits, hardly a miss, and none in code.
    pub(crate) fn fit(self) -> bool {
        self.matched >= ENOUGH && self.matched * 10 >= self.of * 9 && self.code
    }
}

/// Of a symbol table, the globals that the built-in pack knows: enough to vote with.
pub(crate) fn globals(table: &SymbolTable) -> SymbolTable {
    let known = pack().names.iter().filter_map(|name| Some(((*name).to_owned(), table.address_of(name)?)));
    known.collect()
}

fn is_code(names: [&str; 2]) -> bool {
    names.iter().any(|name| CODE.contains(name))
}

/// Finds the kernel among those of the built-in pack. `version` is its file version where that is known otherwise
/// (from TimeDateStamp and SizeOfImage): then no other is considered, and the vote only has to agree.
///
/// Pointers whose symbol the pack does not have have no vote; one that does not point into the image (zero, or a
/// value instead of an address) should not be handed in.
pub fn identify(pointers: &[Pointer<'_>], version: Option<&str>) -> Identification {
    vote(&pack().builds.iter().collect::<Vec<_>>(), pointers, version)
}

/// The kernels of the built-in pack, by version.
pub fn kernel_builds() -> &'static [KernelBuild] {
    &pack().builds
}

/// Whether the known kernels of a build can be told apart by their globals. Of some builds (9600, 14393, 17763)
/// several in a row cannot, so that an unknown one may look like a known one.
pub(crate) fn separable(build: u32) -> bool {
    separable_in(&pack().builds.iter().collect::<Vec<_>>(), build)
}

fn separable_in(builds: &[&'static KernelBuild], build: u32) -> bool {
    let same = |b: &&&KernelBuild| b.build_and_revision().is_some_and(|(number, _)| number == build);
    let same: Vec<&KernelBuild> = builds.iter().filter(same).copied().collect();
    // Two kernels say little about how the next one will look.
    same.len() > 2
        && same.iter().enumerate().all(|(at, one)| {
            let pointers = one.pointers();
            same.iter().skip(at + 1).all(|other| !other.votes(&pointers).fit())
        })
}

fn vote(builds: &[&'static KernelBuild], pointers: &[Pointer<'_>], version: Option<&str>) -> Identification {
    let mut votes: Vec<(Votes, &'static KernelBuild)> = builds
        .iter()
        .filter(|build| version.is_none_or(|version| version == build.version))
        .map(|build| (build.votes(pointers), *build))
        .collect();
    votes.sort_by_key(|(votes, _)| std::cmp::Reverse(votes.matched));
    let of = votes.iter().map(|(votes, _)| votes.of).max().unwrap_or(0);
    let fitting: Vec<(Votes, &KernelBuild)> =
        votes.iter().filter(|(votes, _)| votes.fit()).copied().collect();
    let runner_up = votes.get(1).map_or(0, |(votes, _)| votes.matched);
    match fitting.as_slice() {
        [] => {
            let best = votes.first().filter(|(votes, _)| votes.matched > 0);
            let best = best.map(|(votes, build)| Best {
                key: build.key,
                version: build.version.to_owned(),
                matched: votes.matched,
            });
            Identification::None { best, of }
        }
        [(votes, build)]
            if runner_up * 2 <= votes.matched
                && (version.is_some()
                    || build
                        .build_and_revision()
                        .is_some_and(|(number, _)| separable_in(builds, number))) =>
        {
            Identification::Exact { build, matched: votes.matched, of: votes.of, runner_up }
        }
        [(best, _), ..] => {
            let mut builds: Vec<&KernelBuild> = fitting.iter().map(|(_, build)| *build).collect();
            builds.sort_by_key(|build| build.build_and_revision());
            Identification::Alike { builds, matched: best.matched, of: best.of }
        }
    }
}

/// The pointers by what they point at: the header and KDBG name some globals twice, which is one vote.
fn distinct<'a>(pointers: &[Pointer<'a>]) -> Vec<([&'a str; 2], u64)> {
    let mut seen = BTreeSet::new();
    pointers
        .iter()
        .map(|&(name, rva)| (kdbg::symbol_names(name), rva))
        .filter(|(names, _)| seen.insert(*names))
        .collect()
}

struct Pack {
    names: Vec<&'static str>,
    builds: Vec<KernelBuild>,
}

fn pack() -> &'static Pack {
    static PACK: OnceLock<Pack> = OnceLock::new();
    PACK.get_or_init(|| parse_pack(include_str!("../data/builds.tsv")))
}

fn parse_pack(text: &'static str) -> Pack {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let names = lines.next().map(|line| line.split('\t').skip(2).collect()).unwrap_or_default();
    let builds = lines
        .filter_map(|line| {
            let mut cells = line.split('\t');
            Some(KernelBuild {
                key: PdbKey::parse(cells.next()?)?,
                version: cells.next()?,
                globals: cells.map(|cell| u32::from_str_radix(cell, 16).ok()).collect(),
            })
        })
        .collect();
    Pack { names, builds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pack_is_whole() {
        assert_eq!(kernel_builds().len(), 213);
        for build in kernel_builds() {
            assert_eq!(build.globals.len(), pack().names.len(), "{}", build.version);
            assert!(build.build_and_revision().is_some());
            assert_eq!(build.pointers().len(), VOTERS.len(), "{}", build.version);
        }
    }

    /// A kernel that is not in the pack is taken for none that is.
    #[test]
    fn no_kernel_is_taken_for_another() {
        for build in kernel_builds() {
            let others: Vec<_> = kernel_builds().iter().filter(|other| other.key != build.key).collect();
            if let Identification::Exact { build: other, .. } = vote(&others, &build.pointers(), None) {
                panic!("{} is taken for {}", build.version, other.version);
            }
        }
    }

    #[test]
    fn every_kernel_is_known() {
        let mut exact = 0;
        for build in kernel_builds() {
            match identify(&build.pointers(), None) {
                Identification::Exact { build: found, .. } => {
                    assert_eq!(found.key, build.key);
                    exact += 1;
                }
                Identification::Alike { builds, matched, of } => {
                    assert!(builds.iter().any(|found| found.key == build.key));
                    assert_eq!(matched, of);
                }
                Identification::None { .. } => panic!("{} is not found", build.version),
            }
            let Identification::Exact { build: found, .. } = identify(&build.pointers(), Some(build.version))
            else {
                panic!("{} is not found by its version", build.version)
            };
            assert_eq!(found.key, build.key);
        }
        // Nearly all of 19041 and 22000, some of 18362; of the other builds updates are alike.
        assert!(exact > 60, "{exact}");
        assert!(separable(19041) && separable(22000) && !separable(17763) && !separable(7601));
    }

    #[test]
    fn a_known_version_rules_out_the_others() {
        let build = kernel_builds().iter().find(|build| build.version == "10.0.19041.804").unwrap();
        let other = identify(&build.pointers(), Some("10.0.19041.867"));
        assert!(matches!(other, Identification::None { best: Some(_), .. }), "{other:?}");
        let unknown = identify(&build.pointers(), Some("10.0.19041.1"));
        assert_eq!(unknown, Identification::None { best: None, of: 0 });
    }

    #[test]
    fn without_a_pointer_into_code_nothing_is_certain() {
        let build = kernel_builds().iter().find(|build| build.version == "10.0.19041.804").unwrap();
        let data: Vec<_> = build.pointers().into_iter().filter(|(name, _)| !CODE.contains(name)).collect();
        assert!(data.len() >= 20);
        assert!(matches!(identify(&data, None), Identification::None { .. }));
    }

    #[test]
    fn a_name_given_twice_has_one_vote() {
        let build = &kernel_builds()[0];
        let rva = u64::from(build.address_of("PsLoadedModuleList").unwrap());
        let pointers = vec![("PsLoadedModuleList", rva); 20];
        assert!(matches!(identify(&pointers, None), Identification::None { of: 1, .. }));
        assert_eq!(identify(&[], None), Identification::None { best: None, of: 0 });
        assert!(matches!(identify(&[("Nonsense", 1)], None), Identification::None { of: 0, .. }));
    }
}
