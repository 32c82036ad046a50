//! One address space: walks, and reads through them.

use super::Paging;
use super::entry::{EntryKind, WalkEntry};
use crate::physical::{PAGE_SIZE, PhysicalMemory};
use stopcode_base::{Memory, MissReason, PhysAddr, VirtAddr};

/// Entries of the longest walk.
const MOST_LEVELS: usize = 5;

/// An address space: physical memory seen through the page tables below one root.
#[derive(Clone, Copy)]
pub struct AddressSpace<'a> {
    physical: &'a dyn PhysicalMemory,
    paging: Paging,
    root: PhysAddr,
}

/// What a walk through the page tables met, from the top down, and where it led.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walk {
    entries: [Option<WalkEntry>; MOST_LEVELS],
    /// The prototype entry that stands for the page table's, where one does.
    pub prototype: Option<WalkEntry>,
    /// The byte, or why there is none.
    pub outcome: Result<Mapping, MissReason>,
}

/// Where the byte at a virtual address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// At this physical address; as many bytes from there on follow one another.
    Physical(PhysAddr, u64),
    /// Nowhere yet: it and as many bytes from there on read as zeros.
    Zeros(u64),
}

impl Walk {
    /// The entries of the page tables from the top down, as far as the walk came.
    pub fn entries(&self) -> impl Iterator<Item = &WalkEntry> {
        self.entries.iter().flatten()
    }
}

impl<'a> AddressSpace<'a> {
    /// The address space whose top table CR3 or TTBR points to; bits of `base` that are no address are left out.
    pub fn new(physical: &'a dyn PhysicalMemory, paging: Paging, base: PhysAddr) -> Self {
        Self { physical, paging, root: PhysAddr(paging.root(base.0)) }
    }

    /// The form of its page tables.
    pub fn paging(&self) -> Paging {
        self.paging
    }

    /// Where its top table lies.
    pub fn root(&self) -> PhysAddr {
        self.root
    }

    /// Walks the page tables for `address`.
    pub fn walk(&self, address: VirtAddr) -> Walk {
        let mut walk =
            Walk { entries: [None; MOST_LEVELS], prototype: None, outcome: Err(MissReason::NotCanonical) };
        if self.paging.is_canonical(address.0) {
            walk.outcome = self.descend(address, &mut walk);
        }
        walk
    }

    fn descend(&self, address: VirtAddr, walk: &mut Walk) -> Result<Mapping, MissReason> {
        let mut table = self.root;
        let levels = (1..=self.paging.levels()).rev();
        for (level, slot) in levels.zip(&mut walk.entries) {
            let at = table.plus(self.paging.index(level, address.0) * self.paging.entry_size());
            let value = self.word(at).map_err(|_| MissReason::TableNotInDump { level })?;
            let kind = EntryKind::of(self.paging, level, value);
            *slot = Some(WalkEntry { level, address: at, value, kind });
            match kind {
                EntryKind::Valid(next) | EntryKind::Transition(next) => table = next,
                EntryKind::Large(page) => {
                    let size = 1 << self.paging.shift(level);
                    return Ok(inside(page, address, size));
                }
                EntryKind::Prototype(prototype) if level == 1 => {
                    let entry = self.prototype(VirtAddr(prototype))?;
                    walk.prototype = Some(entry);
                    return match entry.kind {
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
    fn prototype(&self, address: VirtAddr) -> Result<WalkEntry, MissReason> {
        let mut table = self.root;
        if !self.paging.is_canonical(address.0) {
            return Err(MissReason::NotResident);
        }
        for level in (1..=self.paging.levels()).rev() {
            let at = table.plus(self.paging.index(level, address.0) * self.paging.entry_size());
            let value = self.word(at).map_err(|_| MissReason::TableNotInDump { level })?;
            match EntryKind::of(self.paging, level, value) {
                EntryKind::Valid(next) | EntryKind::Transition(next) => table = next,
                EntryKind::Large(page) => {
                    let within = address.0 & ((1 << self.paging.shift(level)) - 1);
                    return self.prototype_at(page.plus(within));
                }
                _ => return Err(MissReason::NotResident),
            }
        }
        self.prototype_at(table.plus(address.0 % PAGE_SIZE))
    }

    fn prototype_at(&self, at: PhysAddr) -> Result<WalkEntry, MissReason> {
        let value = self.word(at)?;
        Ok(WalkEntry { level: 1, address: at, value, kind: EntryKind::of(self.paging, 1, value) })
    }

    /// An entry of a page table.
    fn word(&self, at: PhysAddr) -> Result<u64, MissReason> {
        let mut bytes = [0; 8];
        let size = self.paging.entry_size() as usize;
        let entry = bytes.get_mut(..size).unwrap_or_default();
        match self.physical.read_physical(at, entry)? {
            got if got == size => Ok(u64::from_le_bytes(bytes)),
            _ => Err(MissReason::FileTruncated),
        }
    }
}

/// The place of `address` inside a page of `size` bytes at `page`.
fn inside(page: PhysAddr, address: VirtAddr, size: u64) -> Mapping {
    let offset = address.0 & (size - 1);
    Mapping::Physical(page.plus(offset), size - offset)
}

/// What an entry that leads nowhere means for the byte at `address`.
fn miss(kind: EntryKind, level: u8, address: VirtAddr) -> Result<Mapping, MissReason> {
    match kind {
        EntryKind::DemandZero if level == 1 => Ok(Mapping::Zeros(PAGE_SIZE - address.0 % PAGE_SIZE)),
        EntryKind::PageFile { .. } => Err(MissReason::PagedOut),
        EntryKind::Prototype(_) | EntryKind::PrototypeInVad => Err(MissReason::NotResident),
        _ => Err(MissReason::NotMapped { level }),
    }
}

impl Memory for AddressSpace<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        match self.walk(at).outcome? {
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
        write!(f, "{:?} at {:#}", self.paging, self.root)
    }
}
