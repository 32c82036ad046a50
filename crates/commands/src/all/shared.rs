//! What several commands show alike.

use crate::answer::Stop;
use crate::output::Output;
use crate::session::Session;
use crate::show::site;
use stopcode_base::VirtAddr;
use stopcode_kernel::{Frame, Stack};

/// `nt!KeBugCheckEx`, `iaStor+0x253f5`, or the bare address.
pub(super) fn call_site(output: &Output, frame: &Frame) -> String {
    site(&frame.place).unwrap_or_else(|| format!("0x{}", output.at(frame.instruction)))
}

/// What WinDbg's `RetAddr` shows: where the next frame goes on; `None` at the end and across a gap, but for the word on top of
/// the stack, which is the first frame's return address where that has just been called, as KeBugCheckEx always has.
pub(super) fn return_address(stack: &Stack, number: usize) -> Option<VirtAddr> {
    let (frame, next) = (stack.frames.get(number)?, stack.frames.get(number + 1)?);
    let on_top = number == 0 && next.return_slot == Some(frame.stack_pointer);
    (!next.gap_before || on_top).then_some(next.instruction)
}

/// An address in WinDbg's form, or as many question marks.
pub(super) fn known(output: &Output, address: Option<VirtAddr>) -> String {
    address.map_or_else(|| output.no_address(), |address| output.at(address))
}

/// The selected stack.
pub(super) fn stack(session: &Session) -> Result<std::rc::Rc<Stack>, Stop> {
    Ok(session.scope()?.stack(&session.machine()))
}
