//! Dumps that hold pages: their physical memory, and virtual memory through the page tables in it.

use crate::header::Header;
use crate::kdbg::Kdbg;
use crate::kind::Kind;
use crate::paging::{AddressSpace, Paging};
use crate::physical::{self, Pages, PhysicalMemory};
use crate::secondary::{self, Blob};
use crate::source::{Source, read_vec};
use std::sync::Arc;
use stopcode_base::{Arch, Memory, PhysAddr, Problem, Severity, VirtAddr};

/// Bytes read for the debugger data block, which states its own size.
const LARGEST_KDBG: usize = 0x1000;
/// Most secondary data that is read behind the last page.
const MOST_SECONDARY: u64 = 64 << 20;

/// The pages of a dump, and the page tables of the context that wrote it.
#[derive(Debug)]
pub(crate) struct Paged {
    pages: Pages,
    paging: Paging,
    root: Option<PhysAddr>,
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
        let paging = choose(&pages, header, problems);
        Some(Self { pages, paging, root: header.directory_table_base })
    }

    pub(crate) fn physical(&self) -> &dyn PhysicalMemory {
        &self.pages
    }

    pub(crate) fn space(&self) -> Option<AddressSpace<'_>> {
        self.root.map(|root| self.space_at(root))
    }

    pub(crate) fn space_at(&self, base: PhysAddr) -> AddressSpace<'_> {
        AddressSpace::new(&self.pages, self.paging, base)
    }

    /// The debugger data block where the header says that it lies.
    pub(crate) fn kdbg(&self, header: &Header, problems: &mut Vec<Problem>) -> Option<Kdbg> {
        let place = "debugger data block";
        let mut warn = |what: String| problems.push(Problem::new(Severity::Warning, place, what));
        let (Some(space), Some(at)) = (self.space(), header.kd_debugger_data_block) else {
            warn("the dump header does not tell where it lies".to_owned());
            return None;
        };
        let mut start = [0; 0x18];
        if let Err(miss) = space.read(at, &mut start) {
            warn(format!("not readable: {miss}"));
            return None;
        }
        let kdbg = Kdbg::parse(&space.read_available(at, LARGEST_KDBG));
        match &kdbg {
            None => {
                warn(format!("what lies at {at:#} is none: it may be encoded, as a live system keeps it"));
            }
            Some(kdbg) if kdbg.bytes().len() < kdbg.size() => {
                let (got, size) = (kdbg.bytes().len(), kdbg.size());
                warn(format!("only {got:#x} of its {size:#x} bytes are there"));
            }
            Some(_) => {}
        }
        kdbg
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

/// The form of page tables under which the kernel's own landmarks can be read; the likeliest where none is.
fn choose(pages: &Pages, header: &Header, problems: &mut Vec<Problem>) -> Paging {
    let candidates: &[Paging] = match (header.arch, header.pae_enabled) {
        (Some(Arch::X86), Some(false)) => &[Paging::X86, Paging::X86Pae],
        (Some(Arch::X86), _) => &[Paging::X86Pae, Paging::X86],
        (Some(Arch::Arm64), _) => &[Paging::Arm64],
        _ => &[Paging::X64FourLevel, Paging::X64FiveLevel],
    };
    let likeliest = candidates.first().copied().unwrap_or(Paging::X64FourLevel);
    let place = "page tables";
    let Some(base) = header.directory_table_base else {
        let what =
            "the dump header does not tell where they lie: memory can be read by physical address only";
        problems.push(Problem::new(Severity::Warning, place, what));
        return likeliest;
    };
    let landmarks = [header.kd_debugger_data_block, header.ps_loaded_module_list];
    let reaches = |paging: &&Paging| {
        let space = AddressSpace::new(pages, **paging, base);
        landmarks.into_iter().flatten().any(|at: VirtAddr| space.read_u32(at).is_ok())
    };
    candidates.iter().find(reaches).copied().unwrap_or_else(|| {
        let what = format!("those at {base:#} lead neither to the debugger data nor to the list of modules");
        problems.push(Problem::new(Severity::Warning, place, what));
        likeliest
    })
}
