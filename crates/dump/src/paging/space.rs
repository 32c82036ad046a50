//! One address space: walks, and reads through them.

use super::Paging;
use super::entry::{EntryKind, Form, WalkEntry};
use super::self_map::SelfMap;
use super::tables::Tables;
use super::walk::{Mapping, Walk, inside, miss};
use crate::physical::{PAGE_SIZE, PhysicalMemory};
use stopcode_base::{Memory, MissReason, PhysAddr, VirtAddr};

/// An address space: physical memory seen through the page tables below one root.
#[derive(Clone, Copy)]
pub struct AddressSpace<'a> {
    physical: &'a dyn PhysicalMemory,
    form: Form,
    root: PhysAddr,
    /// The root of the upper half, where it has one of its own: TTBR1 of ARM64.
    kernel: Option<PhysAddr>,
    /// Page tables that reads in this space went through before.
    tables: Option<&'a Tables>,
}

/// An entry on the way, before it is described.
struct Met {
    level: u8,
    at: PhysAddr,
    value: u64,
    kind: EntryKind,
}

impl<'a> AddressSpace<'a> {
    /// The address space whose top table CR3 or TTBR points to; bits of `base` that are no address are left out.
    pub fn new(physical: &'a dyn PhysicalMemory, paging: Paging, base: PhysAddr) -> Self {
        Self::with_form(physical, Form::new(paging), base)
    }

    /// The same, its entries read as `form` tells.
    pub fn with_form(physical: &'a dyn PhysicalMemory, form: Form, base: PhysAddr) -> Self {
        Self { physical, form, root: PhysAddr(form.paging.root(base.0)), kernel: None, tables: None }
    }

    /// The same, addresses of the upper half going through the table at `base`: TTBR1 of ARM64, where it is not the
    /// other half of TTBR0's table, as Windows has it.
    #[must_use]
    pub fn with_kernel_table(self, base: PhysAddr) -> Self {
        Self { kernel: Some(PhysAddr(self.form.paging.root(base.0))), ..self }
    }

    /// The same, reads keeping the page tables that they go through in `tables`, which no other space may share.
    pub(crate) fn with_tables(self, tables: &'a Tables) -> Self {
        Self { tables: Some(tables), ..self }
    }

    /// The form of its page tables.
    pub fn paging(&self) -> Paging {
        self.form.paging
    }

    /// How its entries are read.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Where its top table lies.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// Where the tables show themselves: the entry of the top table that leads back to it.
    pub fn self_map(&self) -> Option<SelfMap> {
        SelfMap::find(self.form, self.kernel.unwrap_or(self.root), |at| self.word(at).ok())
    }

    /// Walks the page tables for `address`.
    pub fn walk(&self, address: VirtAddr) -> Walk {
        let mut walk = Walk::new();
        let mut slots = walk.entries.iter_mut();
        let mut record = |met: Met, is_prototype: bool| {
            let entry = WalkEntry {
                level: met.level,
                address: Some(met.at),
                mapped_at: None,
                value: met.value,
                kind: met.kind,
                flags: self.form.flags(met.level, met.value, address),
            };
            if is_prototype {
                walk.prototype = Some(entry);
            } else if let Some(slot) = slots.next() {
                *slot = Some(entry);
            }
        };
        walk.outcome = self.descend(self.top(address), address, &mut record);
        walk
    }

    /// Where the byte at `address` is.
    pub(crate) fn translate(&self, address: VirtAddr) -> Result<Mapping, MissReason> {
        let paging = self.form.paging;
        let Some(tables) = self.tables else {
            return self.descend(self.top(address), address, &mut |_, _| ());
        };
        if let Some(table) = tables.get(paging, address) {
            return self.descend((1, table), address, &mut |_, _| ());
        }
        self.descend(self.top(address), address, &mut |met, is_prototype| {
            if met.level == 1 && !is_prototype {
                tables.keep(paging, address, PhysAddr(met.at.0 & !(PAGE_SIZE - 1)));
            }
        })
    }

    /// Where a walk for `address` begins: the top level, and its table.
    fn top(&self, address: VirtAddr) -> (u8, PhysAddr) {
        (self.form.paging.levels(), self.root_of(address))
    }

    /// Goes down from a level and its table to the byte at `address`.
    fn descend(
        &self,
        (top, mut table): (u8, PhysAddr),
        address: VirtAddr,
        record: &mut impl FnMut(Met, bool),
    ) -> Result<Mapping, MissReason> {
        let paging = self.form.paging;
        if !paging.is_canonical(address.0) {
            return Err(MissReason::NotCanonical);
        }
        for level in (1..=top).rev() {
            let at = table.plus(paging.index(level, address.0) * paging.entry_size());
            let value = self.word(at).map_err(|_| MissReason::TableNotInDump { level })?;
            let kind = self.form.kind(level, value);
            record(Met { level, at, value, kind }, false);
            match kind {
                EntryKind::Valid(next) | EntryKind::Transition(next) => table = next,
                EntryKind::Large(page) => return Ok(inside(page, address, 1 << paging.shift(level))),
                EntryKind::Prototype(prototype) if level == 1 => {
                    let met = self.prototype(VirtAddr(prototype))?;
                    let kind = met.kind;
                    record(met, true);
                    return match kind {
                        EntryKind::Valid(page) | EntryKind::Transition(page) => {
                            Ok(inside(page, address, PAGE_SIZE))
                        }
                        // A prototype of a prototype is a subsection: the page is in its file.
                        EntryKind::Prototype(_) => Err(MissReason::NotResident),
                        kind => miss(kind, level, address),
                    };
                }
                kind => return miss(kind, level, address),
            }
        }
        Ok(inside(table, address, PAGE_SIZE))
    }

    /// The prototype entry at `address`. Its own page must be mapped without another prototype: one that is not is
    /// not followed, which is also what ends a circle.
    fn prototype(&self, address: VirtAddr) -> Result<Met, MissReason> {
        let paging = self.form.paging;
        let mut table = self.root_of(address);
        if !paging.is_canonical(address.0) {
            return Err(MissReason::NotResident);
        }
        for level in (1..=paging.levels()).rev() {
            let at = table.plus(paging.index(level, address.0) * paging.entry_size());
            let value = self.word(at).map_err(|_| MissReason::TableNotInDump { level })?;
            match self.form.kind(level, value) {
                EntryKind::Valid(next) | EntryKind::Transition(next) => table = next,
                EntryKind::Large(page) => {
                    let within = address.0 & ((1 << paging.shift(level)) - 1);
                    return self.prototype_at(page.plus(within));
                }
                _ => return Err(MissReason::NotResident),
            }
        }
        self.prototype_at(table.plus(address.0 % PAGE_SIZE))
    }

    fn prototype_at(&self, at: PhysAddr) -> Result<Met, MissReason> {
        let value = self.word(at)?;
        Ok(Met { level: 1, at, value, kind: self.form.kind(1, value) })
    }

    fn root_of(&self, address: VirtAddr) -> PhysAddr {
        match self.kernel {
            Some(kernel) if address.0 >> 55 & 1 == 1 => kernel,
            _ => self.root,
        }
    }

    /// An entry of a page table.
    fn word(&self, at: PhysAddr) -> Result<u64, MissReason> {
        let mut bytes = [0; 8];
        let size = self.form.paging.entry_size() as usize;
        let entry = bytes.get_mut(..size).unwrap_or_default();
        match self.physical.read_physical(at, entry)? {
            got if got == size => Ok(u64::from_le_bytes(bytes)),
            _ => Err(MissReason::FileTruncated),
        }
    }
}

impl Memory for AddressSpace<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        match self.translate(at)? {
            Mapping::Physical(page, size) => {
                let room = buffer.len().min(usize::try_from(size).unwrap_or(usize::MAX));
                self.physical.read_physical(page, buffer.get_mut(..room).unwrap_or_default())
            }
            Mapping::Zeros(size) => {
                let room = buffer.len().min(usize::try_from(size).unwrap_or(usize::MAX));
                buffer.get_mut(..room).unwrap_or_default().fill(0);
                Ok(room)
            }
        }
    }
}

impl std::fmt::Debug for AddressSpace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {:#}", self.form.paging, self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Pages by their frame.
    #[derive(Default)]
    struct Pages(BTreeMap<u64, Vec<u8>>);

    impl Pages {
        fn put(&mut self, at: u64, bytes: &[u8]) {
            let page = self.0.entry(at >> 12).or_insert_with(|| vec![0; 0x1000]);
            page[at as usize % 0x1000..][..bytes.len()].copy_from_slice(bytes);
        }

        fn with(entries: &[(u64, u64)]) -> Self {
            let mut pages = Self::default();
            for (at, value) in entries {
                pages.put(*at, &value.to_le_bytes());
            }
            pages
        }
    }

    impl PhysicalMemory for Pages {
        fn read_physical(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
            let page = self.0.get(&(at.0 >> 12)).ok_or(MissReason::NotInDump)?;
            let rest = &page[at.0 as usize % 0x1000..];
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn page_count(&self) -> u64 {
            self.0.len() as u64
        }

        fn next_run(&self, from: u64) -> Option<(u64, u64)> {
            self.0.range(from..).next().map(|(pfn, _)| (*pfn, 1))
        }
    }

    const TEXT: u64 = 0x7766_5544_3322_1100;

    /// Page tables at 0x1000 to 0x4000 and a page with [`TEXT`] at 0x9000; entries 1, 2, 3, 4 of levels 4 to 1.
    fn four_levels(last: u64) -> Pages {
        Pages::with(&[(0x1008, 0x2063), (0x2010, 0x3063), (0x3018, 0x4063), (0x4020, last), (0x9000, TEXT)])
    }
    const AT: VirtAddr = VirtAddr(1 << 39 | 2 << 30 | 3 << 21 | 4 << 12);

    fn x64(pages: &Pages) -> AddressSpace<'_> {
        // A PCID and the bit that keeps the TLB are no part of the address.
        AddressSpace::new(pages, Paging::X64FourLevel, PhysAddr(0x8000_0000_0000_1003))
    }

    #[test]
    fn a_walk_tells_every_entry() {
        let pages = four_levels(0x8000_0000_0000_9063);
        let walk = x64(&pages).walk(AT.plus(8));
        let entries: Vec<_> =
            walk.entries().map(|entry| (entry.level, entry.address.unwrap().0, entry.value)).collect();
        assert_eq!(
            entries,
            [
                (4, 0x1008, 0x2063),
                (3, 0x2010, 0x3063),
                (2, 0x3018, 0x4063),
                (1, 0x4020, 0x8000_0000_0000_9063)
            ]
        );
        assert_eq!(walk.outcome, Ok(Mapping::Physical(PhysAddr(0x9008), 0xff8)));
        assert_eq!(x64(&pages).read_u64(AT), Ok(TEXT));
    }

    #[test]
    fn every_miss_has_its_reason() {
        let reason = |pages: &Pages, at| x64(pages).read_u8(at).unwrap_err().reason;
        let pages = four_levels(0);
        assert_eq!(reason(&pages, AT), MissReason::NotMapped { level: 1 });
        assert_eq!(reason(&pages, VirtAddr(0)), MissReason::NotMapped { level: 4 });
        assert_eq!(reason(&pages, VirtAddr(1 << 47)), MissReason::NotCanonical);
        assert_eq!(reason(&four_levels(0xa063), AT), MissReason::NotInDump);
        assert_eq!(reason(&four_levels(7 << 32 | 0x80), AT), MissReason::PagedOut);
        assert_eq!(reason(&four_levels(0xffff_ffff_0000_0400), AT), MissReason::InVad);
        let gap = Pages::with(&[(0x1008, 0x2063)]);
        assert_eq!(reason(&gap, AT), MissReason::TableNotInDump { level: 3 });
        assert_eq!(reason(&Pages::default(), AT), MissReason::TableNotInDump { level: 4 });
    }

    #[test]
    fn what_the_memory_manager_would_have_found() {
        assert_eq!(x64(&four_levels(0x9890)).read_u64(AT), Ok(TEXT), "in transition");
        assert_eq!(x64(&four_levels(0x80)).read_u64(AT), Ok(0), "demand zero");
        // The table itself may be in transition.
        let mut pages = four_levels(0x9063);
        pages.put(0x3018, &0x4890_u64.to_le_bytes());
        assert_eq!(x64(&pages).read_u64(AT), Ok(TEXT));
    }

    #[test]
    fn one_prototype_is_followed() {
        // The prototype lies in the page after, which frame 5 backs.
        let prototype = AT.0 + 0x1000;
        let entry = prototype << 16 | 0x400;
        let with = |value: u64| {
            let mut pages = four_levels(entry);
            pages.put(0x4028, &0x5063_u64.to_le_bytes());
            pages.put(0x5000, &value.to_le_bytes());
            pages
        };
        let pages = with(0x9063);
        let walk = x64(&pages).walk(AT);
        assert_eq!(
            walk.prototype.map(|entry| (entry.address.unwrap().0, entry.value)),
            Some((0x5000, 0x9063))
        );
        assert_eq!(x64(&pages).read_u64(AT), Ok(TEXT));
        assert_eq!(x64(&with(0x9890)).read_u64(AT), Ok(TEXT));
        assert_eq!(x64(&with(0x80)).read_u64(AT), Ok(0));
        assert_eq!(x64(&with(0)).read_u8(AT).unwrap_err().reason, MissReason::NotMapped { level: 1 });
        assert_eq!(x64(&with(entry)).read_u8(AT).unwrap_err().reason, MissReason::NotResident);
        // A prototype that leads to itself.
        let own = four_levels(AT.0 << 16 | 0x400);
        assert_eq!(x64(&own).read_u8(AT).unwrap_err().reason, MissReason::NotResident);
    }

    #[test]
    fn large_pages_reach_far() {
        let mut pages =
            Pages::with(&[(0x1000, 0x2063), (0x2000, 0x3063), (0x3000, 0x20_00e3), (0x2008, 0x4000_00e3)]);
        pages.put(0x21_2340, &TEXT.to_le_bytes());
        pages.put(0x5234_5678, &TEXT.to_le_bytes());
        let space = x64(&pages);
        assert_eq!(space.read_u64(VirtAddr(0x1_2340)), Ok(TEXT));
        assert_eq!(space.read_u64(VirtAddr(0x4000_0000 + 0x1234_5678)), Ok(TEXT));
        let walk = space.walk(VirtAddr(0x1_2340));
        assert_eq!(walk.outcome, Ok(Mapping::Physical(PhysAddr(0x21_2340), 0x20_0000 - 0x1_2340)));
        assert_eq!(walk.entries().last().map(|entry| entry.level), Some(2));
    }

    #[test]
    fn tables_that_lead_to_themselves_end() {
        let mut pages = Pages::default();
        for n in 0..512 {
            pages.put(0x1000 + 8 * n, &0x1063_u64.to_le_bytes());
        }
        let space = x64(&pages);
        assert_eq!(space.read_u64(VirtAddr(0xffff_8000_0000_0000)), Ok(0x1063));
        assert_eq!(space.walk(AT).entries().count(), 4);
    }

    #[test]
    fn other_forms_of_tables() {
        let five = Pages::with(&[
            (0x8008, 0x1063),
            (0x1008, 0x2063),
            (0x2010, 0x3063),
            (0x3018, 0x4063),
            (0x4020, 0x9063),
            (0x9000, TEXT),
        ]);
        let space = AddressSpace::new(&five, Paging::X64FiveLevel, PhysAddr(0x8000));
        assert_eq!(space.read_u64(AT.plus(1 << 48)), Ok(TEXT));
        assert_eq!(space.walk(AT.plus(1 << 48)).entries().count(), 5);

        let arm = Pages::with(&[
            (0x1ff8, 0x2003),
            (0x2000, 0x3003),
            (0x3000, 0x4003),
            (0x4020, 0x9703),
            (0x9000, TEXT),
        ]);
        let space = AddressSpace::new(&arm, Paging::Arm64, PhysAddr(0x1000));
        assert_eq!(space.read_u64(VirtAddr(0xffff_ff80_0000_4000)), Ok(TEXT));
        let reason = space.read_u8(VirtAddr(0xffff_ff80_0000_5000)).unwrap_err().reason;
        assert_eq!(reason, MissReason::NotMapped { level: 1 });

        // Four top entries, not at the start of a page; debuggers extend the sign of addresses.
        let pae = Pages::with(&[
            (0x1030, 0x2001),
            (0x2018, 0x4063),
            (0x4020, 0x1_0000_9063),
            (0x1_0000_9000, TEXT),
        ]);
        let space = AddressSpace::new(&pae, Paging::X86Pae, PhysAddr(0x1020));
        assert_eq!(space.read_u64(VirtAddr(0x8060_4000)), Ok(TEXT));
        assert_eq!(space.read_u64(VirtAddr(0xffff_ffff_8060_4000)), Ok(TEXT));

        let mut x86 = Pages::default();
        x86.put(0x1804, &0x4063_u32.to_le_bytes());
        x86.put(0x4010, &0x9063_u32.to_le_bytes());
        x86.put(0x4014, &0x9880_u32.to_le_bytes());
        x86.put(0x1808, &0x40_00e3_u32.to_le_bytes());
        x86.put(0x9000, &TEXT.to_le_bytes());
        x86.put(0x41_2340, &TEXT.to_le_bytes());
        let space = AddressSpace::new(&x86, Paging::X86, PhysAddr(0x1000));
        for at in [0x8040_4000, 0x8040_5000, 0x8081_2340] {
            assert_eq!(space.read_u64(VirtAddr(at)), Ok(TEXT), "{at:#x}");
        }
    }

    #[test]
    fn the_halves_of_arm64_may_have_tables_of_their_own() {
        let pages = Pages::with(&[
            (0x1000, 0x2003),
            (0x2000, 0x3003),
            (0x3000, 0x4003),
            (0x4020, 0x9703),
            (0x5ff8, 0x2003),
            (0x9000, TEXT),
        ]);
        let space = AddressSpace::new(&pages, Paging::Arm64, PhysAddr(0x1000));
        let (user, kernel) = (VirtAddr(0x4000), VirtAddr(0xffff_ff80_0000_4000));
        assert_eq!(space.read_u64(user), Ok(TEXT));
        assert_eq!(space.read_u8(kernel).unwrap_err().reason, MissReason::NotMapped { level: 4 });
        let split = space.with_kernel_table(PhysAddr(0x5000));
        assert_eq!((split.read_u64(user), split.read_u64(kernel)), (Ok(TEXT), Ok(TEXT)));
    }

    #[test]
    fn tables_show_themselves() {
        let mut pages = four_levels(0x9063);
        assert_eq!(x64(&pages).self_map(), None);
        pages.put(0x1000 + 8 * 0x1fb, &0x8000_0000_0000_1063_u64.to_le_bytes());
        let space = x64(&pages);
        let map = space.self_map().unwrap();
        assert_eq!(map.base(), VirtAddr(0xffff_fd80_0000_0000));
        for entry in space.walk(AT).entries() {
            let at = map.entry(entry.level, AT).unwrap();
            assert_eq!(space.read_u64(at), Ok(entry.value), "level {}", entry.level);
        }
        // Through the tables' own addresses a walk meets the same entries and ends at the same place.
        let (direct, shown) = (space.walk(AT.plus(5)), map.walk(&space, AT.plus(5)));
        assert_eq!(direct.outcome, shown.outcome);
        let seen =
            |walk: &Walk| -> Vec<_> { walk.entries().map(|e| (e.level, e.value, e.kind, e.flags)).collect() };
        assert_eq!(seen(&direct), seen(&shown));
    }
}
