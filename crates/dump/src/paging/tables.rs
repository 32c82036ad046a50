//! The page tables that walks went through last: most reads follow others in the same 2 MiB.

use super::Paging;
use crate::physical::PAGE_SIZE;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use stopcode_base::{PhysAddr, VirtAddr};

/// Tables that are kept: 8 KiB for a dump, which speak for 2 GiB of addresses.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;
/// Bits of a page frame number in a slot; the tag of the addresses takes the others.
const FRAME_BITS: u32 = 36;
const TAG_BITS: u32 = 64 - FRAME_BITS;

/// Page tables of one address space by the addresses that they speak for.
///
/// A slot is one word, its tag above its frame, so that threads that share it see either all of an entry or none; 0,
/// page frame 0 being no table, is an empty slot. What does not fit is not kept.
pub(crate) struct Tables(Box<[AtomicU64]>);

impl Tables {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// The page table for `address`, if it was kept.
    pub(super) fn get(&self, paging: Paging, address: VirtAddr) -> Option<PhysAddr> {
        let (slot, tag) = Self::place(paging, address)?;
        let entry = self.0.get(slot)?.load(Ordering::Relaxed);
        let frame = entry & ((1 << FRAME_BITS) - 1);
        (frame != 0 && entry >> FRAME_BITS == tag).then_some(PhysAddr(frame * PAGE_SIZE))
    }

    /// Keeps `table` as the page table for `address`.
    pub(super) fn keep(&self, paging: Paging, address: VirtAddr, table: PhysAddr) {
        let frame = table.0 / PAGE_SIZE;
        let Some((slot, tag)) = Self::place(paging, address) else { return };
        if let Some(slot) =
            self.0.get(slot).filter(|_| frame >> FRAME_BITS == 0 && table.0.is_multiple_of(PAGE_SIZE))
        {
            slot.store(tag << FRAME_BITS | frame, Ordering::Relaxed);
        }
    }

    /// The slot for `address`, and what tells it from others there.
    fn place(paging: Paging, address: VirtAddr) -> Option<(usize, u64)> {
        let used = address.0 & (u64::MAX >> (64 - paging.address_bits()));
        let number = used >> paging.shift(2);
        let tag = number >> SLOT_BITS;
        (tag >> TAG_BITS == 0).then_some(((number % SLOTS as u64) as usize, tag))
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tables")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn one_table_for_each_place() {
        let tables = Tables::new();
        let (paging, at) = (Paging::X64FourLevel, VirtAddr(0xffff_f880_03dc_cfd0));
        assert_eq!(tables.get(paging, at), None);
        tables.keep(paging, at, PhysAddr(0x1234_5000));
        assert_eq!(tables.get(paging, at), Some(PhysAddr(0x1234_5000)));
        assert_eq!(tables.get(paging, VirtAddr(0xffff_f880_03c0_0000)), Some(PhysAddr(0x1234_5000)));
        assert_eq!(tables.get(paging, VirtAddr(0xffff_f880_03e0_0000)), None, "the next 2 MiB");
        assert_eq!(tables.get(paging, VirtAddr(0xffff_f800_03dc_cfd0)), None, "the same slot");
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let tables = Tables::new();
        let at = VirtAddr(0xff00_1234_5678_9000);
        tables.keep(Paging::X64FiveLevel, at, PhysAddr(1 << 51));
        assert_eq!(tables.get(Paging::X64FiveLevel, at), None);
        tables.keep(Paging::X64FiveLevel, at, PhysAddr(0x20));
        assert_eq!(tables.get(Paging::X64FiveLevel, at), None, "no table begins inside a page");
    }

    proptest! {
        /// Whatever is kept and forgotten, nobody is given another's table.
        #[test]
        fn never_another_ones(asked in prop::collection::vec((0_u64..1 << 14, any::<bool>(), 1_u64..1 << 36), 1..200)) {
            for paging in [Paging::X64FourLevel, Paging::X64FiveLevel, Paging::X86, Paging::X86Pae, Paging::Arm64] {
                let (tables, mut kept) = (Tables::new(), HashMap::new());
                for (number, is_kernel, frame) in &asked {
                    let reach = paging.reach(2);
                    let half = if *is_kernel { u64::MAX << (paging.address_bits() - 1) } else { 0 };
                    let at = VirtAddr(half | (number * reach) & !half);
                    let own = (at.0 & (u64::MAX >> (64 - paging.address_bits()))) / reach;
                    if let Some(table) = tables.get(paging, at) {
                        prop_assert_eq!(kept.get(&own), Some(&table));
                    }
                    tables.keep(paging, at, PhysAddr(frame * PAGE_SIZE));
                    kept.insert(own, PhysAddr(frame * PAGE_SIZE));
                    prop_assert_eq!(tables.get(paging, at), Some(PhysAddr(frame * PAGE_SIZE)));
                }
            }
        }
    }
}
