//! Several dumps of one machine, judged together: what they share is stronger evidence than any of them alone, and codes
//! that never repeat point below the software.

use crate::findings::{Cause, Findings, evidence};
use crate::rules;
use crate::summary;
use crate::verdict::{Basis, Class, Hypothesis, NextStep, Suspect, SuspectKind, Verdict};
use crate::weights;
use std::collections::BTreeSet;

/// One crash of a series.
pub struct SeriesMember<'v> {
    /// Its base stop code as text.
    pub base_code: Option<String>,
    /// Its own verdict.
    pub verdict: &'v Verdict,
}

/// The verdict on a series.
pub struct SeriesVerdict {
    /// Two or three sentences.
    pub summary: String,
    /// By confidence, highest first; never empty.
    pub hypotheses: Vec<Hypothesis>,
    /// In the order in which to do them.
    pub next_steps: Vec<NextStep>,
}

/// Judges a series; one member's verdict is the series' own.
pub fn judge_series(members: &[SeriesMember<'_>]) -> SeriesVerdict {
    if let [only] = members {
        return SeriesVerdict {
            summary: only.verdict.summary.clone(),
            hypotheses: only.verdict.hypotheses.clone(),
            next_steps: only.verdict.next_steps.clone(),
        };
    }
    let mut findings = Findings::default();
    carry_over(members, &mut findings);
    random_codes(members, &mut findings);
    flipped_bits(members, &mut findings);
    let (hypotheses, _) = findings.weigh();
    SeriesVerdict {
        summary: format!("{} {}", counted(members), summary::cause(&hypotheses)),
        next_steps: steps(members, &hypotheses),
        hypotheses,
    }
}

/// A cause's family: processor and memory are both "the machine", a driver is itself.
fn key(hypothesis: &Hypothesis) -> (Class, Option<String>) {
    let module = hypothesis.suspect.as_ref().and_then(|s| s.module.clone());
    (hypothesis.class, module)
}

/// What single verdicts say, added up: each member speaks with its own confidence, and with its strongest item.
fn carry_over(members: &[SeriesMember<'_>], findings: &mut Findings) {
    let mut causes: Vec<(Class, Option<String>)> = Vec::new();
    for hypothesis in members.iter().flat_map(|member| &member.verdict.hypotheses) {
        let key = key(hypothesis);
        if hypothesis.class != Class::Unknown && !causes.contains(&key) {
            causes.push(key);
        }
    }
    for cause in causes {
        let said: Vec<(&SeriesMember<'_>, &Hypothesis)> = members
            .iter()
            .filter_map(|member| Some((member, member.verdict.hypotheses.iter().find(|h| key(h) == cause)?)))
            .collect();
        let Some((_, strongest)) = said.iter().max_by(|a, b| a.1.confidence.total_cmp(&b.1.confidence))
        else {
            continue;
        };
        let target = Cause { class: cause.0, suspect: strongest.suspect.clone() };
        let sum: f64 = said.iter().map(|(_, h)| h.confidence).sum();
        let share = sum / members.len() as f64;
        let codes: BTreeSet<&str> =
            said.iter().filter_map(|(member, _)| member.base_code.as_deref()).collect();
        let text = format!(
            "{} of {} dumps count it among the possible causes ({}), together with a weight of {sum:.1}",
            said.len(),
            members.len(),
            codes.into_iter().collect::<Vec<_>>().join(", "),
        );
        let weight =
            (share * weights::DECISIVE + (said.len() as f64).ln() * weights::SLIGHT).min(weights::DECISIVE);
        findings.supports(&target, evidence(Basis::Series, weight, text));
        if let Some(best) = strongest.supports.first() {
            let mut best = best.clone();
            best.weight = weights::NOTED;
            findings.supports(&target, best);
        }
    }
}

/// Different codes in different code, with no driver in common: the machine, not a program.
fn random_codes(members: &[SeriesMember<'_>], findings: &mut Findings) {
    let codes: BTreeSet<&str> = members.iter().filter_map(|member| member.base_code.as_deref()).collect();
    let places: BTreeSet<&str> =
        members.iter().filter_map(|m| m.verdict.bucket.text.rsplit('|').next()).collect();
    let list = codes.iter().copied().collect::<Vec<_>>().join(", ");
    if codes.len() >= 3 && codes.len() * 2 > members.len() {
        let text = format!(
            "{} dumps, {} different stop codes ({list}) at {} different places: software fails the same way again, a machine does not",
            members.len(),
            codes.len(),
            places.len()
        );
        let item = |weight| evidence(Basis::Series, weight, text.clone());
        findings.supports(&rules::memory(), item(weights::CLEAR));
        findings.supports(&rules::processor(), item(weights::MODERATE));
        findings.contradicts_all(|cause| names_one_driver(cause), &item(weights::MODERATE));
    } else if codes.len() == 1 && members.len() >= 3 {
        let text = format!(
            "{} dumps with one stop code ({list}): it repeats, as software or one failing part does",
            members.len()
        );
        findings.contradicts_all(
            |cause| cause.class == Class::MemoryHardware,
            &evidence(Basis::Series, weights::MODERATE, text),
        );
    }
}

/// Flipped bits in several dumps; the same bit again is a line or cell of one module.
fn flipped_bits(members: &[SeriesMember<'_>], findings: &mut Findings) {
    let bits: Vec<u8> = members
        .iter()
        .filter_map(|m| {
            m.verdict.hypotheses.iter().flat_map(|h| &h.supports).find_map(|evidence| evidence.flipped_bit)
        })
        .collect();
    if bits.is_empty() {
        return;
    }
    let again = bits.iter().filter(|bit| bits.iter().filter(|other| other == bit).count() > 1).count();
    let list = bits.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let text = if again > 1 {
        format!(
            "{} of {} dumps show a single flipped bit, {again} of them the same one (bits {list}): one bit of the memory that fails again",
            bits.len(),
            members.len()
        )
    } else {
        format!("{} of {} dumps show a single flipped bit (bits {list})", bits.len(), members.len())
    };
    let weight = if again > 1 { weights::STRONG } else { weights::MODERATE };
    findings.supports(&rules::memory(), evidence(Basis::Series, weight, text));
}

fn names_one_driver(cause: &Cause) -> bool {
    matches!(&cause.suspect, Some(Suspect { kind: SuspectKind::Driver | SuspectKind::Os, .. }))
}

fn counted(members: &[SeriesMember<'_>]) -> String {
    let mut codes: Vec<(&str, usize)> = Vec::new();
    for code in members.iter().filter_map(|member| member.base_code.as_deref()) {
        match codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => codes.push((code, 1)),
        }
    }
    codes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let list: Vec<String> = codes
        .iter()
        .map(|(code, count)| if *count == 1 { (*code).to_owned() } else { format!("{code} ({count} times)") })
        .collect();
    format!("{} crashes of one machine: {}.", members.len(), list.join(", "))
}

/// The members' advice for the joint causes, in the order of the joint verdict.
fn steps(members: &[SeriesMember<'_>], hypotheses: &[Hypothesis]) -> Vec<NextStep> {
    let mut steps: Vec<NextStep> = Vec::new();
    for hypothesis in hypotheses.iter().filter(|h| h.class != Class::Unknown) {
        let holds = |verdict: &&Verdict| {
            verdict
                .hypotheses
                .iter()
                .find(|h| h.class != Class::Unknown)
                .is_some_and(|lead| key(lead) == key(hypothesis))
        };
        for step in members
            .iter()
            .map(|m| m.verdict)
            .filter(holds)
            .take(1)
            .flat_map(|verdict| &verdict.next_steps)
            .take(3)
        {
            if !steps.iter().any(|known| known.text == step.text) {
                steps.push(step.clone());
            }
        }
    }
    steps.truncate(8);
    steps
}
