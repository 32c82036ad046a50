//! `.frame`: a frame of the stack.

use super::shared::{call_site, known, return_address, stack};
use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::scope::Scope;
use crate::session::Session;
use crate::show::address;
use serde_json::json;

pub(super) const COMMAND: Command = Command {
    name: ".frame",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::switch("/r"), Parameter::optional("NUMBER", Kind::Expression)],
    what: "selects and shows a frame of the stack",
    details: "`/r` shows its registers: of frame 0 all, of others those that unwind data gives back. A frame that was searched \
              for has none.",
    examples: &[(".frame 2", "the third frame")],
    run: |session, arguments, output| {
        let stack = stack(session)?;
        let number = arguments.number("NUMBER").map_or(session.frame(), |number| number as usize);
        let Some(frame) = stack.frames.get(number) else {
            let last = stack.frames.len().saturating_sub(1);
            return Err(Stop::unknown(format!(
                "Cannot find frame {number:#x}: the last one that was found is {last:#x} ({})",
                stack.ended
            )));
        };
        session.select_frame(number);
        let returns = return_address(&stack, number);
        output.line(format!(
            "{number:02x} {} {}     {}",
            output.at(frame.stack_pointer),
            known(output, returns),
            call_site(output, frame)
        ))?;
        let data = json!({
            "number": number, "child_sp": address(frame.stack_pointer), "instruction": address(frame.instruction),
            "return_address": returns.map(address), "call_site": call_site(output, frame), "trust": frame.trust.id(),
        });
        if arguments.switch("/r") {
            if number == 0 {
                super::r::all(session, output)?;
            } else {
                let scope = registers(session, number)?;
                super::r::of(session, &scope, output)?;
            }
        }
        Ok(data)
    },
};

/// The registers of a frame that was called into, as far as unwind data gives them back.
fn registers(session: &Session, number: usize) -> Result<Scope, Stop> {
    let scope = session.scope()?;
    let (from, owner) = ((&scope.registers, scope.known), (scope.thread, scope.processor));
    let found = session.machine().frame_registers(from, owner, number);
    let (registers, known) = found.ok_or_else(|| {
        Stop::unknown(format!("no unwind data led to frame {number:#x}, so that its registers are not known"))
    })?;
    Ok(Scope::new(registers, format!("frame {number:#x}")).knowing(known))
}
