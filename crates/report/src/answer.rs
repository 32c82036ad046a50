//! The answer for the owner of the machine, and the causes with the evidence for and against each.

use crate::facts::stop_title;
use crate::paper::{Paper, Tone, rest};
use crate::words::{Addresses, cause, confidence_words, count, grouped, is_abstention, percent, sentence};
use stopcode_case::{DumpReport, EvidenceReport, HypothesisReport, NextStepReport};

const CAUSES: usize = 5;
const SUPPORTS: usize = 8;
const CONTRADICTS: usize = 5;
const STEPS: usize = 8;
const BAR: usize = 20;

/// Which file this is about, and its stop code.
pub(crate) fn input(dump: &DumpReport, paper: &mut Paper) {
    let input = &dump.input;
    paper.line(0, Tone::Heading, &input.path);
    let stop = dump.stop.as_ref().map(|stop| format!("; {}", stop_title(stop))).unwrap_or_default();
    paper.paragraph(0, &format!("{}, {} bytes{stop}", input.kind, grouped(input.size)));
}

/// What happened, how sure, what to do: of one dump or of a machine.
pub(crate) fn verdict(
    summary: &str,
    hypotheses: &[HypothesisReport],
    steps: &[NextStepReport],
    paper: &mut Paper,
) {
    paper.heading("What happened");
    paper.paragraph(2, summary);
    paper.heading("How sure");
    paper.paragraph(2, &how_sure(hypotheses));
    paper.heading("What to do");
    if steps.is_empty() {
        paper.paragraph(2, "Nothing that this evidence asks for.");
    }
    for (index, step) in steps.iter().take(STEPS).enumerate() {
        paper.item(2, &format!("{}. ", index + 1), Tone::Plain, &step.text);
        paper.item(5, "Why: ", Tone::Plain, &step.reason);
        if let Some(undo) = &step.undo {
            paper.item(5, "To undo: ", Tone::Plain, undo);
        }
    }
    if let Some(rest) = rest(steps.len(), STEPS) {
        paper.paragraph(2, &rest);
    }
}

/// The leading hypothesis in a sentence, and how far the next one is behind it.
pub(crate) fn how_sure(hypotheses: &[HypothesisReport]) -> String {
    let Some(first) = hypotheses.first() else {
        return "No cause can be named.".to_owned();
    };
    let lead = if is_abstention(first) {
        format!("There is not enough evidence to name a cause ({} unknown).", percent(first.confidence))
    } else {
        format!(
            "{} ({}): {}.",
            sentence(confidence_words(first.confidence)),
            percent(first.confidence),
            cause(first)
        )
    };
    match hypotheses.iter().skip(1).find(|other| !is_abstention(other)) {
        Some(next) => {
            let which = if is_abstention(first) { "The best candidate" } else { "Next" };
            format!("{lead} {which}: {} ({}).", cause(next), percent(next.confidence))
        }
        None => lead,
    }
}

/// Every cause that was weighed, with its evidence.
pub(crate) fn causes(hypotheses: &[HypothesisReport], addresses: Addresses, paper: &mut Paper) {
    paper.heading("Possible causes");
    for (index, hypothesis) in hypotheses.iter().take(CAUSES).enumerate() {
        if index > 0 {
            paper.blank();
        }
        paper.item(2, &format!("{}. ", index + 1), Tone::Heading, &sentence(&cause(hypothesis)));
        paper.line(5, Tone::Plain, &bar(hypothesis.confidence));
        evidence(&hypothesis.supports, ("+ ", Tone::For), SUPPORTS, addresses, paper);
        if hypothesis.supports.is_empty() && !is_abstention(hypothesis) {
            paper.paragraph(5, "Nothing speaks for it directly.");
        }
        evidence(&hypothesis.contradicts, ("- ", Tone::Against), CONTRADICTS, addresses, paper);
        if hypothesis.contradicts.is_empty() && !is_abstention(hypothesis) {
            paper.paragraph(5, "Nothing found speaks against it.");
        }
    }
    if let Some(rest) = rest(hypotheses.len(), CAUSES) {
        paper.paragraph(2, &rest);
    }
}

/// `[##############......] 72% likely`.
fn bar(confidence: f64) -> String {
    let filled = (confidence.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let empty = BAR.saturating_sub(filled);
    format!(
        "[{}{}] {} {}",
        "#".repeat(filled),
        ".".repeat(empty),
        percent(confidence),
        confidence_words(confidence)
    )
}

fn evidence(
    items: &[EvidenceReport],
    (mark, tone): (&str, Tone),
    most: usize,
    addresses: Addresses,
    paper: &mut Paper,
) {
    for item in items.iter().take(most) {
        paper.item(5, mark, tone, &item.text);
        if let Some(shown_by) = shown_by(item, addresses) {
            paper.line(7, Tone::Plain, &shown_by);
        }
    }
    if let Some(rest) = rest(items.len(), most) {
        paper.paragraph(5, &rest);
    }
}

/// ``see: !thread ffff…   (at fffff804`8b58334c)``: how a reader checks the item.
fn shown_by(item: &EvidenceReport, addresses: Addresses) -> Option<String> {
    let address = item.address.as_deref().map(|address| addresses.address(address));
    match (&item.command, address) {
        (Some(command), Some(address)) => Some(format!("see: {command}   (at {address})")),
        (Some(command), None) => Some(format!("see: {command}")),
        (None, Some(address)) => Some(format!("at {address}")),
        (None, None) => None,
    }
}

/// The first words on an input that could not be read.
pub(crate) fn unreadable(dump: &DumpReport, paper: &mut Paper) {
    paper.heading("What happened");
    paper.paragraph(2, &format!("{} That says nothing about the machine itself.", unreadable_reason(dump)));
    let hints: Vec<&str> = dump.problems.iter().filter_map(|problem| problem.hint.as_deref()).collect();
    if !hints.is_empty() {
        paper.heading("What to do");
        for (index, hint) in hints.iter().take(STEPS).enumerate() {
            paper.item(2, &format!("{}. ", index + 1), Tone::Plain, &sentence(hint));
        }
    }
    if let Some(rest) = rest(hints.len(), STEPS) {
        paper.paragraph(2, &rest);
    }
}

/// Why there is no verdict: the gravest problem, in a sentence.
pub(crate) fn unreadable_reason(dump: &DumpReport) -> String {
    let gravest = ["error", "warning", "note"]
        .iter()
        .find_map(|severity| dump.problems.iter().find(|problem| problem.severity == *severity));
    match gravest {
        Some(problem) => format!("This input could not be read: {} ({}).", problem.what, problem.place),
        None => format!("This input could not be read ({}).", count(dump.input.size as usize, "byte")),
    }
}
