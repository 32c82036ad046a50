//! `!idt`

use super::facts::{named, needed, processor};
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::address;
use serde_json::{Value, json};

pub(super) const COMMAND: Command = Command {
    name: "!idt",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::switch("-a"), Parameter::optional("VECTOR", Kind::Expression)],
    what: "the interrupt table of the selected processor",
    details: "Without `-a` only vectors that lead to a module or an interrupt object are shown. A vector that switches stacks \
              shows the stack's top, where the task state is in the dump.",
    examples: &[("!idt", "the vectors in use"), ("!idt 8", "the double fault's")],
    run: |session, arguments, output| {
        let state = processor(session, None)?;
        let machine = session.machine();
        let entries = needed(machine.interrupt_table(&state))?;
        let task = machine.task_state(&state);
        let wanted = arguments.number("VECTOR");
        output.line("")?;
        output.line("Dumping IDT:")?;
        output.line("")?;
        let mut all = Vec::new();
        for entry in entries {
            let interesting =
                entry.present && (arguments.switch("-a") || machine.place(entry.handler).image.is_some());
            if wanted.map_or(!interesting, |vector| vector != u64::from(entry.vector)) {
                continue;
            }
            let stack =
                usize::from(entry.ist).checked_sub(1).and_then(|index| task.value()?.ist.get(index).copied());
            let stack_text = match (entry.ist, stack) {
                (0, _) => String::new(),
                (_, Some(stack)) => format!("  Stack = {}", output.at(stack)),
                (ist, None) => format!("  Stack = IST {ist}"),
            };
            output.line(format!("{:02x}:\t{}{stack_text}", entry.vector, named(session, entry.handler)))?;
            if let Some((object, routine)) = entry.interrupt {
                output.line(format!("   \t{} (KINTERRUPT {})", named(session, routine), object))?;
            }
            all.push(json!({
                "vector": entry.vector, "handler": address(entry.handler), "ist": entry.ist, "present": entry.present,
                "stack": stack.map_or(Value::Null, address),
                "interrupt": entry.interrupt.map_or(Value::Null, |(object, _)| address(object)),
                "service_routine": entry.interrupt.map_or(Value::Null, |(_, routine)| address(routine)),
            }));
        }
        Ok(Value::Array(all))
    },
};
