//! What Windows keeps of modules in memory: the list of loaded ones, and the headers of their images.

use crate::Error;
use crate::blobs::wide;
use crate::image::{self, Own};
use crate::machine::{Arch, Machine, Module};
use crate::record::Record;

/// Bytes between list entries: each has its structure and, behind it, its names.
const ENTRY_ROOM: usize = 0x800;
/// Where the names start in it.
const NAMES: usize = 0x100;
/// Entries of the ring of unloaded drivers.
const RING_ENTRIES: usize = 50;
/// Where the ring lies, behind the list's entries.
const RING: u64 = 0x100_0000;

/// `KLDR_DATA_TABLE_ENTRY`, as all builds of one width have it up to `CheckSum`, and `UNLOADED_DRIVERS`.
struct Shape {
    /// Where the list's entries lie: made up, and out of the way of what samples describe.
    pool: u64,
    size: usize,
    base: usize,
    image_size: usize,
    full_name: usize,
    load_count: usize,
    checksum: usize,
    /// `SizeOfImageNotRounded`, with the time stamp behind it.
    last: usize,
    ring_entry: usize,
    gone_start: usize,
}

impl Shape {
    const fn of(arch: Arch) -> Self {
        match arch {
            // In the part of the address space that nonpaged pool has had since Windows 10.
            Arch::X64 | Arch::Arm64 => Self {
                pool: 0xffff_9f00_0000_0000,
                size: 0xa0,
                base: 0x30,
                image_size: 0x40,
                full_name: 0x48,
                load_count: 0x6c,
                checksum: 0x78,
                last: 0x98,
                ring_entry: 0x28,
                gone_start: 0x10,
            },
            // Where pool may lie on x86 since Windows Vista.
            Arch::X86 => Self {
                pool: 0x9f00_0000,
                size: 0x60,
                base: 0x18,
                image_size: 0x20,
                full_name: 0x24,
                load_count: 0x38,
                checksum: 0x40,
                last: 0x54,
                ring_entry: 0x18,
                gone_start: 8,
            },
        }
    }
}

/// The first build whose entries end with the image's time stamp.
const FIRST_WITH_STAMP: u32 = 10_240;

/// `PsLoadedModuleList`: its head and entries, as addresses and bytes.
pub(crate) fn list(machine: &Machine) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let head = machine.global("PsLoadedModuleList")?;
    let pool = Shape::of(machine.arch).pool;
    let at = |n: usize| pool + (n * ENTRY_ROOM) as u64;
    let count = machine.modules.len();
    let next = |n: usize| if n < count { at(n) } else { head };
    let mut parts = Vec::new();
    let links = [next(0), count.checked_sub(1).map_or(head, at)];
    parts.push((head, links.into_iter().flat_map(|word| machine.arch.word(word)).collect()));
    for (n, module) in machine.modules.iter().enumerate() {
        let previous = n.checked_sub(1).map_or(head, at);
        parts.push((at(n), entry(machine, module, at(n), next(n + 1), previous)?));
    }
    Ok(parts)
}

/// One entry and the names behind it.
fn entry(machine: &Machine, module: &Module, at: u64, next: u64, previous: u64) -> Result<Vec<u8>, Error> {
    let path = wide(&module.path);
    let letters = path.len() - 2;
    let file = module.path.rsplit(['\\', '/']).next().unwrap_or_default();
    let file_letters = file.encode_utf16().count() * 2;
    if NAMES + path.len() > ENTRY_ROOM {
        return Err(Error::TooLarge(format!("the path of `{file}`")));
    }
    let (arch, shape) = (machine.arch, Shape::of(machine.arch));
    let width = arch.pointer();
    let mut r = Record::zeroed(NAMES.max(shape.size) + path.len());
    r.pointer(arch, 0, next).pointer(arch, width, previous);
    r.pointer(arch, shape.base, module.base.0).u32(shape.image_size, module.size.0 as u32);
    // The file's name is the end of the path.
    let name_at = at + (NAMES + letters - file_letters) as u64;
    let base_name = shape.full_name + 2 * width;
    unicode_string(&mut r, arch, shape.full_name, letters, at + NAMES as u64);
    unicode_string(&mut r, arch, base_name, file_letters, name_at);
    r.u16(shape.load_count, 1).u32(shape.checksum, module.checksum.0 as u32);
    if machine.build >= FIRST_WITH_STAMP {
        r.u32(shape.last, module.size.0 as u32).u32(shape.last + 4, module.time_stamp.0 as u32);
    }
    r.put(NAMES, &path);
    Ok(r.into_bytes())
}

/// A `UNICODE_STRING` of text that ends with a zero behind its `length` bytes.
fn unicode_string(r: &mut Record, arch: Arch, field: usize, length: usize, text: u64) {
    r.u16(field, length as u16).u16(field + 2, length as u16 + 2).pointer(arch, field + arch.pointer(), text);
}

/// `MmUnloadedDrivers`: the pointer to the ring, the index of its next entry, and the ring with its names behind it.
pub(crate) fn unloaded(machine: &Machine) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let count = machine.unloaded.len();
    if count > RING_ENTRIES {
        return Err(Error::TooLarge("the list of unloaded drivers".to_owned()));
    }
    let (arch, shape) = (machine.arch, Shape::of(machine.arch));
    let ring_at = shape.pool + RING;
    let mut ring = Record::zeroed(shape.ring_entry * RING_ENTRIES);
    let mut names = Vec::new();
    // Newest last, as the ring is filled.
    for (n, driver) in machine.unloaded.iter().rev().enumerate() {
        let name = wide(&driver.name);
        let at = ring_at + (shape.ring_entry * RING_ENTRIES + names.len()) as u64;
        let entry = shape.ring_entry * n;
        unicode_string(&mut ring, arch, entry, name.len() - 2, at);
        ring.pointer(arch, entry + shape.gone_start, driver.start.0);
        ring.pointer(arch, entry + shape.gone_start + arch.pointer(), driver.end.0);
        names.extend(name);
    }
    let mut bytes = ring.into_bytes();
    bytes.extend(names);
    Ok(vec![
        (machine.global("MmUnloadedDrivers")?, arch.word(ring_at).collect()),
        (
            machine.global("MmLastUnloadedDriver")?,
            (count as u32 % RING_ENTRIES as u32).to_le_bytes().to_vec(),
        ),
        (ring_at, bytes),
    ])
}

/// Every image: that of its file, part by part with nothing mapped between them, or made-up headers.
pub(crate) fn images(machine: &Machine) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let mut parts = Vec::new();
    for module in &machine.modules {
        if module.contents.is_empty() {
            let is_kernel = module.base.0 == machine.kernel_base()?;
            let name = module.path.rsplit('\\').next().unwrap_or_default();
            let own = Own { name, debugger_data: machine.kernel.debugger_data.0 as u32 };
            parts
                .push((module.base.0, image::invent(module, machine.arch, Some(&own).filter(|_| is_kernel))));
            continue;
        }
        let image = image::load(&module.contents, module.base.0, &module.file)?;
        for range in image::mapped(&module.contents) {
            let bytes = image.get(range.clone()).unwrap_or_default().to_vec();
            parts.push((module.base.0.wrapping_add(range.start as u64), bytes));
        }
    }
    Ok(parts)
}
