//! The x86 walk: by frame data out of PDBs, by the chain of frame pointers that EBP begins, and through the trap frames on
//! it.
//!
//! Where the caller has frame data ([`crate::Images::frame_data`]), it computes the frame; in prologues and epilogues the
//! instructions do, where all of them are understood. Else: a function that keeps a frame pointer stores its caller's at
//! `[ebp]`, below the return address at `[ebp+4]`. One that does not (FPO) is not on the chain: a direct call that goes to
//! another function than the one above shows that, and the frame then says that there is a gap. Where EBP leads nowhere,
//! the chain goes on at the lowest place from which two links lead to code, after a gap. The kernel's trap entries point EBP
//! at their `KTRAP_FRAME`, whose first two words continue the chain, so that what they interrupted is read out of it.

mod frame_data;
mod instructions;

use crate::call_site::{self, CallSite};
use crate::{
    Code, CodeAt, End, Frame, Options, Reason, Sources, Stack, StackRange, Stands, Start, Trust,
    UnusableStack,
};
pub use frame_data::FrameData;
use frame_data::{Caller, Given};
use instructions::{From, WINDOW, Way};
use stopcode_base::{Miss, VirtAddr, X86Registers};

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
    stands: Stands,
    /// What EBP holds, if that is known.
    record: Option<VirtAddr>,
    /// The stack pointer: nothing of the caller lies below it.
    lowest: VirtAddr,
    /// Bytes from there on that are the callee's parameters.
    callee_parameters: u32,
    range: StackRange,
    /// Bytes of stack that may still be searched.
    left: usize,
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
    let ebp = registers.gpr.get(X86Registers::EBP).copied().unwrap_or(0);
    let mut at = Position {
        running: instruction,
        stands: start.stands,
        record: (start.known >> X86Registers::EBP & 1 != 0).then(|| VirtAddr(ebp.into())),
        lowest: pointer,
        callee_parameters: 0,
        range,
        left: options.max_scan_bytes,
    };
    while stack.frames.len() < options.max_frames {
        if let Some(end) = step(&mut at, &mut stack, sources) {
            stack.ended = end;
            return stack;
        }
    }
    stack
}

/// The next frame; the end where there is none.
fn step(at: &mut Position, stack: &mut Stack, sources: &Sources<'_>) -> Option<End> {
    if let Some((frame, caller)) = computed(at, sources) {
        let parameters = frame_data(at, sources).map_or(0, |data| data.parameters);
        at.goes_to(&frame, caller.ebp.map(|ebp| VirtAddr(ebp.into())), parameters);
        stack.frames.push(frame);
        return None;
    }
    let end = match linked(at, stack, sources) {
        Ok(()) => return None,
        Err(end) => end,
    };
    if matches!(end, End::UserMode | End::ThreadStart | End::MemoryMissing(_)) {
        return Some(end);
    }
    // EBP is no frame pointer here.
    let Some(record) = another_chain(at, sources) else { return Some(end) };
    at.record = Some(record);
    let found = stack.frames.len();
    let end = linked(at, stack, sources).err();
    if let Some(frame) = stack.frames.get_mut(found) {
        frame.gap_before = true;
    }
    end
}

impl Position {
    fn goes_to(&mut self, frame: &Frame, record: Option<VirtAddr>, callee_parameters: u32) {
        self.running = frame.instruction;
        self.stands = Stands::AfterCall;
        self.record = record;
        self.lowest = frame.stack_pointer;
        self.callee_parameters = callee_parameters;
    }

    /// The instruction that ran: of a call, not the one it returns to.
    fn ran(&self) -> VirtAddr {
        match self.stands {
            Stands::Interrupted => self.running,
            Stands::AfterCall => self.running.minus(1),
        }
    }
}

fn frame_data<'a>(at: &Position, sources: &Sources<'a>) -> Option<FrameData<'a>> {
    sources.images.frame_data(at.ran())
}

/// The caller by what is known of the function that runs: its first instruction, its epilogue, its prologue, its frame data.
fn computed(at: &Position, sources: &Sources<'_>) -> Option<(Frame, Caller)> {
    let data = frame_data(at, sources);
    let (caller, reason) = if at.stands == Stands::Interrupted && sources.code.at(at.running) == CodeAt::Start
    {
        (along(at, Way { from: From::Esp, slot: 0, ebp: None }, sources)?, Reason::CalleeAtEntry)
    } else if let Some(way) = by_instructions(at, data.as_ref(), sources) {
        (along(at, way, sources)?, Reason::Instructions)
    } else {
        (by_frame_data(at, &data?, sources)?, Reason::UnwindData)
    };
    let (back, pointer) = (VirtAddr(caller.eip.into()), VirtAddr(caller.esp.into()));
    let fits = at.lowest < pointer && at.range.contains(pointer.minus(1)) && pointer.0.is_multiple_of(4);
    if !fits || !is_code(back, sources.code) {
        return None;
    }
    let mut frame = called(pointer.minus(4), back, at, sources);
    // What is computed is believed even if another function was called: that one can have jumped here. What is searched for
    // is not, nor is either where nothing was called.
    if call_site::x86(sources.memory, back) == CallSite::NotCall || caller.searched && frame.gap_before {
        return None;
    }
    frame.gap_before = false;
    frame.why.insert(0, reason);
    frame.trust = match reason {
        Reason::Instructions => Trust::Unwind,
        // Frame data knows no epilogues, and a search is sure only of what a call can be seen to have left.
        Reason::UnwindData
            if !may_be_in_epilog(at, sources) && (!caller.searched || frame.trust == Trust::ScanCall) =>
        {
            Trust::PdbAssisted
        }
        _ => frame.trust,
    };
    Some((frame, caller))
}

fn by_frame_data(at: &Position, data: &FrameData<'_>, sources: &Sources<'_>) -> Option<Caller> {
    // A trap entry's frame is its trap frame, and that says more.
    if in_prolog(at, data) || !data.program.contains(".raSearch") && trap_frame(at, sources).is_some() {
        return None;
    }
    let word = |address: VirtAddr| u32::try_from(address.0).ok();
    let given = Given {
        esp: word(at.lowest)?,
        ebp: at.record.and_then(word),
        callee_parameters: at.callee_parameters,
    };
    frame_data::caller(data, given, sources)
}

/// True of an interrupted function whose instructions cannot be read.
fn may_be_in_epilog(at: &Position, sources: &Sources<'_>) -> bool {
    at.stands == Stands::Interrupted && sources.memory.read_available(at.running, 1).is_empty()
}

/// In a prologue the frame is not complete yet, whatever frame data says.
fn in_prolog(at: &Position, data: &FrameData<'_>) -> bool {
    at.stands == Stands::Interrupted
        && at.running.offset_from(data.start).is_some_and(|offset| offset < u64::from(data.prolog))
}

fn by_instructions(at: &Position, data: Option<&FrameData<'_>>, sources: &Sources<'_>) -> Option<Way> {
    if at.stands != Stands::Interrupted {
        return None;
    }
    let read = |from: VirtAddr, length: usize| sources.memory.read_available(from, length);
    let known = sources.code.function_start(at.running);
    let begins_another =
        |target| known.is_some_and(|own| own != target) && sources.code.at(target) == CodeAt::Start;
    instructions::epilog(&read(at.running, WINDOW), at.running, begins_another).or_else(|| {
        let data = data.filter(|data| in_prolog(at, data))?;
        let start = if data.is_function { data.start } else { known? };
        let length = usize::try_from(at.running.offset_from(start)?).ok().filter(|bytes| *bytes <= WINDOW)?;
        let done = read(start, length);
        (done.len() == length).then(|| instructions::prolog(&done))?
    })
}

/// The registers that the instructions lead to.
fn along(at: &Position, way: Way, sources: &Sources<'_>) -> Option<Caller> {
    let from = match way.from {
        From::Esp => at.lowest,
        From::Ebp => at.record?,
    };
    let place = |offset: i32| VirtAddr(from.0.wrapping_add_signed(offset.into()));
    let word = |offset: i32| sources.memory.read_u32(place(offset)).ok();
    let ebp = match way.ebp {
        Some(offset) => word(offset),
        None => at.record.and_then(|record| u32::try_from(record.0).ok()),
    };
    let esp = u32::try_from(place(way.slot).plus(4).0).ok()?;
    Some(Caller { eip: word(way.slot)?, esp, ebp, searched: false })
}

/// The next frame along the chain of frame pointers; the end where it leads no further.
fn linked(at: &mut Position, stack: &mut Stack, sources: &Sources<'_>) -> Result<(), End> {
    let record = at.record.ok_or(End::NoCandidate)?;
    if record.0 == 0 {
        return Err(End::ThreadStart);
    }
    let unusable = |why| Err(End::Unusable { pointer: record, why });
    if !at.range.contains(record) || !at.range.contains(record.plus(7)) {
        return unusable(UnusableStack::OutOfStack);
    }
    if !record.0.is_multiple_of(4) {
        return unusable(UnusableStack::Unaligned);
    }
    if record < at.lowest {
        return unusable(UnusableStack::NotIncreasing);
    }
    if let Some((frame, next)) = trap_frame(at, sources) {
        let user = frame.stack.is_none();
        at.goes_to(&frame, Some(next), 0);
        at.stands = Stands::Interrupted;
        stack.frames.push(frame);
        return if user { Err(End::UserMode) } else { Ok(()) };
    }
    let (next, back) = link(record, sources).map_err(End::MemoryMissing)?;
    if !is_code(back, sources.code) {
        return Err(End::NoCandidate);
    }
    let parameters = frame_data(at, sources).map_or(0, |data| data.parameters);
    let mut frame = called(record.plus(4), back, at, sources);
    frame.why.insert(0, Reason::FramePointer);
    at.goes_to(&frame, Some(next), parameters);
    stack.frames.push(frame);
    Ok(())
}

/// What a frame pointer points to: the caller's, and the return address.
fn link(record: VirtAddr, sources: &Sources<'_>) -> Result<(VirtAddr, VirtAddr), Miss> {
    let word = |at: VirtAddr| sources.memory.read_u32(at).map(|word| VirtAddr(word.into()));
    Ok((word(record)?, word(record.plus(4))?))
}

/// The lowest place on the stack from which two links lead to code that calls, or one to the end of the chain.
fn another_chain(at: &mut Position, sources: &Sources<'_>) -> Option<VirtAddr> {
    let is_link = |record: VirtAddr| {
        let usable =
            record.0.is_multiple_of(4) && at.range.contains(record) && at.range.contains(record.plus(7));
        let (next, back) = usable.then(|| link(record, sources).ok())??;
        let leads = is_code(back, sources.code)
            && call_site::x86(sources.memory, back) != CallSite::NotCall
            && (next.0 == 0 || next > record);
        leads.then_some(next)
    };
    let mut record = VirtAddr(at.lowest.0.checked_next_multiple_of(4)?);
    while at.left >= 4 && at.range.contains(record) {
        at.left -= 4;
        if is_link(record).is_some_and(|next| next.0 == 0 || is_link(next).is_some()) {
            return Some(record);
        }
        record = record.plus(4);
    }
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
    if let (CallSite::Direct(target), Some(running)) = (call, code.function_start(at.ran())) {
        if target == running {
            why.push(Reason::CallTargetIsCallee);
        } else {
            // What a jump leads to runs in its place.
            gap_before = !call_site::is_jump(memory, target);
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
    let record = at.record.filter(|record| *record >= at.lowest)?;
    let word = |offset: u64| sources.memory.read_u32(record.plus(offset)).ok();
    // The lowest byte holds what the entry stored of the mode before.
    word(MARK).filter(|mark| mark & 0xffff_ff00 == ARGUMENT_MARK)?;
    let (selector, eip) = (word(CS)? & 0xffff, VirtAddr(word(EIP)?.into()));
    let user = selector & 3 == 3;
    if !(user || selector == KERNEL_CODE && is_code(eip, sources.code)) {
        return None;
    }
    let pointer = if user { VirtAddr(word(USER_ESP)?.into()) } else { record.plus(KERNEL_END) };
    let frame = Frame {
        instruction: eip,
        stack_pointer: pointer,
        trust: Trust::TrapFrame,
        return_slot: None,
        why: vec![Reason::TrapFrameAt(record)],
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

    /// The caller called 0x100, which jumped to 0x700: `pop ebp` there is about to undo its frame.
    #[test]
    fn a_function_that_was_jumped_to_has_its_callers_caller() {
        let mut machine = Machine::new();
        let first = machine.call(0x220, 0x100);
        machine.text[0x720..0x722].copy_from_slice(&[0x5d, 0xc3]);
        machine.put(0xe0, &[STACK + 0x200, first]);
        machine.put(0x200, &[0, TEXT + 0x510]);
        let stack = run(&machine, TEXT + 0x720, 0xe0, STACK + 0xe0);
        let frame = &stack.frames[1];
        assert_eq!((frame.instruction.0, frame.trust, frame.gap_before), (first, Trust::Unwind, false));
        assert_eq!(frame.stack_pointer.0, STACK + 0xe8);
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
