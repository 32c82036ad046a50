//! What everything else about the machine stands on: the dump, what is loaded where, which kernel it is.

use crate::facts::{StopCode, Thread};
use crate::identity::{self, Build};
use crate::modules::code::CodeMap;
use crate::modules::images::{ImageFiles, LoadedImages};
use crate::modules::loaded;
use crate::modules::module::{Module, UnloadedModule, display_name, link_date};
use crate::reading::own_types::OwnTypes;
use crate::stacks::stack::Place;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use stopcode_base::{Arch, Memory, Miss, VirtAddr, file_name};
use stopcode_dump::Dump;
use stopcode_knowledge as knowledge;
use stopcode_symbols::{
    KDBG_OFFSETS, KdbgOffset, KnownOffset, Layout, Layouts, NoLayout, Sizes, SymbolSource, Wanted,
};

/// The ground of a [`crate::Machine`]; its rooms stand side by side on it.
pub(crate) struct Core {
    pub(crate) dump: Dump,
    pub(crate) arch: Arch,
    pub(crate) build: Build,
    pub(crate) modules: Vec<Module>,
    pub(crate) unloaded: Vec<UnloadedModule>,
    pub(crate) code: CodeMap,
    files: ImageFiles,
    layout: OnceCell<Result<Layout, NoLayout>>,
    layout_words: OnceCell<String>,
    own_types: OnceCell<Option<OwnTypes>>,
    /// Kept for [`crate::processors::current`].
    pub(crate) current: OnceCell<Current>,
    /// Kept for [`crate::threads::crashing`].
    pub(crate) thread: OnceCell<Thread>,
}

/// What ran on the processor that crashed, as bytes; each empty where the dump does not hold it.
#[derive(Default)]
pub(crate) struct Current {
    /// Where the KPRCB is: for a small dump only where its own contents prove it.
    pub(crate) prcb_address: Option<VirtAddr>,
    pub(crate) prcb: Vec<u8>,
    pub(crate) thread: Vec<u8>,
    pub(crate) process: Vec<u8>,
}

impl Core {
    pub(crate) fn new(dump: Dump, symbols: &SymbolSource) -> Self {
        let arch = dump.header().arch.unwrap_or(Arch::X64);
        let modules = modules(&dump, arch);
        let unloaded = loaded::unloaded(&dump);
        let (build, names) = identity::identify(&dump, arch, modules.first(), symbols);
        let code = CodeMap::new(&modules, &unloaded, build.kernel_base, names.as_ref(), symbols);
        let files = ImageFiles::new(&modules, symbols);
        Self {
            dump,
            arch,
            build,
            modules,
            unloaded,
            code,
            files,
            layout: OnceCell::new(),
            layout_words: OnceCell::new(),
            own_types: OnceCell::new(),
            current: OnceCell::new(),
            thread: OnceCell::new(),
        }
    }

    pub(crate) fn memory(&self) -> &dyn Memory {
        &self.dump
    }

    /// The pointer at an address.
    pub(crate) fn pointer(&self, at: VirtAddr) -> Result<VirtAddr, Miss> {
        self.dump.read_word(self.arch, at).map(VirtAddr)
    }

    /// The pointer at an address, if the dump holds it and it leads into the kernel.
    pub(crate) fn kernel_pointer(&self, at: VirtAddr) -> Option<VirtAddr> {
        self.pointer(at).ok().filter(|pointer| self.arch.is_kernel(*pointer))
    }

    /// Where `KPRCB` keeps its current thread, and after that the next and the idle one: behind what a pointer has room
    /// for, in every kernel.
    pub(crate) fn current_thread_offset(&self) -> u64 {
        let stated = self.kdbg_offset("OffsetPrcbCurrentThread");
        stated.or_else(|| self.field("_KPRCB", "CurrentThread")).unwrap_or(self.arch.pointer_size())
    }

    /// True for kernels before Windows 7, which number processors with one byte where later ones have four.
    pub(crate) fn has_short_processor_numbers(&self) -> bool {
        const FIRST_WITH_GROUPS: u32 = 7600;
        self.dump.header().minor_version < FIRST_WITH_GROUPS
    }

    /// The images of the modules, as far as memory and files hold them.
    pub(crate) fn images(&self) -> LoadedImages<'_> {
        LoadedImages::new(&self.modules, &self.dump, &self.files)
    }

    /// The file that a module was loaded from, where one with its time stamp and size is at hand.
    pub(crate) fn image_file(&self, module: &Module) -> Option<(PathBuf, Vec<u8>)> {
        self.files.find(module)
    }

    pub(crate) fn stop(&self) -> StopCode {
        let header = self.dump.header();
        StopCode { code: header.bug_check_code, arguments: header.bug_check_parameters }
    }

    pub(crate) fn place(&self, address: VirtAddr) -> Place {
        self.code.place(address)
    }

    /// The structure layouts of this kernel, or of the nearest one known, marked as such; else why there are none.
    pub(crate) fn layout(&self) -> Result<&Layout, &NoLayout> {
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
            Layouts::for_kernel(&wanted)
        };
        self.layout.get_or_init(find).as_ref()
    }

    /// Which layout it is, in words; empty if there is none.
    pub(crate) fn layout_words(&self) -> &str {
        self.layout_words.get_or_init(|| self.layout().map_or_else(|_| String::new(), Layout::provenance))
    }

    /// The kernel's types out of a file that is provably its own, where one was given; read when first asked for.
    pub(crate) fn own_types(&self) -> Option<&OwnTypes> {
        self.own_types.get_or_init(|| OwnTypes::read(Path::new(self.build.names.as_ref()?))).as_ref()
    }

    /// The offset of a field that the debugger data state.
    pub(crate) fn kdbg_field(&self, ty: &str, field: &str) -> Option<u32> {
        let known = KDBG_OFFSETS.iter().find(|known| known.ty == ty && known.field == field)?;
        self.stated(known)
    }

    fn stated(&self, known: &KdbgOffset) -> Option<u32> {
        let at = usize::try_from(known.at).ok()?;
        let raw = self.dump.kdbg()?.bytes().get(at..at.checked_add(usize::try_from(known.width).ok()?)?)?;
        let offset = raw.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        (offset != 0).then_some(offset)
    }

    /// What the debugger data says of structure offsets: it comes before any layout.
    fn known_offsets(&self) -> Vec<KnownOffset> {
        let offset_of = |known: &KdbgOffset| {
            self.stated(known).map(|offset| KnownOffset { ty: known.ty, field: known.field, offset })
        };
        KDBG_OFFSETS.iter().filter_map(offset_of).collect()
    }

    /// A field's offset: what the dump itself says, else from the layout, where it fits this kernel.
    pub(crate) fn field(&self, structure: &str, field: &str) -> Option<u64> {
        let stated = self.kdbg_field(structure, field);
        let offset = stated.or_else(|| self.layout().ok()?.field(structure, field).map(|field| field.offset));
        offset.map(u64::from)
    }

    /// Where a variable of the kernel's lies that only its own symbols tell; else why that is not known.
    pub(crate) fn variable(&self, name: &str) -> Result<VirtAddr, String> {
        let base = self.build.kernel_base;
        let symbols = self.code.symbols_at(base).ok_or_else(|| {
            format!(
                "where nt!{name} lies only this kernel's own symbols tell, and none were given (--symbols)"
            )
        })?;
        let offset =
            symbols.address_of(name).ok_or_else(|| format!("the kernel's symbols have no {name}"))?;
        Ok(base.plus(offset.into()))
    }

    /// An offset or size that the kernel's debugger data states of itself.
    pub(crate) fn kdbg_offset(&self, name: &str) -> Option<u64> {
        self.dump.kdbg()?.offset(name).map(|offset| offset as u64)
    }
}

/// What is loaded, as modules.
fn modules(dump: &Dump, arch: Arch) -> Vec<Module> {
    let header = dump.header();
    loaded::loaded(dump)
        .into_iter()
        .map(|loaded| {
            let image = file_name(&loaded.path).to_ascii_lowercase();
            let inbox = is_inbox(&image);
            let stamp = loaded.time_date_stamp;
            let display = display_name(&loaded.path);
            let version = stamp
                .filter(|_| display == "nt")
                .and_then(|stamp| knowledge::kernel_build(&arch.to_string(), stamp, loaded.size));
            Module {
                link_date: link_date(stamp, inbox, Some(header.minor_version), header.system_time),
                version: version.map(|build| build.version.to_owned()),
                image,
                display,
                path: loaded.path,
                base: loaded.base,
                size: loaded.size.into(),
                time_date_stamp: stamp,
                checksum: loaded.checksum,
            }
        })
        .collect()
}

/// Comes with Windows, as far as its name tells.
fn is_inbox(image: &str) -> bool {
    knowledge::driver(image).is_some_and(|driver| driver.inbox)
        // The kernel for processors with five page-table levels, which the table of drivers lacks.
        || image == "ntkrla57.exe"
}
