//! Who stands on the stack: drivers that do not come with Windows, nearest to the fault first.

use super::{cause_on_stack, driver_cause};
use crate::facts::{Facts, Standing};
use crate::findings::{Cause, Findings, evidence};
use crate::strength::Strength;
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_kernel::StackKind;
use stopcode_knowledge::{self as knowledge, Category};

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    third_parties(facts, findings);
    carriers(facts, findings);
    unloaded(facts, findings);
}

/// No driver but frameworks of Windows on the stack: one that they carry gave them the work.
fn carriers(facts: &Facts<'_>, findings: &mut Findings) {
    let about_code = facts.stop.as_ref().is_some_and(super::fault::is_about_code);
    if !about_code || facts.code_address().is_some() || facts.nearest_third_party().is_some() {
        return; // who ran is known, or the stop is not about code
    }
    let Some(stack) = facts.judged() else { return };
    let first = facts.standees(stack).find(|standee| standee.standing != Standing::Core);
    let Some(first) = first.filter(|first| first.standing == Standing::Carrier && first.index <= 8) else {
        return;
    };
    let text = format!(
        "{} is the first frame outside the kernel: it carries out what a driver above or below it asks for",
        first.frame.place.label().unwrap_or_default()
    );
    findings.supports(
        &Cause::of(Class::DriverBug),
        evidence(Basis::Stack, weights::MODERATE, text).shown_by("k").at(first.frame.instruction),
    );
}

/// Drivers on the judged stack. The nearest to the fault weighs most: others only passed the work on.
fn third_parties(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stack) = facts.judged() else { return };
    if facts.stop.as_ref().is_some_and(|stop| stop.base == 0x7f && stop.arg(1) == 8) {
        return; // who stands on a stack that ran out made it deeper: `double_fault` weighs that
    }
    let weighed_by_access = facts.stop.as_ref().is_some_and(super::fault::is_about_code);
    let running =
        facts.code_address().filter(|_| weighed_by_access).and_then(|address| facts.place(address).image);
    let usual = usual_cause(facts);
    let most = at_most(facts, usual);
    let mut seen: Vec<&str> = Vec::new();
    for standee in facts.standees(stack).filter(|s| s.standing == Standing::ThirdParty) {
        let Some(image) = standee.frame.place.image.as_deref() else { continue };
        if seen.contains(&image) || seen.len() == 3 {
            continue;
        }
        let first = seen.is_empty();
        seen.push(image);
        let near = standee.index <= 8;
        let of_this_kind =
            known_category(image) == Some(Category::Gpu) && usual == Some(knowledge::Cause::Graphics);
        // That it runs was weighed as such; that it stands on the stack is then no second fact.
        let weight = if running.as_deref() == Some(image) {
            weights::NOTED
        } else {
            let by_place = match (first, near, standee.frame.trust.is_high()) {
                (true, true, true) => weights::NEAREST,
                (true, true, false) | (true, false, true) => weights::LIKELY,
                (true, false, false) | (false, true, _) => weights::SLIGHT,
                (false, false, _) => weights::NOTED,
            };
            if of_this_kind { by_place } else { by_place.min(most) }
        };
        let label = standee.frame.place.label().unwrap_or_default();
        let how = if standee.frame.trust.is_high() { "stands" } else { "appears (found by search)" };
        let order =
            if first { "the first driver that does not come with Windows" } else { "another such driver" };
        let text = format!("{label} {how} in frame {} of the stack: {order}", standee.index);
        let command = if stack.kind == StackKind::Exception {
            facts.context().map_or_else(|| "k".to_owned(), |context| format!("{}; k", context.command))
        } else {
            "k".to_owned()
        };
        findings.supports(
            &cause_on_stack(facts, image),
            evidence(Basis::Stack, weight, text).shown_by(command).at(standee.frame.instruction),
        );
        known_problem(facts, findings, image);
    }
}

/// What is most often behind this stop code.
fn usual_cause(facts: &Facts<'_>) -> Option<knowledge::Cause> {
    knowledge::bug_check(facts.stop.as_ref()?.base)?.typical_causes.first().copied()
}

fn known_category(image: &str) -> Option<Category> {
    knowledge::driver(image).map(|driver| driver.category)
}

/// What standing on the stack can say of a driver at most. Where the machine, its firmware or a person stops Windows, the
/// stack is of whoever was interrupted; where a disk, a file system or a graphics card fails, of whoever asked it for
/// something.
fn at_most(facts: &Facts<'_>, usual: Option<knowledge::Cause>) -> Strength {
    use knowledge::Cause::{Filesystem, Firmware, Graphics, HardwareCpu, HardwareMemory, Overclock, Storage};
    match (facts.stop.as_ref().map(|stop| stop.base), usual) {
        (Some(0xe2 | 0x1c8 | 0x1ca | 0x1db), _) => weights::NOTED,
        // Page frames are damaged by those who lock and free pages: they may stand there.
        (Some(0x1a | 0x4e), _) => weights::MODERATE,
        (Some(0xef | 0xf4 | 0xc000_021a), _) | (_, Some(Storage | Filesystem | Graphics)) => weights::SLIGHT,
        (_, Some(Firmware | HardwareCpu | HardwareMemory | Overclock)) => weights::NOTED,
        _ => weights::DECISIVE,
    }
}

/// What the field knows of a driver is evidence, never proof.
fn known_problem(facts: &Facts<'_>, findings: &mut Findings, image: &str) {
    let Some(known) = knowledge::driver(image) else { return };
    if let Some(problem) = &known.known_problem {
        let text = format!("{image} is known for: {problem}");
        findings.supports(
            &cause_on_stack(facts, image),
            evidence(Basis::Knowledge, weights::SLIGHT, text).shown_by(super::lmvm(image)),
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
