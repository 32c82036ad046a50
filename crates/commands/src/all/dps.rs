//! `dps`, `dds`, `dpa`, `dpu`: memory as pointers, with what they lead to.

use super::da::text;
use super::memory::{MOST_MISSING, missing, range};
use crate::answer::Outcome;
use crate::arguments::Arguments;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, POINTER, Parameter};
use crate::session::Session;
use crate::show::{address, hex};
use serde_json::json;
use stopcode_base::{Memory, VirtAddr};

/// Pointers by default.
const COUNT: u64 = 16;
/// Letters shown of a text.
const LETTERS: u64 = 64;

const POINTERS: &[Parameter] = &[Parameter::optional("RANGE", Kind::Range { unit: POINTER, count: COUNT })];
const DOUBLES: &[Parameter] = &[Parameter::optional("RANGE", Kind::Range { unit: 4, count: COUNT })];

/// What a pointer leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leads {
    Name,
    Ascii,
    Unicode,
    /// The pointer there, and its name.
    Pointer,
}

pub(super) const DPS: Command = Command {
    name: "dps",
    aliases: &["dqs"],
    letters: "",
    parameters: POINTERS,
    what: "memory as pointers with names",
    details: "",
    examples: &[("dps @$sp L20", "what lies on the stack")],
    run: |session, arguments, output| show(session, arguments, POINTER, Leads::Name, output),
};

pub(super) const DDS: Command = Command {
    name: "dds",
    aliases: &[],
    letters: "",
    parameters: DOUBLES,
    what: "memory as 32-bit words with names",
    details: "",
    examples: &[],
    run: |session, arguments, output| show(session, arguments, 4, Leads::Name, output),
};

pub(super) const DPA: Command = Command {
    name: "dpa",
    aliases: &[],
    letters: "",
    parameters: POINTERS,
    what: "memory as pointers to ASCII text",
    details: "",
    examples: &[],
    run: |session, arguments, output| show(session, arguments, POINTER, Leads::Ascii, output),
};

pub(super) const DPU: Command = Command {
    name: "dpu",
    aliases: &[],
    letters: "",
    parameters: POINTERS,
    what: "memory as pointers to UTF-16 text",
    details: "",
    examples: &[],
    run: |session, arguments, output| show(session, arguments, POINTER, Leads::Unicode, output),
};

pub(super) const DPP: Command = Command {
    name: "dpp",
    aliases: &["dqp"],
    letters: "",
    parameters: POINTERS,
    what: "memory as pointers to pointers with names",
    details: "",
    examples: &[],
    run: |session, arguments, output| show(session, arguments, POINTER, Leads::Pointer, output),
};

fn show(
    session: &mut Session,
    arguments: &Arguments<'_>,
    unit: u64,
    leads: Leads,
    output: &mut Output,
) -> Outcome {
    let machine = session.machine();
    let (arch, width) = (machine.arch(), machine.arch().pointer_size());
    let unit = if unit == POINTER { width } else { unit };
    let range = range(session, arguments, unit, COUNT)?;
    let view = session.memory(&machine);
    let memory: &dyn Memory = &view;
    let mut entries = Vec::new();
    let (mut done, mut gap) = (0, 0);
    while done < range.bytes && gap <= MOST_MISSING {
        let at = range.start.plus(done);
        done += unit;
        let read =
            if unit == width { memory.read_word(arch, at) } else { memory.read_u32(at).map(u64::from) };
        let Ok(value) = read else {
            gap += unit;
            output.line(format!(
                "{}  {}",
                output.at(at),
                if unit == width { output.no_address() } else { "?".repeat(8) }
            ))?;
            entries.push(json!({"address": address(at), "value": null, "leads_to": null}));
            continue;
        };
        gap = 0;
        let target = VirtAddr(value);
        let found = match leads {
            Leads::Name => session.reference(target),
            Leads::Pointer => memory.read_word(arch, target).ok().map(|value| {
                let name =
                    session.reference(VirtAddr(value)).map_or_else(String::new, |name| format!(" {name}"));
                output.at(VirtAddr(value)) + &name
            }),
            Leads::Ascii => Some(text(memory, target, 1, LETTERS)).filter(|text| !text.is_empty()),
            Leads::Unicode => Some(text(memory, target, 2, LETTERS)).filter(|text| !text.is_empty()),
        };
        let found = found.map(|found| stopcode_base::visible(&found));
        let shown = match (&found, leads) {
            (Some(name), Leads::Name | Leads::Pointer) => format!(" {name}"),
            (Some(text), _) => format!(" \"{text}\""),
            (None, _) => String::new(),
        };
        let value_shown = if unit == width { output.at(target) } else { format!("{value:08x}") };
        output.line(format!("{}  {value_shown}{shown}", output.at(at)))?;
        entries.push(json!({"address": address(at), "value": hex(value), "leads_to": found}));
    }
    session.set_next_data(range.start.plus(done));
    if entries.iter().all(|entry| entry.get("value").is_none_or(serde_json::Value::is_null)) && done > 0 {
        return Err(missing(arch, memory, range.start));
    }
    Ok(json!({"start": address(range.start), "entries": entries}))
}
