//! What a walk through page tables met, and where it ended.

use super::entry::{EntryKind, WalkEntry};
use crate::physical::PAGE_SIZE;
use stopcode_base::{MissReason, PhysAddr, VirtAddr};

/// Entries of the longest walk.
pub(super) const MOST_LEVELS: usize = 5;

/// What a walk through the page tables met, from the top down, and where it led.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walk {
    pub(super) entries: [Option<WalkEntry>; MOST_LEVELS],
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
    pub(super) const fn new() -> Self {
        Self { entries: [None; MOST_LEVELS], prototype: None, outcome: Err(MissReason::NotCanonical) }
    }

    /// The entries of the page tables from the top down, as far as the walk came.
    pub fn entries(&self) -> impl Iterator<Item = &WalkEntry> {
        self.entries.iter().flatten()
    }

    /// Physical address of the byte, where it has one.
    #[must_use]
    pub fn physical(&self) -> Option<PhysAddr> {
        match self.outcome {
            Ok(Mapping::Physical(at, _)) => Some(at),
            _ => None,
        }
    }
}

/// The place of `address` inside a page of `size` bytes at `page`.
pub(super) fn inside(page: PhysAddr, address: VirtAddr, size: u64) -> Mapping {
    let offset = address.0 & (size - 1);
    Mapping::Physical(page.plus(offset), size - offset)
}

/// What an entry that leads nowhere means for the byte at `address`.
pub(super) fn miss(kind: EntryKind, level: u8, address: VirtAddr) -> Result<Mapping, MissReason> {
    match kind {
        EntryKind::DemandZero if level == 1 => Ok(Mapping::Zeros(PAGE_SIZE - address.0 % PAGE_SIZE)),
        EntryKind::PageFile { .. } => Err(MissReason::PagedOut),
        EntryKind::PrototypeInVad => Err(MissReason::InVad),
        EntryKind::Prototype(_) | EntryKind::File => Err(MissReason::NotResident),
        _ => Err(MissReason::NotMapped { level }),
    }
}
