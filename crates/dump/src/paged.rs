//! Dumps that hold pages: their physical memory, and virtual memory through the page tables in it.

use crate::header::Header;
use crate::kdbg::Kdbg;
use crate::kind::{Bits, Kind};
use crate::paging::{AddressSpace, Form, Paging, SelfMap, Tables, Walk};
use crate::physical::{self, Pages, PhysicalMemory};
use crate::search::{self, KernelImage, SharedData};
use crate::secondary::{self, Blob};
use crate::source::{Source, read_vec};
use std::sync::{Arc, OnceLock};
use stopcode_base::{Arch, Memory, PhysAddr, Problem, Severity, VirtAddr};

/// Bytes read for the debugger data block, which states its own size.
const LARGEST_KDBG: usize = 0x1000;
/// Most secondary data that is read behind the last page.
const MOST_SECONDARY: u64 = 64 << 20;
/// The place of problems with page tables.
const TABLES: &str = "page tables";

/// The pages of a dump, and the page tables of the context that wrote it.
#[derive(Debug)]
pub(crate) struct Paged {
    pages: Pages,
    form: Form,
    root: Option<PhysAddr>,
    self_map: OnceLock<Option<SelfMap>>,
    /// Those of the space at `root`.
    tables: Tables,
}

impl Paged {
    /// The pages of a dump whose file starts with `head`; `None` where it holds none that can be found.
    pub(crate) fn open(
        source: &Arc<dyn Source>,
        kind: Kind,
        header: &Header,
        head: &[u8],
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let pages = physical::parse(source, kind, header.bits, head, problems)?;
        let (form, root) = tables(&pages, header, problems);
        Some(Self::new(pages, form, root))
    }

    /// Pages under the tables at `root`.
    pub(crate) fn new(pages: Pages, form: Form, root: Option<PhysAddr>) -> Self {
        Self { pages, form, root, self_map: OnceLock::new(), tables: Tables::new() }
    }

    pub(crate) fn physical(&self) -> &dyn PhysicalMemory {
        &self.pages
    }

    pub(crate) fn space(&self) -> Option<AddressSpace<'_>> {
        self.root.map(|root| self.space_at(root).with_tables(&self.tables))
    }

    pub(crate) fn space_at(&self, base: PhysAddr) -> AddressSpace<'_> {
        AddressSpace::with_form(&self.pages, self.form, base)
    }

    /// Walks the tables of `base`, or of the context that wrote the dump.
    pub(crate) fn walk(&self, base: Option<PhysAddr>, at: VirtAddr) -> Option<Walk> {
        let space = self.space_at(base.or(self.root)?);
        let mut walk = space.walk(at);
        if let Some(map) = self.self_map.get_or_init(|| space.self_map()) {
            map.mark(&mut walk, at);
        }
        Some(walk)
    }

    /// The debugger data block: where the header says that it lies, or in the data of the kernel's image.
    pub(crate) fn kdbg(&self, header: &Header, problems: &mut Vec<Problem>) -> Option<Kdbg> {
        let space = self.space()?;
        let mut report = |severity, what: String| {
            problems.push(Problem::new(severity, "debugger data block", what));
        };
        let kdbg = match kdbg_at_header(&space, header) {
            Ok(kdbg) => kdbg,
            Err(why) => {
                let image = kernel_base(&space, header).and_then(|base| KernelImage::at(&space, base));
                let Some((at, kdbg)) = image.and_then(|image| image.kdbg(&space)) else {
                    report(Severity::Warning, why);
                    return None;
                };
                report(Severity::Warning, format!("{why}; found at {at:#} in the kernel's data"));
                kdbg
            }
        };
        if kdbg.was_encoded() {
            let what = "encoded, as a running system keeps it: whoever wrote this dump was not Windows";
            report(Severity::Note, what.to_owned());
        }
        if kdbg.bytes().len() < kdbg.size() {
            let (got, size) = (kdbg.bytes().len(), kdbg.size());
            report(Severity::Warning, format!("only {got:#x} of its {size:#x} bytes are there"));
        }
        Some(kdbg)
    }

    /// Secondary data, which follows the last page.
    pub(crate) fn secondary(&self, source: &Arc<dyn Source>, problems: &mut Vec<Problem>) -> Vec<Blob> {
        let end = self.pages.end();
        let source = source.as_ref();
        let Ok(origin) = usize::try_from(end) else { return Vec::new() };
        if read_vec(source, end, 8) != b"DumpBlob" {
            return Vec::new();
        }
        let size = source.size().saturating_sub(end);
        if size > MOST_SECONDARY {
            let what = format!("{size:#x} bytes follow the last page: only {MOST_SECONDARY:#x} are read");
            problems.push(Problem::new(Severity::Warning, "secondary data", what));
        }
        secondary::parse(&Arc::new(read_vec(source, end, size.min(MOST_SECONDARY))), 0, origin, problems)
    }
}

/// The block where the header says that it lies, or why it is not there.
fn kdbg_at_header(space: &AddressSpace<'_>, header: &Header) -> Result<Kdbg, String> {
    let at = header.kd_debugger_data_block.ok_or("the dump header does not tell where it lies")?;
    let mut start = [0; 0x18];
    space.read(at, &mut start).map_err(|miss| format!("not readable: {miss}"))?;
    let bytes = space.read_available(at, LARGEST_KDBG);
    let decoded = || Kdbg::decode(&bytes, kernel_base(space, header)?);
    Kdbg::parse(&bytes).or_else(decoded).ok_or_else(|| format!("what lies at {at:#} is none"))
}

/// Where the kernel is loaded: the first of the loaded modules.
fn kernel_base(space: &AddressSpace<'_>, header: &Header) -> Option<VirtAddr> {
    let list = header.ps_loaded_module_list?;
    let base = match header.bits {
        Bits::B64 => space.read_u64(VirtAddr(space.read_u64(list).ok()?).plus(0x30)).ok()?,
        Bits::B32 => {
            // Debuggers extend the sign of x86 addresses, and so does the block.
            let entry = VirtAddr(space.read_u32(list).ok()?.into());
            i64::from(space.read_u32(entry.plus(0x18)).ok()? as i32) as u64
        }
    };
    (base % 0x1000 == 0 && base >> 63 == 1).then_some(VirtAddr(base))
}

/// The form and the top of the page tables under which the kernel's own landmarks can be read: the header's, or others
/// that a search finds; the likeliest where none is.
fn tables(pages: &Pages, header: &Header, problems: &mut Vec<Problem>) -> (Form, Option<PhysAddr>) {
    let candidates: &[Paging] = match (header.arch, header.pae_enabled) {
        (Some(Arch::X86), Some(false)) => &[Paging::X86, Paging::X86Pae],
        (Some(Arch::X86), _) => &[Paging::X86Pae, Paging::X86],
        (Some(Arch::Arm64), _) => &[Paging::Arm64],
        _ => &[Paging::X64FourLevel, Paging::X64FiveLevel],
    };
    let form = |paging: &Paging| Form {
        build: header.minor_version,
        memory_end: pages.memory_end(),
        ..Form::new(*paging)
    };
    let forms: Vec<Form> = candidates.iter().map(form).collect();
    let likeliest = form(candidates.first().unwrap_or(&Paging::X64FourLevel));
    let base = header.directory_table_base;
    let landmarks = [header.kd_debugger_data_block, header.ps_loaded_module_list];
    let reaches = |space: &AddressSpace<'_>| {
        landmarks.into_iter().flatten().any(|at: VirtAddr| space.read_u32(at).is_ok())
    };
    let stated = base.and_then(|base| {
        forms.iter().copied().find(|form| reaches(&AddressSpace::with_form(pages, *form, base)))
    });
    if let Some(form) = stated {
        return (form, base);
    }
    let why = match base {
        Some(base) => {
            format!("those at {base:#} lead neither to the debugger data nor to the list of modules")
        }
        None => "the dump header does not tell where they lie".to_owned(),
    };
    let accept = |space: &AddressSpace<'_>| reaches(space) || SharedData::read(space).is_some();
    if let Some(space) = search::top_table(pages, &forms, accept) {
        let root = space.root();
        let what = format!("{why}; others, which a search found at {root:#}, are used");
        problems.push(Problem::new(Severity::Warning, TABLES, what));
        return (space.form(), Some(root));
    }
    let what = match base {
        Some(_) => why,
        None => format!("{why}: memory can be read by physical address only"),
    };
    problems.push(Problem::new(Severity::Warning, TABLES, what));
    (likeliest, base)
}
