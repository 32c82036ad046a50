//! Page-table entries through the self-map: a minidump stores some of them under their own addresses.

use crate::core::Core;
use crate::facts::Pte;
use stopcode_base::{Arch, VirtAddr};

/// Bits of a virtual address that a four-level walk uses.
const VA_BITS: u64 = 0xffff_ffff_ffff;
/// Where the self-map lay before Windows 10 1607 made it random.
const FIXED_PTE_BASE: u64 = 0xffff_f680_0000_0000;
const X86_PTE_BASE: u64 = 0xc000_0000;
/// The first build with a random self-map.
const FIRST_RANDOM_BUILD: u32 = 14_393;

/// The entries for `address` that the dump holds, from the page table (level 1) to the top (level 4).
pub(crate) fn entries(core: &Core, address: VirtAddr) -> Vec<Pte> {
    if core.arch == Arch::X86 {
        return entries_of_x86(core, address);
    }
    self_map(core, address, 4)
        .into_iter()
        .zip(1..)
        .filter_map(|(at, level)| {
            let value = core.memory().read_u64(at).ok()?;
            Some(Pte { level, address: at, value })
        })
        .collect()
}

/// Those that have an address: the four above x86's page directories have none.
fn entries_of_x86(core: &Core, address: VirtAddr) -> Vec<Pte> {
    let walk = core.dump.walk(None, address);
    let entries = walk.iter().flat_map(stopcode_dump::paging::Walk::entries);
    let mut found: Vec<Pte> = entries
        .filter_map(|entry| Some(Pte { level: entry.level, address: entry.mapped_at?, value: entry.value }))
        .collect();
    found.sort_by_key(|entry| entry.level);
    found
}

/// Where the self-map shows the entries for `address`, the page table's first; empty where the map is not known.
pub(crate) fn self_map(core: &Core, address: VirtAddr, levels: u8) -> Vec<VirtAddr> {
    let Some(base) = pte_base(core) else { return Vec::new() };
    let mut at = address.0;
    let mut next = || {
        at = base.wrapping_add(((at & VA_BITS) >> 12) << 3);
        VirtAddr(at)
    };
    (0..levels).map(|_| next()).collect()
}

/// `PteBase` of the debugger data; before it existed the address was fixed, as it always is on x86.
pub(crate) fn pte_base(core: &Core) -> Option<u64> {
    if core.arch == Arch::X86 {
        return Some(X86_PTE_BASE);
    }
    if let Some(base) = core.dump.kdbg().and_then(|kdbg| kdbg.get("PteBase")).filter(|base| *base != 0) {
        return Some(base);
    }
    let build = core.dump.header().minor_version;
    (core.arch == Arch::X64 && build < FIRST_RANDOM_BUILD).then_some(FIXED_PTE_BASE)
}
