//! `!whea`

use super::errrec;
use super::facts::Record;
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::show::{address, hex};
use serde_json::{Value, json};
use stopcode_base::{Fact, VirtAddr};
use stopcode_kernel::{ErrorSource, ErrorSources, source_kind, source_state};

pub(super) const COMMAND: Command = Command {
    name: "!whea",
    aliases: &[],
    letters: "",
    parameters: &[],
    what: "the sources of hardware errors, and the error that stopped the machine",
    details: "The record that bug check 124 passes, and the table of error sources. Only the kernel's own symbols lead to \
              that; small dumps seldom hold it.",
    examples: &[("!whea", "the record, section by section, and the sources")],
    run: |session, _, output| {
        let machine = session.machine();
        let (record, sources) = (machine.error_record(), machine.error_sources());
        let (shown, table) = match (&record, &sources) {
            (Fact::Missing { reason }, Fact::Missing { reason: of_table }) => {
                return Err(Stop::Unknown(format!("{reason}; the table of error sources: {of_table}")));
            }
            (Fact::Known { value, .. }, Fact::Missing { reason }) => {
                output.missing(format!("the table of error sources: {reason}"));
                (errrec::show(value, output)?, Value::Null)
            }
            (Fact::Missing { .. }, Fact::Known { value, .. }) => (Value::Null, table(value, output)?),
            (Fact::Known { value: record, .. }, Fact::Known { value: sources, .. }) => {
                let shown = errrec::show(record, output)?;
                output.line("")?;
                (shown, table(sources, output)?)
            }
        };
        Ok(json!({"record": shown, "table": table}))
    },
};

fn table(table: &ErrorSources, output: &mut Output) -> Outcome {
    output.line(format!("Error Source Table @ {}", output.at(table.address)))?;
    let count = table.count.get().map_or_else(|| "?".to_owned(), |count| count.to_string());
    output.line(format!("{count} Error Sources"))?;
    let mut sources = Vec::new();
    for (number, source) in table.sources.iter().enumerate() {
        output.line(format!("Error Source {number} @ {}", output.at(source.address)))?;
        sources.push(shown(source, output)?);
    }
    if let Some(why) = &table.broken {
        output.missing(format!("the table breaks off: {why}"));
    } else if table.count.get().is_some_and(|count| count as usize != sources.len()) {
        output.missing(format!("the table counts {count} sources, and its list has {}", sources.len()));
    }
    Ok(json!({"address": address(table.address), "sources": sources}))
}

fn shown(source: &ErrorSource, output: &mut Output) -> Outcome {
    let mut record = Record::default();
    record.set("address", address(source.address));
    let named = |name: fn(u32) -> Option<&'static str>| {
        move |number: &u32| match name(*number) {
            Some(name) => format!("{number:#x}, {name}"),
            None => format!("{number:#x}"),
        }
    };
    let data = |number: &u32| Value::from(*number);
    let at = |at: &VirtAddr| at.windbg();
    let lines = [
        ("Type", record.fact(output, "type", &source.kind, named(source_kind), data)),
        ("State", record.fact(output, "state", &source.state, named(source_state), data)),
        ("Error Source ID", record.count(output, "id", &source.id)),
        ("Error Count", record.count(output, "errors", &source.errors)),
        ("Record Count", record.count(output, "records", &source.records)),
        (
            "Record Length",
            record.fact(output, "record_length", &source.record_length, |n| format!("{n:x}"), data),
        ),
        ("Error Records", record.fact(output, "first_record", &source.first_record, at, |at| address(*at))),
        ("Max Raw Data Length", record.count(output, "raw_data_length", &source.raw_data_length)),
        ("Max Sections Per Record", record.count(output, "sections", &source.sections)),
        ("Flags", record.fact(output, "flags", &source.flags, |n| format!("{n:08x}"), |n| hex(*n))),
    ];
    for (name, value) in lines {
        output.line(format!("  {name:<23} : {value}"))?;
    }
    Ok(record.into_data())
}
