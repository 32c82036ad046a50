//! `!error`: a code in words.

use crate::answer::Stop;
use crate::command::{Command, Kind, Parameter};
use crate::show::hex;
use serde_json::json;
use stopcode_knowledge::ntstatus;

pub(super) const COMMAND: Command = Command {
    name: "!error",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("CODE", Kind::Expression)],
    what: "an NTSTATUS code in words",
    details: "",
    examples: &[("!error c0000005", "an access violation")],
    run: |_, arguments, output| {
        let code = arguments.number("CODE").unwrap_or_default() as u32;
        let status =
            ntstatus(code).ok_or_else(|| Stop::unknown(format!("no NTSTATUS {code:#x} is known")))?;
        let meaning = status.meaning.map_or_else(String::new, |meaning| format!(": {meaning}"));
        output.line(format!("Error code: (NTSTATUS) {code:#x} ({code}) - {}{meaning}", status.name))?;
        Ok(json!({"code": hex(code), "name": status.name, "meaning": status.meaning}))
    },
};
