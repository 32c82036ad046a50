//! `!mca`

use super::facts::needed;
use crate::answer::Outcome;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::show::hex;
use serde_json::json;
use stopcode_kernel::{McaStatus, McaVendor};

pub(super) const COMMAND: Command = Command {
    name: "!mca",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("STATUS", Kind::Expression)],
    what: "a machine check status, decoded",
    details: "Without STATUS that of the machine check that stopped the machine. Bits that are Intel's or AMD's own are told by \
              the processor of the dump; what a model means by its own code is not.",
    examples: &[
        ("!mca", "the machine check of this dump"),
        ("!mca be00000000800400", "a status from elsewhere"),
    ],
    run: |session, arguments, output| {
        let machine = session.machine();
        let Some(raw) = arguments.number("STATUS") else {
            let status = needed(machine.machine_check())?;
            return status_lines(&status, output);
        };
        let states = machine.processor_states();
        let vendor = states.iter().find_map(|state| state.vendor.value());
        let vendor = vendor.map_or(McaVendor::Unknown, |name| McaVendor::of_name(name));
        status_lines(&McaStatus::decode(raw, vendor), output)
    },
};

/// Shows a status.
pub(super) fn status_lines(status: &McaStatus, output: &mut Output) -> Outcome {
    output.line(format!("Status        : {:016x}", status.raw))?;
    for (name, meaning) in &status.flags {
        output.line(format!("  {name:<8} {meaning}"))?;
    }
    let meaning = status.meaning.as_deref();
    output.line(format!(
        "Error code    : {:04x} ({})",
        status.error_code,
        meaning.unwrap_or("not defined by the manuals")
    ))?;
    output.line(format!("Model's code  : {:04x}", status.model_code))?;
    if let Some(count) = status.corrected {
        output.line(format!("Corrected     : {count}"))?;
    }
    if !status.is_valid() {
        output.missing("the register is not marked valid: it holds no error");
    }
    Ok(json!({
        "status": hex(status.raw), "flags": status.flags.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "error_code": hex(status.error_code), "model_code": hex(status.model_code), "meaning": meaning,
        "corrected": status.corrected,
    }))
}
