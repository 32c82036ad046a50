//! The machine: everything a dump tells, worked out when asked for and remembered.

use crate::code::CodeMap;
use crate::facts::{Context, Exception, Processor, Pte, StopCode, System, Thread, Verifier};
use crate::identity::{self, Build};
use crate::module::{Module, UnloadedModule, display_name, link_date};
use crate::stack::{Place, Stack};
use crate::{blackbox, context, paging, processors, stacks, system, thread};
use std::cell::OnceCell;
use stopcode_base::{Arch, Fact, Memory, Problem, VirtAddr, file_name};
use stopcode_dump::Dump;
use stopcode_knowledge as knowledge;
use stopcode_symbols::{KDBG_OFFSETS, KnownOffset, Layout, Layouts, Sizes, SymbolSource, Wanted};

/// A crashed machine over its dump.
///
/// Not shared between threads: each dump is worked on by one, many dumps by many.
pub struct Machine {
    pub(crate) dump: Dump,
    arch: Arch,
    build: Build,
    modules: Vec<Module>,
    unloaded: Vec<UnloadedModule>,
    code: CodeMap,
    layout: OnceCell<Option<Layout>>,
    system: OnceCell<System>,
    context: OnceCell<Fact<Context>>,
    exception: OnceCell<Fact<Exception>>,
    thread: OnceCell<Thread>,
    processors: OnceCell<Vec<Processor>>,
    stacks: OnceCell<Vec<Stack>>,
}

impl Machine {
    /// The machine in `dump`; kernel names come from `symbols` if they hold this very build.
    pub fn new(dump: Dump, symbols: &SymbolSource) -> Self {
        let arch = dump.header().arch.unwrap_or(Arch::X64);
        let modules = modules(&dump, arch);
        let unloaded: Vec<UnloadedModule> = dump
            .triage()
            .into_iter()
            .flat_map(|triage| &triage.unloaded)
            .map(|u| UnloadedModule { name: u.name.clone(), start: u.start, end: u.end })
            .collect();
        let (build, names) = identity::identify(&dump, arch, modules.first(), symbols);
        let code = CodeMap::new(&modules, &unloaded, build.kernel_base, names);
        Self {
            dump,
            arch,
            build,
            modules,
            unloaded,
            code,
            layout: OnceCell::new(),
            system: OnceCell::new(),
            context: OnceCell::new(),
            exception: OnceCell::new(),
            thread: OnceCell::new(),
            processors: OnceCell::new(),
            stacks: OnceCell::new(),
        }
    }

    /// The dump.
    pub fn dump(&self) -> &Dump {
        &self.dump
    }

    /// Memory, as the processor saw it.
    pub fn memory(&self) -> &dyn Memory {
        &self.dump
    }

    /// Architecture.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Which kernel it is.
    pub fn build(&self) -> &Build {
        &self.build
    }

    /// What was wrong with the dump.
    pub fn problems(&self) -> &[Problem] {
        self.dump.problems()
    }

    /// The stop code.
    pub fn stop(&self) -> StopCode {
        let header = self.dump.header();
        StopCode { code: header.bug_check_code, arguments: header.bug_check_parameters }
    }

    /// Loaded modules, the kernel first.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Unloaded drivers, newest first.
    pub fn unloaded(&self) -> &[UnloadedModule] {
        &self.unloaded
    }

    /// What an address belongs to.
    pub fn place(&self, address: VirtAddr) -> Place {
        self.code.place(address)
    }

    pub(crate) fn code(&self) -> &CodeMap {
        &self.code
    }

    /// The structure layouts of this kernel, or of the nearest one known, marked as such.
    pub fn layout(&self) -> Option<&Layout> {
        let find = || {
            let size = |name| self.kdbg_offset(name).and_then(|size| u32::try_from(size).ok());
            let sizes = match (size("SizePrcb"), size("SizeEThread"), size("SizeEProcess")) {
                (Some(prcb), Some(ethread), Some(eprocess)) => Some(Sizes { prcb, ethread, eprocess }),
                _ => None,
            };
            let wanted = Wanted {
                arch: self.arch,
                build: self.dump.header().minor_version,
                revision: self.build.revision,
                sizes,
                offsets: &self.known_offsets(),
            };
            Layouts::for_kernel(&wanted).ok()
        };
        self.layout.get_or_init(find).as_ref()
    }

    /// What the debugger data says of structure offsets: it comes before any layout.
    fn known_offsets(&self) -> Vec<KnownOffset> {
        let Some(kdbg) = self.dump.kdbg() else { return Vec::new() };
        KDBG_OFFSETS
            .iter()
            .filter_map(|known| {
                let at = usize::try_from(known.at).ok()?;
                let raw = kdbg.bytes().get(at..at.checked_add(usize::try_from(known.width).ok()?)?)?;
                let offset = raw.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
                (offset != 0).then_some(KnownOffset { ty: known.ty, field: known.field, offset })
            })
            .collect()
    }

    /// A field's offset: what the dump itself says, else from the layout, where it fits this kernel.
    pub(crate) fn field(&self, structure: &str, field: &str) -> Option<u64> {
        self.layout()?.field(structure, field).map(|field| u64::from(field.offset))
    }

    /// An offset or size that the kernel's debugger data states of itself.
    pub(crate) fn kdbg_offset(&self, name: &str) -> Option<u64> {
        self.dump.kdbg()?.offset(name).map(|offset| offset as u64)
    }

    /// The system.
    pub fn system(&self) -> &System {
        self.system.get_or_init(|| system::system(self))
    }

    /// The context to judge.
    pub fn context(&self) -> &Fact<Context> {
        self.context.get_or_init(|| context::context(self))
    }

    /// The exception that led to the stop.
    pub fn exception(&self) -> &Fact<Exception> {
        self.exception.get_or_init(|| context::exception(self))
    }

    /// The thread that ran on the crashing processor.
    pub fn thread(&self) -> &Thread {
        self.thread.get_or_init(|| thread::thread(self))
    }

    /// Processors.
    pub fn processors(&self) -> &[Processor] {
        self.processors.get_or_init(|| processors::processors(self))
    }

    /// Stacks: the exception's, the bug check's, then the other processors'.
    pub fn stacks(&self) -> &[Stack] {
        self.stacks.get_or_init(|| stacks::stacks(self))
    }

    /// Driver Verifier's flags: the first word of `MmVerifierData`, which a minidump holds.
    pub fn verifier(&self) -> Fact<Verifier> {
        let Some(address) = self.dump.kdbg().and_then(|kdbg| kdbg.get("MmVerifierData")).filter(|a| *a != 0)
        else {
            return Fact::missing("the kernel's debugger data is not in this dump");
        };
        match self.memory().read_u32(VirtAddr(address)) {
            Ok(flags) => Fact::known(Verifier { flags }, "MmVerifierData.Level"),
            Err(miss) => Fact::missing(format!("MmVerifierData: {miss}")),
        }
    }

    /// The page-table entries that the dump holds for an address, lowest level first.
    pub fn page_table_entries(&self, address: VirtAddr) -> Vec<Pte> {
        paging::entries(self, address)
    }

    /// What Windows had in progress, as its black boxes tell, in words.
    pub fn black_box(&self) -> Vec<String> {
        blackbox::in_progress(&self.dump)
    }
}

/// The driver list of a minidump, as modules.
fn modules(dump: &Dump, arch: Arch) -> Vec<Module> {
    let Some(triage) = dump.triage() else { return Vec::new() };
    let header = dump.header();
    triage
        .drivers
        .iter()
        .map(|driver| {
            let image = file_name(&driver.path).to_ascii_lowercase();
            let inbox = is_inbox(&image);
            let stamp = Some(driver.time_date_stamp);
            let display = display_name(&driver.path);
            let version = (display == "nt")
                .then(|| knowledge::kernel_build(&arch.to_string(), driver.time_date_stamp, driver.size))
                .flatten();
            Module {
                link_date: link_date(stamp, inbox, Some(header.minor_version), header.system_time),
                version: version.map(|build| build.version.to_owned()),
                image,
                display,
                path: driver.path.clone(),
                base: driver.base,
                size: driver.size.into(),
                time_date_stamp: stamp,
                checksum: Some(driver.checksum),
            }
        })
        .collect()
}

/// Comes with Windows, as far as its name tells.
fn is_inbox(image: &str) -> bool {
    knowledge::driver(image).is_some_and(|driver| driver.inbox)
        || matches!(
            image,
            "ntoskrnl.exe" | "ntkrnlmp.exe" | "ntkrla57.exe" | "hal.dll" | "kd.dll" | "kdcom.dll"
        )
}
