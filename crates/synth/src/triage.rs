//! The small dump: DumpType 4, header `PAGEDU64` with body TRIAGE_DUMP64, or `PAGEDUMP` with TRIAGE_DUMP32.
//!
//! Offsets of the header are those of the public `mindumpdef.h`; the order of the parts, the fill and what follows
//! the end marker are as real dumps of 19041 have them. The body of 32 bits is as public readers have it: the same
//! with narrower pointers.

use crate::blobs::{self, wide};
use crate::layout::Layout;
use crate::machine::{Arch, Machine, Unloaded};
use crate::memory::{self, Image};
use crate::record::Record;
use crate::{Error, context, kdbg, objects};
use stopcode_base::FileTime;

const DUMP_TYPE_TRIAGE: u32 = 4;
/// Context, exception, PRCB, process, thread, stack, driver list; debugger data and data blocks.
const PARTS: u32 = 0xcff;
const STATUS_BREAKPOINT: u32 = 0x8000_0003;
/// What a file offset can say.
const MAX_FILE: usize = 0x1000_0000;

/// Writes the machine as a small dump.
///
/// # Errors
/// If the description contradicts itself or lacks a part that no dump is without; [`Error`] names it.
pub fn write(machine: &Machine) -> Result<Vec<u8>, Error> {
    let (image, layout) = memory::of(machine)?;
    let mut file = Record::filled(header_size(machine.arch), *b"PAGE").into_bytes();
    let places = body(machine, &layout, &image, &mut file)?;
    let size_of_dump = file.len();
    file.extend(blobs::chain(machine));
    if file.len() > MAX_FILE {
        return Err(Error::TooLarge("the dump".to_owned()));
    }
    let header = header(machine, file.len())?;
    overwrite(&mut file, 0, header);
    overwrite(
        &mut file,
        header_size(machine.arch),
        triage_header(&layout, machine, &image, &places, size_of_dump)?,
    );
    Ok(file)
}

/// Bytes of the dump header.
pub(crate) const fn header_size(arch: Arch) -> usize {
    match arch {
        Arch::X64 | Arch::Arm64 => 0x2000,
        Arch::X86 => 0x1000,
    }
}

/// Bytes of the header behind it.
const fn triage_header_size(arch: Arch) -> usize {
    match arch {
        Arch::X64 | Arch::Arm64 => 0x80,
        Arch::X86 => 0x68,
    }
}

fn overwrite(file: &mut [u8], at: usize, bytes: Vec<u8>) {
    let slots = file.iter_mut().skip(at);
    slots.zip(bytes).for_each(|(slot, byte)| *slot = byte);
}

/// Where the parts of the body went.
struct Places {
    mm: usize,
    unloaded: usize,
    prcb: usize,
    process: usize,
    thread: usize,
    call_stack: usize,
    debugger_data: usize,
    drivers: usize,
    strings: usize,
    blocks: usize,
    marker: usize,
}

/// Appends the parts in their order.
fn body(machine: &Machine, layout: &Layout, image: &Image, file: &mut Vec<u8>) -> Result<Places, Error> {
    let cpu = machine.crashed()?;
    let thread = machine.thread(cpu.thread)?;
    let process = machine.process(thread.process)?;
    let arch = machine.arch;
    file.resize(header_size(arch) + triage_header_size(arch), 0);
    let mut add = |bytes: &[u8]| {
        let at = file.len();
        file.extend_from_slice(bytes);
        at
    };
    let mm = add(&mm_storage(machine, layout));
    let unloaded = add(&unloaded_drivers(arch, &machine.unloaded));
    let prcb = add(&objects::prcb(machine, layout, cpu)?);
    let process = add(&objects::process(machine, layout, process)?);
    let thread = add(&objects::thread(machine, layout, thread)?);
    let call_stack = add(&image.call_stack.bytes);
    let debugger_data = add(&kdbg::block(machine, layout)?);
    let drivers_at = debugger_data + layout.kdbg_size;
    let (list, pool) = drivers(machine, drivers_at);
    let drivers = add(&list);
    let strings = add(&pool);
    let blocks = add(&[]);
    let (width, size) = (arch.pointer(), arch.pointer() + 8);
    let mut next = blocks + size * image.blocks.len();
    for block in &image.blocks {
        let mut row = Record::zeroed(size);
        row.pointer(arch, 0, block.at).u32(width, next as u32).u32(width + 4, block.bytes.len() as u32);
        add(&row.into_bytes());
        next += block.bytes.len();
    }
    for block in &image.blocks {
        add(&block.bytes);
    }
    let marker = add(b"TRGD");
    Ok(Places {
        mm,
        unloaded,
        prcb,
        process,
        thread,
        call_stack,
        debugger_data,
        drivers,
        strings,
        blocks,
        marker,
    })
}

/// The dump header. What is not set keeps the fill `PAGE`, which readers take as "absent".
pub(crate) fn header(machine: &Machine, file_size: usize) -> Result<Vec<u8>, Error> {
    match machine.arch {
        Arch::X64 | Arch::Arm64 => header64(machine, file_size),
        Arch::X86 => header32(machine, file_size),
    }
}

/// DUMP_HEADER32.
fn header32(machine: &Machine, file_size: usize) -> Result<Vec<u8>, Error> {
    let cpu = machine.crashed()?;
    let process = machine.process(machine.thread(cpu.thread)?.process)?;
    let mut r = Record::filled(header_size(machine.arch), *b"PAGE");
    r.put(4, b"DUMP").u32(8, 0xf).u32(0xc, machine.build).u32(0x10, process.directory_table_base.0 as u32);
    for (offset, name) in
        [(0x14, "MmPfnDatabase"), (0x18, "PsLoadedModuleList"), (0x1c, "PsActiveProcessHead")]
    {
        r.u32(offset, machine.global(name)? as u32);
    }
    r.u32(0x20, machine.arch.machine().into()).u32(0x24, machine.processors.len() as u32);
    r.u32(0x28, machine.bug_check.code.0 as u32);
    for (n, argument) in machine.bug_check.arguments.into_iter().enumerate() {
        r.u32(0x2c + 4 * n, argument.0 as u32);
    }
    r.u8(0x5c, machine.pae.into()).u8(0x5d, 0);
    r.u32(0x60, machine.kernel_base()?.wrapping_add(machine.kernel.debugger_data.0) as u32);
    let reported = machine.exception.as_ref().map_or(&cpu.registers, |e| &e.registers);
    r.put(0x320, &context::of(machine.arch, reported, context::FLAGS_CRASHED));
    // As in the wider header: the breakpoint of KeBugCheckEx.
    r.u32(0x7d0, STATUS_BREAKPOINT).u32(0x7d4, 1).u32(0x7d8, 0).u32(0x7dc, cpu.registers.rip.0 as u32);
    r.u32(0x7e0, 0).u32(0xf88, DUMP_TYPE_TRIAGE).u32(0xf8c, PARTS);
    r.u32(0xf94, machine.product_type).u32(0xf98, machine.suite_mask.0 as u32).u32(0xf9c, 0);
    r.u64(0xfa0, file_size.next_multiple_of(0x1000) as u64);
    r.u64(0xfb8, u64::from(machine.uptime_seconds) * 10_000_000);
    r.u64(0xfc0, FileTime::from_unix(machine.crash_time).0);
    Ok(r.into_bytes())
}

/// DUMP_HEADER64.
fn header64(machine: &Machine, file_size: usize) -> Result<Vec<u8>, Error> {
    let base = machine.kernel_base()?;
    let cpu = machine.crashed()?;
    let process = machine.process(machine.thread(cpu.thread)?.process)?;
    let mut r = Record::filled(header_size(machine.arch), *b"PAGE");
    r.put(4, b"DU64").u32(8, 0xf).u32(0xc, machine.build).u64(0x10, process.directory_table_base.0);
    r.u64(0x18, machine.global("MmPfnDatabase")?).u64(0x20, machine.global("PsLoadedModuleList")?);
    r.u64(0x28, machine.global("PsActiveProcessHead")?);
    r.u32(0x30, machine.arch.machine().into()).u32(0x34, machine.processors.len() as u32);
    r.u32(0x38, machine.bug_check.code.0 as u32);
    for (n, argument) in machine.bug_check.arguments.into_iter().enumerate() {
        r.u64(0x40 + 8 * n, argument.0);
    }
    r.u64(0x80, base.wrapping_add(machine.kernel.debugger_data.0));
    let reported = machine.exception.as_ref().map_or(&cpu.registers, |e| &e.registers);
    r.put(0x348, &context::of(machine.arch, reported, context::FLAGS_CRASHED));
    // The record is that of the breakpoint that KeBugCheckEx would have run into, also for a real exception.
    r.u32(0xf00, STATUS_BREAKPOINT).u32(0xf04, 1).u64(0xf08, 0).u64(0xf10, cpu.registers.rip.0).u32(0xf18, 0);
    r.u32(0xf98, DUMP_TYPE_TRIAGE).u64(0xfa0, file_size.next_multiple_of(0x1000) as u64);
    r.u64(0xfa8, FileTime::from_unix(machine.crash_time).0);
    r.u64(0x1030, u64::from(machine.uptime_seconds) * 10_000_000).u32(0x1038, PARTS);
    r.u32(0x1040, machine.product_type).u32(0x1044, machine.suite_mask.0 as u32).u32(0x1048, 0);
    r.u8(0x104d, 0);
    Ok(r.into_bytes())
}

/// TRIAGE_DUMP64 or TRIAGE_DUMP32.
fn triage_header(
    layout: &Layout,
    machine: &Machine,
    image: &Image,
    at: &Places,
    size_of_dump: usize,
) -> Result<Vec<u8>, Error> {
    let arch = machine.arch;
    // Where the dump header keeps context and exception, and where this one tells of debugger data and blocks.
    let (context, exception, data) = match arch {
        Arch::X64 | Arch::Arm64 => (0x348, 0xf00, 0x70),
        Arch::X86 => (0x320, 0x7d0, 0x58),
    };
    let mut r = Record::zeroed(triage_header_size(arch));
    let words = [
        layout.service_pack(),
        size_of_dump,
        at.marker,
        context,
        exception,
        at.mm,
        at.unloaded,
        at.prcb,
        at.process,
        at.thread,
        at.call_stack,
        image.call_stack.bytes.len(),
        at.drivers,
        machine.modules.len(),
        at.strings,
        at.blocks - at.strings,
        0,
        0xffff_ffff,
    ];
    for (n, word) in words.into_iter().enumerate() {
        r.u32(4 * n, u32::try_from(word).map_err(|_| Error::TooLarge("the dump".to_owned()))?);
    }
    r.pointer(arch, 0x48, image.call_stack.at);
    r.u32(data, at.debugger_data as u32).u32(data + 4, layout.kdbg_size as u32);
    r.u32(data + 8, at.blocks as u32).u32(data + 12, image.blocks.len() as u32);
    Ok(r.into_bytes())
}

/// `MI_TRIAGE_STORAGE`: six words, then seven counts as wide as a pointer.
fn mm_storage(machine: &Machine, layout: &Layout) -> Vec<u8> {
    let size = 0x18 + 7 * machine.arch.pointer();
    let mut r = Record::zeroed(size);
    r.u32(0, 1).u32(4, size as u32);
    if layout.is_windows_7() {
        r.u32(0x10, machine.verifier.level.0 as u32);
    }
    r.into_bytes()
}

/// A count and entries with the first twelve letters of each name.
fn unloaded_drivers(arch: Arch, unloaded: &[Unloaded]) -> Vec<u8> {
    // A UNICODE_STRING, the letters, the two addresses.
    let (letters, width) = (2 * arch.pointer(), arch.pointer());
    let mut out: Vec<u8> = arch.word(unloaded.len() as u64).collect();
    for driver in unloaded {
        let name: Vec<u8> = driver.name.encode_utf16().take(12).flat_map(u16::to_le_bytes).collect();
        let addresses = letters + 24;
        let mut r = Record::zeroed(addresses + 2 * width);
        r.u16(0, name.len() as u16).u16(2, name.len() as u16).put(letters, &name);
        r.pointer(arch, addresses, driver.start.0).pointer(arch, addresses + width, driver.end.0);
        out.extend(r.into_bytes());
    }
    out
}

/// The driver list, which starts at `at` in the file, and the string pool right behind it.
fn drivers(machine: &Machine, at: usize) -> (Vec<u8>, Vec<u8>) {
    // The offset of the name and the first part of a KLDR_DATA_TABLE_ENTRY: its size, and where its fields lie.
    let [entry_size, base, size, checksum, stamp] = match machine.arch {
        Arch::X64 | Arch::Arm64 => [0x90, 0x38, 0x48, 0x80, 0x88],
        Arch::X86 => [0x50, 0x1c, 0x24, 0x44, 0x4c],
    };
    let pool_at = at + entry_size * machine.modules.len();
    let (mut list, mut pool) = (Vec::new(), Vec::new());
    for module in &machine.modules {
        let mut r = Record::zeroed(entry_size);
        r.u32(0, (pool_at + pool.len()) as u32).pointer(machine.arch, base, module.base.0);
        r.u32(size, module.size.0 as u32);
        r.u32(checksum, module.checksum.0 as u32).u32(stamp, module.time_stamp.0 as u32);
        list.extend(r.into_bytes());
        let name = wide(&module.path);
        // The length counts characters without the zero; the next string starts at a multiple of eight in the file.
        pool.extend((name.len() as u32 / 2 - 1).to_le_bytes());
        pool.extend(name);
        let end = (pool_at + pool.len()).next_multiple_of(8) - pool_at;
        pool.resize(end, 0);
    }
    (list, pool)
}
