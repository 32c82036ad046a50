//! Modules worth a look: not all of them, but all that a verdict could turn on.

use crate::paper::{Paper, Tone, rest};
use crate::table::{Fit, Table};
use crate::words::{Addresses, count, date, grouped};
use std::collections::{BTreeMap, BTreeSet};
use stopcode_base::file_name;
use stopcode_case::{DumpReport, ModuleReport};

const MODULES: usize = 24;
const UNLOADED: usize = 10;

/// Why a module is shown. In the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Suspect,
    OnStack,
    ThirdParty,
    UnknownMaker,
}

/// The modules of note with their dates, and how many others there are.
pub(crate) fn loaded(dump: &DumpReport, paper: &mut Paper) {
    if dump.modules.is_empty() {
        return;
    }
    let mut of_note = of_note(dump);
    // Within a group the oldest first, as analysts read `lm t n`; those without a date last.
    of_note.sort_by_key(|(why, module)| (*why, module.link_date.is_none(), module.link_date.as_deref()));
    paper.heading("Modules of note");
    if of_note.is_empty() {
        paper.paragraph(
            2,
            &format!("None among {}: all belong to Windows.", count(dump.modules.len(), "module")),
        );
        return;
    }
    let shown = of_note.get(..MODULES).unwrap_or(&of_note);
    for (index, line) in
        table(shown, Addresses::of(dump)).lines(paper.width().saturating_sub(2)).iter().enumerate()
    {
        paper.line(2, if index == 0 { Tone::Heading } else { Tone::Plain }, line);
    }
    if let Some(rest) = rest(of_note.len(), shown.len()) {
        paper.paragraph(2, &rest);
    }
    let others = dump.modules.len().saturating_sub(of_note.len());
    if others > 0 {
        paper.paragraph(2, &format!("Not listed: {} of Windows.", count(others, "module")));
    }
    for (reason, number) in dates_missing(shown) {
        paper.paragraph(2, &format!("No link date for {}: {reason}.", count(number, "module")));
    }
}

fn of_note(dump: &DumpReport) -> Vec<(Why, &ModuleReport)> {
    let hypotheses = dump.verdict.iter().flat_map(|verdict| &verdict.hypotheses);
    let suspects: BTreeSet<String> = hypotheses
        .filter_map(|hypothesis| hypothesis.suspect.as_ref()?.module.as_ref())
        .map(|name| name.to_lowercase())
        .collect();
    let on_stack: BTreeSet<&str> = dump
        .stacks
        .iter()
        .take(1)
        .flat_map(|stack| &stack.frames)
        .filter_map(|frame| frame.module.as_deref())
        .collect();
    dump.modules
        .iter()
        .filter_map(|module| {
            let name = file_name(&module.name).to_lowercase();
            let why = if suspects.contains(&name) {
                Why::Suspect
            } else if is_windows(module) {
                return None;
            } else if on_stack.contains(name.as_str()) {
                Why::OnStack
            } else if module.vendor.is_some() || module.role.is_some() {
                Why::ThirdParty
            } else {
                Why::UnknownMaker
            };
            Some((why, module))
        })
        .collect()
}

fn is_windows(module: &ModuleReport) -> bool {
    matches!(module.role.as_deref(), Some("os" | "os_core"))
        || module.vendor.as_deref().is_some_and(|vendor| vendor.starts_with("Microsoft"))
}

fn table(modules: &[(Why, &ModuleReport)], addresses: Addresses) -> Table {
    let mut table = Table::new([
        ("Name", Fit::CutEnd(10)),
        ("Start", Fit::Keep),
        ("Linked", Fit::Keep),
        ("Version", Fit::CutEnd(7)),
        ("Maker", Fit::CutEnd(6)),
        ("Role", Fit::CutEnd(6)),
        ("Here because", Fit::Wrap(12)),
    ]);
    for (why, module) in modules {
        let because = match why {
            Why::Suspect => "suspected",
            Why::OnStack => "on the stack",
            Why::ThirdParty => "third party",
            Why::UnknownMaker => "maker not known",
        };
        table.row(&[
            file_name(&module.name).to_owned(),
            addresses.address(&module.base),
            module.link_date.as_deref().map_or("no date", date).to_owned(),
            module.version.clone().unwrap_or_default(),
            module.vendor.clone().unwrap_or_default(),
            module.role.clone().unwrap_or_default(),
            because.to_owned(),
        ]);
    }
    table
}

fn dates_missing<'a>(modules: &[(Why, &'a ModuleReport)]) -> BTreeMap<&'a str, usize> {
    let mut reasons = BTreeMap::new();
    for reason in modules.iter().filter_map(|(_, module)| module.link_date_missing.as_deref()) {
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}

/// Drivers that were there and went: calls into them are a class of its own.
pub(crate) fn unloaded(dump: &DumpReport, paper: &mut Paper) {
    if dump.unloaded_modules.is_empty() {
        return;
    }
    let addresses = Addresses::of(dump);
    paper.heading("Unloaded drivers, newest first");
    let mut table = Table::new([("Name", Fit::CutEnd(12)), ("Start", Fit::Keep), ("Bytes", Fit::Keep)]);
    for module in dump.unloaded_modules.iter().take(UNLOADED) {
        table.row(&[module.name.clone(), addresses.address(&module.base), grouped(module.size)]);
    }
    for (index, line) in table.lines(paper.width().saturating_sub(2)).iter().enumerate() {
        paper.line(2, if index == 0 { Tone::Heading } else { Tone::Plain }, line);
    }
    if let Some(rest) = rest(dump.unloaded_modules.len(), UNLOADED) {
        paper.paragraph(2, &rest);
    }
}
