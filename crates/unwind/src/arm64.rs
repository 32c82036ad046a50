//! The ARM64 walk: by unwind data as far as images are at hand, else the chain of frame records that x29 begins.

mod codes;
mod record;
mod step;
mod trap_frame;

pub use step::{Arm64Caller, Arm64Frame, unwind_arm64};
pub use trap_frame::Arm64TrapFrame;

use crate::call_site::{self, CallSite};
use crate::{
    Code, CodeAt, End, Frame, FrameRegisters, Options, Reason, Refusal, Refused, Sources, Stack, StackKind,
    StackRange, Stands, Start, Trust, UnusableStack,
};
use stopcode_base::{Arm64Registers, Memory, VirtAddr};

/// x29, the frame pointer, and x30, the link register.
const FP: usize = 29;
const LR: usize = 30;

/// By unwind data as far as it leads, then by the chain of frame records.
pub(crate) fn walk(
    registers: &Arm64Registers,
    start: &Start,
    sources: &Sources<'_>,
    stacks: &[StackRange],
    options: &Options,
) -> Stack {
    let range = stacks.iter().find(|range| range.contains(VirtAddr(registers.sp)));
    let kind = range.map(|range| range.kind);
    let first = Frame::of_context(VirtAddr(registers.pc), VirtAddr(registers.sp), kind);
    let mut stack = Stack::starting(first, End::Limit);
    let Some(range) = range else {
        stack.ended = End::Unusable { pointer: VirtAddr(registers.sp), why: UnusableStack::OutOfStack };
        return stack;
    };
    let mut frame = Arm64Frame::of_registers(registers);
    frame.known &= start.known;
    let mut at = Position { frame, stands: start.stands, range };
    // What a trap frame on the chain interrupted may lie in an image at hand again.
    stack.ended = loop {
        let next = match climb(&mut at, &mut stack, sources, stacks, options) {
            Ok(end) => Err(end),
            Err(why) => {
                stack.refused.push(Refused { frame: stack.frames.len() - 1, why });
                follow(&at, &mut stack, sources, stacks, options)
            }
        };
        match next {
            Ok(interrupted) => at = interrupted,
            Err(end) => break end,
        }
    };
    stack
}

/// Follows the chain of frame records up to a trap frame, and gives what that interrupted; else why the walk ends.
fn follow<'a>(
    at: &Position<'a>,
    stack: &mut Stack,
    sources: &Sources<'_>,
    stacks: &'a [StackRange],
    options: &Options,
) -> Result<Position<'a>, End> {
    let Sources { memory, code, .. } = *sources;
    let climbed = stack.frames.len();
    let mut record = VirtAddr(at.frame.get(FP as u8).ok_or(End::NoFramePointer)?);
    let mut lowest = VirtAddr(at.frame.sp);
    let mut range = Some(at.range);
    while stack.frames.len() < options.max_frames {
        if let Some(end) = check(record, lowest, range) {
            return Err(end);
        }
        let trap = range.and_then(|range| Arm64TrapFrame::of_record(memory, record, code, range));
        if let Some(trap) = trap.filter(|trap| trap.address >= lowest) {
            return interrupted(&trap, stack, stacks, code);
        }
        let link = |offset| memory.read_u64(record.plus(offset)).map_err(End::MemoryMissing);
        let (next, lr) = (VirtAddr(link(0)?), without_signature(link(8)?));
        if matches!(code.at(lr), CodeAt::NotCode | CodeAt::Data) {
            return Err(End::NoCandidate);
        }
        let gap_before = stack.frames.len() == climbed
            && match at.stands {
                Stands::Interrupted => leaf_was_left_out(&at.frame, lr, code),
                Stands::AfterCall => climbed > 1,
            };
        let mut found = found_by_chain(record, lr, gap_before, memory, code);
        found.stack = StackRange::kind_at(stacks, record);
        stack.frames.push(found);
        // The next record lies above this one, and in the same stack: the chain cannot turn back.
        range = range.filter(|range| range.contains(record));
        lowest = record.plus(16);
        record = next;
    }
    Err(End::Limit)
}

/// Adds what a trap frame interrupted; an error where no stack goes on there.
fn interrupted<'a>(
    trap: &Arm64TrapFrame,
    stack: &mut Stack,
    stacks: &'a [StackRange],
    code: &dyn Code,
) -> Result<Position<'a>, End> {
    let mut why = vec![Reason::TrapFrameAt(trap.address)];
    if code.function_start(trap.pc()).is_some() {
        why.push(Reason::InsideKnownFunction);
    }
    if let Some(entry) = stack.frames.last_mut() {
        entry.why.push(Reason::HasTrapFrameAt(trap.address));
    }
    let range = stacks.iter().find(|range| range.contains(trap.sp()));
    stack.frames.push(Frame {
        instruction: trap.pc(),
        stack_pointer: trap.sp(),
        trust: Trust::TrapFrame,
        return_slot: None,
        why,
        gap_before: false,
        registers: Some(Box::new(FrameRegisters::Arm64(trap.frame()))),
        stack: range.map(|range| range.kind),
    });
    if trap.is_user() {
        return Err(End::UserMode);
    }
    let unusable = End::Unusable { pointer: trap.sp(), why: UnusableStack::OutOfStack };
    let range = range.ok_or(unusable)?;
    Ok(Position { frame: trap.frame(), stands: Stands::Interrupted, range })
}

/// Where a walk by unwind data stands.
struct Position<'a> {
    frame: Arm64Frame,
    stands: Stands,
    range: &'a StackRange,
}

/// Frame by frame by unwind data; an error where it leads no further.
fn climb<'a>(
    at: &mut Position<'a>,
    stack: &mut Stack,
    sources: &Sources<'_>,
    stacks: &'a [StackRange],
    options: &Options,
) -> Result<End, Refusal> {
    let mut left = Vec::new();
    while stack.frames.len() < options.max_frames {
        let running = match at.stands {
            Stands::Interrupted => VirtAddr(at.frame.pc),
            Stands::AfterCall => VirtAddr(at.frame.pc).minus(4),
        };
        let image = sources.images.image_at(running).ok_or(Refusal::NoImage)?;
        let caller = unwind_arm64(&image, sources.memory, &at.frame, at.stands)?;
        let (pc, sp) = (VirtAddr(caller.frame.pc), VirtAddr(caller.frame.sp));
        if caller.interrupted.is_none() {
            if pc.0 == 0 {
                return Ok(End::ThreadStart);
            }
            let is_code = !matches!(sources.code.at(pc), CodeAt::NotCode | CodeAt::Data);
            if !is_code && sources.images.image_at(pc.minus(4)).is_none() {
                return Err(Refusal::NotCode { slot: VirtAddr(at.frame.sp), value: pc });
            }
        } else if !pc.is_kernel() {
            stack.frames.push(unwound(&caller, None));
            return Ok(End::UserMode);
        }
        let unusable = |why| Refusal::Unusable { pointer: sp, why };
        if sp.0 & 0xf != 0 {
            return Err(unusable(UnusableStack::Unaligned));
        }
        if at.range.contains(sp) {
            // Only code that was interrupted before it made a frame has its caller at the same stack pointer.
            let stays = at.stands == Stands::Interrupted && caller.interrupted.is_none();
            let lowest = VirtAddr(at.frame.sp).plus(u64::from(!stays));
            if sp < lowest {
                return Err(unusable(UnusableStack::NotIncreasing));
            }
        } else {
            left.push(*at.range);
            let range = stacks.iter().find(|range| range.contains(sp) && !left.contains(range));
            at.range = range.ok_or_else(|| unusable(UnusableStack::OutOfStack))?;
        }
        stack.frames.push(unwound(&caller, Some(at.range.kind)));
        at.stands = if caller.interrupted.is_some() { Stands::Interrupted } else { Stands::AfterCall };
        at.frame = caller.frame;
    }
    Ok(End::Limit)
}

fn unwound(caller: &Arm64Caller, stack: Option<StackKind>) -> Frame {
    let (trust, reason) = match caller.interrupted {
        Some(at) => (Trust::MachineFrame, Some(Reason::MachineFrameAt(at))),
        None => (Trust::Unwind, None),
    };
    Frame {
        instruction: VirtAddr(caller.frame.pc),
        stack_pointer: VirtAddr(caller.frame.sp),
        trust,
        return_slot: None,
        why: [Some(Reason::UnwindData), reason].into_iter().flatten().collect(),
        gap_before: false,
        registers: Some(Box::new(FrameRegisters::Arm64(caller.frame))),
        stack,
    }
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

fn found_by_chain(
    record: VirtAddr,
    lr: VirtAddr,
    gap_before: bool,
    memory: &dyn Memory,
    code: &dyn Code,
) -> Frame {
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
        stack: None,
    }
}

/// A leaf makes no frame record, nor does a function that has just begun: its caller is in the link register only.
/// There it shows as an address of another function than the one that runs and than the chain's first caller.
fn leaf_was_left_out(running: &Arm64Frame, first_caller: VirtAddr, code: &dyn Code) -> bool {
    let lr = without_signature(running.get(LR as u8).unwrap_or(0));
    match (code.function_start(lr), code.function_start(VirtAddr(running.pc))) {
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
