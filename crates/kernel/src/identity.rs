//! Which kernel it is: by the identity of its image, else by where its globals lie, else by the header alone.

use crate::modules::module::Module;
use crate::modules::{code, images};
use std::ops::ControlFlow;
use std::sync::Arc;
use stopcode_base::{Arch, Fact, VirtAddr};
use stopcode_dump::{Dump, FieldKind};
use stopcode_image::CodeView;
use stopcode_knowledge::nt_version;
use stopcode_symbols::{Identification, SymbolSource, SymbolTable, identify as vote};

/// The kernel of a dump.
#[derive(Clone, PartialEq, Debug)]
pub struct Build {
    /// `10.0.19041.804`, or only as far as the header tells.
    pub version: Fact<String>,
    /// Where the kernel is loaded.
    pub kernel_base: VirtAddr,
    /// `804` of `10.0.19041.804`, where known.
    pub revision: Option<u32>,
    /// What the fingerprint found, in words.
    pub fingerprint: String,
    /// Where names of kernel functions come from, in words; `None` if there are none.
    pub names: Option<String>,
}

/// Globals whose places are told: those the dump header points to.
const FINGERPRINT: usize = 4;

/// The name of every 64-bit kernel's PDB.
const KERNEL_PDB: &str = "ntkrnlmp.pdb";

/// STATUS_BREAKPOINT, which KeBugCheckEx itself raises.
pub(crate) const STATUS_BREAKPOINT: u32 = 0x8000_0003;

pub(crate) fn identify(
    dump: &Dump,
    arch: Arch,
    kernel: Option<&Module>,
    symbols: &SymbolSource,
) -> (Build, Option<Arc<SymbolTable>>) {
    let kernel_base = dump
        .kdbg()
        .and_then(stopcode_dump::Kdbg::kern_base)
        .or_else(|| kernel.map(|module| module.base))
        .unwrap_or_default();
    let pointers = pointers(dump, kernel_base, kernel.map_or(0x0200_0000, |module| module.size));
    let borrowed: Vec<(&str, u64)> = pointers.iter().map(|(name, rva)| (*name, *rva)).collect();
    let by_image = kernel.and_then(|module| module.version.clone());
    let voted = (arch == Arch::X64).then(|| vote(&borrowed, by_image.as_deref()));
    let fingerprint = match &voted {
        Some(Identification::Exact { build, matched, of, runner_up }) => {
            format!("{matched} of {of} globals lie as in {} (next best {runner_up})", build.version)
        }
        Some(Identification::Alike { builds, matched, of }) => {
            let versions: Vec<&str> = builds.iter().map(|build| build.version).collect();
            format!(
                "{matched} of {of} globals lie as in {}, which its neighbours may share",
                versions.join(" and ")
            )
        }
        Some(Identification::None { best: Some(best), of }) => {
            format!(
                "no exact match: the best, {}, has {} of {of} globals in place",
                best.version, best.matched
            )
        }
        Some(Identification::None { best: None, of }) => format!("no match among {of} globals"),
        None => "no known kernels of this architecture to compare with".to_owned(),
    };
    let places: Vec<String> =
        pointers.iter().take(FINGERPRINT).map(|(name, rva)| format!("{name} {rva:#x}")).collect();
    let fingerprint =
        if places.is_empty() { fingerprint } else { format!("{fingerprint} ({})", places.join(", ")) };
    let build = dump.header().minor_version;
    let version = match (&by_image, &voted) {
        (Some(version), _) => Fact::known(version.clone(), "TimeDateStamp and SizeOfImage of the kernel"),
        (None, Some(Identification::Exact { build, .. })) => {
            Fact::known(build.version.to_owned(), format!("fingerprint: {fingerprint}"))
        }
        (None, _) => Fact::known(
            format!("{}.{build}", nt_version(build)),
            format!("dump header: the kernel is not in the list of known builds; fingerprint: {fingerprint}"),
        ),
    };
    let revision = version.value().and_then(|version| version.split('.').nth(3)?.parse().ok());
    let recorded = kernel.filter(|_| symbols.has_paths()).and_then(|module| images::codeview(dump, module));
    let names = names(voted.as_ref(), &borrowed, build, kernel.map(|module| (module, recorded)), symbols);
    let described = names.as_ref().map(|(described, _)| described.clone());
    (Build { version, kernel_base, revision, fingerprint, names: described }, names.map(|(_, table)| table))
}

/// Pointers into the kernel's image that the header and the debugger data hold, relative to its base.
fn pointers(dump: &Dump, base: VirtAddr, size: u64) -> Vec<(&'static str, u64)> {
    let header = dump.header();
    let from_header = [
        ("PfnDataBase", header.pfn_database),
        ("PsLoadedModuleList", header.ps_loaded_module_list),
        ("PsActiveProcessHead", header.ps_active_process_head),
        ("KdDebuggerDataBlock", header.kd_debugger_data_block),
    ];
    let from_header = from_header.into_iter().filter_map(|(name, address)| Some((name, address?)));
    // The bug check's own breakpoint is raised in KeBugCheckEx.
    let breakpoint = header.exception.as_ref().filter(|record| record.code == STATUS_BREAKPOINT);
    let from_header = from_header.chain(breakpoint.map(|record| ("KeBugCheckEx", record.address)));
    let from_block = dump
        .kdbg()
        .into_iter()
        .flat_map(stopcode_dump::Kdbg::fields)
        .filter(|(name, kind, _)| *kind == FieldKind::Pointer || *name == "KiCallUserMode")
        .map(|(name, _, value)| (name, VirtAddr(value)));
    from_header
        .chain(from_block)
        .filter_map(|(name, address)| {
            let rva = address.offset_from(base).filter(|rva| *rva > 0 && *rva < size)?;
            Some((name, rva))
        })
        .collect()
}

/// Names, only from symbols that are exactly this kernel's: by the PDB the fingerprint names, by the record of the image
/// itself, in the dump's memory or in its file, else by a vote over the files given. With no symbols given nothing is read.
fn names(
    voted: Option<&Identification>,
    pointers: &[(&str, u64)],
    build: u32,
    kernel: Option<(&Module, Option<CodeView>)>,
    symbols: &SymbolSource,
) -> Option<(String, Arc<SymbolTable>)> {
    if !symbols.has_paths() {
        return None;
    }
    let by_fingerprint = || {
        let Some(Identification::Exact { build, .. }) = voted else { return None };
        let found = symbols.names_by_key(build.key);
        found.or_else(|| {
            symbols.find_pdb(KERNEL_PDB, build.key).map(|(path, pdb)| (path, Arc::new(pdb.symbols)))
        })
    };
    let by_image = || {
        let (module, codeview) = kernel?;
        let found = code::names_of(symbols, &module.image, module.time_date_stamp, module.size, codeview)?;
        Some((found.path, found.symbols))
    };
    let by_vote = || {
        if !matches!(voted?, Identification::Alike { .. } | Identification::None { .. }) {
            return None;
        }
        let found = symbols.recognize(pointers, build, |_| ControlFlow::Continue(()));
        found.filter(|found| found.certain).map(|found| (found.path, found.symbols))
    };
    let (path, table) = by_fingerprint().or_else(by_image).or_else(by_vote)?;
    Some((path.display().to_string(), table))
}
