//! The x86 walk: the chain of frame pointers that EBP begins, and the trap frames on it.
//!
//! A function that keeps a frame pointer stores its caller's at `[ebp]`, below the return address at `[ebp+4]`. One that
//! does not (FPO) is not on the chain: a direct call that goes to another function than the one above shows that, and
//! the frame then says that there is a gap. The kernel's trap entries point EBP at their `KTRAP_FRAME`, whose first two
//! words continue the chain, so that what they interrupted is read out of it.

use crate::call_site::{self, CallSite};
use crate::{
    Code, CodeAt, End, Frame, Options, Reason, Sources, Stack, StackRange, Stands, Start, Trust,
    UnusableStack,
};
use stopcode_base::{VirtAddr, X86Registers};

/// `KTRAP_FRAME` of x86, the same from XP to 10: the word by which debuggers know one, and what is read of it.
const ARGUMENT_MARK: u32 = 0xbadb_0d00;
const MARK: u64 = 8;
const EBP: u64 = 0x60;
const EIP: u64 = 0x68;
const CS: u64 = 0x6c;
/// Where the frame ends if no change of privilege made the processor push a stack pointer.
const KERNEL_END: u64 = 0x74;
const USER_ESP: u64 = 0x74;
/// The kernel's code selector.
const KERNEL_CODE: u32 = 8;

/// Where a walk stands: the function that runs, and the pointer that leads to its caller.
struct Position {
    running: VirtAddr,
    record: VirtAddr,
    lowest: VirtAddr,
    range: StackRange,
}

/// Along the chain from the registers on.
pub(crate) fn walk(
    registers: &X86Registers,
    start: &Start,
    sources: &Sources<'_>,
    stacks: &[StackRange],
    options: &Options,
) -> Stack {
    let (instruction, pointer) = (VirtAddr(registers.eip.into()), VirtAddr(registers.esp().into()));
    let range = stacks.iter().find(|range| range.contains(pointer)).copied();
    let first = Frame::of_context(instruction, pointer, range.map(|range| range.kind));
    let mut stack = Stack::starting(first, End::Limit);
    let Some(range) = range else {
        stack.ended = End::Unusable { pointer, why: UnusableStack::OutOfStack };
        return stack;
    };
    if start.known >> X86Registers::EBP & 1 == 0 {
        stack.ended = End::NoCandidate;
        return stack;
    }
    let record = VirtAddr(registers.gpr.get(X86Registers::EBP).copied().unwrap_or(0).into());
    let mut at = Position { running: instruction, record, lowest: pointer, range };
    if start.stands == Stands::Interrupted && sources.code.at(instruction) == CodeAt::Start {
        at_entry(&mut at, &mut stack, sources);
    }
    while stack.frames.len() < options.max_frames {
        if let Some(end) = step(&mut at, &mut stack, sources) {
            stack.ended = end;
            return stack;
        }
    }
    stack
}

/// On the first instruction of a function nothing was pushed yet: its caller is at the stack pointer.
fn at_entry(at: &mut Position, stack: &mut Stack, sources: &Sources<'_>) {
    let slot = at.lowest;
    let Ok(back) = sources.memory.read_u32(slot) else { return };
    let back = VirtAddr(back.into());
    if is_code(back, sources.code) {
        let mut frame = called(slot, back, at, sources);
        frame.why.insert(0, Reason::CalleeAtEntry);
        stack.frames.push(frame);
        at.running = back;
        at.lowest = slot.plus(4);
    }
}

/// The next frame; the end where there is none.
fn step(at: &mut Position, stack: &mut Stack, sources: &Sources<'_>) -> Option<End> {
    if at.record.0 == 0 {
        return Some(End::ThreadStart);
    }
    let unusable = |why| Some(End::Unusable { pointer: at.record, why });
    if !at.range.contains(at.record) || !at.range.contains(at.record.plus(7)) {
        return unusable(UnusableStack::OutOfStack);
    }
    if at.record.0 & 3 != 0 {
        return unusable(UnusableStack::Unaligned);
    }
    if at.record < at.lowest {
        return unusable(UnusableStack::NotIncreasing);
    }
    if let Some((frame, next)) = trap_frame(at, sources) {
        let user = frame.stack.is_none();
        (at.running, at.lowest, at.record) = (frame.instruction, frame.stack_pointer, next);
        stack.frames.push(frame);
        return user.then_some(End::UserMode);
    }
    let (next, back) = match (sources.memory.read_u32(at.record), sources.memory.read_u32(at.record.plus(4)))
    {
        (Ok(next), Ok(back)) => (VirtAddr(next.into()), VirtAddr(back.into())),
        (Err(miss), _) | (_, Err(miss)) => return Some(End::MemoryMissing(miss)),
    };
    if !is_code(back, sources.code) {
        return Some(End::NoCandidate);
    }
    let mut frame = called(at.record.plus(4), back, at, sources);
    frame.why.insert(0, Reason::FramePointer);
    stack.frames.push(frame);
    (at.running, at.lowest, at.record) = (back, at.record.plus(8), next);
    None
}

/// The frame that the return address in `slot` leads to.
fn called(slot: VirtAddr, back: VirtAddr, at: &Position, sources: &Sources<'_>) -> Frame {
    let Sources { memory, code, .. } = *sources;
    let call = call_site::x86(memory, back);
    let is_call = matches!(call, CallSite::Direct(_) | CallSite::Indirect);
    let mut why = Vec::new();
    let mut gap_before = call == CallSite::NotCall;
    if is_call {
        why.push(Reason::CallBytesMatch);
    }
    if let (CallSite::Direct(target), Some(running)) = (call, code.function_start(at.running)) {
        if target == running {
            why.push(Reason::CallTargetIsCallee);
        } else {
            gap_before = true;
        }
    }
    if code.function_start(back).is_some() {
        why.push(Reason::InsideKnownFunction);
    }
    Frame {
        instruction: back,
        stack_pointer: slot.plus(4),
        trust: if is_call { Trust::ScanCall } else { Trust::Scan },
        return_slot: Some(slot),
        why,
        gap_before,
        registers: None,
        stack: Some(at.range.kind),
    }
}

/// What was interrupted, if the chain has come to a trap frame, and the frame pointer there. Of user mode the frame has
/// no stack.
fn trap_frame(at: &Position, sources: &Sources<'_>) -> Option<(Frame, VirtAddr)> {
    let word = |offset: u64| sources.memory.read_u32(at.record.plus(offset)).ok();
    // The lowest byte holds what the entry stored of the mode before.
    word(MARK).filter(|mark| mark & 0xffff_ff00 == ARGUMENT_MARK)?;
    let (selector, eip) = (word(CS)? & 0xffff, VirtAddr(word(EIP)?.into()));
    let user = selector & 3 == 3;
    if !(user || selector == KERNEL_CODE && is_code(eip, sources.code)) {
        return None;
    }
    let pointer = if user { VirtAddr(word(USER_ESP)?.into()) } else { at.record.plus(KERNEL_END) };
    let frame = Frame {
        instruction: eip,
        stack_pointer: pointer,
        trust: Trust::TrapFrame,
        return_slot: None,
        why: vec![Reason::TrapFrameAt(at.record)],
        gap_before: false,
        registers: None,
        stack: (!user).then_some(at.range.kind),
    };
    Some((frame, VirtAddr(word(EBP)?.into())))
}

fn is_code(address: VirtAddr, code: &dyn Code) -> bool {
    !matches!(code.at(address), CodeAt::NotCode | CodeAt::Data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StackKind, walk};
    use stopcode_base::{Memory, MissReason, Registers};

    const STACK: u64 = 0x9000_0000;
    const TEXT: u64 = 0x8260_0000;

    /// A stack and a page of code whose functions begin every 0x100 bytes.
    struct Machine {
        stack: Vec<u8>,
        text: Vec<u8>,
    }

    impl Machine {
        fn new() -> Self {
            Self { stack: vec![0; 0x1000], text: vec![0x90; 0x1000] }
        }

        fn put(&mut self, at: usize, words: &[u64]) {
            for (n, word) in words.iter().enumerate() {
                self.stack[at + 4 * n..at + 4 * n + 4].copy_from_slice(&(*word as u32).to_le_bytes());
            }
        }

        /// A call of `target` that returns to `back`.
        fn call(&mut self, back: usize, target: i32) -> u64 {
            self.text[back - 5] = 0xe8;
            self.text[back - 4..back].copy_from_slice(&(target - back as i32).to_le_bytes());
            TEXT + back as u64
        }
    }

    impl Memory for Machine {
        fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
            let (base, bytes) = if at.0 >= STACK { (STACK, &self.stack) } else { (TEXT, &self.text) };
            stopcode_base::SliceMemory { base: VirtAddr(base), bytes }.read_some(at, buffer)
        }
    }

    impl Code for Machine {
        fn at(&self, address: VirtAddr) -> CodeAt {
            match address.0.checked_sub(TEXT) {
                Some(offset) if offset < 0x1000 && offset.is_multiple_of(0x100) => CodeAt::Start,
                Some(offset) if offset < 0x1000 => {
                    CodeAt::Function { offset: offset & 0xff, size: Some(0x100) }
                }
                _ => CodeAt::NotCode,
            }
        }
    }

    fn run(machine: &Machine, eip: u64, esp: usize, ebp: u64) -> Stack {
        let mut registers = X86Registers { eip: eip as u32, ..X86Registers::default() };
        registers.gpr[X86Registers::ESP] = STACK as u32 + esp as u32;
        registers.gpr[X86Registers::EBP] = ebp as u32;
        let range =
            StackRange { low: VirtAddr(STACK), high: VirtAddr(STACK + 0x1000), kind: StackKind::Thread };
        walk(&Registers::X86(registers), machine, machine, &[range], &Options::default())
    }

    #[test]
    fn a_chain_is_followed_to_the_threads_start() {
        let mut machine = Machine::new();
        let first = machine.call(0x220, 0x100);
        let second = machine.call(0x340, 0x200);
        machine.put(0x100, &[STACK + 0x140, first]);
        machine.put(0x140, &[0, second]);
        let stack = run(&machine, TEXT + 0x110, 0xe0, STACK + 0x100);
        let at: Vec<u64> = stack.frames.iter().map(|frame| frame.instruction.0).collect();
        assert_eq!((at, stack.ended), (vec![TEXT + 0x110, first, second], End::ThreadStart));
        let frame = &stack.frames[1];
        assert_eq!((frame.trust, frame.gap_before), (Trust::ScanCall, false));
        assert_eq!(
            (frame.stack_pointer, frame.return_slot),
            (VirtAddr(STACK + 0x108), Some(VirtAddr(STACK + 0x104)))
        );
        assert!(frame.why.contains(&Reason::CallTargetIsCallee));
    }

    #[test]
    fn a_function_without_a_frame_pointer_leaves_a_gap() {
        let mut machine = Machine::new();
        let first = machine.call(0x220, 0x700);
        machine.put(0x100, &[0, first]);
        let stack = run(&machine, TEXT + 0x110, 0xe0, STACK + 0x100);
        assert!(stack.frames[1].gap_before);
    }

    #[test]
    fn at_its_first_instruction_a_function_has_its_caller_at_esp() {
        let mut machine = Machine::new();
        let first = machine.call(0x220, 0x100);
        let second = machine.call(0x340, 0x200);
        machine.put(0xe0, &[first]);
        machine.put(0x140, &[0, second]);
        let stack = run(&machine, TEXT + 0x100, 0xe0, STACK + 0x140);
        let at: Vec<u64> = stack.frames.iter().map(|frame| frame.instruction.0).collect();
        assert_eq!(at, [TEXT + 0x100, first, second]);
        assert!(stack.frames.iter().all(|frame| !frame.gap_before));
    }

    #[test]
    fn trap_frames_lead_to_what_they_interrupted() {
        let mut machine = Machine::new();
        let deepest = machine.call(0x220, 0x500);
        machine.put(0x200, &[STACK + 0x300, TEXT + 0x510, u64::from(ARGUMENT_MARK)]);
        machine.put(0x200 + 0x60, &[STACK + 0x300, 2, TEXT + 0x510, 8, 0x246]);
        machine.put(0x300, &[STACK + 0x400, deepest]);
        machine.put(0x400, &[0, 0x1234, u64::from(ARGUMENT_MARK)]);
        machine.put(0x400 + 0x60, &[0, 0, 0x7700_1000, 0x1b, 0x246, 0x12_ff00, 0x23]);
        let stack = run(&machine, TEXT + 0x910, 0x180, STACK + 0x200);
        let at: Vec<_> = stack.frames.iter().map(|frame| (frame.instruction.0, frame.trust)).collect();
        assert_eq!(
            at[1..],
            [(TEXT + 0x510, Trust::TrapFrame), (deepest, Trust::ScanCall), (0x7700_1000, Trust::TrapFrame),]
        );
        assert_eq!((stack.frames[1].stack_pointer.0, stack.ended), (STACK + 0x274, End::UserMode));
    }

    #[test]
    fn a_chain_that_turns_back_or_leaves_ends_with_the_reason() {
        let mut machine = Machine::new();
        machine.put(0x100, &[STACK + 0x100, TEXT + 0x220]);
        let unusable = |pointer: u64, why| End::Unusable { pointer: VirtAddr(pointer), why };
        let ended = |ebp| run(&machine, TEXT + 0x110, 0xe0, ebp).ended;
        assert_eq!(ended(STACK + 0x100), unusable(STACK + 0x100, UnusableStack::NotIncreasing));
        assert_eq!(ended(STACK + 0x102), unusable(STACK + 0x102, UnusableStack::Unaligned));
        assert_eq!(ended(STACK + 0xffc), unusable(STACK + 0xffc, UnusableStack::OutOfStack));
        assert_eq!(ended(STACK + 0x200), End::NoCandidate);
    }
}
