//! Several inputs: a table for each machine with the joint verdict below it, then what belongs to no machine.

use crate::answer::{self, unreadable_reason};
use crate::paper::{Paper, Tone};
use crate::table::{Fit, Table};
use crate::words::{Addresses, cause, code, count, percent};
use std::collections::{BTreeMap, BTreeSet};
use stopcode_case::{CaseReport, DumpReport, SeriesReport};

/// The whole series.
pub(crate) fn write(series: &SeriesReport, paper: &mut Paper) {
    paper.line(0, Tone::Heading, &title(series));
    for (index, case) in series.cases.iter().enumerate() {
        machine(index, case, series, paper);
        answer::verdict(&case.summary, &case.hypotheses, &case.next_steps, paper);
        answer::causes(&case.hypotheses, Addresses::of_members(&members(series, case)), paper);
        changes(case, series, paper);
    }
    let left = without_machine(series);
    if !left.is_empty() {
        paper.heading("Of no machine");
        lines(&left, series, paper);
        hints(&left, paper);
    }
    paper.blank();
    paper.item(
        0,
        "hint: ",
        Tone::Hint,
        "give one of the files alone to see its stack, its modules and its evidence.",
    );
}

/// `12 inputs, 2 machines, 3 inputs not read`.
pub(crate) fn title(series: &SeriesReport) -> String {
    let unread = series.dumps.iter().filter(|dump| dump.verdict.is_none()).count();
    let mut title =
        format!("{}, {}", count(series.dumps.len(), "input"), count(series.cases.len(), "machine"));
    if unread > 0 {
        title.push_str(&format!(", {} not read", count(unread, "input")));
    }
    title
}

/// The head of a machine: its name, why its dumps were put together, its table.
pub(crate) fn machine(index: usize, case: &CaseReport, series: &SeriesReport, paper: &mut Paper) {
    paper.heading(&format!("Machine {}: {}", index + 1, case.machine.name));
    if !case.machine.grouped_by.is_empty() {
        paper.item(2, "Grouped by: ", Tone::Plain, &case.machine.grouped_by.join("; "));
    }
    lines(&members(series, case), series, paper);
}

/// The dumps of a machine, in its own order.
pub(crate) fn members<'a>(series: &'a SeriesReport, case: &CaseReport) -> Vec<&'a DumpReport> {
    let mut by_path: BTreeMap<&str, Vec<&DumpReport>> = BTreeMap::new();
    for dump in series.dumps.iter().rev() {
        by_path.entry(dump.input.path.as_str()).or_default().push(dump);
    }
    // Two inputs of one path are two dumps: each is taken once.
    case.members.iter().filter_map(|path| by_path.get_mut(path.as_str())?.pop()).collect()
}

/// The dumps that no case claims, in the order given. Of two inputs of one path a single claim takes one.
pub(crate) fn without_machine(series: &SeriesReport) -> Vec<&DumpReport> {
    let mut claims: BTreeMap<&str, usize> = BTreeMap::new();
    for path in series.cases.iter().flat_map(|case| &case.members) {
        *claims.entry(path.as_str()).or_default() += 1;
    }
    let mut left = Vec::new();
    for dump in &series.dumps {
        match claims.get_mut(dump.input.path.as_str()) {
            Some(claims @ 1..) => *claims -= 1,
            _ => left.push(dump),
        }
    }
    left
}

/// The table of some dumps.
pub(crate) fn lines(dumps: &[&DumpReport], series: &SeriesReport, paper: &mut Paper) {
    let folder = common_folder(series);
    let mut table = Table::new([
        ("File", Fit::CutStart(14)),
        ("Time (UTC)", Fit::Keep),
        ("Code", Fit::Keep),
        ("Name", Fit::CutEnd(18)),
        ("Sure", Fit::Keep),
        ("Leading cause, or why there is none", Fit::Wrap(24)),
    ]);
    for dump in dumps {
        let crash_time = dump.system.as_ref().and_then(|system| system.crash_time.as_deref());
        let leading = dump.verdict.as_ref().and_then(|verdict| verdict.hypotheses.first());
        table.row(&[
            dump.input.path.get(folder..).unwrap_or(&dump.input.path).to_owned(),
            crash_time.map_or_else(|| "-".to_owned(), minute),
            dump.stop.as_ref().map_or("-", |stop| code(&stop.base_code)).to_owned(),
            dump.stop.as_ref().and_then(|stop| stop.name.as_deref()).unwrap_or("-").to_owned(),
            leading.map_or_else(|| "-".to_owned(), |leading| percent(leading.confidence)),
            leading.map_or_else(|| unreadable_reason(dump), cause),
        ]);
    }
    for (index, line) in table.lines(paper.width().saturating_sub(2)).iter().enumerate() {
        paper.line(2, if index == 0 { Tone::Heading } else { Tone::Plain }, line);
    }
}

/// Drivers that came, went or changed between the dumps of a machine.
pub(crate) fn changes(case: &CaseReport, series: &SeriesReport, paper: &mut Paper) {
    /// More changes are those of another installation, or of a year: JSON has them all.
    const MOST: usize = 16;
    if case.driver_changes.is_empty() {
        return;
    }
    paper.heading("Drivers that came, went or changed");
    let folder = common_folder(series);
    let short = |path: &str| path.get(folder..).unwrap_or(path).to_owned();
    let mut table = Table::new([
        ("Driver", Fit::CutEnd(20)),
        ("What", Fit::Keep),
        ("After", Fit::CutStart(14)),
        ("Before", Fit::CutStart(14)),
        ("Linked", Fit::Wrap(24)),
    ]);
    for change in case.driver_changes.iter().take(MOST) {
        let what = match change.change.as_str() {
            "at_times" => format!("in {} of {}", change.loaded_in, change.dumps),
            other => other.to_owned(),
        };
        let day =
            |date: &Option<String>| date.as_deref().and_then(|date| date.get(..10)).unwrap_or("-").to_owned();
        let linked = match change.change.as_str() {
            "changed" => format!("{} -> {}", day(&change.link_date_before), day(&change.link_date_after)),
            "came" => day(&change.link_date_after),
            _ => day(&change.link_date_before),
        };
        table.row(&[change.image.clone(), what, short(&change.before), short(&change.after), linked]);
    }
    for (index, line) in table.lines(paper.width().saturating_sub(2)).iter().enumerate() {
        paper.line(2, if index == 0 { Tone::Heading } else { Tone::Plain }, line);
    }
    let more = case.driver_changes.len().saturating_sub(MOST);
    if more > 0 {
        paper.line(2, Tone::Plain, &format!("and {}: `--format json` has all", count(more, "more change")));
    }
}

/// What can be done about inputs that were not read, each advice once.
fn hints(dumps: &[&DumpReport], paper: &mut Paper) {
    let hints: BTreeSet<&str> =
        dumps.iter().flat_map(|dump| &dump.problems).filter_map(|problem| problem.hint.as_deref()).collect();
    for hint in hints {
        paper.item(2, "hint: ", Tone::Hint, hint);
    }
}

/// Date, hour and minute.
fn minute(rfc3339: &str) -> String {
    match (rfc3339.get(..10), rfc3339.get(11..16)) {
        (Some(date), Some(time)) => format!("{date} {time}"),
        _ => rfc3339.to_owned(),
    }
}

/// Length in bytes of the folder that all inputs share, with its slash: it would say nothing in a table.
fn common_folder(series: &SeriesReport) -> usize {
    let mut paths = series.dumps.iter().map(|dump| dump.input.path.as_str());
    let Some(first) = paths.next() else { return 0 };
    let shared = paths.fold(first.len(), |shared, path| {
        let same = first.bytes().zip(path.bytes()).take(shared).take_while(|(a, b)| a == b).count();
        same.min(shared)
    });
    let head = first.as_bytes().get(..shared).unwrap_or_default();
    head.iter().rposition(|byte| b"/\\!".contains(byte)).map_or(0, |at| at + 1)
}
