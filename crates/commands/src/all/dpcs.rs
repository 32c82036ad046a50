//! `!dpcs`

use super::facts::{Record, UNKNOWN, named, processors};
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::{Value, json};
use stopcode_base::{Fact, VirtAddr};
use stopcode_kernel::ProcessorState;

/// `KDPC.DeferredRoutine`, in pointers: the same in every kernel.
const DEFERRED_ROUTINE: u64 = 3;

pub(super) const COMMAND: Command = Command {
    name: "!dpcs",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("PROCESSOR", Kind::Expression)],
    what: "deferred procedure calls: which wait, which one runs",
    details: "",
    examples: &[("!dpcs", "all processors")],
    run: |session, arguments, output| {
        let arch = output.arch();
        let states = processors(session, arguments.number("PROCESSOR"))?;
        let nothing = states
            .iter()
            .all(|state| state.dpc.depth.get().is_none() && state.dpc.routine_active.get().is_none());
        if let Some(reason) = states.first().and_then(|state| state.dpc.depth.reason()).filter(|_| nothing) {
            return Err(Stop::unknown(reason.to_owned()));
        }
        let width = output.word(0).len();
        output.line(format!("CPU  Queued  Threaded  Active  {:<width$}  Function", "KDPC"))?;
        let mut all = Vec::new();
        for state in &states {
            let dpc = &state.dpc;
            let mut record = Record::default();
            record.set("processor", state.number);
            let depth = record.count(output, "depth", &dpc.depth);
            let threaded = record.count(output, "threaded_depth", &dpc.threaded_depth);
            let active = record
                .fact(output, "routine_active", &dpc.routine_active, u8::to_string, |n| Value::from(*n));
            let object = record.word(output, "kdpc", &dpc.active);
            let running = dpc.active.get().filter(|at| arch.is_kernel(*at));
            let name = running.and_then(|at| routine(session, at)).unwrap_or_default();
            output.line(format!(
                "{:>3}  {depth:>6}  {threaded:>8}  {active:>6}  {object:<width$}  {name}",
                state.number
            ))?;
            record.set("function", if name.is_empty() { Value::Null } else { name.into() });
            record.set("waiting", waiting(session, state, output)?);
            all.push(record.into_data());
        }
        Ok(Value::Array(all))
    },
};

/// The DPCs that wait in the normal queue of a processor, a line each below that of the processor.
fn waiting(session: &Session, state: &ProcessorState, output: &mut Output) -> Outcome {
    if state.dpc.depth.get().is_none_or(|depth| depth == 0) {
        return Ok(json!([]));
    }
    let list = match &state.dpc.waiting {
        Fact::Known { value, .. } => value,
        Fact::Missing { reason } => {
            output.missing(reason.as_ref());
            return Ok(Value::Null);
        }
    };
    let mut all = Vec::new();
    for at in &list.entries {
        output.go_on()?;
        let name = routine(session, *at);
        let shown = name.as_deref().unwrap_or(UNKNOWN);
        output.line(format!("{:>3}  waits{:22}{}  {shown}", state.number, "", output.word(at.0)))?;
        all.push(json!({"kdpc": address(*at), "function": name}));
    }
    if let Some(why) = &list.broken {
        output.missing(format!("the queue of processor {} breaks off: {why}", state.number));
    }
    Ok(Value::Array(all))
}

/// What a DPC calls, by name.
fn routine(session: &Session, dpc: VirtAddr) -> Option<String> {
    let machine = session.machine();
    let at = dpc.plus(DEFERRED_ROUTINE * machine.arch().pointer_size());
    let routine = machine.memory().read_word(machine.arch(), at).ok()?;
    Some(named(session, VirtAddr(routine)))
}
