//! Markdown for a forum: a short form to paste alone, a rule, then the details in fences.

use crate::answer::unreadable_reason;
use crate::escape::{fence, inline, span};
use crate::paper::Paper;
use crate::words::{Addresses, cause, code, confidence_words, count, is_abstention, percent, sentence};
use crate::{Style, answer, facts, modules, series, stacks};
use stopcode_case::{
    CaseReport, DumpReport, EvidenceReport, HypothesisReport, NextStepReport, Report, SeriesReport,
};

/// The short form has fewer characters than this: what the strictest of the usual places takes in one message.
const SHORT: usize = 2_000;
/// Room kept for the line that says that something was left out.
const LEFT_OUT: &str = "\n… more in the details\n";

/// The whole report.
pub(crate) fn report(report: &Report) -> String {
    let (short, details) = match report {
        Report::One(dump) => (short_dump(dump), dump_details(dump)),
        Report::Many(series) => (short_series(series), series_details(series)),
    };
    format!("{short}\n---\n\n{details}")
}

/// Text that takes lines as long as they fit.
struct Short {
    text: String,
    used: usize,
    full: bool,
}

impl Short {
    fn new() -> Self {
        Self { text: String::new(), used: LEFT_OUT.chars().count() + 1, full: false }
    }

    /// Adds a line, or nothing any more once one did not fit: what stands is then the start of the whole.
    fn line(&mut self, line: &str) {
        let wide = line.chars().count() + 1;
        if self.full || self.used + wide >= SHORT {
            self.full = true;
            return;
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.used += wide;
    }

    fn finish(mut self) -> String {
        if self.full {
            self.text.push_str(LEFT_OUT);
        }
        self.text
    }
}

fn short_dump(dump: &DumpReport) -> String {
    let mut short = Short::new();
    let title = dump.stop.as_ref().map_or_else(
        || "**No stop code**".to_owned(),
        |stop| {
            let name = stop.name.as_deref().unwrap_or("Stop code");
            format!("**{}** ({})", inline(name, 90), span(&format!("0x{}", code(&stop.base_code)), 24))
        },
    );
    short.line(&format!("{title} in {}", span(last_part(&dump.input.path), 60)));
    short.line("");
    let Some(verdict) = &dump.verdict else {
        short.line(&inline(&unreadable_reason(dump), 400));
        for hint in dump.problems.iter().filter_map(|problem| problem.hint.as_deref()).take(3) {
            short.line("");
            short.line(&format!("hint: {}", inline(hint, 300)));
        }
        return short.finish();
    };
    short.line(&inline(&verdict.summary, 440));
    short.line("");
    sure(&verdict.hypotheses, &mut short);
    if let Some(first) = verdict.hypotheses.first() {
        evidence("For", &first.supports, 3, &mut short);
        evidence("Against", &first.contradicts, 2, &mut short);
    }
    steps(&verdict.next_steps, 3, &mut short);
    short.finish()
}

fn short_series(series: &SeriesReport) -> String {
    let mut short = Short::new();
    short.line(&format!("**{}**", inline(&series::title(series), 120)));
    for case in &series.cases {
        short.line("");
        short.line(&format!(
            "**{}** ({})",
            inline(&case.machine.name, 80),
            count(case.members.len(), "dump")
        ));
        short.line("");
        short.line(&inline(&case.summary, 400));
        short.line("");
        sure(&case.hypotheses, &mut short);
        if let Some(first) = case.hypotheses.first() {
            evidence("For", &first.supports, 2, &mut short);
            evidence("Against", &first.contradicts, 1, &mut short);
        }
        steps(&case.next_steps, 2, &mut short);
    }
    short.finish()
}

fn sure(hypotheses: &[HypothesisReport], short: &mut Short) {
    let Some(first) = hypotheses.first() else { return };
    if is_abstention(first) {
        short.line(&format!(
            "**There is not enough evidence to name a cause** ({} unknown).",
            percent(first.confidence)
        ));
    } else {
        let words = sentence(confidence_words(first.confidence));
        short.line(&format!("**{words} ({}):** {}", percent(first.confidence), inline(&cause(first), 140)));
    }
    if let Some(next) = hypotheses.get(1).filter(|next| !is_abstention(next)) {
        short.line("");
        short.line(&format!("Next: {} ({})", inline(&cause(next), 100), percent(next.confidence)));
    }
}

fn evidence(title: &str, items: &[EvidenceReport], most: usize, short: &mut Short) {
    if items.is_empty() {
        return;
    }
    short.line("");
    short.line(&format!("{title}:"));
    short.line("");
    for item in items.iter().take(most) {
        let command =
            item.command.as_deref().map(|command| format!(" ({})", span(command, 50))).unwrap_or_default();
        short.line(&format!("- {}{command}", inline(&item.text, 130)));
    }
}

fn steps(steps: &[NextStepReport], most: usize, short: &mut Short) {
    if steps.is_empty() {
        return;
    }
    short.line("");
    short.line("What to do:");
    short.line("");
    for (index, step) in steps.iter().take(most).enumerate() {
        short.line(&format!("{}. {}", index + 1, inline(&step.text, 150)));
    }
}

fn dump_details(dump: &DumpReport) -> String {
    let mut out = String::from("### Details\n\n");
    section(&mut out, |paper| facts::stop(dump, paper));
    section(&mut out, |paper| stacks::write(dump, paper));
    if let Some(verdict) = &dump.verdict {
        section(&mut out, |paper| answer::causes(&verdict.hypotheses, Addresses::of(dump), paper));
    }
    section(&mut out, |paper| facts::system(dump, paper));
    section(&mut out, |paper| {
        modules::loaded(dump, paper);
        modules::unloaded(dump, paper);
    });
    section(&mut out, |paper| {
        facts::missing(dump, paper);
        facts::problems(dump, paper);
        facts::bucket(dump, paper);
    });
    format!("{}\n", out.trim_end())
}

fn series_details(series: &SeriesReport) -> String {
    let mut out = String::from("### Details\n\n");
    for (index, case) in series.cases.iter().enumerate() {
        section(&mut out, |paper| {
            series::machine(index, case, series, paper);
            causes_of(case, series, paper);
            series::changes(case, series, paper);
        });
    }
    let left = series::without_machine(series);
    if !left.is_empty() {
        section(&mut out, |paper| {
            paper.heading("Of no machine");
            series::lines(&left, series, paper);
        });
    }
    format!("{}\n", out.trim_end())
}

fn causes_of(case: &CaseReport, series: &SeriesReport, paper: &mut Paper) {
    answer::causes(&case.hypotheses, Addresses::of_members(&series::members(series, case)), paper);
}

/// What `write` puts on the page, in a fence; nothing where it puts nothing there.
fn section(out: &mut String, write: impl FnOnce(&mut Paper)) {
    let mut paper = Paper::new(Style::default());
    write(&mut paper);
    let text = paper.finish();
    if !text.trim().is_empty() {
        out.push_str(&fence(&text));
        out.push('\n');
    }
}

/// The file's own name: a path on the machine of whoever ran this is nobody's business on a forum.
fn last_part(path: &str) -> &str {
    path.rsplit(['/', '\\', '!']).next().unwrap_or(path)
}
