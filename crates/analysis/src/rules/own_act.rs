//! Checks that Windows makes in the caller's own call: what is wrong was done there and then, by whoever called, and
//! not by somebody earlier. The nearest driver below the check did it.

use super::{cause_on_stack, driver_cause};
use crate::facts::{Facts, Standing, standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_base::VirtAddr;

/// Codes that are raised within the call that broke the rule, and the rule.
const CHECKS: [(u32, &str); 7] = [
    (0x01, "a call returned with other APC state than it came with"),
    (0x44, "an I/O request was completed twice"),
    (0xbf, "a mutex was taken that its owner holds already"),
    (0xc8, "a call returned at another interrupt level than it came with"),
    (0xe3, "a resource was released by a thread that does not own it"),
    (0x10d, "the driver framework found a rule broken that its client promised to keep"),
    (0x162, "a lock was released by a thread that does not hold it"),
];

/// Codes that are raised when a thread or work item ends with something still held: what it ran before left that behind,
/// and is gone from the stack.
const LEFT_BEHIND: [(u32, &str); 4] = [
    (0x20, "a thread ended with kernel APCs disabled or pending"),
    (0x39, "a work item returned while its thread held a mutex"),
    (0x13c, "a thread ended with a priority boost that a lock had given it"),
    (0x153, "a thread ended while a lock was on its record"),
];

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    caught(facts, findings);
    left_behind(facts, findings);
}

fn left_behind(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let Some((_, what)) = LEFT_BEHIND.iter().find(|(code, _)| *code == stop.base) else { return };
    let name = stop.name.as_deref().unwrap_or_default();
    // 0x39 says which routine the work item ran.
    let routine = VirtAddr(if stop.base == 0x39 { stop.arg(1) } else { 0 });
    let owner = facts.place(routine).image.filter(|image| standing(image) != Standing::Core);
    if let Some(image) = owner {
        let text = format!("{name}: {what}; the routine was {}", facts.label(routine));
        findings.supports(
            &driver_cause(facts, &image),
            evidence(Basis::Arguments, weights::STRONG, text).shown_by(format!("ln {routine:#}")).at(routine),
        );
        return;
    }
    let text = format!(
        "{name}: {what}; code that ran in it before left that behind, and such code is seldom Windows' own"
    );
    findings.supports(
        &Cause::of(Class::DriverBug),
        evidence(Basis::Arguments, weights::LIKELY, text).shown_by(".bugcheck; !thread"),
    );
    findings.missing(
        "which code left it behind: it is no longer on the stack; Driver Verifier would stop it in the act",
    );
}

fn caught(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let Some((_, what)) = CHECKS.iter().find(|(code, _)| *code == stop.base) else { return };
    let name = stop.name.as_deref().unwrap_or_default();
    let text = format!("{name}: {what}; the check runs in the call itself");
    let nearest = facts
        .judged()
        .and_then(|stack| facts.standees(stack).find(|standee| standee.standing == Standing::ThirdParty))
        .and_then(|standee| standee.frame.place.image.as_deref());
    let (cause, weight) = match nearest {
        Some(image) => (cause_on_stack(facts, image), weights::CLEAR),
        None => (Cause::of(Class::DriverBug), weights::MODERATE),
    };
    findings.supports(&cause, evidence(Basis::Arguments, weight, text).shown_by(".bugcheck"));
}
