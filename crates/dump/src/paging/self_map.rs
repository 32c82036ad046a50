//! The self-map: one entry of the top table leads back to it, so that every table has a virtual address.

use super::Paging;
use super::entry::{EntryKind, Form, WalkEntry};
use super::walk::{Walk, inside, miss};
use crate::physical::PAGE_SIZE;
use stopcode_base::{Memory, MissReason, PhysAddr, VirtAddr};

/// Where page tables appear in virtual memory: what a small dump stores of them, it stores there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SelfMap {
    form: Form,
    base: VirtAddr,
}

impl SelfMap {
    /// The self-map whose page-table entries begin at `base`: `PteBase` of the debugger data block.
    #[must_use]
    pub const fn new(form: Form, base: VirtAddr) -> Self {
        Self { form, base }
    }

    /// The one of x86, which has a fixed place.
    #[must_use]
    pub const fn x86(form: Form) -> Self {
        Self { form, base: VirtAddr(0xc000_0000) }
    }

    /// Finds the entry of the top table at `root` that leads back to it.
    pub(super) fn find(form: Form, root: PhysAddr, word: impl Fn(PhysAddr) -> Option<u64>) -> Option<Self> {
        if matches!(form.paging, Paging::X86 | Paging::X86Pae) {
            return Some(Self::x86(form));
        }
        let top = form.paging.levels();
        // Windows keeps it in the kernel's half.
        let leads_back = |index: &u64| {
            let value = word(root.plus(index * 8));
            value.is_some_and(|value| form.kind(top, value) == EntryKind::Valid(root))
        };
        let index = (0x100..0x200_u64).find(leads_back)?;
        let unused = 64 - form.paging.address_bits();
        let base = ((index << (form.paging.address_bits() - 9) << unused) as i64 >> unused) as u64;
        Some(Self { form, base: VirtAddr(base) })
    }

    /// Where the page-table entries begin.
    #[must_use]
    pub const fn base(&self) -> VirtAddr {
        self.base
    }

    /// Where the entry of `level` for `address` appears; `None` for a level that these tables do not have, or show.
    #[must_use]
    pub fn entry(&self, level: u8, address: VirtAddr) -> Option<VirtAddr> {
        let paging = self.form.paging;
        let shown = if paging == Paging::X86Pae { 2 } else { paging.levels() };
        if level == 0 || level > shown {
            return None;
        }
        let mask = (1 << paging.address_bits()) - 1;
        let of = |at: VirtAddr| self.base.plus((at.0 & mask) / PAGE_SIZE * paging.entry_size());
        Some((0..level).fold(address, |at, _| of(at)))
    }

    /// Says of each entry of a walk for `address` where it appears.
    pub fn mark(&self, walk: &mut Walk, address: VirtAddr) {
        for entry in walk.entries.iter_mut().flatten() {
            entry.mapped_at = self.entry(entry.level, address);
        }
    }

    /// Walks the tables for `address` by their own addresses in `memory`. An entry that is not there is passed over:
    /// those below it may be.
    pub fn walk(&self, memory: &dyn Memory, address: VirtAddr) -> Walk {
        let mut walk = Walk::new();
        let paging = self.form.paging;
        if !paging.is_canonical(address.0) {
            return walk;
        }
        // Unless the page table's entry tells more.
        walk.outcome = Err(MissReason::TableNotInDump { level: 1 });
        let mut slots = walk.entries.iter_mut();
        for level in (1..=paging.levels()).rev() {
            let Some(mapped_at) = self.entry(level, address) else { continue };
            let mut bytes = [0; 8];
            let wanted = bytes.get_mut(..paging.entry_size() as usize).unwrap_or_default();
            if memory.read(mapped_at, wanted).is_err() {
                continue;
            }
            let value = u64::from_le_bytes(bytes);
            let kind = self.form.kind(level, value);
            let flags = self.form.flags(level, value, address);
            if let Some(slot) = slots.next() {
                *slot =
                    Some(WalkEntry { level, address: None, mapped_at: Some(mapped_at), value, kind, flags });
            }
            walk.outcome = match kind {
                EntryKind::Large(page) => Ok(inside(page, address, 1 << paging.shift(level))),
                EntryKind::Valid(page) | EntryKind::Transition(page) if level == 1 => {
                    Ok(inside(page, address, PAGE_SIZE))
                }
                EntryKind::Valid(_) | EntryKind::Transition(_) => continue,
                // The prototype is not followed here: its address leads back into this memory.
                kind => miss(kind, level, address),
            };
            break;
        }
        walk
    }
}
