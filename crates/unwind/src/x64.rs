//! The x64 walk: by unwind data as far as images are at hand, else by one chain per stack, from stack to stack
//! through trap frames.

mod epilog;
mod function_table;
mod step;
mod unwind_info;

pub use step::{MachineFrame, X64Caller, X64Frame, unwind_x64};

use crate::call_site::{self, CallSite};
use crate::candidate::{Search, Standing};
use crate::chain::{self, Step};
use crate::trap_frame::{self, TrapFrame};
use crate::{
    Code, CodeAt, End, Frame, FrameRegisters, Options, Reason, Refusal, Refused, Sources, Stack, StackRange,
    Stands, Trust, UnusableStack,
};
use stopcode_base::{Memory, Miss, VirtAddr, X64Registers};

pub(crate) fn walk(
    registers: &X64Registers,
    sources: &Sources<'_>,
    stacks: &[StackRange],
    options: &Options,
) -> Stack {
    let first = Frame::of_context(VirtAddr(registers.rip), VirtAddr(registers.rsp()));
    let mut walk = Walk {
        sources,
        stack: Stack::starting(first, End::Limit),
        max_frames: options.max_frames,
        max_scan: options.max_scan_bytes,
        stacks,
        reached: vec![None; stacks.len()],
    };
    walk.stack.ended = match walk.enter(VirtAddr(registers.rsp())) {
        Ok(stack) => walk.run(Position {
            frame: X64Frame::of_registers(registers),
            stands: Stands::Interrupted,
            stack,
        }),
        Err(why) => End::Unusable { pointer: VirtAddr(registers.rsp()), why },
    };
    walk.stack
}

/// Where a walk stands: the registers of its last frame, and the stack they stand on.
#[derive(Clone, Copy)]
struct Position<'a> {
    frame: X64Frame,
    stands: Stands,
    stack: &'a StackRange,
}

impl Position<'_> {
    /// The instruction that ran: of a call, not the one it returns to.
    fn running(&self) -> VirtAddr {
        match self.stands {
            Stands::Interrupted => VirtAddr(self.frame.rip),
            Stands::AfterCall => VirtAddr(self.frame.rip).minus(1),
        }
    }
}

struct Walk<'a> {
    sources: &'a Sources<'a>,
    stack: Stack,
    max_frames: usize,
    max_scan: usize,
    stacks: &'a [StackRange],
    /// Per stack: the stack pointer last seen on it.
    reached: Vec<Option<VirtAddr>>,
}

impl<'a> Walk<'a> {
    /// By unwind data as far as it leads, then by search up to a trap frame, and so on.
    fn run(&mut self, mut at: Position<'a>) -> End {
        loop {
            let from = self.stack.frames.len();
            let why = match self.climb(&mut at) {
                Ok(end) => return end,
                Err(why) => why,
            };
            let has_climbed = self.stack.frames.len() > from;
            self.stack.refused.push(Refused { frame: self.stack.frames.len() - 1, why });
            match self.search(&at, has_climbed || why != Refusal::NoImage) {
                Ok(next) => at = next,
                Err(end) => return end,
            }
        }
    }

    /// Frame by frame by unwind data; an error where it leads no further.
    fn climb(&mut self, at: &mut Position<'a>) -> Result<End, Refusal> {
        let Sources { memory, images, code } = *self.sources;
        while self.stack.frames.len() < self.max_frames {
            let image = images.image_at(at.running()).ok_or(Refusal::NoImage)?;
            let mut caller = unwind_x64(&image, memory, &at.frame, at.stands)?;
            let (rip, rsp) = (VirtAddr(caller.frame.rip), VirtAddr(caller.frame.rsp()));
            if let Some(machine) = caller.interrupted {
                let trap = self.trap_frame_of(&machine, at.stack, &mut caller.frame);
                if machine.is_user() {
                    self.push_interrupted(&caller, &machine, trap);
                    return Ok(End::UserMode);
                }
                at.stack = self.enter(rsp).map_err(|why| Refusal::Unusable { pointer: rsp, why })?;
                self.push_interrupted(&caller, &machine, trap);
                at.stands = Stands::Interrupted;
            } else {
                if rip.0 == 0 {
                    return Ok(End::ThreadStart);
                }
                let is_code = !matches!(code.at(rip), CodeAt::NotCode | CodeAt::Data);
                if !is_code && images.image_at(rip.minus(1)).is_none() {
                    return Err(Refusal::NotCode { slot: caller.slot, value: rip });
                }
                at.stack = self.enter(rsp).map_err(|why| Refusal::Unusable { pointer: rsp, why })?;
                self.push_caller(&caller);
                at.stands = Stands::AfterCall;
            }
            at.frame = caller.frame;
        }
        Ok(End::Limit)
    }

    /// The `KTRAP_FRAME` that ends with a machine frame, if the code that was entered kept one. It holds the
    /// volatile registers, which the unwind data does not restore.
    fn trap_frame_of(
        &self,
        machine: &MachineFrame,
        stack: &StackRange,
        frame: &mut X64Frame,
    ) -> Option<TrapFrame> {
        /// rax, rcx, rdx, r8 to r11.
        const KEPT: [u8; 7] = [0, 1, 2, 8, 9, 10, 11];
        let address = machine.address.minus(trap_frame::RIP);
        let trap = (machine.entered_at <= address)
            .then(|| trap_frame::plausible_at(self.sources.memory, address, self.sources.code, stack))
            .flatten()?;
        for (register, value) in (0..).zip(trap.registers.gpr) {
            if KEPT.contains(&register) {
                frame.set(register, Some(value));
            }
        }
        Some(trap)
    }

    fn push_caller(&mut self, caller: &X64Caller) {
        let rip = VirtAddr(caller.frame.rip);
        let is_call =
            matches!(call_site::x64(self.sources.memory, rip), CallSite::Direct(_) | CallSite::Indirect);
        let known = self.sources.code.function_start(rip).is_some();
        let reasons = [
            (true, Reason::UnwindData),
            (is_call, Reason::CallBytesMatch),
            (known, Reason::InsideKnownFunction),
        ];
        self.stack.frames.push(Frame {
            instruction: rip,
            stack_pointer: VirtAddr(caller.frame.rsp()),
            trust: Trust::Unwind,
            return_slot: Some(caller.slot),
            why: that_hold(reasons),
            gap_before: false,
            registers: Some(Box::new(FrameRegisters::X64(caller.frame))),
        });
    }

    fn push_interrupted(&mut self, caller: &X64Caller, machine: &MachineFrame, trap: Option<TrapFrame>) {
        let mut why = vec![Reason::UnwindData, Reason::MachineFrameAt(machine.address)];
        if let Some(trap) = trap {
            why.push(Reason::TrapFrameAt(trap.address));
            if let Some(entry) = self.stack.frames.last_mut() {
                entry.why.push(Reason::HasTrapFrameAt(trap.address));
            }
            self.stack.trap_frames.push(trap);
        }
        self.stack.frames.push(Frame {
            instruction: VirtAddr(caller.frame.rip),
            stack_pointer: VirtAddr(caller.frame.rsp()),
            trust: Trust::MachineFrame,
            return_slot: None,
            why,
            gap_before: false,
            registers: Some(Box::new(FrameRegisters::X64(caller.frame))),
        });
    }

    /// Adds what a search finds, up to a trap frame that leads to another stack or into an image at hand: there the
    /// walk goes on.
    fn search(&mut self, at: &Position<'a>, gap: bool) -> Result<Position<'a>, End> {
        let Sources { memory, images, code } = *self.sources;
        let (rip, rsp) = (VirtAddr(at.frame.rip), VirtAddr(at.frame.rsp()));
        let standing = match at.stands {
            Stands::Interrupted => Standing::interrupted(rip, rsp, code),
            Stands::AfterCall => Standing::after_call(rip, rsp, code),
        };
        let words = Words::read(memory, rsp, at.stack, self.max_scan);
        self.max_scan = self.max_scan.saturating_sub(words.values.len() * 8);
        let chain = chain::find(&Search { memory, code, stack: at.stack }, &standing, &words.values);
        for (index, step) in chain.iter().enumerate() {
            if !self.push(step, gap && index == 0) {
                return Err(End::Limit);
            }
            let Some(trap) = step.candidate.trap else { continue };
            let leaves = !at.stack.contains(trap.rsp());
            if leaves && trap.is_user() {
                return Err(End::UserMode);
            }
            if leaves || images.image_at(trap.rip()).is_some() {
                let stack =
                    self.enter(trap.rsp()).map_err(|why| End::Unusable { pointer: trap.rsp(), why })?;
                return Ok(Position { frame: of_trap(&trap), stands: Stands::Interrupted, stack });
            }
        }
        Err(words.end(!chain.is_empty()))
    }

    /// Adds what a step of a chain shows; false when there is no room for it.
    fn push(&mut self, step: &Step, gap: bool) -> bool {
        if self.stack.frames.len() >= self.max_frames {
            return false;
        }
        let mut frame = frame_of(step);
        frame.gap_before |= gap;
        self.stack.frames.push(frame);
        let Some(trap) = step.candidate.trap else { return true };
        if self.stack.frames.len() >= self.max_frames {
            return false;
        }
        self.stack.trap_frames.push(trap);
        self.stack.frames.push(interrupted_frame(&trap, self.sources.code));
        true
    }

    /// The stack that holds `pointer`. A stack is entered again only above where it was left: that a walk ends does
    /// not depend on what trap frames or unwind data say.
    fn enter(&mut self, pointer: VirtAddr) -> Result<&'a StackRange, UnusableStack> {
        let (range, reached) = self
            .stacks
            .iter()
            .zip(&mut self.reached)
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
}

/// What a trap frame found by search holds. rbx, rsi and rdi are in it only on some paths, so that they cannot be
/// counted on; r12 to r15 never are.
fn of_trap(trap: &TrapFrame) -> X64Frame {
    const KEPT: u16 = 0x0f37;
    X64Frame { known: KEPT, ..X64Frame::of_registers(&trap.registers) }
}

fn that_hold<const N: usize>(reasons: [(bool, Reason); N]) -> Vec<Reason> {
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
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
        why: that_hold(reasons),
        gap_before: step.gap_before,
        registers: None,
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
        registers: None,
    }
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
