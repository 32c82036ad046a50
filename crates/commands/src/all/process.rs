//! `.process`: selecting a process.

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::address;
use serde_json::json;

pub(super) const COMMAND: Command = Command {
    name: ".process",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::switch("/p"),
        Parameter::switch("/r"),
        Parameter::switch("/P"),
        Parameter::switch("/i"),
        Parameter::optional("EPROCESS", Kind::Expression),
    ],
    what: "selects a process, or shows which one is",
    details: "`@$proc` is then this one. Memory is read as the crashed processor saw it all the same; the switches are of no \
              effect.",
    examples: &[(".process", "the process that is selected")],
    run: |session, arguments, output| {
        match arguments.address("EPROCESS") {
            None => {}
            Some(at) if at.0 == 0 => session.select_home(),
            Some(at) => session.select_process(at),
        }
        let process = session.process().map_err(Stop::Unknown)?;
        output.line(format!("Implicit process is now {}", process.windbg()))?;
        Ok(json!({"process": address(process)}))
    },
};
