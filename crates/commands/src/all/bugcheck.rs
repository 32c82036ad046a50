//! `.bugcheck`

use crate::command::Command;
use crate::show::hex;
use serde_json::json;
use stopcode_base::VirtAddr;

pub(super) const COMMAND: Command = Command {
    name: ".bugcheck",
    aliases: &[],
    letters: "",
    parameters: &[],
    what: "the stop code and its arguments",
    details: "",
    examples: &[(".bugcheck", "the code without padding, the arguments with all their digits")],
    run: |session, _, output| {
        let stop = session.machine().stop();
        output.line(format!("Bugcheck code {:08X}", stop.code))?;
        output.line(format!(
            "Arguments {}",
            stop.arguments.map(|argument| output.at(VirtAddr(argument))).join(" ")
        ))?;
        Ok(json!({"code": hex(stop.code), "arguments": stop.arguments.map(hex)}))
    },
};
