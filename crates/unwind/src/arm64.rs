//! The ARM64 walk: the chain of frame records that x29 begins.

mod codes;
mod record;
mod step;

pub use step::{Arm64Caller, Arm64Frame, unwind_arm64};

use crate::call_site::{self, CallSite};
use crate::{Code, CodeAt, End, Frame, Options, Reason, Stack, StackRange, Trust, UnusableStack};
use stopcode_base::{Arm64Registers, Memory, VirtAddr};

/// x29, the frame pointer, and x30, the link register.
const FP: usize = 29;
const LR: usize = 30;

pub(crate) fn walk(
    registers: &Arm64Registers,
    memory: &dyn Memory,
    code: &dyn Code,
    stacks: &[StackRange],
    options: &Options,
) -> Stack {
    let first = Frame::of_context(VirtAddr(registers.pc), VirtAddr(registers.sp));
    let mut stack = Stack::starting(first, End::Limit);
    let mut record = VirtAddr(registers.x.get(FP).copied().unwrap_or(0));
    let mut lowest = VirtAddr(registers.sp);
    let mut range = stacks.iter().find(|range| range.contains(lowest));
    if range.is_none() {
        stack.ended = End::Unusable { pointer: lowest, why: UnusableStack::OutOfStack };
        return stack;
    }
    while stack.frames.len() < options.max_frames {
        if let Some(end) = check(record, lowest, range) {
            stack.ended = end;
            return stack;
        }
        let (next, lr) = match (memory.read_u64(record), memory.read_u64(record.plus(8))) {
            (Ok(next), Ok(lr)) => (VirtAddr(next), without_signature(lr)),
            (Err(miss), _) | (_, Err(miss)) => {
                stack.ended = End::MemoryMissing(miss);
                return stack;
            }
        };
        if matches!(code.at(lr), CodeAt::NotCode | CodeAt::Data) {
            stack.ended = End::NoCandidate;
            return stack;
        }
        let gap_before = stack.frames.len() == 1 && leaf_was_left_out(registers, lr, code);
        stack.frames.push(frame(record, lr, gap_before, memory, code));
        // The next record lies above this one, and in the same stack: the chain cannot turn back.
        range = range.filter(|range| range.contains(record));
        lowest = record.plus(16);
        record = next;
    }
    stack
}

fn check(record: VirtAddr, lowest: VirtAddr, range: Option<&StackRange>) -> Option<End> {
    if record.0 == 0 {
        return Some(End::ThreadStart);
    }
    let inside = range.is_some_and(|range| range.contains(record) && range.contains(record.plus(15)));
    let why = if !inside {
        UnusableStack::OutOfStack
    } else if record.0 & 0xf != 0 {
        UnusableStack::Unaligned
    } else if record < lowest {
        UnusableStack::NotIncreasing
    } else {
        return None;
    };
    Some(End::Unusable { pointer: record, why })
}

fn frame(record: VirtAddr, lr: VirtAddr, gap_before: bool, memory: &dyn Memory, code: &dyn Code) -> Frame {
    let is_call = matches!(call_site::arm64(memory, lr), CallSite::Direct(_) | CallSite::Indirect);
    let mut why = vec![Reason::FramePointer];
    if is_call {
        why.push(Reason::CallBytesMatch);
    }
    if code.function_start(lr).is_some() {
        why.push(Reason::InsideKnownFunction);
    }
    Frame {
        instruction: lr,
        stack_pointer: record.plus(16),
        trust: if is_call { Trust::ScanCall } else { Trust::Scan },
        return_slot: Some(record.plus(8)),
        why,
        gap_before,
        registers: None,
    }
}

/// A leaf makes no frame record, nor does a function that has just begun: its caller is in the link register only.
/// There it shows as an address of another function than the one that runs and than the chain's first caller.
fn leaf_was_left_out(registers: &Arm64Registers, first_caller: VirtAddr, code: &dyn Code) -> bool {
    let lr = without_signature(registers.x.get(LR).copied().unwrap_or(0));
    match (code.function_start(lr), code.function_start(VirtAddr(registers.pc))) {
        (Some(caller), Some(running)) => caller != running && lr != first_caller,
        _ => false,
    }
}

/// Without the pointer-authentication code: it fills the bits above the 48 of an address, except bit 55, which says
/// kernel or user.
fn without_signature(address: u64) -> VirtAddr {
    const HIGH: u64 = 0xffff_0000_0000_0000;
    VirtAddr(if address >> 55 & 1 == 1 { address | HIGH } else { address & !HIGH })
}
