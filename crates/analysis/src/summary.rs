//! Two or three sentences: what happened, what it most likely was, how sure.

use crate::facts::{Facts, Live};
use crate::verdict::{Class, Hypothesis, confidence_words};

pub(crate) fn summary(facts: &Facts<'_>, hypotheses: &[Hypothesis]) -> String {
    let mut text = what_happened(facts);
    text.push(' ');
    text.push_str(&cause(hypotheses));
    text
}

/// The stop, in a sentence of facts.
fn what_happened(facts: &Facts<'_>) -> String {
    let Some(stop) = &facts.stop else { return "No stop code could be read.".to_owned() };
    let name = stop.name.as_deref().unwrap_or("a code that is not Microsoft's");
    let live = facts.live();
    let verb = match live {
        Live::Yes => "wrote a live report of",
        Live::Perhaps => "reported",
        Live::No => "stopped with",
    };
    let mut text = format!("Windows {verb} {:#x} ({name})", stop.base);
    if let Some(exception) = facts.exception() {
        let status = stopcode_knowledge::ntstatus(exception.code).map(|s| s.name);
        let status = status.map_or_else(|| format!("{:#010x}", exception.code), str::to_owned);
        text.push_str(&format!(": {status} at {}", facts.label(exception.address)));
    } else if let Some(address) = facts.code_address().filter(|_| is_about_code(stop.base)) {
        text.push_str(&format!(" at {}", facts.label(address)));
    }
    if let Some(uptime) = facts.witness.system().uptime_seconds.get() {
        text.push_str(&format!(", {} after start", duration(uptime)));
    }
    text.push('.');
    match live {
        Live::Yes => text.push_str(" It went on running: this is no crash."),
        Live::Perhaps => text.push_str(" It can write such a report and go on."),
        Live::No => {}
    }
    text
}

/// Codes whose context is the code that erred, not only the one that noticed.
const fn is_about_code(base: u32) -> bool {
    matches!(base, 0x0a | 0xd1 | 0x50 | 0xbe | 0xfc | 0x1e | 0x3b | 0x7e | 0x8e)
}

/// The lead and its runner-up.
pub(crate) fn cause(hypotheses: &[Hypothesis]) -> String {
    let Some(lead) = hypotheses.first() else { return String::new() };
    let percent = |h: &Hypothesis| format!("{:.0}%", h.confidence * 100.0);
    let who = |h: &Hypothesis| match &h.suspect {
        Some(suspect) => format!("{} ({})", h.class.words(), suspect.name),
        None => h.class.words().to_owned(),
    };
    let runner_up = |skip: usize| hypotheses.iter().skip(skip).find(|h| h.class != Class::Unknown);
    if lead.class == Class::Unknown {
        return match runner_up(1) {
            Some(next) => format!(
                "What is known does not tell the cause; the best of the possible ones is {} at {}.",
                who(next),
                percent(next)
            ),
            None => "What is known does not tell the cause.".to_owned(),
        };
    }
    let mut text = format!(
        "The leading cause is {} ({}, {}).",
        who(lead),
        confidence_words(lead.confidence),
        percent(lead)
    );
    if let Some(next) = runner_up(1).filter(|next| next.confidence >= 0.1) {
        text.push_str(&format!(" Next comes {} at {}.", who(next), percent(next)));
    }
    text
}

/// `3.7 seconds`, `4 minutes`, `2 hours`, `9 days`.
pub(crate) fn duration(seconds: f64) -> String {
    let counted = |value: f64, unit: &str| {
        let value = value.floor();
        format!("{value:.0} {unit}{}", if value < 2.0 { "" } else { "s" })
    };
    match seconds {
        s if s < 60.0 => format!("{s:.1} seconds"),
        s if s < 3600.0 => counted(s / 60.0, "minute"),
        s if s < 86_400.0 => counted(s / 3600.0, "hour"),
        s => counted(s / 86_400.0, "day"),
    }
}
