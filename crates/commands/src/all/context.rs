//! `.cxr`, `.trap`, `.ecxr`: selecting a context.

use super::facts::needed;
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::scope::Scope;
use crate::session::Session;
use stopcode_base::VirtAddr;
use stopcode_dump::context as record;

const ADDRESS: &[Parameter] = &[Parameter::optional("ADDRESS", Kind::Expression)];

pub(super) const CXR: Command = Command {
    name: ".cxr",
    aliases: &[],
    letters: "",
    parameters: ADDRESS,
    what: "selects a context record",
    details: "Without an address, or with 0, it goes back to the context of the bug check.",
    examples: &[(".cxr 0xffff850429891720; k", "the stack of what the record tells")],
    run: |session, arguments, output| {
        let Some(at) = arguments.address("ADDRESS").filter(|at| at.0 != 0) else {
            return home(session, output);
        };
        let machine = session.machine();
        let read = record::read(machine.memory(), machine.arch(), at);
        let read = read.map_err(|miss| {
            Stop::Unknown(format!("the context record at {}: {}", output.at(at), miss.reason))
        })?;
        let (registers, _) = read
            .filter(|(_, flags)| *flags != 0)
            .ok_or_else(|| Stop::unknown(format!("what stands at {} is no context record", output.at(at))))?;
        select(session, Scope::new(registers, format!("the context record at {}", output.at(at))), output)
    },
};

pub(super) const TRAP: Command = Command {
    name: ".trap",
    aliases: &[],
    letters: "",
    parameters: ADDRESS,
    what: "selects a trap frame",
    details: "A trap frame of x64 or ARM64 holds the volatile registers only; the others are shown as question marks. Without an \
              address, or with 0, it goes back to the context of the bug check.",
    examples: &[(".trap fffff880`009b9f30", "what the processor was doing when it trapped")],
    run: |session, arguments, output| {
        let Some(at) = arguments.address("ADDRESS").filter(|at| at.0 != 0) else {
            return home(session, output);
        };
        let frame = needed(session.machine().trap_frame_at(at))?;
        let scope = Scope::new(frame.registers, format!("the trap frame at {}", output.at(at)));
        select(session, scope.knowing(frame.known), output)
    },
};

pub(super) const ECXR: Command = Command {
    name: ".ecxr",
    aliases: &[],
    letters: "",
    parameters: &[],
    what: "selects the context of the exception",
    details: "It is the one that the verdict rests on: a context record or trap frame that an argument of the bug check points \
              to, or else the dump header's.",
    examples: &[(".ecxr; r", "the registers at the exception")],
    run: |session, _, output| {
        let machine = session.machine();
        let context = machine.context();
        let Some(context) = context.value() else {
            return Err(Stop::unknown(context.reason().unwrap_or_default()));
        };
        output.line(format!("{} ({})", context.origin, context.command))?;
        let scope = Scope::new(context.registers, context.origin.clone()).knowing(context.known);
        select(session, scope, output)
    },
};

fn home(session: &mut Session, output: &mut Output) -> Outcome {
    session.select_home();
    let origin = session.scope()?.origin.clone();
    output.line(format!("Resetting default scope: {origin}"))?;
    super::r::all(session, output)
}

/// Selects the context of the thread that is selected, and shows it.
fn select(session: &mut Session, scope: Scope, output: &mut Output) -> Outcome {
    let (thread, processor) = (session.thread().ok(), session.processor_number());
    if scope.known != u32::MAX {
        output.line("NOTE: The trap frame does not contain all registers.")?;
    }
    let at: VirtAddr = scope.registers.instruction();
    session.select(scope.of(thread, Some(processor)));
    session.set_next_code(Some(at));
    super::r::all(session, output)
}
