//! Rules that were found are kept: a thread's stack goes through the same few calls as the next one's.

use super::rule::Rule;
use super::step::{self, X64Caller, X64Frame};
use crate::{ImageView, Refusal, Stands};
use std::cell::RefCell;
use stopcode_base::{Memory, VirtAddr};

/// So many rules are kept, of some 200 bytes each.
const SLOTS: usize = 4096;

/// Remembers how frames of x64 images are undone, for images whose bytes do not change while it lives.
///
/// An image is told by its base and the place of its function table. A rule is kept until another one needs its
/// slot, in under 1 MiB in all; what was refused is not kept.
#[derive(Default)]
pub struct X64Rules {
    /// Empty until the first rule is kept.
    slots: RefCell<Slots>,
}

type Slots = Box<[(Option<Key>, Rule)]>;

/// What a rule hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key {
    base: VirtAddr,
    pdata: (u32, u32),
    rva: u32,
    stands: Stands,
}

impl Key {
    /// Neighbours in one image get slots of their own; images are told apart by pages, so their bases are folded in.
    const fn slot(&self) -> usize {
        let image = (self.base.0 >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (self.rva as usize ^ image as usize) % SLOTS
    }
}

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
        let key = Key { base: image.base, pdata: image.pdata, rva, stands };
        // Taken only if reading the stack's memory came to ask for another frame.
        let Ok(mut slots) = self.slots.try_borrow_mut() else {
            return step::unwind_x64(image, memory, frame, stands);
        };
        if slots.is_empty() {
            *slots = vec![(None, Rule::LEAF); SLOTS].into_boxed_slice();
        }
        let Some((kept, rule)) = slots.get_mut(key.slot()) else {
            return step::unwind_x64(image, memory, frame, stands);
        };
        if *kept != Some(key) {
            *kept = None;
            rule.find(image, rva, stands)?;
            *kept = Some(key);
        }
        rule.apply(memory, frame)
    }
}

impl std::fmt::Debug for X64Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X64Rules").finish_non_exhaustive()
    }
}
