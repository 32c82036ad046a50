//! `!running`

use super::facts::{Record, UNKNOWN, processors, stack_lines};
use crate::command::Command;
use crate::parameter::Parameter;
use serde_json::Value;
use stopcode_knowledge::enums::thread_state;

pub(super) const COMMAND: Command = Command {
    name: "!running",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::switch("-it"),
        Parameter::switch("-ti"),
        Parameter::switch("-i"),
        Parameter::switch("-t"),
    ],
    what: "the threads that ran on the processors",
    details: "`-i` shows idle processors too, `-t` each one's stack, `-it` both.",
    examples: &[("!running", "processors at work"), ("!running -it", "all of them, with stacks")],
    run: |session, arguments, output| {
        let machine = session.machine();
        let both = arguments.switch("-it") || arguments.switch("-ti");
        let (idle, stacks) = (both || arguments.switch("-i"), both || arguments.switch("-t"));
        let states = processors(session, None)?;
        let count = machine.dump().header().number_processors;
        output.line(format!("{count} processors, {} of them in this dump", states.len()))?;
        output.line("")?;
        let place = |name: &str| format!("{name:<width$}", width = output.word(0).len());
        let header = format!("{} {}(pri) {}  Idle", place("Prcb"), place("Current"), place("Next"));
        output.line(format!("       {header}"))?;
        let mut all = Vec::new();
        for state in &states {
            let is_idle =
                state.current_thread.get().is_some() && state.current_thread.get() == state.idle_thread.get();
            if is_idle && !idle {
                continue;
            }
            let mut record = Record::default();
            record.set("processor", state.number);
            record.set("prcb", crate::show::address(state.prcb));
            record.set("idle", is_idle);
            let current = record.word(output, "current_thread", &state.current_thread);
            let next = record.word(output, "next_thread", &state.next_thread);
            let idle_thread = record.word(output, "idle_thread", &state.idle_thread);
            let thread = state.current_thread.get().map(|at| machine.thread_at(at));
            let thread = thread.as_ref().and_then(|thread| thread.value());
            let priority = thread.and_then(|thread| thread.priority.get());
            let shown = priority.map_or_else(|| UNKNOWN.to_owned(), |priority| priority.to_string());
            record.set("priority", priority.map_or(Value::Null, Value::from));
            record.set(
                "state",
                thread.and_then(|it| thread_state(it.state.get()?)).map_or(Value::Null, Value::from),
            );
            output.line(format!(
                "{:>3}    {} {current} ({shown:>2}) {next}  {idle_thread}",
                state.number,
                output.word(state.prcb.0)
            ))?;
            if stacks {
                let processor = machine.processors().iter().find(|it| it.number == state.number);
                match processor.and_then(|it| it.registers) {
                    Some(registers) => {
                        let stack = machine
                            .walk((&registers, u32::MAX), (state.current_thread.get(), Some(state.number)));
                        record.set("stack", stack_lines(output, " ", &stack)?);
                    }
                    None => output.line(" its registers are not in this dump")?,
                }
                output.line("")?;
            }
            all.push(record.into_data());
        }
        Ok(Value::Array(all))
    },
};
