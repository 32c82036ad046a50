//! What Windows keeps of modules in memory: the list of loaded ones, and the headers of their images.

use crate::blobs::wide;
use crate::machine::{Machine, Module};
use crate::record::Record;
use crate::{Error, image};

/// Bytes between list entries: each has its structure and, behind it, its names.
const ENTRY_ROOM: usize = 0x800;
/// Where the names start in it.
const NAMES: usize = 0x100;
/// `KLDR_DATA_TABLE_ENTRY`, as all x64 builds have it up to `CheckSum`.
const ENTRY_SIZE: usize = 0xa0;
/// Where the list's entries lie, seen from the top of the system's part of the address space that nonpaged pool has
/// had since Windows 10: made up, and out of the way of what samples describe.
const POOL: u64 = 0xffff_9f00_0000_0000;
/// Where the ring of unloaded drivers lies, how many entries it has, and the bytes of one.
const RING: u64 = POOL + 0x100_0000;
const RING_ENTRIES: usize = 50;
const RING_ENTRY: usize = 0x28;
/// The first build whose entries end with the image's time stamp.
const FIRST_WITH_STAMP: u32 = 10_240;

/// `PsLoadedModuleList`: its head and entries, as addresses and bytes.
pub(crate) fn list(machine: &Machine) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let head = machine.global("PsLoadedModuleList")?;
    let at = |n: usize| POOL + (n * ENTRY_ROOM) as u64;
    let count = machine.modules.len();
    let next = |n: usize| if n < count { at(n) } else { head };
    let mut parts = Vec::new();
    let mut links = Record::zeroed(16);
    links.u64(0, next(0)).u64(8, count.checked_sub(1).map_or(head, at));
    parts.push((head, links.into_bytes()));
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
    let mut r = Record::zeroed(NAMES.max(ENTRY_SIZE) + path.len());
    r.u64(0, next).u64(8, previous).u64(0x30, module.base.0).u32(0x40, module.size.0 as u32);
    r.u16(0x48, letters as u16).u16(0x4a, path.len() as u16).u64(0x50, at + NAMES as u64);
    // The file's name is the end of the path.
    let name_at = at + (NAMES + letters - file_letters) as u64;
    r.u16(0x58, file_letters as u16).u16(0x5a, file_letters as u16 + 2).u64(0x60, name_at);
    r.u16(0x6c, 1).u32(0x78, module.checksum.0 as u32);
    if machine.build >= FIRST_WITH_STAMP {
        r.u32(0x98, module.size.0 as u32).u32(0x9c, module.time_stamp.0 as u32);
    }
    r.put(NAMES, &path);
    Ok(r.into_bytes())
}

/// `MmUnloadedDrivers`: the pointer to the ring, the index of its next entry, and the ring with its names behind it.
pub(crate) fn unloaded(machine: &Machine) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let count = machine.unloaded.len();
    if count > RING_ENTRIES {
        return Err(Error::TooLarge("the list of unloaded drivers".to_owned()));
    }
    let mut ring = Record::zeroed(RING_ENTRY * RING_ENTRIES);
    let mut names = Vec::new();
    // Newest last, as the ring is filled.
    for (n, driver) in machine.unloaded.iter().rev().enumerate() {
        let name = wide(&driver.name);
        let at = RING + (RING_ENTRY * RING_ENTRIES + names.len()) as u64;
        let entry = RING_ENTRY * n;
        ring.u16(entry, name.len() as u16 - 2).u16(entry + 2, name.len() as u16).u64(entry + 8, at);
        ring.u64(entry + 0x10, driver.start.0).u64(entry + 0x18, driver.end.0);
        names.extend(name);
    }
    let mut bytes = ring.into_bytes();
    bytes.extend(names);
    Ok(vec![
        (machine.global("MmUnloadedDrivers")?, RING.to_le_bytes().to_vec()),
        (
            machine.global("MmLastUnloadedDriver")?,
            (count as u32 % RING_ENTRIES as u32).to_le_bytes().to_vec(),
        ),
        (RING, bytes),
    ])
}

/// Every image: that of its file, or made-up headers.
pub(crate) fn images(machine: &Machine) -> impl Iterator<Item = Result<(u64, Vec<u8>), Error>> {
    machine.modules.iter().map(|module| {
        let image = if module.contents.is_empty() {
            image::invent(module, machine.arch.machine())
        } else {
            image::load(&module.contents, module.base.0, &module.file)?
        };
        Ok((module.base.0, image))
    })
}
