//! One frame up: the caller's registers, by the unwind data of the function that runs.

use super::frame::{X64Caller, X64Frame};
use super::rule::Rule;
use crate::{ImageView, Refusal, Stands};
use stopcode_base::{Memory, VirtAddr};

/// The caller of `frame`, by the unwind data of `image`, which holds its instruction pointer.
///
/// `memory` is the stack's. A saved register that cannot be read becomes unknown; without the return address or the
/// stack pointer there is no caller.
pub fn unwind_x64(
    image: &ImageView<'_>,
    memory: &dyn Memory,
    frame: &X64Frame,
    stands: Stands,
) -> Result<X64Caller, Refusal> {
    let rva = running(image, frame, stands)?;
    let mut rule = Rule::LEAF;
    rule.find(image, rva, stands)?;
    rule.apply(memory, frame)
}

/// RVA of the instruction that ran: of a call, its last byte.
pub(super) fn running(image: &ImageView<'_>, frame: &X64Frame, stands: Stands) -> Result<u32, Refusal> {
    let rip = VirtAddr(frame.rip);
    let ran = if stands == Stands::AfterCall { rip.minus(1) } else { rip };
    image.rva(ran).ok_or(Refusal::NoImage)
}
