//! `!verifier`

use super::facts::{Record, needed};
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::hex;
use serde_json::Value;
use stopcode_knowledge::verifier as options;

pub(super) const COMMAND: Command = Command {
    name: "!verifier",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("FLAGS", Kind::Expression)],
    what: "Driver Verifier's options and what it counted",
    details: "The options that this build of Windows has. Which drivers it verified the kernel keeps in a tree that small dumps do not hold; it is not read.",
    examples: &[("!verifier", "options and counts")],
    run: |session, _, output| {
        let state = needed(session.machine().verifier_state())?;
        let mut record = Record::default();
        let level =
            record.fact(output, "flags", &state.flags, |flags| format!("{flags:#010x}"), |flags| hex(*flags));
        let off = if state.flags.get() == Some(0) { " (off)" } else { "" };
        output.line(format!("Verify Flags Level {level}{off}"))?;
        let build = session.machine().dump().header().minor_version;
        if let Some(flags) = state.flags.get() {
            for (title, standard) in [("STANDARD FLAGS:", true), ("ADDITIONAL FLAGS:", false)] {
                output.line("")?;
                output.line(format!("  {title}"))?;
                let of_title = |bit: u32| (options::STANDARD & bit != 0) == standard;
                let fits = |bit: u32| options::since(bit) <= build || flags & bit != 0;
                for (bit, name) in options::FLAGS.iter().filter(|(bit, _)| of_title(*bit) && fits(*bit)) {
                    let mark = if flags & bit != 0 { 'X' } else { ' ' };
                    output.line(format!("    [{mark}] ({bit:#010x}) {name}"))?;
                }
            }
            if options::unnamed(flags) != 0 {
                output.line(format!("  and bits without a known name: {:#010x}", options::unnamed(flags)))?;
            }
            record.set("options", options::names(flags).map(Value::from).collect::<Vec<_>>());
        }
        output.line("")?;
        output.line("Summary of All Verifier Statistics")?;
        output.line("")?;
        for counter in &state.counters {
            let shown = record.fact(
                output,
                counter.field,
                &counter.value,
                |n| format!("{n:#x}"),
                |n| Value::from(*n),
            );
            output.line(format!("  {:<38} {shown}", counter.words))?;
        }
        Ok(record.into_data())
    },
};
