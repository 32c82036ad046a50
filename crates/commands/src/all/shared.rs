//! What several commands show alike.

use crate::answer::Stop;
use crate::session::Session;
use crate::show::{quad, site};
use stopcode_base::VirtAddr;
use stopcode_kernel::{Frame, Stack};

/// `nt!KeBugCheckEx`, `iaStor+0x253f5`, or the bare address.
pub(super) fn call_site(frame: &Frame) -> String {
    site(&frame.place).unwrap_or_else(|| format!("0x{}", quad(frame.instruction.0)))
}

/// What WinDbg's `RetAddr` shows: where the next frame goes on; `None` across a gap and at the end.
pub(super) fn return_address(stack: &Stack, number: usize) -> Option<VirtAddr> {
    stack.frames.get(number + 1).filter(|next| !next.gap_before).map(|next| next.instruction)
}

/// An address in WinDbg's form, or as many question marks.
pub(super) fn known(address: Option<VirtAddr>) -> String {
    address.map_or_else(|| "????????`????????".to_owned(), VirtAddr::windbg)
}

/// The selected stack.
pub(super) fn stack(session: &Session) -> Result<std::rc::Rc<Stack>, Stop> {
    Ok(session.scope()?.stack(&session.machine()))
}
