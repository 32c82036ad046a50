//! `!error`

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::hex;
use serde_json::json;
use stopcode_knowledge::{NtStatus, ntstatus, win32_error};

/// `HRESULT` of a Win32 error: severity and `FACILITY_WIN32`, which the code follows.
const OF_WIN32: u32 = 0x8007_0000;

pub(super) const COMMAND: Command = Command {
    name: "!error",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::required("CODE", Kind::Expression),
        Parameter::optional("FLAG", Kind::Expression),
    ],
    what: "the name and meaning of an error code",
    details: "Codes of 16 bits are read as Win32 errors and `8007....` as HRESULTs of them; others, and all with FLAG 1, as \
              NTSTATUS.",
    examples: &[("!error c0000005", "an exception's code"), ("!error 103 1", "a small NTSTATUS")],
    run: |_, arguments, output| {
        let code = arguments.number("CODE").unwrap_or(0);
        // A status that was widened to 64 bits keeps its sign.
        let low = code as u32;
        let widened = code == u64::from(low) || code == i64::from(low.cast_signed()).cast_unsigned();
        let flagged = arguments.number("FLAG").is_some_and(|flag| flag & 1 != 0);
        let (kind, name, meaning) = Some(low)
            .filter(|_| widened)
            .and_then(|low| read(low, flagged))
            .ok_or_else(|| Stop::unknown(format!("{code:#x} is no code that is known")))?;
        let words = meaning.map_or_else(String::new, |meaning| format!(" - {meaning}"));
        output.line(format!("Error code: ({kind}) {low:#x} ({low}) {name}{words}"))?;
        Ok(json!({"code": hex(low), "kind": kind, "name": name, "meaning": meaning}))
    },
};

/// What a code is, its name and its meaning.
fn read(code: u32, is_status: bool) -> Option<(&'static str, &'static str, Option<&'static str>)> {
    let status = || ntstatus(code).map(|NtStatus { name, meaning }| ("NTSTATUS", name, meaning));
    let error = |kind, error| win32_error(error).map(|name| (kind, name, None));
    match code {
        _ if is_status => status(),
        0..=0xffff => error("Win32", code).or_else(status),
        _ if code & 0xffff_0000 == OF_WIN32 => error("HRESULT", code & 0xffff),
        _ => status(),
    }
}
