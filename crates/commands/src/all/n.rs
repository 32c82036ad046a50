//! `n`

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use serde_json::json;

pub(super) const COMMAND: Command = Command {
    name: "n",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("RADIX", Kind::Word)],
    what: "the base of numbers without a prefix: 8, 10 or 16",
    details: "",
    examples: &[("n 10; ? 16", "a decimal number")],
    run: |session, arguments, output| {
        match arguments.text("RADIX") {
            None => {}
            Some("8") => session.set_radix(8),
            Some("10") => session.set_radix(10),
            Some("16") => session.set_radix(16),
            Some(other) => return Err(Stop::failed(format!("the base is 8, 10 or 16, not {other}"))),
        }
        output.line(format!("base is {}", session.radix()))?;
        Ok(json!({"radix": session.radix()}))
    },
};
