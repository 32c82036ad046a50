//! `TRIAGE_DUMP64` and `TRIAGE_DUMP32`: the body of a small dump.
//!
//! Its header gives a file offset for every part. The order of the parts differs between versions of Windows, so
//! nothing is taken from the order except a check: no part may run into the next one.

mod locate;
mod shape;

use crate::bytes::{Part, u32_at, u64_at, utf16};
use crate::drivers::{self, Driver, Entries, UnloadedDriver};
use crate::header::Header;
use crate::kdbg::Kdbg;
use crate::kind::Bits;
use crate::memory::Pieces;
use locate::Locator;
use shape::Shape;
use std::ops::Range;
use std::sync::Arc;
use stopcode_base::{Problem, Severity, VirtAddr};

/// More blocks than this are not believed: real dumps have up to some thousands.
const MOST_BLOCKS: usize = 1 << 17;
/// Largest copy of a structure that is looked for where the debugger data block does not tell its size.
const LARGEST_STRUCTURE: usize = 0x2_0000;
/// Dispatcher object types at the start of an ETHREAD and an EPROCESS.
const THREAD_OBJECT: u8 = 6;
const PROCESS_OBJECT: u8 = 3;

/// The parts of a small dump.
#[derive(Clone, PartialEq, Debug)]
pub struct Triage {
    /// The size of the dump proper, without the secondary data that follows it.
    pub size_of_dump: u32,
    /// The end mark `TRGD` is in its place: the writer got to the end.
    pub valid: bool,
    /// Service pack build; zero on every version since Windows 8.
    pub service_pack_build: u32,
    /// Stack pointer from which the stack was saved upwards.
    pub top_of_stack: VirtAddr,
    /// Where in the file the saved stack is.
    pub call_stack: Range<usize>,
    /// TriageOptions: 0xffffffff, or 0x41, as every dump of 24H2 has and some older ones.
    pub options: u32,
    /// Drivers that were loaded, in load order: the kernel first.
    pub drivers: Vec<Driver>,
    /// Drivers that had been unloaded, the latest first.
    pub unloaded: Vec<UnloadedDriver>,
    /// Memory manager's and Driver Verifier's numbers.
    pub verifier: Option<MmStorage>,
    /// Name of a driver that the system itself blamed; no known dump has one.
    pub broken_driver: Option<String>,
    /// The memory that was saved, in the order of the file.
    pub data_blocks: Vec<Block>,
    /// A single page that older versions saved.
    pub data_page: Option<Block>,
    /// Where in the file the names of drivers are.
    pub string_pool: Range<usize>,
    /// Address of the saved PRCB, where its own empty lists prove it.
    pub prcb_address: Option<VirtAddr>,
    /// Address of the saved ETHREAD.
    pub thread_address: Option<VirtAddr>,
    /// Address of the saved EPROCESS.
    pub process_address: Option<VirtAddr>,
    prcb: Part,
    thread: Part,
    process: Part,
    pool: Part,
}

/// A run of memory in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Address of its first byte.
    pub address: VirtAddr,
    /// File offset of its first byte.
    pub offset: u32,
    /// Its bytes; the file may end before the last.
    pub size: u32,
}

/// `_MI_TRIAGE_STORAGE`: numbers of the memory manager. Zero in dumps of current versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmStorage {
    /// Version of the structure.
    pub version: u32,
    /// Pool tag that special pool watches.
    pub special_pool_tag: u32,
    /// What Driver Verifier has done.
    pub triage_action_taken: u32,
    /// Driver Verifier's option flags.
    pub verify_driver_level: u32,
    /// Driver Verifier was checking the kernel.
    pub kernel_verifier: u32,
    /// Limit and use of nonpaged pool, in pages.
    pub nonpaged_pool: [u64; 2],
    /// Limit and use of paged pool, in pages.
    pub paged_pool: [u64; 2],
    /// Committed pages: now, at most so far, limit.
    pub commit: [u64; 3],
}

impl Triage {
    /// The saved `KPRCB` of the processor that crashed.
    pub fn prcb_bytes(&self) -> &[u8] {
        &self.prcb
    }

    /// The saved `EPROCESS` of the current process.
    pub fn process_bytes(&self) -> &[u8] {
        &self.process
    }

    /// The saved `ETHREAD` of the current thread.
    pub fn thread_bytes(&self) -> &[u8] {
        &self.thread
    }

    /// Every text in the string pool, in order.
    pub fn strings(&self) -> impl Iterator<Item = String> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let text = drivers::pool_string(&self.pool, at, &(0..self.pool.len()))
                .filter(|text| !text.is_empty())?;
            // Text, NUL, and up to the next multiple of eight in the file, not in the pool.
            let end = self.string_pool.start + at + 4 + text.len() + 2;
            at = end.next_multiple_of(8) - self.string_pool.start;
            Some(utf16(text))
        })
    }
}

/// What [`parse`] finds.
pub(crate) struct Parsed {
    pub(crate) triage: Triage,
    pub(crate) kdbg: Option<Kdbg>,
    pub(crate) pieces: Pieces,
    /// Where the dump proper ends, if its end mark was found.
    pub(crate) end: Option<usize>,
}

/// Reads the body of a small dump. Whatever is damaged is named in `problems` and left out.
pub(crate) fn parse(file: &Arc<Vec<u8>>, header: &Header, problems: &mut Vec<Problem>) -> Parsed {
    let shape = Shape::of(header.bits);
    let entries = Entries::of(header.bits);
    if file.len() < shape.end {
        let what = format!("the file ends at {:#x}, before the end of this header", file.len());
        problems.push(Problem::new(Severity::Warning, "triage header", what));
    }
    let mut locator = Locator::new(file, shape, problems);
    let kdbg_part = locator.part("debugger data block", shape.kdbg, locator.word(shape.kdbg_size));
    let kdbg = Kdbg::parse(file.get(kdbg_part.clone()).unwrap_or_default());
    let structure = |name| kdbg.as_ref().and_then(|kdbg| kdbg.offset(name)).unwrap_or(LARGEST_STRUCTURE);
    let prcb = locator.part("PRCB", shape.prcb, structure("SizePrcb"));
    let process = locator.part("EPROCESS", shape.process, structure("SizeEProcess"));
    let thread = locator.part("ETHREAD", shape.thread, structure("SizeEThread"));
    let call_stack = locator.part("call stack", shape.call_stack, locator.word(shape.call_stack_size));
    let string_pool = locator.part("string pool", shape.pool, locator.word(shape.pool_size));
    let driver_count = locator.word(shape.driver_count);
    let entries = entries.fitted(locator.word(shape.drivers), driver_count, string_pool.start);
    let driver_table = locator.table("driver list", shape.drivers, driver_count, entries.driver_size);
    let unloaded = unloaded_table(&mut locator, &entries);
    let blocks = block_table(&mut locator);
    // Six words, then seven counts as wide as a pointer.
    let mm = locator.part("memory manager's numbers", shape.mm, 0x18 + 7 * shape.pointer_size());

    let end = dump_end(file, &shape, problems);
    // Of the 32-bit form only the size is known to differ.
    let verifier = file.get(mm).filter(|_| header.bits == Bits::B64).and_then(mm_storage);
    let drivers = drivers::drivers(file, &entries, driver_table, string_pool.clone(), problems);
    let triage = Triage {
        size_of_dump: u32_at(file, shape.size_of_dump).unwrap_or(0),
        valid: end.is_some(),
        service_pack_build: u32_at(file, shape.start).unwrap_or(0),
        top_of_stack: shape.pointer(file, shape.top_of_stack).unwrap_or_default(),
        call_stack,
        options: u32_at(file, shape.options).unwrap_or(0),
        drivers,
        unloaded: drivers::unloaded(file, &entries, unloaded),
        verifier,
        broken_driver: broken_driver(file, &shape),
        data_blocks: file
            .get(blocks)
            .unwrap_or_default()
            .chunks_exact(shape.block_size())
            .filter_map(|entry| block(entry, &shape))
            .collect(),
        data_page: data_page(file, &shape),
        prcb_address: None,
        thread_address: None,
        process_address: None,
        prcb: Part::new(file, prcb),
        thread: Part::new(file, thread),
        process: Part::new(file, process),
        pool: Part::new(file, string_pool.clone()),
        string_pool,
    };
    let triage = with_addresses(triage, &shape, kdbg.as_ref(), problems);
    let pieces = pieces(&triage, file, &shape, header, kdbg.is_some().then_some(kdbg_part), problems);
    check_kdbg(kdbg.as_ref(), header, problems);
    Parsed { triage, kdbg, pieces, end }
}

/// The table of unloaded drivers, after its count.
fn unloaded_table(locator: &mut Locator<'_, '_>, entries: &Entries) -> Range<usize> {
    let shape = locator.shape();
    let count = shape.pointer(locator.file(), locator.word(shape.unloaded));
    let count = count.and_then(|count| usize::try_from(count.0).ok()).unwrap_or(0);
    let size = count.saturating_mul(entries.unloaded_size).saturating_add(shape.pointer_size());
    let table = locator.part("unloaded drivers", shape.unloaded, size);
    table.start.saturating_add(shape.pointer_size()).min(table.end)..table.end
}

/// The table of data blocks.
fn block_table(locator: &mut Locator<'_, '_>) -> Range<usize> {
    let shape = locator.shape();
    let count = locator.word(shape.block_count);
    let table = locator.table("table of data blocks", shape.blocks, count, shape.block_size());
    let end = table.end.min(table.start.saturating_add(MOST_BLOCKS * shape.block_size()));
    if end < table.end {
        locator.report(
            "table of data blocks",
            shape.blocks,
            format!("{count} blocks: only {MOST_BLOCKS} are read"),
        );
    }
    table.start..end
}

fn block(entry: &[u8], shape: &Shape) -> Option<Block> {
    let after = shape.pointer_size();
    Some(Block {
        address: shape.pointer(entry, 0)?,
        offset: u32_at(entry, after)?,
        size: u32_at(entry, after + 4)?,
    })
}

fn data_page(file: &[u8], shape: &Shape) -> Option<Block> {
    let [address, offset, size] = shape.data_page;
    let page = Block {
        address: shape.pointer(file, address)?,
        offset: u32_at(file, offset)?,
        size: u32_at(file, size)?,
    };
    (page.offset as usize >= shape.end && page.size > 0).then_some(page)
}

fn broken_driver(file: &[u8], shape: &Shape) -> Option<String> {
    let offset = u32_at(file, shape.broken_driver).map(|offset| offset as usize)?;
    drivers::pool_string(file, offset, &(shape.end..file.len())).filter(|name| !name.is_empty()).map(utf16)
}

fn mm_storage(bytes: &[u8]) -> Option<MmStorage> {
    let long = |offset| u64_at(bytes, offset);
    Some(MmStorage {
        version: u32_at(bytes, 0)?,
        special_pool_tag: u32_at(bytes, 8)?,
        triage_action_taken: u32_at(bytes, 0xc)?,
        verify_driver_level: u32_at(bytes, 0x10)?,
        kernel_verifier: u32_at(bytes, 0x14)?,
        nonpaged_pool: [long(0x18)?, long(0x20)?],
        paged_pool: [long(0x28)?, long(0x30)?],
        commit: [long(0x38)?, long(0x40)?, long(0x48)?],
    })
}

/// Where the dump proper ends: after the mark `TRGD`, which both ValidOffset and SizeOfDump lead to. `None` if
/// neither does.
fn dump_end(file: &[u8], shape: &Shape, problems: &mut Vec<Problem>) -> Option<usize> {
    let mark = u32_at(file, shape.valid_offset)? as usize;
    let stated = u32_at(file, shape.size_of_dump)? as usize;
    let marked = |at: &usize| file.get(*at..).is_some_and(|rest| rest.starts_with(b"TRGD"));
    let found = [Some(mark), stated.checked_sub(4)].into_iter().flatten().find(marked);
    let place = "end of the dump";
    let Some(found) = found else {
        let what = if mark >= file.len() {
            format!("the file has {:#x} bytes, the dump in it was to have {stated:#x}", file.len())
        } else {
            format!(
                "the end mark TRGD is not at {mark:#x}: the dump was not written to its end, or changed later"
            )
        };
        let problem = Problem::new(Severity::Warning, place, what);
        problems
            .push(problem.with_hint("If this is a copy, copy the original again; else use another dump."));
        return None;
    };
    let end = found + 4;
    if end != stated || found != mark {
        let what =
            format!("SizeOfDump is {stated:#x} and ValidOffset {mark:#x}; the end mark is at {found:#x}");
        problems.push(Problem::new(Severity::Warning, place, what));
    }
    Some(end)
}

/// Finds where the saved structures lay in memory: the file does not say.
fn with_addresses(
    mut triage: Triage,
    shape: &Shape,
    kdbg: Option<&Kdbg>,
    problems: &mut Vec<Problem>,
) -> Triage {
    let word = |bytes: &[u8], field| {
        let offset = kdbg?.offset(field)?;
        shape.pointer(bytes, offset).filter(|address| shape.is_kernel(*address))
    };
    triage.prcb_address = locate::proven_by_lists(&triage.prcb, shape);
    let current = word(&triage.prcb, "OffsetPrcbCurrentThread");
    triage.thread_address =
        locate::address(&triage.thread, shape, current, THREAD_OBJECT, "ETHREAD", problems);
    let owner = word(&triage.thread, "OffsetKThreadApcProcess");
    triage.process_address =
        locate::address(&triage.process, shape, owner, PROCESS_OBJECT, "EPROCESS", problems);
    triage
}

/// Everything that has an address, from the least to the most to be trusted.
fn pieces(
    triage: &Triage,
    file: &[u8],
    shape: &Shape,
    header: &Header,
    kdbg: Option<Range<usize>>,
    problems: &mut Vec<Problem>,
) -> Pieces {
    let mut pieces = Pieces::default();
    let kdbg = header.kd_debugger_data_block.zip(kdbg);
    let stack =
        shape.is_kernel(triage.top_of_stack).then(|| (triage.top_of_stack, triage.call_stack.clone()));
    let structures = [
        triage.process_address.map(|address| (address, triage.process.range())),
        triage.prcb_address.map(|address| (address, triage.prcb.range())),
        triage.thread_address.map(|address| (address, triage.thread.range())),
        stack,
        kdbg,
    ];
    for (address, range) in structures.into_iter().flatten() {
        pieces.add(address, range.start, range.len(), file.len());
    }
    let mut cut = 0_usize;
    for block in triage.data_page.iter().chain(&triage.data_blocks) {
        let (offset, size) = (block.offset as usize, block.size as usize);
        cut += usize::from(offset.saturating_add(size) > file.len());
        pieces.add(block.address, offset, size, file.len());
    }
    if cut > 0 {
        let what =
            format!("{cut} of {} blocks of memory lie beyond the end of the file", triage.data_blocks.len());
        problems.push(Problem::new(Severity::Warning, "data blocks", what));
    }
    pieces
}

/// The block and the header state some facts twice; where they differ, one of them is damaged.
fn check_kdbg(kdbg: Option<&Kdbg>, header: &Header, problems: &mut Vec<Problem>) {
    let place = "debugger data block";
    let Some(kdbg) = kdbg else {
        let what = "not readable: offsets into the kernel's structures are not known from the dump itself";
        problems.push(Problem::new(Severity::Warning, place, what));
        return;
    };
    if kdbg.bytes().len() < kdbg.size() {
        let what = format!("only {:#x} of its {:#x} bytes are there", kdbg.bytes().len(), kdbg.size());
        problems.push(Problem::new(Severity::Warning, place, what));
    }
    let stated = kdbg.get("PsLoadedModuleList").map(VirtAddr);
    if let (Some(stated), Some(list)) = (stated, header.ps_loaded_module_list)
        && stated != list
    {
        let what = format!("PsLoadedModuleList is {stated:#} here and {list:#} in the dump header");
        problems.push(Problem::new(Severity::Warning, place, what));
    }
}
