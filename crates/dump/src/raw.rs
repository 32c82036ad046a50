//! Memory without a dump header: a machine's plain memory, QEMU's core files, what firmware writes.
//!
//! Nothing in such a file tells where the kernel is. A scan finds a top page table, the kernel's image behind it and the
//! debugger data block in that; what a dump header would have told is then read from memory.

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::header::Header;
use crate::kdbg::Kdbg;
use crate::kind::{Bits, Kind};
use crate::paged::Paged;
use crate::paging::{AddressSpace, Form, Paging};
use crate::physical::{PAGE_SIZE, Pages, PhysicalMemory};
use crate::search::{self, KernelImage, SharedData};
use crate::source::{Source, read_vec};
use std::sync::Arc;
use stopcode_base::{Arch, FileTime, Memory, Problem, Severity, VirtAddr};

/// Smallest file without any signature that is taken for a machine's memory.
const SMALLEST: u64 = 1 << 20;

/// What [`open`] finds.
pub(crate) struct Raw {
    pub(crate) kind: Kind,
    pub(crate) header: Header,
    pub(crate) paged: Paged,
    pub(crate) kdbg: Kdbg,
}

/// A machine's memory in `source`, which starts with `head`, if a Windows kernel is in it.
pub(crate) fn open(source: &Arc<dyn Source>, head: &[u8], problems: &mut Vec<Problem>) -> Option<Raw> {
    let (kind, segments) = match head {
        [0x7f, b'E', b'L', b'F', ..] => (Kind::ElfCore, elf(source.as_ref(), head)?),
        _ if head.starts_with(b"Raw_Dmp!") => (Kind::UefiRaw, uefi(source.as_ref(), head)?),
        _ if source.size() >= SMALLEST && source.size().is_multiple_of(PAGE_SIZE) => {
            (Kind::Plain, vec![Segment { at: 0, size: source.size(), offset: 0 }])
        }
        _ => return None,
    };
    let mut found = Vec::new();
    let pages = placed(source, &segments, &mut found);
    let raw = machine(kind, pages)?;
    let what =
        "no dump header: what it would tell was read from the memory of the kernel, which a search found";
    found.push(Problem::new(Severity::Note, "memory image", what));
    problems.append(&mut found);
    Some(raw)
}

/// A piece of physical memory in the file.
struct Segment {
    at: u64,
    size: u64,
    offset: u64,
}

fn placed(source: &Arc<dyn Source>, segments: &[Segment], problems: &mut Vec<Problem>) -> Pages {
    let mut missing: u64 = 0;
    let runs = segments.iter().map(|segment| {
        // Only whole pages; those that begin inside one page of memory and end in another do not exist.
        let first = segment.at.div_ceil(PAGE_SIZE);
        let skipped = first.saturating_mul(PAGE_SIZE) - segment.at;
        let count = segment.size.saturating_sub(skipped) / PAGE_SIZE;
        let past =
            segment.offset.saturating_add(segment.size).saturating_sub(source.size()).min(segment.size);
        // Each segment may claim all there can be.
        missing = missing.saturating_add(past);
        (first, count, segment.offset.saturating_add(skipped))
    });
    let (pages, faults) = Pages::placed(source, runs);
    let mut warn = |what| problems.push(Problem::new(Severity::Warning, "memory image", what));
    if missing > 0 {
        warn(format!("{missing:#x} bytes of memory lie past the end of the file"));
    }
    if faults > 0 {
        warn(format!("{faults} pieces of memory overlap others, or reach past the end of physical memory"));
    }
    pages
}

/// `PT_LOAD` segments of a core file, 64- or 32-bit; every one has its physical address.
fn elf(source: &dyn Source, head: &[u8]) -> Option<Vec<Segment>> {
    const CORE: u16 = 4;
    const LOAD: u32 = 1;
    if u16_at(head, 0x10)? != CORE || *head.get(5)? != 1 {
        return None;
    }
    let wide = *head.get(4)? == 2;
    let (table, entry, count) = if wide {
        (u64_at(head, 0x20)?, u16_at(head, 0x36)?, u16_at(head, 0x38)?)
    } else {
        (u32_at(head, 0x1c)?.into(), u16_at(head, 0x2a)?, u16_at(head, 0x2c)?)
    };
    let entry = usize::from(entry);
    if entry < if wide { 0x38 } else { 0x20 } {
        return None;
    }
    let bytes = read_vec(source, table, entry as u64 * u64::from(count));
    let segment = |header: &[u8]| {
        if u32_at(header, 0)? != LOAD {
            return None;
        }
        Some(if wide {
            Segment { offset: u64_at(header, 8)?, at: u64_at(header, 0x18)?, size: u64_at(header, 0x20)? }
        } else {
            let word = |offset| u32_at(header, offset).map(u64::from);
            Segment { offset: word(4)?, at: word(0xc)?, size: word(0x10)? }
        })
    };
    Some(bytes.chunks_exact(entry).filter_map(segment).collect())
}

/// `DDR_RANGE` sections of `RAW_DUMP_HEADER`.
fn uefi(source: &dyn Source, head: &[u8]) -> Option<Vec<Segment>> {
    const HEADER: u64 = 0x38;
    const SECTION: usize = 0x40;
    const DDR_RANGE: u32 = 1;
    /// More sections than this are not believed.
    const MOST: u32 = 0x1_0000;
    let count = u32_at(head, 0x34)?.min(MOST);
    let table = read_vec(source, HEADER, u64::from(count) * SECTION as u64);
    let segment = |section: &[u8]| {
        let (kind, at) = (u32_at(section, 8)?, u64_at(section, 0x1c)?);
        let range = Segment { at, offset: u64_at(section, 0xc)?, size: u64_at(section, 0x14)? };
        (kind == DDR_RANGE).then_some(range)
    };
    Some(table.chunks_exact(SECTION).filter_map(segment).collect())
}

/// The kernel in `pages`, and what a header would have told of it.
fn machine(kind: Kind, pages: Pages) -> Option<Raw> {
    let form = |paging| Form { memory_end: pages.memory_end(), ..Form::new(paging) };
    let forms =
        [Paging::X64FourLevel, Paging::X64FiveLevel, Paging::Arm64, Paging::X86Pae, Paging::X86].map(form);
    let space = search::top_table(&pages, &forms, |space| SharedData::read(space).is_some())?;
    let shared = SharedData::read(&space)?;
    let image = search::kernel_image(&space)?;
    let (at, kdbg) = image.kdbg(&space)?;
    let header = header(&space, &image, &shared, at, &kdbg);
    // Tables of both 64-bit processors look alike as far as the search goes: the image tells which it is.
    let paging = if image.arch == Some(Arch::Arm64) { Paging::Arm64 } else { space.paging() };
    let form = Form { paging, build: header.minor_version, ..space.form() };
    let root = space.root();
    Some(Raw { kind, header, paged: Paged::new(pages, form, Some(root)), kdbg })
}

fn header(
    space: &AddressSpace<'_>,
    image: &KernelImage,
    shared: &SharedData,
    at: VirtAddr,
    kdbg: &Kdbg,
) -> Header {
    let bits = if image.arch == Some(Arch::X86) { Bits::B32 } else { Bits::B64 };
    let variable = |name| kdbg.get(name).filter(|at| *at != 0).map(VirtAddr);
    let word = |at: VirtAddr| match bits {
        Bits::B64 => space.read_u64(at).ok(),
        Bits::B32 => space.read_u32(at).ok().map(u64::from),
    };
    let size: u64 = if bits == Bits::B64 { 8 } else { 4 };
    // KiBugCheckData: the code and its four arguments; zeros while the system runs.
    let stop = |n: u64| variable("KiBugcheckData").and_then(|data| word(data.plus(n * size))).unwrap_or(0);
    let processors = variable("KiProcessorBlock").map_or(0, |block| {
        (0..2048).take_while(|n| word(block.plus(n * size)).is_some_and(|prcb| prcb != 0)).count()
    });
    // Before Windows 10 only the text of the build tells its number.
    let build = if shared.build == 0 { build_of_text(space, kdbg).unwrap_or(0) } else { shared.build };
    Header {
        bits,
        arch: image.arch,
        machine_image_type: image.machine,
        major_version: 0xf,
        minor_version: build,
        directory_table_base: Some(space.root()),
        pfn_database: variable("MmPfnDatabase"),
        ps_loaded_module_list: variable("PsLoadedModuleList"),
        ps_active_process_head: variable("PsActiveProcessHead"),
        number_processors: processors as u32,
        bug_check_code: stop(0) as u32,
        bug_check_parameters: [stop(1), stop(2), stop(3), stop(4)],
        kd_debugger_data_block: Some(at),
        dump_type: None,
        system_time: Some(FileTime(shared.system_time)),
        system_uptime: Some(shared.interrupt_time),
        comment: None,
        product_type: Some(shared.product_type),
        suite_mask: Some(shared.suite_mask),
        attributes: None,
        boot_id: None,
        exception: None,
        context: None,
        context_flags: None,
        required_dump_space: None,
        minidump_fields: None,
        secondary_data_state: None,
        writer_status: None,
        pae_enabled: (bits == Bits::B32).then_some(space.paging() == Paging::X86Pae),
    }
}

/// The number that `NtBuildLab` starts with: `7601.24540.amd64fre.win7sp1_ldr.200101-0000`.
fn build_of_text(space: &AddressSpace<'_>, kdbg: &Kdbg) -> Option<u32> {
    let text = space.read_available(VirtAddr(kdbg.get("NtBuildLab")?), 8);
    let digits: Vec<u8> = text.into_iter().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
