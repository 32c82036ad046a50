//! Walks: the exception's stack, the bug check's, the other processors', any thread's.

use crate::core::Core;
use crate::facts::{Context, Processor, Thread};
use crate::modules::images::LoadedImages;
use crate::stacks::ranges::{ThreadStack, ranges, vector_on};
use crate::stacks::stack::{Crossing, Frame, Stack, StackArea, StackKind, Turn};
use stopcode_base::{Arch, Arm64Registers, Fact, Registers, VirtAddr, X64Registers};
use stopcode_unwind::{
    Code, CodeAt, End, Frame as Found, FrameRegisters, Options, Reason, Refusal, Refused, Stack as Walked,
    Stands, Start, UnusableStack, walk_with_images,
};

/// Which stack is walked, and whose it is.
struct Wanted {
    kind: StackKind,
    thread: Option<VirtAddr>,
    processor: Option<u32>,
    prcb: Option<VirtAddr>,
}

pub(crate) fn stacks(
    core: &Core,
    running: &Thread,
    processors: &[Processor],
    context: Option<&Context>,
) -> Vec<Stack> {
    let images = core.images();
    let mut stacks = Vec::new();
    let crashed = processors.iter().find(|processor| processor.crashed);
    let bug_check = bug_check_registers(core, crashed);
    let of_crashed = |kind| Wanted {
        kind,
        thread: running.address.get(),
        processor: crashed.map(|processor| processor.number),
        prcb: crashed.and_then(|processor| processor.prcb),
    };
    if let Some(context) = context
        && bug_check.is_none_or(|registers| registers.stack_pointer() != context.registers.stack_pointer())
    {
        let start = Start { known: context.known, ..Start::from(&context.registers) };
        stacks.push(one(core, &images, &of_crashed(StackKind::Exception), &start));
    }
    if let Some(registers) = bug_check {
        stacks.push(one(core, &images, &of_crashed(StackKind::BugCheck), &(&registers).into()));
    }
    for processor in processors.iter().filter(|processor| !processor.crashed) {
        if let Some(registers) = &processor.registers {
            stacks.push(of_processor(core, &images, processor, registers));
        }
    }
    stacks
}

/// The stack that given registers stand on, with the ranges of the thread and of the processor they are of.
pub(crate) fn of_registers(
    core: &Core,
    processors: &[Processor],
    from: (&Registers, u32),
    owner: (Option<VirtAddr>, Option<u32>),
) -> Stack {
    let (thread, processor) = owner;
    let prcb = processors.iter().find(|p| Some(p.number) == processor).and_then(|p| p.prcb);
    let wanted = Wanted { kind: StackKind::Thread, thread, processor, prcb };
    let (registers, known) = from;
    one(core, &core.images(), &wanted, &Start { known, ..registers.into() })
}

/// General registers of frame `number` of the stack that `registers` stand on, as unwind data gave them back, and which of
/// them are known (bit n: general register n).
pub(crate) fn frame_registers(
    core: &Core,
    processors: &[Processor],
    from: (&Registers, u32),
    owner: (Option<VirtAddr>, Option<u32>),
    number: usize,
) -> Option<(Registers, u32)> {
    let ((registers, known), (thread, processor)) = (from, owner);
    let start = Start { known, ..registers.into() };
    let prcb = processors.iter().find(|p| Some(p.number) == processor).and_then(|p| p.prcb);
    let ranges = ranges(core, thread, prcb, registers.stack_pointer());
    let (images, options) = (core.images(), Options::default());
    let walked = walk_with_images(&start, &images, &images, &core.code, &ranges, &options);
    let held = walked.frames.into_iter().nth(number)?.registers?;
    Some(match *held {
        FrameRegisters::X64(frame) => {
            let registers = X64Registers { rip: frame.rip, gpr: frame.gpr, ..X64Registers::default() };
            (Registers::X64(registers), frame.known.into())
        }
        FrameRegisters::Arm64(frame) => {
            let registers =
                Arm64Registers { pc: frame.pc, sp: frame.sp, x: frame.x, ..Arm64Registers::default() };
            (Registers::Arm64(registers), frame.known)
        }
        _ => return None,
    })
}

fn of_processor(
    core: &Core,
    images: &LoadedImages<'_>,
    processor: &Processor,
    registers: &Registers,
) -> Stack {
    let wanted = Wanted {
        kind: StackKind::Processor,
        thread: processor.thread,
        processor: Some(processor.number),
        prcb: processor.prcb,
    };
    one(core, images, &wanted, &registers.into())
}

/// Any thread's stack: of one that runs by its processor's registers, of another from where it was switched out.
pub(crate) fn of_thread(core: &Core, processors: &[Processor], thread: VirtAddr) -> Fact<Stack> {
    let images = core.images();
    if let Some(processor) = processors.iter().find(|processor| processor.thread == Some(thread)) {
        let Some(registers) = &processor.registers else {
            return Fact::missing(format!(
                "the thread runs on processor {}, whose registers are not in this dump",
                processor.number
            ));
        };
        let mut stack = of_processor(core, &images, processor, registers);
        stack.kind = StackKind::Thread;
        return Fact::known(stack, format!("registers of processor {}", processor.number));
    }
    let Some(stack) = ThreadStack::read(core, thread) else {
        return Fact::missing("the thread, or where its stack lies, is not in this dump");
    };
    let Some(at) = stack.switched_out_at.filter(|at| (stack.limit..stack.base).contains(at)) else {
        return Fact::missing("KTHREAD.KernelStack does not lie in the thread's stack");
    };
    let start = match switched_out(core, at) {
        Ok(start) => start,
        Err(why) => return Fact::missing(why),
    };
    let wanted = Wanted { kind: StackKind::Thread, thread: Some(thread), processor: None, prcb: None };
    let mut stack = one(core, &images, &wanted, &start);
    if let Some(first) = stack.frames.first_mut() {
        let area = first.area;
        first.crossing = Some(Crossing { turn: Turn::SwitchedOut, from: area, to: area, trap_frame: None });
    }
    Fact::known(stack, "KTHREAD.KernelStack")
}

/// Where a thread that was switched out goes on: what its `KSWITCH_FRAME` keeps, the frame pointer and the address
/// that the switch returns to. (x64: 0x40 bytes, Rbp at 30, Return at 38. ARM64: 0x20 bytes, Fp at 10, Return at 18.)
fn switched_out(core: &Core, at: VirtAddr) -> Result<Start, String> {
    let (frame_pointer, back, size) = match core.arch {
        Arch::X64 => (0x30, 0x38, 0x40),
        Arch::Arm64 => (0x10, 0x18, 0x20),
        _ => return Err("threads of this architecture are not walked".to_owned()),
    };
    let read = |offset: u64| {
        core.memory()
            .read_u64(at.plus(offset))
            .map_err(|miss| format!("the stack's memory is missing: {miss}"))
    };
    let (frame_pointer, instruction) = (read(frame_pointer)?, read(back)?);
    if matches!(core.code.at(VirtAddr(instruction)), CodeAt::NotCode | CodeAt::Data | CodeAt::Start) {
        return Err("what lies at KTHREAD.KernelStack is no KSWITCH_FRAME".to_owned());
    }
    let pointer = at.plus(size).0;
    let (registers, known) = if core.arch == Arch::X64 {
        let mut registers = X64Registers { rip: instruction, ..X64Registers::default() };
        registers.gpr[X64Registers::RSP] = pointer;
        registers.gpr[X64Registers::RBP] = frame_pointer;
        (Registers::X64(registers), 1 << X64Registers::RSP | 1 << X64Registers::RBP)
    } else {
        let mut registers = Arm64Registers { pc: instruction, sp: pointer, ..Arm64Registers::default() };
        registers.x[29] = frame_pointer;
        (Registers::Arm64(registers), 1 << 29)
    };
    Ok(Start { registers, known, stands: Stands::AfterCall })
}

/// Registers at the call of KeBugCheckEx: the processor's own context, else the header's, where its stack pointer is where the saved
/// stack begins.
pub(crate) fn bug_check_registers(core: &Core, crashed: Option<&Processor>) -> Option<Registers> {
    let top = core.dump.triage().map(|triage| triage.top_of_stack);
    let fits = |registers: &Registers| top.is_none_or(|top| registers.stack_pointer() == top);
    let own = crashed.and_then(|processor| processor.registers);
    let header = core.dump.header().context;
    own.filter(fits).or_else(|| header.filter(fits)).or(own).or(header)
}

fn one(core: &Core, images: &LoadedImages<'_>, wanted: &Wanted, start: &Start) -> Stack {
    let ranges = ranges(core, wanted.thread, wanted.prcb, start.registers.stack_pointer());
    let walked = walk_with_images(start, images, images, &core.code, &ranges, &Options::default());
    let mut frames: Vec<Frame> = Vec::with_capacity(walked.frames.len());
    for (index, found) in walked.frames.iter().enumerate() {
        // A return address may stand one past the end of its function: its call is what names it.
        let called = if index == 0 { start.stands == Stands::AfterCall } else { !is_exact(found) };
        let mut place = core.place(if called { found.instruction.minus(1) } else { found.instruction });
        if called && place.image.is_some() {
            place.offset += 1;
        }
        let mut crossing = frames.last().and_then(|above| crossing(core.arch, above, found));
        if let Some(crossing) = crossing.as_mut().filter(|crossing| crossing.turn == Turn::Trap)
            && let (Some(prcb), Some(StackArea::Ist(entry))) = (wanted.prcb, crossing.from)
            && let Some(vector) = vector_on(core, prcb, entry)
        {
            crossing.turn = Turn::of_vector(vector);
        }
        let trap_frame = found.why.iter().find_map(|reason| match reason {
            Reason::HasTrapFrameAt(address) => Some(*address),
            _ => None,
        });
        frames.push(Frame {
            instruction: found.instruction,
            stack_pointer: found.stack_pointer,
            place,
            return_slot: found.return_slot,
            trust: found.trust,
            gap_before: found.gap_before,
            area: found.stack,
            crossing,
            trap_frame,
        });
    }
    Stack {
        kind: wanted.kind,
        thread: wanted.thread,
        processor: wanted.processor,
        ended: ended(core.arch, &walked.ended),
        refused: refusals(&walked, &frames),
        frames,
    }
}

/// Where unwind data led no further, in words. That there are no images at all, as with a small dump, is no news of
/// any one frame.
fn refusals(walked: &Walked, frames: &[Frame]) -> Vec<(usize, String)> {
    let unwound = walked.frames.iter().any(|frame| frame.why.contains(&Reason::UnwindData));
    let words = |refused: &Refused| {
        let image = frames.get(refused.frame).and_then(|frame| frame.place.image.as_deref());
        match (refused.why, image) {
            (Refusal::NoImage, _) if !unwound => None,
            (Refusal::NoImage, Some(image)) => Some(format!("no image of {image} is at hand")),
            (why, _) => Some(why.to_string()),
        }
    };
    walked.refused.iter().filter_map(|refused| Some((refused.frame, words(refused)?))).collect()
}

/// What happened between a frame and the one above it, if that was no plain call.
fn crossing(arch: Arch, above: &Frame, found: &Found) -> Option<Crossing> {
    let turn = if is_exact(found) {
        let entry = above.place.symbol.as_deref().filter(|_| above.place.display.as_deref() == Some("nt"));
        match entry.map_or(Turn::Trap, Turn::of_entry) {
            Turn::Trap if arch.is_user(found.instruction) => Turn::UserMode,
            turn => turn,
        }
    } else if above.area.zip(found.stack).is_some_and(|(from, to)| from != to) {
        Turn::StackSwitch
    } else {
        return None;
    };
    let trap_frame = found.why.iter().find_map(|reason| match reason {
        Reason::TrapFrameAt(address) => Some(*address),
        _ => None,
    });
    Some(Crossing { turn, from: above.area, to: found.stack, trap_frame })
}

/// The instruction is where the processor stood, not where a call returns to.
fn is_exact(found: &Found) -> bool {
    found.why.iter().any(|reason| {
        matches!(reason, Reason::ContextRecord | Reason::TrapFrameAt(_) | Reason::MachineFrameAt(_))
    })
}

fn ended(arch: Arch, end: &End) -> String {
    match end {
        End::ThreadStart => "the thread starts here".to_owned(),
        End::StackBase => "the stack was read to its end".to_owned(),
        End::UserMode => "user mode begins here".to_owned(),
        End::Unusable { pointer, why } => {
            let why = match why {
                UnusableStack::OutOfStack => "lies outside every known stack",
                UnusableStack::Unaligned => "is not aligned",
                UnusableStack::NotIncreasing => "does not lead upwards",
            };
            format!("the pointer {} {why}", arch.windbg(*pointer))
        }
        End::MemoryMissing(miss) => format!("the stack's memory is missing: {miss}"),
        End::NoFramePointer => "the frame pointer is not known".to_owned(),
        End::NoCandidate => "nothing further up looks like a return address".to_owned(),
        End::Limit => "the walk was cut off at its limit".to_owned(),
        End::UnsupportedArchitecture => "stacks of this architecture are not walked yet".to_owned(),
        _ => "the walk ended".to_owned(),
    }
}
