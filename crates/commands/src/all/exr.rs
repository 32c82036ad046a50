//! `.exr`: an exception record.

use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::{address, hex};
use serde_json::json;
use stopcode_base::{Arch, VirtAddr};
use stopcode_dump::ExceptionRecord;
use stopcode_kernel::Exception;
use stopcode_knowledge::{enums, ntstatus};

pub(super) const COMMAND: Command = Command {
    name: ".exr",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("ADDRESS", Kind::Expression)],
    what: "an exception record",
    details: "`-1` is the exception that led to the stop, as far as the dump tells of one.",
    examples: &[(".exr -1", "the exception of this crash")],
    run: |session, arguments, output| {
        let at = arguments.address("ADDRESS").unwrap_or_default();
        let machine = session.machine();
        if at.0 == u64::MAX {
            let fact = machine.exception();
            let Some((exception, source)) = fact.known_with_source() else {
                let why = fact.reason().unwrap_or_default().to_owned();
                let Some(record) = machine.dump().header().exception.clone() else {
                    return Err(Stop::Unknown(why));
                };
                output.missing(why);
                return show(session, &of_record(&record), Some(record.flags), output);
            };
            let flags = machine.dump().header().exception.as_ref();
            let flags = flags.filter(|record| record.code == exception.code).map(|record| record.flags);
            output.line(format!("({source})"))?;
            return show(session, exception, flags, output);
        }
        let record = ExceptionRecord::read(machine.memory(), at).map_err(|miss| {
            Stop::Unknown(format!("the exception record at {}: {}", output.at(at), miss.reason))
        })?;
        show(session, &of_record(&record), Some(record.flags), output)
    },
};

fn of_record(record: &ExceptionRecord) -> Exception {
    Exception { code: record.code, address: record.address, parameters: record.parameters.clone() }
}

fn show(session: &Session, exception: &Exception, flags: Option<u32>, output: &mut Output) -> Outcome {
    let name = session.name(exception.address);
    let place = name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    output.line(format!("ExceptionAddress: {}{place}", output.at(exception.address)))?;
    let status = ntstatus(exception.code);
    let meaning = status.map_or_else(String::new, |status| format!(" ({})", status.name));
    output.line(format!("   ExceptionCode: {:08x}{meaning}", exception.code))?;
    if let Some(flags) = flags {
        output.line(format!("  ExceptionFlags: {flags:08x}"))?;
    }
    output.line(format!("NumberParameters: {}", exception.parameters.len()))?;
    for (number, parameter) in exception.parameters.iter().enumerate() {
        output.line(format!("   Parameter[{number}]: {}", output.word(*parameter)))?;
    }
    let attempt = attempt(output.arch(), exception);
    if let Some(attempt) = &attempt {
        output.line(attempt)?;
    }
    Ok(json!({
        "code": hex(exception.code), "name": status.map(|status| status.name),
        "address": address(exception.address), "place": name, "flags": flags.map(hex),
        "parameters": exception.parameters.iter().map(|parameter| hex(*parameter)).collect::<Vec<_>>(),
        "attempt": attempt,
    }))
}

/// What an access violation or an in-page error was about.
fn attempt(arch: Arch, exception: &Exception) -> Option<String> {
    const ACCESS_VIOLATION: u32 = 0xc000_0005;
    const IN_PAGE_ERROR: u32 = 0xc000_0006;
    let [kind, at, ..] = exception.parameters.as_slice() else { return None };
    if !matches!(exception.code, ACCESS_VIOLATION | IN_PAGE_ERROR) {
        return None;
    }
    let access = enums::exception_access(*kind)?;
    Some(format!("Attempt to {access} at address {}", arch.windbg(VirtAddr(*at))))
}
