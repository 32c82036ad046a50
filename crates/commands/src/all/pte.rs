//! `!pte`

use super::facts::UNKNOWN;
use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::{address, hex, quad};
use serde_json::{Value, json};
use stopcode_base::Arch;
use stopcode_dump::paging::{EntryKind, Mapping, WalkEntry};

pub(super) const COMMAND: Command = Command {
    name: "!pte",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("ADDRESS", Kind::Expression)],
    what: "the page-table entries of an address",
    details: "Letters of a valid entry: C copy on write, G global, L large page, D dirty, A accessed, N not cached, T write-through, \
              U or K, W or R, E executable, V valid. A small dump holds the entries of a few addresses only: those of the \
              instruction, the stack and what registers point to.",
    examples: &[("!pte @$sp", "whether the stack's page was there")],
    run: |session, arguments, output| {
        let at = arguments.address("ADDRESS").unwrap_or_default();
        let machine = session.machine();
        let Some(walk) = machine.dump().walk(None, at) else {
            return Err(Stop::unknown("where the page tables lie is not in this dump"));
        };
        // The four entries above x86's page directories have no address and no such flags.
        let is_shown = |entry: &&WalkEntry| machine.arch() != Arch::X86 || entry.level < 3;
        let entries: Vec<&WalkEntry> = walk.entries().filter(is_shown).collect();
        let missing = match walk.outcome {
            Ok(Mapping::Physical(..)) => None,
            Ok(Mapping::Zeros(_)) => Some(NEVER_USED.to_owned()),
            Err(reason) => Some(reason.to_string()),
        };
        if entries.is_empty() {
            let why = missing.as_deref().unwrap_or("not known");
            return Err(Stop::unknown(format!("the page-table entries of {}: {why}", output.at(at))));
        }
        let columns = |cell: &dyn Fn(&WalkEntry) -> String| -> String {
            let cells: Vec<String> = entries.iter().map(|entry| format!("{:<26}", cell(entry))).collect();
            cells.join(" ")
        };
        // The entries of x86 are half as wide without the address extension.
        let digits = if machine.dump().header().pae_enabled == Some(false) { 8 } else { 16 };
        let content = |value: u64| format!("{value:0digits$X}");
        output.line(format!("{:>43} {}", "VA", output.word(at.0)))?;
        output.line(columns(&|entry| {
            let place =
                entry.mapped_at.map_or_else(|| UNKNOWN.to_owned(), |at| output.word(at.0).to_uppercase());
            format!("{} at {place}", name(entry.level))
        }))?;
        output.line(columns(&|entry| format!("contains {}", content(entry.value))))?;
        output.line(columns(&meaning))?;
        let prototype = walk.prototype.map(|entry| row(&entry));
        if let Some(entry) = walk.prototype {
            output.line(format!("prototype contains {}  {}", content(entry.value), meaning(&entry)))?;
        }
        if let Some(missing) = &missing {
            output.missing(missing);
        }
        let entries: Vec<Value> = entries.into_iter().map(row).collect();
        Ok(json!({
            "address": address(at), "entries": entries, "prototype": prototype,
            "physical": walk.physical().map(|at| hex(at.0)), "missing": missing,
        }))
    },
};

/// What a page that reads as zeros is.
pub(super) const NEVER_USED: &str = "never used yet: it reads as zeros, and no page holds it";

/// As WinDbg names the levels.
fn name(level: u8) -> &'static str {
    match level {
        1 => "PTE",
        2 => "PDE",
        3 => "PPE",
        4 => "PXE",
        _ => "PML5E",
    }
}

fn row(entry: &WalkEntry) -> Value {
    json!({
        "name": name(entry.level), "level": entry.level, "address": entry.mapped_at.map(address),
        "value": hex(entry.value), "meaning": meaning(entry),
    })
}

/// `pfn 6518 -G-DA--KW-V`, or what the memory manager keeps in an entry that the processor does not take.
fn meaning(entry: &WalkEntry) -> String {
    match entry.kind {
        EntryKind::Valid(page) | EntryKind::Large(page) => {
            format!("pfn {:<9x} {}", page.0 >> 12, entry.flags)
        }
        EntryKind::Transition(page) => format!("transition, pfn {:x}", page.0 >> 12),
        EntryKind::Prototype(at) => format!("prototype {}", quad(at)),
        EntryKind::Empty => "not valid".to_owned(),
        kind => kind.to_string(),
    }
}
