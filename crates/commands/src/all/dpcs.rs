//! `!dpcs`

use super::facts::{Record, named, processors};
use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use serde_json::Value;
use stopcode_base::VirtAddr;

/// `KDPC.DeferredRoutine`, in pointers: the same in every kernel.
const DEFERRED_ROUTINE: u64 = 3;

pub(super) const COMMAND: Command = Command {
    name: "!dpcs",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("PROCESSOR", Kind::Expression)],
    what: "deferred procedure calls: how many wait, which one runs",
    details: "",
    examples: &[("!dpcs", "all processors")],
    run: |session, arguments, output| {
        let machine = session.machine();
        let arch = machine.arch();
        let states = processors(session, arguments.number("PROCESSOR"))?;
        let nothing = states
            .iter()
            .all(|state| state.dpc.depth.get().is_none() && state.dpc.routine_active.get().is_none());
        if let Some(reason) = states.first().and_then(|state| state.dpc.depth.reason()).filter(|_| nothing) {
            return Err(Stop::unknown(reason.to_owned()));
        }
        output.line("CPU  Queued  Threaded  Active  KDPC              Function")?;
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
            let routine = dpc.active.get().filter(|at| arch.is_kernel(*at));
            let routine = routine.and_then(|at| {
                machine.memory().read_word(arch, at.plus(DEFERRED_ROUTINE * arch.pointer_size())).ok()
            });
            let name = routine.map(|at| named(session, VirtAddr(at))).unwrap_or_default();
            output.line(format!(
                "{:>3}  {depth:>6}  {threaded:>8}  {active:>6}  {object:<16}  {name}",
                state.number
            ))?;
            record.set("function", if name.is_empty() { Value::Null } else { name.into() });
            all.push(record.into_data());
        }
        Ok(Value::Array(all))
    },
};
