//! Loaded and unloaded modules: from the lists of a small dump, or from the kernel's own in memory.

use crate::module::UnloadedModule;
use std::collections::HashSet;
use stopcode_base::{Memory, VirtAddr, visible};
use stopcode_dump::{Bits, Dump};

/// More entries than this are not believed: real systems have some hundreds.
const MOST_MODULES: usize = 10_000;
/// Longest path that is read, in bytes.
const LONGEST_PATH: u16 = 2048;
/// Entries of `MmUnloadedDrivers`, a ring.
const UNLOADED: usize = 50;
/// Bytes of one of them.
const UNLOADED_SIZE: u64 = 0x28;
/// The first build whose `KLDR_DATA_TABLE_ENTRY` ends with the image's time stamp.
const FIRST_WITH_STAMP: u32 = 10_240;

/// What the loader recorded of an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Loaded {
    pub(crate) path: String,
    pub(crate) base: VirtAddr,
    pub(crate) size: u32,
    pub(crate) time_date_stamp: Option<u32>,
    pub(crate) checksum: Option<u32>,
}

/// Loaded images, the kernel first.
pub(crate) fn loaded(dump: &Dump) -> Vec<Loaded> {
    if let Some(triage) = dump.triage() {
        let of_driver = |driver: &stopcode_dump::Driver| Loaded {
            path: driver.path.clone(),
            base: driver.base,
            size: driver.size,
            time_date_stamp: Some(driver.time_date_stamp),
            checksum: Some(driver.checksum),
        };
        return triage.drivers.iter().map(of_driver).collect();
    }
    match dump.header().ps_loaded_module_list {
        Some(head) if dump.header().bits == Bits::B64 => walk(dump, head, dump.header().minor_version),
        _ => Vec::new(),
    }
}

/// Follows `PsLoadedModuleList` forwards and, where a link cannot be followed, backwards from its other end.
fn walk(memory: &dyn Memory, head: VirtAddr, build: u32) -> Vec<Loaded> {
    let mut seen = HashSet::from([head]);
    let mut modules = entries(memory, head, 0, build, &mut seen);
    let mut rest = entries(memory, head, 8, build, &mut seen);
    rest.reverse();
    modules.append(&mut rest);
    modules
}

/// The entries that the link at `link` of each leads to, up to one that was seen before or cannot be read.
fn entries(
    memory: &dyn Memory,
    head: VirtAddr,
    link: u64,
    build: u32,
    seen: &mut HashSet<VirtAddr>,
) -> Vec<Loaded> {
    let mut modules = Vec::new();
    let mut at = head;
    while seen.len() <= MOST_MODULES
        && let Ok(next) = memory.read_u64(at.plus(link))
        && VirtAddr(next).is_kernel()
        && seen.insert(VirtAddr(next))
    {
        at = VirtAddr(next);
        modules.extend(entry(memory, at, build));
    }
    modules
}

/// A `KLDR_DATA_TABLE_ENTRY`; its offsets are the same in every 64-bit build.
fn entry(memory: &dyn Memory, at: VirtAddr, build: u32) -> Option<Loaded> {
    let base = VirtAddr(memory.read_u64(at.plus(0x30)).ok()?);
    let size = memory.read_u32(at.plus(0x40)).ok()?;
    if !base.is_kernel() || base != base.page() || size == 0 {
        return None;
    }
    let path = unicode_string(memory, at.plus(0x48)).or_else(|| unicode_string(memory, at.plus(0x58)));
    let stamp = (build >= FIRST_WITH_STAMP).then(|| memory.read_u32(at.plus(0x9c)).ok()).flatten();
    Some(Loaded {
        path: path.unwrap_or_default(),
        base,
        size,
        time_date_stamp: stamp.or_else(|| header_stamp(memory, base)),
        checksum: memory.read_u32(at.plus(0x78)).ok(),
    })
}

/// `UNICODE_STRING`: its length in bytes, and where it is.
fn unicode_string(memory: &dyn Memory, at: VirtAddr) -> Option<String> {
    let length = memory.read_u16(at).ok()?.min(LONGEST_PATH) & !1;
    let buffer = VirtAddr(memory.read_u64(at.plus(8)).ok()?);
    let mut bytes = vec![0; usize::from(length)];
    memory.read(buffer, &mut bytes).ok()?;
    let units: Vec<u16> =
        bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(u16::from_le_bytes)).collect();
    Some(visible(&String::from_utf16_lossy(&units))).filter(|text| !text.is_empty())
}

/// `TimeDateStamp` of the PE header in memory.
fn header_stamp(memory: &dyn Memory, base: VirtAddr) -> Option<u32> {
    const LONGEST_STUB: u32 = 0x1000;
    if memory.read_u16(base).ok()? != u16::from_le_bytes(*b"MZ") {
        return None;
    }
    let pe = memory.read_u32(base.plus(0x3c)).ok().filter(|pe| *pe < LONGEST_STUB)?;
    let header = base.plus(pe.into());
    if memory.read_u32(header).ok()? != u32::from_le_bytes(*b"PE\0\0") {
        return None;
    }
    memory.read_u32(header.plus(8)).ok()
}

/// Unloaded drivers, newest first.
pub(crate) fn unloaded(dump: &Dump) -> Vec<UnloadedModule> {
    if let Some(triage) = dump.triage() {
        let of_entry = |u: &stopcode_dump::UnloadedDriver| UnloadedModule {
            name: u.name.clone(),
            start: u.start,
            end: u.end,
        };
        return triage.unloaded.iter().map(of_entry).collect();
    }
    from_ring(dump).unwrap_or_default()
}

/// `MmUnloadedDrivers`, a ring whose next entry `MmLastUnloadedDriver` tells.
fn from_ring(dump: &Dump) -> Option<Vec<UnloadedModule>> {
    let variable = |name| dump.kdbg()?.get(name).filter(|at| *at != 0).map(VirtAddr);
    let ring = VirtAddr(dump.read_u64(variable("MmUnloadedDrivers")?).ok()?);
    let next = dump.read_u32(variable("MmLastUnloadedDriver")?).ok()? as usize % UNLOADED;
    if !ring.is_kernel() {
        return None;
    }
    let newest_first = (1..=UNLOADED).map(|back| (next + UNLOADED - back) % UNLOADED);
    Some(newest_first.filter_map(|n| ring_entry(dump, ring.plus(n as u64 * UNLOADED_SIZE))).collect())
}

fn ring_entry(memory: &dyn Memory, at: VirtAddr) -> Option<UnloadedModule> {
    let start = VirtAddr(memory.read_u64(at.plus(0x10)).ok()?);
    let end = VirtAddr(memory.read_u64(at.plus(0x18)).ok()?);
    let name = unicode_string(memory, at)?;
    (start.is_kernel() && start < end).then_some(UnloadedModule { name, start, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopcode_base::SliceMemory;

    const BASE: VirtAddr = VirtAddr(0xffff_8000_0000_0000);

    fn put(bytes: &mut [u8], at: usize, value: u64) {
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// A head at 0 and entries at 0x100, 0x200, … for images at the places given.
    fn list(count: usize) -> Vec<u8> {
        let mut bytes = vec![0; 0x100 * (count + 1)];
        let at = |n: usize| BASE.0 + 0x100 * (n % (count + 1)) as u64;
        for n in 0..=count {
            put(&mut bytes, 0x100 * n, at(n + 1));
            put(&mut bytes, 0x100 * n + 8, at(n + count));
            put(&mut bytes, 0x100 * n + 0x30, 0xffff_f800_0000_0000 + 0x1_0000 * n as u64);
            put(&mut bytes, 0x100 * n + 0x40, 0x1000);
        }
        bytes
    }

    fn bases(bytes: &[u8]) -> Vec<u64> {
        let memory = SliceMemory { base: BASE, bytes };
        walk(&memory, BASE, 19041).iter().map(|module| module.base.0 >> 16 & 0xff).collect()
    }

    #[test]
    fn a_broken_link_is_gone_around() {
        assert_eq!(bases(&list(4)), [1, 2, 3, 4]);
        let mut cut = list(4);
        put(&mut cut, 0x200, 0xffff_dead_0000_0000);
        assert_eq!(bases(&cut), [1, 2, 3, 4]);
        put(&mut cut, 0x308, 0);
        assert_eq!(bases(&cut), [1, 2, 3, 4]);
        put(&mut cut, 0x408, 0);
        assert_eq!(bases(&cut), [1, 2, 4]);
    }

    #[test]
    fn a_circle_ends() {
        let mut circle = list(4);
        put(&mut circle, 0x300, BASE.0 + 0x200);
        assert_eq!(bases(&circle), [1, 2, 3, 4]);
        put(&mut circle, 0, BASE.0);
        put(&mut circle, 8, BASE.0);
        assert_eq!(bases(&circle), [0; 0]);
    }
}
