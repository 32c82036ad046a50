//! Loaded and unloaded modules: from the lists of a small dump, or from the kernel's own in memory.

use crate::modules::module::UnloadedModule;
use std::collections::HashSet;
use stopcode_base::{Memory, VirtAddr, visible};
use stopcode_dump::{Bits, Dump};

/// More entries than this are not believed: real systems have some hundreds.
const MOST_MODULES: usize = 10_000;
/// Longest path that is read, in bytes.
const LONGEST_PATH: u16 = 2048;
/// Entries of `MmUnloadedDrivers`, a ring: a `UNICODE_STRING`, two addresses, and when it was unloaded.
const UNLOADED: usize = 50;
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
        Some(head) => walk(dump, &List::of(dump.header().bits), head, dump.header().minor_version),
        None => Vec::new(),
    }
}

/// Where the fields of `KLDR_DATA_TABLE_ENTRY` are; the same in every build of one width.
struct List {
    bits: Bits,
    base: u64,
    size: u64,
    full_name: u64,
    base_name: u64,
    checksum: u64,
    /// Where newer builds keep the time stamp.
    stamp: u64,
}

impl List {
    const fn of(bits: Bits) -> Self {
        match bits {
            Bits::B64 => Self {
                bits,
                base: 0x30,
                size: 0x40,
                full_name: 0x48,
                base_name: 0x58,
                checksum: 0x78,
                stamp: 0x9c,
            },
            Bits::B32 => Self {
                bits,
                base: 0x18,
                size: 0x20,
                full_name: 0x24,
                base_name: 0x2c,
                checksum: 0x40,
                stamp: 0x58,
            },
        }
    }

    const fn pointer_size(&self) -> u64 {
        match self.bits {
            Bits::B64 => 8,
            Bits::B32 => 4,
        }
    }

    fn pointer(&self, memory: &dyn Memory, at: VirtAddr) -> Option<VirtAddr> {
        let value = match self.bits {
            Bits::B64 => memory.read_u64(at).ok()?,
            Bits::B32 => memory.read_u32(at).ok()?.into(),
        };
        Some(VirtAddr(value))
    }

    const fn is_kernel(&self, at: VirtAddr) -> bool {
        match self.bits {
            Bits::B64 => at.is_kernel(),
            Bits::B32 => at.0 >= 0x8000_0000,
        }
    }
}

/// Follows `PsLoadedModuleList` forwards and, where a link cannot be followed, backwards from its other end.
fn walk(memory: &dyn Memory, list: &List, head: VirtAddr, build: u32) -> Vec<Loaded> {
    let mut seen = HashSet::from([head]);
    let mut modules = entries(memory, list, head, 0, build, &mut seen);
    let mut rest = entries(memory, list, head, list.pointer_size(), build, &mut seen);
    rest.reverse();
    modules.append(&mut rest);
    modules
}

/// The entries that the link at `link` of each leads to, up to one that was seen before or cannot be read.
fn entries(
    memory: &dyn Memory,
    list: &List,
    head: VirtAddr,
    link: u64,
    build: u32,
    seen: &mut HashSet<VirtAddr>,
) -> Vec<Loaded> {
    let mut modules = Vec::new();
    let mut at = head;
    while seen.len() <= MOST_MODULES
        && let Some(next) = list.pointer(memory, at.plus(link))
        && list.is_kernel(next)
        && seen.insert(next)
    {
        at = next;
        modules.extend(entry(memory, list, at, build));
    }
    modules
}

/// A `KLDR_DATA_TABLE_ENTRY`.
fn entry(memory: &dyn Memory, list: &List, at: VirtAddr, build: u32) -> Option<Loaded> {
    let base = list.pointer(memory, at.plus(list.base))?;
    let size = memory.read_u32(at.plus(list.size)).ok()?;
    if !list.is_kernel(base) || base != base.page() || size == 0 {
        return None;
    }
    let path = unicode_string(memory, list, at.plus(list.full_name))
        .or_else(|| unicode_string(memory, list, at.plus(list.base_name)));
    let stamp = (build >= FIRST_WITH_STAMP).then(|| memory.read_u32(at.plus(list.stamp)).ok()).flatten();
    Some(Loaded {
        path: path.unwrap_or_default(),
        base,
        size,
        time_date_stamp: stamp.or_else(|| header_stamp(memory, base)),
        checksum: memory.read_u32(at.plus(list.checksum)).ok(),
    })
}

/// `UNICODE_STRING`: its length in bytes, and where it is.
fn unicode_string(memory: &dyn Memory, list: &List, at: VirtAddr) -> Option<String> {
    let length = memory.read_u16(at).ok()?.min(LONGEST_PATH) & !1;
    let buffer = list.pointer(memory, at.plus(list.pointer_size()))?;
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
    let list = List::of(dump.header().bits);
    let variable = |name| dump.kdbg()?.get(name).filter(|at| *at != 0).map(VirtAddr);
    let ring = list.pointer(dump, variable("MmUnloadedDrivers")?)?;
    let next = dump.read_u32(variable("MmLastUnloadedDriver")?).ok()? as usize % UNLOADED;
    if !list.is_kernel(ring) {
        return None;
    }
    let size = 4 * list.pointer_size() + 8;
    let newest_first = (1..=UNLOADED).map(|back| (next + UNLOADED - back) % UNLOADED);
    Some(newest_first.filter_map(|n| ring_entry(dump, &list, ring.plus(n as u64 * size))).collect())
}

fn ring_entry(memory: &dyn Memory, list: &List, at: VirtAddr) -> Option<UnloadedModule> {
    let start = list.pointer(memory, at.plus(2 * list.pointer_size()))?;
    let end = list.pointer(memory, at.plus(3 * list.pointer_size()))?;
    let name = unicode_string(memory, list, at)?;
    (list.is_kernel(start) && start < end).then_some(UnloadedModule { name, start, end })
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
        walk(&memory, &List::of(Bits::B64), BASE, 19041)
            .iter()
            .map(|module| module.base.0 >> 16 & 0xff)
            .collect()
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

    #[test]
    fn a_32_bit_list_is_followed() {
        let put =
            |bytes: &mut [u8], at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let mut bytes = vec![0; 0x300];
        for n in 0..2_u32 {
            let at = 0x100 * n as usize;
            let other = 0x8050_0000 + 0x100 * (1 - n);
            put(&mut bytes, at, other);
            put(&mut bytes, at + 4, other);
        }
        put(&mut bytes, 0x118, 0x8040_0000);
        put(&mut bytes, 0x120, 0x21_0000);
        put(&mut bytes, 0x124, 24);
        put(&mut bytes, 0x128, 0x8050_0200);
        put(&mut bytes, 0x140, 0x1234);
        for (n, unit) in "ntoskrnl.exe".encode_utf16().enumerate() {
            bytes[0x200 + 2 * n..0x202 + 2 * n].copy_from_slice(&unit.to_le_bytes());
        }
        let memory = SliceMemory { base: VirtAddr(0x8050_0000), bytes: &bytes };
        let modules = walk(&memory, &List::of(Bits::B32), VirtAddr(0x8050_0000), 7601);
        let expected = Loaded {
            path: "ntoskrnl.exe".to_owned(),
            base: VirtAddr(0x8040_0000),
            size: 0x21_0000,
            time_date_stamp: None,
            checksum: Some(0x1234),
        };
        assert_eq!(modules, [expected]);
    }
}
