//! Rules that were found are kept: a thread's stack goes through the same few calls as the next one's.

use super::frame::{X64Caller, X64Frame};
use super::packed_rule::{Key, PackedRule};
use super::rule::Rule;
use super::step;
use crate::{ImageView, Refusal, Stands};
use std::cell::{Cell, OnceCell};
use stopcode_base::Memory;

/// So many rules are kept.
const SLOTS: usize = 0x4000;

/// Remembers how frames of x64 images are undone, for images whose bytes do not change while it lives.
///
/// An image is told by its base and the place of its function table. A rule is kept until another one needs its
/// slot, in 1 MiB in all; what was refused is not kept, nor the few rules that do not fit a cache line.
#[derive(Default)]
pub struct X64Rules {
    /// Made when the first rule is asked for.
    slots: OnceCell<Box<[Slot]>>,
}

type Slot = Cell<Option<PackedRule>>;

impl X64Rules {
    /// None kept yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`crate::unwind_x64`] does, with the rule that is kept if there is one.
    pub fn unwind(
        &self,
        image: &ImageView<'_>,
        memory: &dyn Memory,
        frame: &X64Frame,
        stands: Stands,
    ) -> Result<X64Caller, Refusal> {
        let rva = step::running(image, frame, stands)?;
        let key = Key::new(image, rva, stands);
        let slots = self.slots.get_or_init(|| vec![Cell::new(None); SLOTS].into_boxed_slice());
        let slot = slots.get(key.slot(SLOTS));
        if let Some(kept) = slot.and_then(Cell::get).filter(|kept| kept.is_for(&key)) {
            return kept.apply(memory, frame);
        }
        let mut rule = Rule::LEAF;
        rule.find(image, rva, stands)?;
        if let (Some(slot), Some(packed)) = (slot, PackedRule::new(key, &rule)) {
            slot.set(Some(packed));
        }
        rule.apply(memory, frame)
    }
}

impl std::fmt::Debug for X64Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X64Rules").finish_non_exhaustive()
    }
}
