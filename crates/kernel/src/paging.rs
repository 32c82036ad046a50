//! Page-table entries through the self-map: a minidump stores some of them under their own addresses.

use crate::core::Core;
use crate::facts::Pte;
use stopcode_base::VirtAddr;

/// Bits of a virtual address that a four-level walk uses.
const VA_BITS: u64 = 0xffff_ffff_ffff;
/// Where the self-map lay before Windows 10 1607 made it random.
const FIXED_PTE_BASE: u64 = 0xffff_f680_0000_0000;
/// The first build with a random self-map.
const FIRST_RANDOM_BUILD: u32 = 14_393;

/// The entries for `address` that the dump holds, from the page table (level 1) to the top (level 4).
pub(crate) fn entries(core: &Core, address: VirtAddr) -> Vec<Pte> {
    let Some(base) = pte_base(core) else { return Vec::new() };
    let mut at = address.0;
    (1..=4)
        .filter_map(|level| {
            at = base.wrapping_add(((at & VA_BITS) >> 12) << 3);
            let value = core.memory().read_u64(VirtAddr(at)).ok()?;
            Some(Pte { level, address: VirtAddr(at), value })
        })
        .collect()
}

/// `PteBase` of the debugger data; before it existed the address was fixed.
fn pte_base(core: &Core) -> Option<u64> {
    if let Some(base) = core.dump.kdbg().and_then(|kdbg| kdbg.get("PteBase")).filter(|base| *base != 0) {
        return Some(base);
    }
    let build = core.dump.header().minor_version;
    (core.arch == stopcode_base::Arch::X64 && build < FIRST_RANDOM_BUILD).then_some(FIXED_PTE_BASE)
}
