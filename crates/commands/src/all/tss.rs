//! `!tss`

use super::facts::{needed, processor};
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::address;
use serde_json::json;

pub(super) const COMMAND: Command = Command {
    name: "!tss",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("PROCESSOR", Kind::Expression)],
    what: "the task state: the stacks that interrupts switch to",
    details: "x64 only. Which vector uses which stack, `!idt` shows.",
    examples: &[("!tss", "of the selected processor")],
    run: |session, arguments, output| {
        let state = processor(session, arguments.number("PROCESSOR"))?;
        let task = needed(session.machine().task_state(&state))?;
        output.line(format!(
            "Task State Segment of Processor {} at {}",
            state.number,
            output.at(task.address)
        ))?;
        output.line(format!("  Rsp0  {}", output.at(task.rsp0)))?;
        for (number, stack) in (1..).zip(task.ist) {
            output.line(format!("  Ist{number}  {}", output.at(stack)))?;
        }
        Ok(json!({
            "processor": state.number, "address": address(task.address), "rsp0": address(task.rsp0),
            "ist": task.ist.map(address),
        }))
    },
};
