//! Damaged pool, lists and heap: 0x19, 0xC2, 0xC5, 0x13A, 0x139, 0x18. Who found the damage is seldom who did it.

use super::{memory, processor};
use crate::facts::{Facts, Standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    match stop.base {
        0x19 | 0xc2 | 0xc5 | 0x13a => damaged(facts, findings, "pool"),
        0x139 => fast_fail(facts, findings, stop.arg(1)),
        0x18 => {
            let text = "an object's reference count fell below zero: somebody released it once too often";
            findings.supports(
                &Cause::of(Class::DriverBug),
                evidence(Basis::Arguments, weights::MODERATE, text).shown_by(".bugcheck"),
            );
        }
        _ => {}
    }
}

fn damaged(facts: &Facts<'_>, findings: &mut Findings, what: &str) {
    let Some(stop) = &facts.stop else { return };
    let text = format!(
        "Windows found {what} damaged ({:#x}, Arg1 {:#x}); the damage was done before, by code that need not be on this stack",
        stop.base,
        stop.arg(1)
    );
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    findings.supports(&Cause::of(Class::PoolCorruptionByDriver), item(weights::MODERATE));
    findings.supports(&memory(), item(weights::SLIGHT));
    findings.supports(&processor(), item(weights::NOTED));
    freeing_driver(facts, findings);
}

/// The driver that handed the damaged block to the kernel.
fn freeing_driver(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stack) = facts.judged() else { return };
    let nearest = facts.standees(stack).find(|standee| standee.standing == Standing::ThirdParty);
    let Some((nearest, image)) = nearest.and_then(|n| Some((n, n.frame.place.image.as_deref()?))) else {
        return;
    };
    let text = format!(
        "{} handed the block to the kernel (frame {}): it owns it, or was given it damaged",
        nearest.frame.place.label().unwrap_or_default(),
        nearest.index
    );
    findings.supports(
        &Cause::by(Class::PoolCorruptionByDriver, facts.driver_suspect(image)),
        evidence(Basis::Stack, weights::MODERATE, text).shown_by("k").at(nearest.frame.instruction),
    );
}

/// 0x139: the kind of check that failed says what was damaged.
fn fast_fail(facts: &Facts<'_>, findings: &mut Findings, kind: u64) {
    let (what, stack_check) = match kind {
        2 => ("a stack cookie was overwritten: a function wrote past its own buffer", true),
        3 => (
            "a doubly linked list does not link back to itself: an entry was freed in use or overwritten",
            false,
        ),
        4 => ("the stack pointer lies outside the thread's stack", true),
        0xe => ("a reference count overflowed or underflowed", false),
        0x1d => ("a balanced tree is damaged", false),
        _ => ("the kernel checked itself and failed", false),
    };
    let text = format!("{what} (Arg1 {kind:#x})");
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    if stack_check {
        findings.supports(&Cause::of(Class::DriverBug), item(weights::MODERATE));
    } else {
        findings.supports(&Cause::of(Class::PoolCorruptionByDriver), item(weights::MODERATE));
        findings.supports(&Cause::of(Class::DriverBug), item(weights::SLIGHT));
    }
    findings.supports(&memory(), item(weights::NOTED));
    freeing_driver(facts, findings);
}
