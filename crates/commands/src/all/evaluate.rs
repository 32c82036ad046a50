//! `?`

use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::hex;
use serde_json::json;
use stopcode_base::VirtAddr;

pub(super) const COMMAND: Command = Command {
    name: "?",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("EXPRESSION", Kind::Expression)],
    what: "the value of an expression",
    details: "Operators from strongest to weakest: `+ - not hi low by wo dwo qwo poi` before a value; `* / mod`; `+ -`; \
              `<< >> >>>`; `= < > <= >= !=`; `and`; `xor`; `or`. `?` alone is `.help`.",
    examples: &[
        ("? 0n10 + poi(@$sp)", "a sum with a pointer from the stack"),
        ("? nt!KeBugCheckEx - nt", "an offset"),
    ],
    run: |session, arguments, output| {
        let value = arguments.number("EXPRESSION").unwrap_or_default();
        session.set_last(value);
        output.line(format!("Evaluate expression: {} = {}", value as i64, output.at(VirtAddr(value))))?;
        Ok(json!({"value": hex(value)}))
    },
};
