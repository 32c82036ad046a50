//! `ln`: the nearest names.

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::address;
use crate::symbols::no_symbols;
use serde_json::json;
use stopcode_symbols::demangle;

pub(super) const COMMAND: Command = Command {
    name: "ln",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("ADDRESS", Kind::Expression)],
    what: "the names at an address, or the nearest around it",
    details: "A nearest name need not be what the address belongs to; that is said where it is so.",
    examples: &[("ln @$ip", "the function of the instruction")],
    run: |session, arguments, output| {
        let at = arguments.address("ADDRESS").unwrap_or_default();
        let machine = session.machine();
        let Some(module) = machine.modules().iter().find(|module| module.contains(at)) else {
            let place = session.name(at);
            return match place {
                Some(name) => {
                    output.line(format!("({})   {name}", output.at(at)))?;
                    Ok(json!({"address": address(at), "before": name, "after": null, "exact": []}))
                }
                None => Err(Stop::unknown(format!("{} lies in no module", output.at(at)))),
            };
        };
        let table = machine.symbols(module).ok_or_else(|| {
            Stop::Unknown(format!("{}+{:#x}: {}", module.display, at.0 - module.base.0, no_symbols(module)))
        })?;
        let found = u32::try_from(at.0 - module.base.0).ok().and_then(|rva| table.lookup(rva));
        let found = found.ok_or_else(|| {
            Stop::unknown(format!("{} lies before the first name of {}", output.at(at), module.display))
        })?;
        let named = |name: &str| format!("{}!{}", module.display, demangle(name));
        let cold = if found.cold { " (cold)" } else { "" };
        let start = module.base.plus(found.rva.into());
        let offset = if found.offset == 0 { String::new() } else { format!("+{:#x}", found.offset) };
        let next = found.room.map(|room| found.rva.saturating_add(room));
        let next = next.and_then(|rva| Some((module.base.plus(rva.into()), named(table.lookup(rva)?.name))));
        let after = next
            .as_ref()
            .map_or_else(String::new, |(at, name)| format!("   |  ({})   {name}", output.at(*at)));
        output.line(format!("({})   {}{cold}{offset}{after}", output.at(start), named(found.name)))?;
        let exact: Vec<String> =
            if found.offset == 0 { table.names_at(found.rva).map(named).collect() } else { Vec::new() };
        if !exact.is_empty() {
            output.line("Exact matches:")?;
        }
        for name in &exact {
            output.line(format!("    {name}"))?;
        }
        let source = machine.source_line(at).filter(|_| session.lines());
        if let Some(line) = &source {
            output.line(format!("[{} @ {}]", line.file, line.line))?;
        }
        let windbg = machine.place(at).windbg_label();
        if let Some(windbg) = &windbg {
            output.line(format!("WinDbg shows it as {windbg}"))?;
        }
        if !found.reach.names_the_place() {
            output.missing("only the nearest name before: the address need not belong to it");
        }
        Ok(json!({
            "address": address(at), "before": named(found.name), "offset": found.offset,
            "belongs": found.reach.names_the_place(), "windbg": windbg, "after": next.map(|(_, name)| name), "exact": exact,
            "source": source.map(|line| json!({"file": line.file, "line": line.line})),
        }))
    },
};
