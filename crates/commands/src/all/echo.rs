//! `.echo`

use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use serde_json::json;

pub(crate) const COMMAND: Command = Command {
    name: ".echo",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("TEXT", Kind::Rest)],
    what: "its text",
    details: "",
    examples: &[(".echo the stack:; k", "a heading in the output of a script")],
    run: |_, arguments, output| {
        let text = arguments.text("TEXT").unwrap_or_default();
        output.line(text)?;
        Ok(json!({"text": text}))
    },
};
