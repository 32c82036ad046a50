//! `q`

use crate::command::Command;
use serde_json::Value;

pub(crate) const COMMAND: Command = Command {
    name: "q",
    aliases: &["qq", "qd"],
    letters: "",
    parameters: &[],
    what: "the end of the session",
    details: "",
    examples: &[],
    run: |session, _, _| {
        session.quit();
        Ok(Value::Null)
    },
};
