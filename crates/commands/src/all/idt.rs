//! `!idt`

use super::facts::{needed, processor};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::{Value, json};
use stopcode_base::VirtAddr;

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
            let leads_somewhere = entry.task || machine.place(entry.handler).image.is_some();
            let interesting = entry.present && (arguments.switch("-a") || leads_somewhere);
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
            let leads = if entry.task {
                format!("Task Selector = {:#06x}", entry.selector)
            } else {
                at_and_name(session, output, entry.handler)
            };
            output.line(format!("{:02x}:  {leads}{stack_text}", entry.vector))?;
            if let Some((object, routine)) = entry.interrupt {
                let routine = at_and_name(session, output, routine);
                output.line(format!("     {routine} (KINTERRUPT {})", output.at(object)))?;
            }
            all.push(json!({
                "vector": entry.vector, "handler": address(entry.handler), "task": entry.task.then_some(entry.selector), "ist": entry.ist, "present": entry.present,
                "stack": stack.map_or(Value::Null, address),
                "interrupt": entry.interrupt.map_or(Value::Null, |(object, _)| address(object)),
                "service_routine": entry.interrupt.map_or(Value::Null, |(_, routine)| address(routine)),
            }));
        }
        Ok(Value::Array(all))
    },
};

/// An address and its name, in WinDbg's order.
fn at_and_name(session: &Session, output: &Output, at: VirtAddr) -> String {
    let name = session.name(at).unwrap_or_default();
    format!("{} {name}", output.at(at)).trim_end().to_owned()
}
