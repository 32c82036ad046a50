//! The x64 walk: by unwind data as far as images are at hand, else by one chain per stack, from stack to stack
//! through trap frames.

mod epilog;
mod frame;
mod function;
mod function_table;
mod packed_rule;
mod rule;
mod rules;
mod step;
mod unwind_info;

pub use frame::{MachineFrame, X64Caller, X64Frame};
pub use rules::X64Rules;
pub use step::unwind_x64;

use crate::call_site::{self, CallSite};
use crate::candidate::{Search, Standing};
use crate::chain::{self, Step};
use crate::trap_frame::{self, TrapFrame};
use crate::{
    Code, CodeAt, End, Frame, FrameRegisters, Options, Reason, Refusal, Refused, Sources, Stack, StackKind,
    StackRange, Stands, Start, Trust, UnusableStack,
};
use stopcode_base::{Memory, Miss, VirtAddr, X64Registers};

pub(crate) fn walk(
    registers: &X64Registers,
    start: &Start,
    sources: &Sources<'_>,
    stacks: &[StackRange],
    options: &Options,
) -> Stack {
    let rsp = VirtAddr(registers.rsp());
    let first = Frame::of_context(VirtAddr(registers.rip), rsp, StackRange::kind_at(stacks, rsp));
    let mut walk = Walk {
        sources,
        stack: Stack::starting(first, End::Limit),
        max_frames: options.max_frames,
        max_scan: options.max_scan_bytes,
        stacks,
        reached: vec![None; stacks.len()],
        has_searched: false,
    };
    let mut frame = X64Frame::of_registers(registers);
    frame.known &= start.known as u16 | 1 << X64Registers::RSP;
    walk.stack.ended = match walk.enter(rsp) {
        Ok(stack) => walk.run(Position { frame, stands: start.stands, stack }),
        Err(why) => End::Unusable { pointer: rsp, why },
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
    /// What unwind data leads to rests on a frame that was searched for.
    has_searched: bool,
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
            let was_searched = self.stack.frames.last().is_some_and(|frame| !frame.trust.is_high());
            self.stack.refused.push(Refused { frame: self.stack.frames.len() - 1, why });
            match self.search(&at, has_climbed || (why != Refusal::NoImage && !was_searched)) {
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
            let mut caller = match images.rules() {
                Some(rules) => rules.unwind(&image, memory, &at.frame, at.stands)?,
                None => unwind_x64(&image, memory, &at.frame, at.stands)?,
            };
            let (rip, rsp) = (VirtAddr(caller.frame.rip), VirtAddr(caller.frame.rsp()));
            if let Some(machine) = caller.interrupted {
                let trap = self.trap_frame_of(&machine, at.stack, &mut caller.frame);
                if machine.is_user() {
                    self.push_interrupted(&caller, &machine, trap, None);
                    return Ok(End::UserMode);
                }
                at.stack = self.enter(rsp).map_err(|why| Refusal::Unusable { pointer: rsp, why })?;
                self.push_interrupted(&caller, &machine, trap, Some(at.stack.kind));
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
                self.push_caller(&caller, at.stack.kind);
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

    fn push_caller(&mut self, caller: &X64Caller, stack: StackKind) {
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
            trust: if self.has_searched { Trust::UnwindFromScan } else { Trust::Unwind },
            return_slot: Some(caller.slot),
            why: that_hold(reasons),
            gap_before: false,
            registers: Some(Box::new(FrameRegisters::X64(caller.frame))),
            stack: Some(stack),
        });
    }

    fn push_interrupted(
        &mut self,
        caller: &X64Caller,
        machine: &MachineFrame,
        trap: Option<TrapFrame>,
        stack: Option<StackKind>,
    ) {
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
            trust: if self.has_searched { Trust::UnwindFromScan } else { Trust::MachineFrame },
            return_slot: None,
            why,
            gap_before: false,
            registers: Some(Box::new(FrameRegisters::X64(caller.frame))),
            stack,
        });
    }

    /// Adds what a search finds, up to what leads into an image at hand, or a trap frame to another stack: there the
    /// walk goes on.
    fn search(&mut self, at: &Position<'a>, gap: bool) -> Result<Position<'a>, End> {
        let Sources { memory, images, code } = *self.sources;
        let (rip, rsp) = (VirtAddr(at.frame.rip), VirtAddr(at.frame.rsp()));
        let mut words = Words::read(memory, rsp, at.stack, self.max_scan);
        let mut gap = gap;
        let standing = match (at.stands, words.beyond_the_end(at.stack)) {
            // What the function keeps below the end of the stack is not there to be searched.
            (_, Some(first)) => {
                words = Words::read(memory, first, at.stack, self.max_scan);
                gap = true;
                Standing::interrupted(rip, first, code)
            }
            (Stands::Interrupted, None) => Standing::interrupted(rip, rsp, code),
            (Stands::AfterCall, None) => Standing::after_call(rip, rsp, code),
        };
        let read = words.values.len() * 8;
        self.max_scan = self.max_scan.saturating_sub(read);
        let chain = chain::find(&Search { memory, code, stack: at.stack }, &standing, &words.values);
        for (index, step) in chain.iter().enumerate() {
            if !self.push(step, gap && index == 0, at.stack.kind) {
                return Err(End::Limit);
            }
            let found = &step.candidate;
            let Some(trap) = found.trap else {
                // Its function's own data knows better than a search where its caller is.
                if images.image_at(found.value.minus(1)).is_some()
                    && let Ok(stack) = self.enter(found.slot.plus(8))
                {
                    self.has_searched = true;
                    // What lies further up is read again by the next search, if one is needed.
                    let used = found.slot.offset_from(rsp).map_or(read, |used| used as usize);
                    self.max_scan += read.saturating_sub(used.saturating_add(DEAREST));
                    return Ok(Position {
                        frame: of_return(found.value, found.slot),
                        stands: Stands::AfterCall,
                        stack,
                    });
                }
                continue;
            };
            let leaves = !at.stack.contains(trap.rsp());
            if leaves && trap.is_user() {
                return Err(End::UserMode);
            }
            if leaves || images.image_at(trap.rip()).is_some() {
                let stack =
                    self.enter(trap.rsp()).map_err(|why| End::Unusable { pointer: trap.rsp(), why })?;
                self.has_searched = false;
                return Ok(Position { frame: of_trap(&trap), stands: Stands::Interrupted, stack });
            }
        }
        Err(words.end(!chain.is_empty()))
    }

    /// Adds what a step of a chain shows; false when there is no room for it.
    fn push(&mut self, step: &Step, gap: bool, stack: StackKind) -> bool {
        if self.stack.frames.len() >= self.max_frames {
            return false;
        }
        let mut frame = frame_of(step, stack);
        frame.gap_before |= gap;
        self.stack.frames.push(frame);
        let Some(trap) = step.candidate.trap else { return true };
        if self.stack.frames.len() >= self.max_frames {
            return false;
        }
        self.stack.trap_frames.push(trap);
        let stack = StackRange::kind_at(self.stacks, trap.rsp());
        self.stack.frames.push(interrupted_frame(&trap, self.sources.code, stack));
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

/// What is known where a call returns to.
fn of_return(rip: VirtAddr, slot: VirtAddr) -> X64Frame {
    let mut frame = X64Frame { rip: rip.0, ..X64Frame::default() };
    frame.set(X64Registers::RSP as u8, Some(slot.plus(8).0));
    frame
}

fn that_hold<const N: usize>(reasons: [(bool, Reason); N]) -> Vec<Reason> {
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

fn frame_of(step: &Step, stack: StackKind) -> Frame {
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
        stack: Some(stack),
    }
}

fn interrupted_frame(trap: &TrapFrame, code: &dyn Code, stack: Option<StackKind>) -> Frame {
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
        stack,
    }
}

/// What a search costs at the least, in bytes read: how many there can be is bounded by that.
const DEAREST: usize = 0x800;

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

    /// Of a stack that ran out: the pointer lies in the guard page, where no memory is. The first word behind it, if
    /// it belongs to the stack.
    fn beyond_the_end(&self, range: &StackRange) -> Option<VirtAddr> {
        const PAGE: u64 = 0x1000;
        let miss = self.missing.filter(|_| self.values.is_empty())?;
        let first = miss.at.page().plus(PAGE);
        range.contains(first).then_some(first)
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
