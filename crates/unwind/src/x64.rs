//! The x64 walk: one chain per stack, from stack to stack through trap frames.

use crate::call_site::CallSite;
use crate::candidate::{Search, Standing};
use crate::chain::{self, Step};
use crate::trap_frame::TrapFrame;
use crate::{Code, End, Frame, Options, Reason, Stack, StackRange, Trust, UnusableStack};
use stopcode_base::{Memory, Miss, VirtAddr, X64Registers};

pub(crate) fn walk(
    registers: &X64Registers,
    memory: &dyn Memory,
    code: &dyn Code,
    stacks: &[StackRange],
    options: &Options,
) -> Stack {
    let mut standing = Standing::interrupted(VirtAddr(registers.rip), VirtAddr(registers.rsp()), code);
    let mut walk = Walk {
        stack: Stack {
            frames: vec![Frame::of_context(standing.instruction, standing.stack_pointer)],
            ended: End::Limit,
            trap_frames: Vec::new(),
        },
        max_frames: options.max_frames,
    };
    let mut budget = options.max_scan_bytes;
    let mut reached = vec![None; stacks.len()];
    loop {
        let range = match enter(stacks, standing.stack_pointer, &mut reached) {
            Ok(range) => range,
            Err(why) => {
                walk.stack.ended = End::Unusable { pointer: standing.stack_pointer, why };
                return walk.stack;
            }
        };
        let words = Words::read(memory, standing.stack_pointer, range, budget);
        budget = budget.saturating_sub(words.values.len() * 8);
        let search = Search { memory, code, stack: range };
        let chain = chain::find(&search, &standing, &words.values);
        let leaves =
            chain.last().and_then(|step| step.candidate.trap).filter(|trap| !range.contains(trap.rsp()));
        let found = !chain.is_empty();
        if !chain.iter().all(|step| walk.push(step, code)) {
            walk.stack.ended = End::Limit;
            return walk.stack;
        }
        match leaves {
            Some(trap) if trap.is_user() => walk.stack.ended = End::UserMode,
            Some(trap) => {
                standing = Standing::interrupted(trap.rip(), trap.rsp(), code);
                continue;
            }
            None => walk.stack.ended = words.end(found),
        }
        return walk.stack;
    }
}

struct Walk {
    stack: Stack,
    max_frames: usize,
}

impl Walk {
    /// Adds what a step of a chain shows; false when there is no room for it.
    fn push(&mut self, step: &Step, code: &dyn Code) -> bool {
        if self.stack.frames.len() >= self.max_frames {
            return false;
        }
        self.stack.frames.push(frame_of(step));
        let Some(trap) = step.candidate.trap else { return true };
        if self.stack.frames.len() >= self.max_frames {
            return false;
        }
        self.stack.trap_frames.push(trap);
        self.stack.frames.push(interrupted_frame(&trap, code));
        true
    }
}

fn frame_of(step: &Step) -> Frame {
    let found = &step.candidate;
    let is_call = matches!(found.call, CallSite::Direct(_) | CallSite::Indirect);
    let reasons = [
        (step.callee_at_entry, Reason::CalleeAtEntry),
        (is_call, Reason::CallBytesMatch),
        (step.calls_callee, Reason::CallTargetIsCallee),
        (found.known_function, Reason::InsideKnownFunction),
        (found.trap.is_some(), Reason::HasTrapFrameAt(found.slot.plus(8))),
    ];
    Frame {
        instruction: found.value,
        stack_pointer: found.slot.plus(8),
        trust: if is_call { Trust::ScanCall } else { Trust::Scan },
        return_slot: Some(found.slot),
        why: reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect(),
        gap_before: step.gap_before,
    }
}

fn interrupted_frame(trap: &TrapFrame, code: &dyn Code) -> Frame {
    let mut why = vec![Reason::TrapFrameAt(trap.address)];
    if code.function_start(trap.rip()).is_some() {
        why.push(Reason::InsideKnownFunction);
    }
    Frame {
        instruction: trap.rip(),
        stack_pointer: trap.rsp(),
        trust: Trust::TrapFrame,
        return_slot: None,
        why,
        gap_before: false,
    }
}

/// The stack that holds `pointer`. A stack is entered again only above where it was entered before: that a walk ends
/// does not depend on what trap frames say.
fn enter<'a>(
    stacks: &'a [StackRange],
    pointer: VirtAddr,
    reached: &mut [Option<VirtAddr>],
) -> Result<&'a StackRange, UnusableStack> {
    let (range, reached) = stacks
        .iter()
        .zip(reached)
        .find(|(range, _)| range.contains(pointer))
        .ok_or(UnusableStack::OutOfStack)?;
    if pointer.0 & 7 != 0 {
        return Err(UnusableStack::Unaligned);
    }
    if reached.is_some_and(|before| pointer <= before) {
        return Err(UnusableStack::NotIncreasing);
    }
    *reached = Some(pointer);
    Ok(range)
}

/// The words of a stack from a stack pointer on.
struct Words {
    values: Vec<u64>,
    missing: Option<Miss>,
    cut: bool,
}

impl Words {
    fn read(memory: &dyn Memory, from: VirtAddr, range: &StackRange, budget: usize) -> Self {
        let above = range.high.offset_from(from).unwrap_or(0);
        let wanted = usize::try_from(above).unwrap_or(usize::MAX).min(budget) & !7;
        let mut bytes = vec![0; wanted];
        let missing = memory.read(from, &mut bytes).err();
        if let Some(miss) = missing {
            bytes.truncate(miss.got);
        }
        let words =
            bytes.chunks_exact(8).filter_map(|word| word.first_chunk()).map(|w| u64::from_le_bytes(*w));
        Self { values: words.collect(), missing, cut: (wanted as u64) < above & !7 }
    }

    fn end(&self, found: bool) -> End {
        match self.missing {
            Some(miss) => End::MemoryMissing(miss),
            None if self.cut => End::Limit,
            None if found => End::StackBase,
            None => End::NoCandidate,
        }
    }
}
