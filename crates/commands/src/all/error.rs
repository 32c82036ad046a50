//! `!error`

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::hex;
use serde_json::json;
use stopcode_knowledge::ntstatus;

pub(super) const COMMAND: Command = Command {
    name: "!error",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::required("CODE", Kind::Expression),
        Parameter::optional("FLAG", Kind::Expression),
    ],
    what: "the name and meaning of a status code",
    details: "Codes are read as NTSTATUS: exceptions and driver failures carry them. FLAG, which says so in WinDbg, is of no effect.",
    examples: &[("!error c0000005", "an exception's code")],
    run: |_, arguments, output| {
        let code = arguments.number("CODE").unwrap_or(0);
        // A status that was widened to 64 bits keeps its sign.
        let low = code as u32;
        let widened = code == u64::from(low) || code == i64::from(low.cast_signed()).cast_unsigned();
        let status = ntstatus(low).filter(|_| widened);
        let Some(status) = status else {
            return Err(Stop::unknown(format!("{code:#x} is no NTSTATUS that is known")));
        };
        let meaning = status.meaning.map_or_else(String::new, |meaning| format!(" - {meaning}"));
        output.line(format!("Error code: (NTSTATUS) {low:#x} ({low}) {}{meaning}", status.name))?;
        Ok(json!({"code": hex(low), "name": status.name, "meaning": status.meaning}))
    },
};
