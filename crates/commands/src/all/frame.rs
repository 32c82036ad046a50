//! `.frame`: a frame of the stack.

use super::shared::{call_site, known, return_address, stack};
use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::address;
use serde_json::json;

pub(super) const COMMAND: Command = Command {
    name: ".frame",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::switch("/r"), Parameter::optional("NUMBER", Kind::Expression)],
    what: "selects and shows a frame of the stack",
    details: "`/r` shows its registers. Only those of frame 0 are known for certain.",
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
            frame.stack_pointer.windbg(),
            known(returns),
            call_site(frame)
        ))?;
        let data = json!({
            "number": number, "child_sp": address(frame.stack_pointer), "instruction": address(frame.instruction),
            "return_address": returns.map(address), "call_site": call_site(frame), "trust": frame.trust.id(),
        });
        if arguments.switch("/r") {
            if number != 0 {
                return Err(Stop::unknown(format!("the registers of frame {number:#x} are not known")));
            }
            super::r::all(session, output)?;
        }
        Ok(data)
    },
};
