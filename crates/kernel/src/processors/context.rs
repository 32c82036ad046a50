//! The right context. The dump header of a bug check shows the call of KeBugCheckEx; what happened before stands where
//! the arguments point: an exception record, a context record, a trap frame, or the trap frame whose instruction
//! pointer an argument names.

use crate::core::Core;
use crate::facts::{Context, Exception};
use crate::identity::STATUS_BREAKPOINT;
use crate::processors::all;
use crate::processors::current;
use crate::processors::trap::{self, Trapped};
use crate::stacks::ranges::LARGEST_STACK;
use crate::threads::crashing;
use stopcode_base::{Arch, Fact, Registers, VirtAddr};
use stopcode_dump::{ExceptionRecord, context as record};
use stopcode_knowledge::{ParamKind, base_code, bug_check};
use stopcode_unwind::{StackKind, StackRange};

/// The context to judge, in this order: a context record or trap frame that an argument points to, a trap frame on
/// the saved stack whose instruction pointer an argument names, the header's context.
pub(crate) fn context(core: &Core, own: impl FnOnce() -> Option<Registers>) -> Fact<Context> {
    from_arguments(core).or_else(|| from_stack(core)).or_else(|| from_header(core, own)).map_or_else(
        || Fact::missing("neither arguments nor header of this dump give registers"),
        |context| {
            let origin = context.origin.clone();
            Fact::known(context, origin)
        },
    )
}

/// Arguments of one kind, with their numbers.
fn arguments(core: &Core, wanted: ParamKind) -> Vec<(usize, u64)> {
    let stop = core.stop();
    let Some(known) = bug_check(base_code(stop.code).base) else { return Vec::new() };
    let of_kind = known.arguments(&stop.arguments).map(|meaning| meaning.kind == wanted);
    let numbered = stop.arguments.into_iter().enumerate().map(|(index, value)| (index + 1, value));
    numbered.zip(of_kind).filter_map(|(argument, fits)| fits.then_some(argument)).collect()
}

fn from_arguments(core: &Core) -> Option<Context> {
    for (number, at) in arguments(core, ParamKind::ContextPtr) {
        if let Ok(Some((registers, flags))) = record::read(core.memory(), core.arch, VirtAddr(at))
            && flags != 0
        {
            return Some(Context {
                registers,
                known: u32::MAX,
                origin: format!("context record at Arg{number}"),
                command: format!(".cxr {at:#x}"),
                trap_frame: None,
                fault_address: None,
            });
        }
    }
    let stop = core.stop();
    let frames = arguments(core, ParamKind::TrapFramePtr);
    // Where no argument is known to be a trap frame, one may still be: its selectors and flags tell.
    let any = stop.arguments.into_iter().enumerate().map(|(index, value)| (index + 1, value));
    frames
        .into_iter()
        .chain(any)
        .find_map(|(number, at)| trap_frame_at(core, VirtAddr(at), &format!("trap frame at Arg{number}")))
}

fn trap_frame_at(core: &Core, at: VirtAddr, origin: &str) -> Option<Context> {
    trap::plausible_at(core, at).map(|frame| of_trap_frame(&frame, origin.to_owned()))
}

fn of_trap_frame(frame: &Trapped, origin: String) -> Context {
    Context {
        registers: frame.registers,
        known: frame.known,
        origin,
        command: format!(".trap {:#}", frame.address),
        trap_frame: Some(frame.address),
        fault_address: frame.fault_address,
    }
}

/// A trap frame on the crashing thread's saved stack whose instruction is what an argument calls the instruction.
fn from_stack(core: &Core) -> Option<Context> {
    let instructions = arguments(core, ParamKind::InstructionAddress);
    let header = core.dump.header().context;
    if let Some(registers) = header.filter(|r| instructions.iter().any(|(_, at)| r.instruction().0 == *at)) {
        return Some(header_context(&registers));
    }
    let frames = trap::find_in(core, &saved_stack(core)?);
    let touched = arguments(core, ParamKind::Address);
    let is_about =
        |frame: &Trapped| touched.iter().any(|(_, at)| frame.fault_address.unwrap_or_default().0 == *at);
    instructions.into_iter().find_map(|(number, at)| {
        // The same instruction may have faulted before; the fault that counts was about the address of an argument.
        let named = || frames.iter().filter(|frame| frame.registers.instruction().0 == at);
        let frame = named().find(|frame| is_about(frame)).or_else(|| named().next())?;
        Some(of_trap_frame(
            frame,
            format!(
                "trap frame {:#} on the stack, whose {} is Arg{number}",
                frame.address,
                pointer_name(core.arch)
            ),
        ))
    })
}

fn pointer_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86 => "Eip",
        Arch::Arm64 => "Pc",
        _ => "Rip",
    }
}

/// The crashed thread's stack from where KeBugCheckEx stood: what a small dump saves, or what memory holds.
fn saved_stack(core: &Core) -> Option<StackRange> {
    let (low, high) = if let Some(triage) = core.dump.triage() {
        (triage.top_of_stack, triage.top_of_stack.plus(triage.call_stack.len() as u64))
    } else {
        let low = all::registers(core, current::current(core).prcb_address?)?.stack_pointer();
        let thread = crashing::thread(core);
        let limit = thread.stack_limit.get();
        let base =
            thread.stack_base.get().filter(|base| limit.is_some_and(|limit| (limit..*base).contains(&low)));
        (low, base.unwrap_or_else(|| low.page().plus(LARGEST_STACK)))
    };
    Some(StackRange { low, high, kind: StackKind::Other })
}

fn header_context(registers: &Registers) -> Context {
    Context {
        registers: *registers,
        known: u32::MAX,
        origin: "context of the dump header".to_owned(),
        command: ".ecxr".to_owned(),
        trap_frame: None,
        fault_address: None,
    }
}

fn from_header(core: &Core, own: impl FnOnce() -> Option<Registers>) -> Option<Context> {
    // Dumps made outside Windows leave the header's context empty: the crashing processor's own is next.
    let registers = core.dump.header().context.or_else(own)?;
    (registers.instruction().0 != 0).then(|| header_context(&registers))
}

/// The exception that led to the stop: the record an argument points to, or what the arguments say of it. The header's own
/// record is used last, and not where it is the bug check's breakpoint.
pub(crate) fn exception(core: &Core) -> Fact<Exception> {
    for (number, at) in arguments(core, ParamKind::ExceptionRecordPtr) {
        if let Some(record) = record_at(core, VirtAddr(at)).map(of_record)
            && record.code != 0
        {
            return Fact::known(record, format!("exception record at Arg{number}"));
        }
    }
    if let Some(exception) = from_codes(core) {
        return exception;
    }
    match &core.dump.header().exception {
        Some(record) if record.code != STATUS_BREAKPOINT && record.code != 0 => {
            Fact::known(of_record(record.clone()), "exception record of the dump header")
        }
        Some(_) => Fact::missing(
            "the header's record is the bug check's own breakpoint, and no argument tells of another exception",
        ),
        None => Fact::missing("this dump holds no exception record"),
    }
}

fn of_record(record: ExceptionRecord) -> Exception {
    Exception { code: record.code, address: record.address, parameters: record.parameters }
}

fn record_at(core: &Core, at: VirtAddr) -> Option<ExceptionRecord> {
    let read = if core.arch == Arch::X86 { ExceptionRecord::read32 } else { ExceptionRecord::read };
    read(core.memory(), at).ok()
}

/// The exception record of this code and address that was dispatched last: nothing points to it where a system service had
/// the exception, but the kernel built it on the crashed thread's stack.
fn record_on_stack(core: &Core, code: u32, address: VirtAddr) -> Option<(VirtAddr, ExceptionRecord)> {
    let stack = saved_stack(core)?;
    let size = stack.high.offset_from(stack.low)?.min(LARGEST_STACK);
    let places = (0..size / 8).map(|index| stack.low.plus(8 * index));
    let candidates = places.filter(|at| core.memory().read_u32(*at) == Ok(code));
    let mut records = candidates.filter_map(|at| Some((at, record_at(core, at)?)));
    records.find(|(_, record)| record.code == code && record.address == address)
}

/// Bug checks that pass the exception's code and address as arguments; 0x1E passes its first two parameters as well.
fn from_codes(core: &Core) -> Option<Fact<Exception>> {
    let stop = core.stop();
    let base = base_code(stop.code).base;
    if !matches!(base, 0x1e | 0x3b | 0x7e | 0x8e) {
        return None;
    }
    let [code, address, third, fourth] = stop.arguments;
    if base == 0x3b
        && let Some((at, record)) = record_on_stack(core, code as u32, VirtAddr(address))
    {
        let source =
            format!("exception record {at:#} on the stack, whose code and address are Arg1 and Arg2");
        return Some(Fact::known(of_record(record), source));
    }
    let parameters = if base == 0x1e { vec![third, fourth] } else { Vec::new() };
    Some(Fact::known(
        Exception { code: code as u32, address: VirtAddr(address), parameters },
        "Arg1 and Arg2 of the bug check",
    ))
}
