//! Walks: the exception's stack, the bug check's, the other processors'.

use crate::core::Core;
use crate::facts::{Context, Processor, Thread};
use crate::stack::{Frame, Stack, StackKind};
use stopcode_base::{Registers, VirtAddr, X64Registers};
use stopcode_unwind::{End, Options, StackKind as Area, StackRange, Trust, UnusableStack, walk};

/// A kernel stack, expanded or of a DPC, is not larger than this (72 KiB, WDK).
pub(crate) const LARGEST_STACK: u64 = 0x1_2000;

pub(crate) fn stacks(
    core: &Core,
    running: &Thread,
    processors: &[Processor],
    context: Option<&Context>,
) -> Vec<Stack> {
    let mut stacks = Vec::new();
    let walk_one = |kind, registers: &Registers, thread, processor| {
        one(core, running, kind, registers, thread, processor)
    };
    let crashed = processors.iter().find(|processor| processor.crashed);
    let bug_check = bug_check_registers(core, crashed);
    let thread = running.address.get();
    let number = crashed.map(|processor| processor.number);
    if let Some(context) = context
        && bug_check.is_none_or(|registers| registers.stack_pointer() != context.registers.stack_pointer())
    {
        stacks.push(walk_one(StackKind::Exception, &context.registers, thread, number));
    }
    if let Some(registers) = bug_check {
        stacks.push(walk_one(StackKind::BugCheck, &registers, thread, number));
    }
    for processor in processors.iter().filter(|processor| !processor.crashed) {
        if let Some(registers) = &processor.registers {
            stacks.push(walk_one(StackKind::Processor, registers, processor.thread, Some(processor.number)));
        }
    }
    stacks
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

/// Walks one stack.
pub(crate) fn one(
    core: &Core,
    running: &Thread,
    kind: StackKind,
    registers: &Registers,
    thread: Option<VirtAddr>,
    processor: Option<u32>,
) -> Stack {
    let spent = below_the_stack(core, running, registers);
    let start = spent.as_ref().unwrap_or(registers);
    let ranges = ranges(core, running, start.stack_pointer());
    let walked = walk(start, core.memory(), &core.code, &ranges, &Options::default());
    let frames = walked
        .frames
        .iter()
        .enumerate()
        .map(|(index, frame)| {
            // A return address may stand one past the end of its function: its call is what names it.
            let called = index > 0 && !is_exact(frame.trust);
            let mut place = core.place(if called { frame.instruction.minus(1) } else { frame.instruction });
            if called && place.image.is_some() {
                place.offset += 1;
            }
            Frame {
                instruction: frame.instruction,
                stack_pointer: if index == 0 { registers.stack_pointer() } else { frame.stack_pointer },
                place,
                trust: frame.trust,
                // What the innermost frame had below the stack's end is not there to be searched.
                gap_before: frame.gap_before || index == 1 && spent.is_some(),
            }
        })
        .collect();
    Stack { kind, thread, processor, frames, ended: ended(&walked.ended) }
}

/// A stack that ran out: the pointer lies in the guard page, where no memory is. The frames above it begin at the stack's
/// lowest address, and that is where the walk can start.
fn below_the_stack(core: &Core, running: &Thread, registers: &Registers) -> Option<Registers> {
    const PAGE: u64 = 0x1000;
    let pointer = registers.stack_pointer();
    let limit = running.stack_limit.get()?;
    let inside_guard = pointer < limit && limit.0 - pointer.0 <= PAGE;
    if !inside_guard || core.memory().read_u8(pointer).is_ok() {
        return None;
    }
    match *registers {
        Registers::X64(mut registers) => {
            registers.gpr[X64Registers::RSP] = limit.0;
            Some(Registers::X64(registers))
        }
        _ => None,
    }
}

/// The instruction is where the processor stood, not where a call returns to.
const fn is_exact(trust: Trust) -> bool {
    matches!(trust, Trust::Context | Trust::TrapFrame | Trust::MachineFrame)
}

fn ended(end: &End) -> String {
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
            format!("the pointer {} {why}", pointer.windbg())
        }
        End::MemoryMissing(miss) => format!("the stack's memory is missing: {miss}"),
        End::NoCandidate => "nothing further up looks like a return address".to_owned(),
        End::Limit => "the walk was cut off at its limit".to_owned(),
        End::UnsupportedArchitecture => "stacks of this architecture are not walked yet".to_owned(),
        _ => "the walk ended".to_owned(),
    }
}

/// The stacks that a walk from `pointer` may enter: the thread's by its limits, what a small dump saved of
/// another, and around the pointer itself where nothing better is known.
fn ranges(core: &Core, running: &Thread, pointer: VirtAddr) -> Vec<StackRange> {
    let mut ranges = Vec::new();
    if let (Some(low), Some(high)) = (running.stack_limit.get(), running.stack_base.get())
        && low < high
        && high.0 - low.0 <= 16 * LARGEST_STACK
    {
        ranges.push(StackRange { low, high, kind: Area::Thread });
    }
    if let Some(triage) = core.dump.triage() {
        let high = triage.top_of_stack.plus(triage.call_stack.len() as u64);
        let known = ranges.iter().any(|range| range.low <= triage.top_of_stack && high <= range.high);
        if !known && high > triage.top_of_stack {
            ranges.push(StackRange { low: triage.top_of_stack.page(), high, kind: Area::Other });
        }
    }
    if !ranges.iter().any(|range| range.low <= pointer && pointer < range.high) && pointer.is_kernel() {
        ranges.push(StackRange {
            low: pointer.page(),
            high: pointer.page().plus(LARGEST_STACK),
            kind: Area::Other,
        });
    }
    ranges
}
