//! Who stands on the stack: drivers that do not come with Windows, nearest to the fault first.

use super::driver_cause;
use crate::facts::{Facts, Standing};
use crate::findings::{Findings, evidence};
use crate::verdict::Basis;
use crate::weights;
use stopcode_kernel::StackKind;
use stopcode_knowledge as knowledge;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    third_parties(facts, findings);
    unloaded(facts, findings);
}

/// Drivers on the judged stack. The nearest to the fault weighs most: others only passed the work on.
fn third_parties(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stack) = facts.judged() else { return };
    let mut seen: Vec<&str> = Vec::new();
    for standee in facts.standees(stack).filter(|s| s.standing == Standing::ThirdParty) {
        let Some(image) = standee.frame.place.image.as_deref() else { continue };
        if seen.contains(&image) || seen.len() == 3 {
            continue;
        }
        let first = seen.is_empty();
        seen.push(image);
        let near = standee.index <= 8;
        let weight = match (first, near, standee.frame.trust.is_high()) {
            (true, true, true) => weights::CLEAR,
            (true, true, false) | (true, false, true) => weights::MODERATE,
            (true, false, false) | (false, true, _) => weights::SLIGHT,
            (false, false, _) => weights::NOTED,
        };
        let label = standee.frame.place.label().unwrap_or_default();
        let how = if standee.frame.trust.is_high() { "stands" } else { "appears (found by search)" };
        let order =
            if first { "first driver that does not come with Windows" } else { "another such driver" };
        let text = format!("{label} {how} in frame {} of the stack: the {order}", standee.index);
        let command = if stack.kind == StackKind::Exception {
            facts.context().map_or_else(|| "k".to_owned(), |context| format!("{}; k", context.command))
        } else {
            "k".to_owned()
        };
        findings.supports(
            &driver_cause(facts, image),
            evidence(Basis::Stack, weight, text).shown_by(command).at(standee.frame.instruction),
        );
        known_problem(facts, findings, image);
    }
}

/// What the field knows of a driver is evidence, never proof.
fn known_problem(facts: &Facts<'_>, findings: &mut Findings, image: &str) {
    let Some(known) = knowledge::driver(image) else { return };
    if let Some(problem) = &known.known_problem {
        let text = format!("{image} is known for: {problem}");
        let command = format!("lmvm {}", image.rsplit_once('.').map_or(image, |(stem, _)| stem));
        findings.supports(
            &driver_cause(facts, image),
            evidence(Basis::Knowledge, weights::SLIGHT, text).shown_by(command),
        );
    }
}

/// Code that ran in a driver that is no longer there.
fn unloaded(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(address) = facts.code_address() else { return };
    let place = facts.place(address);
    let Some(image) = place.image.as_deref().filter(|_| place.unloaded) else { return };
    let text = format!(
        "the instruction at {} lies in {image}, which was unloaded: it left work behind when it went",
        address.windbg()
    );
    findings.supports(
        &driver_cause(facts, image),
        evidence(Basis::Modules, weights::STRONG, text).shown_by("lm u").at(address),
    );
}
