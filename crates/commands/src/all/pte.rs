//! `!pte`

use super::facts::UNKNOWN;
use crate::command::{Command, Kind, Parameter};
use crate::show::{address, hex, quad};
use serde_json::{Value, json};
use stopcode_base::{Arch, Fact};
use stopcode_dump::paging::EntryKind;
use stopcode_kernel::TableEntry;

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
        let walk = machine.translate(at);
        if walk.entries.iter().all(|entry| entry.value.value().is_none()) {
            let reason =
                walk.entries.last().and_then(|entry| entry.value.reason()).or_else(|| walk.physical.reason());
            let why = format!("the page-table entries of {}: {}", at.windbg(), reason.unwrap_or("not known"));
            return Err(crate::answer::Stop::unknown(why));
        }
        let arm = machine.arch() == Arch::Arm64;
        let columns = |cell: &dyn Fn(&TableEntry) -> String| -> String {
            walk.entries.iter().map(|entry| format!("{:<27}", cell(entry))).collect()
        };
        output.line(format!("{:>43} {at}", "VA"))?;
        output.line(columns(&|entry| {
            let place = entry.address.map_or_else(|| UNKNOWN.to_owned(), |at| format!("{:016X}", at.0));
            format!("{} at {place}", entry.name())
        }))?;
        output.line(columns(&|entry| match &entry.value {
            Fact::Known { value: (raw, _), .. } => format!("contains {raw:016X}"),
            Fact::Missing { .. } => format!("contains {UNKNOWN}"),
        }))?;
        output.line(columns(&|entry| match &entry.value {
            Fact::Known { value: (raw, kind), .. } => meaning(*raw, *kind, arm),
            Fact::Missing { reason } => reason.to_string(),
        }))?;
        if let Some(reason) = walk.physical.reason() {
            output.missing(reason);
        }
        let entries = walk.entries.iter().map(|entry| {
            let known = entry.value.get();
            json!({
                "name": entry.name(), "level": entry.level, "address": entry.address.map_or(Value::Null, address),
                "value": known.map_or(Value::Null, |(raw, _)| hex(raw)),
                "meaning": known.map_or(Value::Null, |(raw, kind)| meaning(raw, kind, arm).into()),
                "missing": entry.value.reason(),
            })
        });
        Ok(json!({
            "address": address(at), "entries": entries.collect::<Vec<_>>(),
            "physical": walk.physical.get().map_or(Value::Null, |at| hex(at.0)),
            "missing": walk.physical.reason(),
        }))
    },
};

/// `pfn 6518 -G-DA--KW-V`, or what the memory manager keeps in an entry that the processor does not take.
fn meaning(raw: u64, kind: EntryKind, arm: bool) -> String {
    match kind {
        EntryKind::Valid(page) | EntryKind::Large(page) => {
            let large = matches!(kind, EntryKind::Large(_));
            let letters = if arm { arm64_letters(raw, large) } else { x64_letters(raw, large) };
            format!("pfn {:<9x} {letters}", page.0 >> 12)
        }
        EntryKind::Transition(page) => format!("transition, pfn {:x}", page.0 >> 12),
        EntryKind::Prototype(at) => format!("prototype {}", quad(at)),
        EntryKind::PrototypeInVad => "prototype, see VAD".to_owned(),
        EntryKind::PageFile { number: Some(number), page } => format!("page file {number}, {page:x}"),
        EntryKind::PageFile { number: None, page } => format!("page file, {page:x}"),
        EntryKind::DemandZero => "demand zero".to_owned(),
        EntryKind::Empty => "not valid".to_owned(),
        _ => "not valid, reserved bits".to_owned(),
    }
}

fn x64_letters(raw: u64, large: bool) -> String {
    let bit = |bit: u32| raw >> bit & 1 == 1;
    // Windows keeps its own writable bit (11) beside the processor's (1), which is set when the page is first written.
    let letters = [
        (bit(9), 'C', '-'),
        (bit(8), 'G', '-'),
        (large, 'L', '-'),
        (bit(6), 'D', '-'),
        (bit(5), 'A', '-'),
        (bit(4), 'N', '-'),
        (bit(3), 'T', '-'),
        (bit(2), 'U', 'K'),
        (bit(1) || bit(11), 'W', 'R'),
        (!bit(63), 'E', '-'),
        (bit(0), 'V', '-'),
    ];
    letters.iter().map(|(set, yes, no)| if *set { *yes } else { *no }).collect()
}

/// The same letters from the attributes of the Arm ARM; what it has no bit for is left out.
fn arm64_letters(raw: u64, large: bool) -> String {
    let bit = |bit: u32| raw >> bit & 1 == 1;
    let user = bit(6);
    let letters = [
        (!bit(11), 'G', '-'),
        (large, 'L', '-'),
        (bit(10), 'A', '-'),
        (user, 'U', 'K'),
        (!bit(7), 'W', 'R'),
        (!bit(if user { 54 } else { 53 }), 'E', '-'),
        (bit(0), 'V', '-'),
    ];
    letters.iter().map(|(set, yes, no)| if *set { *yes } else { *no }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_real_entries() {
        // A chain that a dump of 19041 holds: a directory, a driver's page, a stack's page.
        assert_eq!(x64_letters(0x0a00_0001_25ba_0863, false), "---DA--KWEV");
        assert_eq!(x64_letters(0x0900_0001_21e1_4121, false), "-G--A--KREV");
        assert_eq!(x64_letters(0x8a00_0000_0651_8963, false), "-G-DA--KW-V");
    }
}
