//! `!verifier`

use super::facts::{Record, UNKNOWN, needed};
use crate::answer::Stop;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::show::{address, hex};
use serde_json::Value;
use stopcode_base::{Fact, visible};
use stopcode_kernel::VerifierState;
use stopcode_knowledge::verifier as options;

pub(super) const COMMAND: Command = Command {
    name: "!verifier",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("FLAGS", Kind::Expression)],
    what: "Driver Verifier's options and what it counted",
    details: "The options that this build of Windows has. Which drivers were chosen is on a list that only the kernel's own \
              symbols lead to; small dumps seldom hold it.",
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
        drivers(&state, &mut record, output)?;
        Ok(record.into_data())
    },
};

/// The drivers that were chosen, in WinDbg's order of columns.
fn drivers(state: &VerifierState, record: &mut Record, output: &mut Output) -> Result<(), Stop> {
    let list = match &state.drivers {
        Fact::Known { value, .. } => value,
        Fact::Missing { reason } => {
            // With nothing to verify nobody asks what is verified.
            if state.flags.get() != Some(0) {
                output.missing(format!("which drivers are verified: {reason}"));
            }
            return Ok(());
        }
    };
    output.line("")?;
    output.line("Driver Verification List")?;
    output.line("")?;
    if list.every == Some(true) {
        output.line("  every driver is verified")?;
    }
    output.line(format!("  {} State         Loads  Unloads Module", output.column("Entry")))?;
    let mut all = Vec::new();
    for driver in &list.drivers {
        let mut of_driver = Record::default();
        let (loads, unloads) = (driver.loads.get(), driver.unloads.get());
        let state = match loads.zip(unloads) {
            None => UNKNOWN,
            Some((0, _)) => "not loaded",
            Some((loads, unloads)) if loads > unloads => "loaded",
            Some(_) => "unloaded",
        };
        of_driver.set("entry", address(driver.address));
        let loads = of_driver.count(output, "loads", &driver.loads);
        let unloads = of_driver.count(output, "unloads", &driver.unloads);
        let text = |name: &String| name.clone();
        let name = of_driver.fact(output, "name", &driver.name, text, |name| visible(name).into());
        output.line(format!("  {} {state:<11} {loads:>7} {unloads:>8} {name}", output.at(driver.address)))?;
        all.push(of_driver.into_data());
    }
    if let Some(why) = &list.broken {
        output.missing(format!("the list of verified drivers breaks off: {why}"));
    }
    record.set("drivers", all);
    record.set("every_driver", list.every.map_or(Value::Null, Value::from));
    Ok(())
}
