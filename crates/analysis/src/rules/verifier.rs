//! Driver Verifier and the checks that name their culprit: 0xC1, 0xC4, 0xC6, 0xC9, 0xCC, 0xCD, 0xD5, 0xD6, 0xE6,
//! 0xF1, 0xF6; 0xCB, 0xCE, 0xD4.

use super::driver_cause;
use crate::facts::{Facts, Standing, standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_base::VirtAddr;
use stopcode_kernel::{Stack, StackKind};
use stopcode_knowledge as knowledge;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    match stop.base {
        code if is_verifiers(code) => caught(facts, findings),
        0xcb | 0xce | 0xd3 | 0xd4 => named(facts, findings),
        _ => {}
    }
}

/// Driver Verifier's options in words: `flags 0x209bb: special pool, force IRQL checking, …`.
pub(super) fn options(flags: u32) -> String {
    let mut names: Vec<&str> = knowledge::verifier::names(flags).collect();
    let shown = names.len().min(6);
    let rest = names.len() - shown;
    names.truncate(shown);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let names = if names.is_empty() { String::new() } else { format!(": {}{more}", names.join(", ")) };
    format!("flags {flags:#x}{names}")
}

/// Arg1 of 0xE6: a device was kept from memory that nobody had opened to it.
const BLOCKED_ACCESS: u64 = 0x26;

/// Stops by which Driver Verifier, or the special pool that it turns on, says who broke a rule.
pub(super) const fn is_verifiers(base: u32) -> bool {
    matches!(base, 0xc1 | 0xc4 | 0xc6 | 0xc9 | 0xcc | 0xcd | 0xd5 | 0xd6 | 0xe6 | 0xf1 | 0xf6)
}

/// Verifier stops in the offender's call: the nearest driver below it is who broke the rule.
fn caught(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    // The table's own words for the rule say more than the code's name.
    let rule = knowledge::bug_check(stop.base).and_then(|known| known.selected_subcode(&stop.arguments));
    let rule = rule.map(|rule| format!(": {}", rule.meaning)).unwrap_or_default();
    let text = format!(
        "{}: Driver Verifier (or special pool) caught a driver in the act (Arg1 {:#x}{rule}); without it the machine would have gone on, with the damage done",
        stop.name.as_deref().unwrap_or("a Verifier stop"),
        stop.arg(1)
    );
    // What other processors and threads did is none of it, and where a device went wrong, its interrupt found whoever ran.
    let own = |stack: &&Stack| matches!(stack.kind, StackKind::Exception | StackKind::BugCheck);
    let by_device = (stop.base, stop.arg(1)) == (0xe6, BLOCKED_ACCESS);
    let stacks = facts.witness.stacks().iter().filter(own).filter(|_| !by_device);
    let offender = stacks
        .flat_map(|stack| facts.standees(stack))
        .find(|standee| standee.standing == Standing::ThirdParty);
    let cause = |image: Option<&str>| match image {
        Some(image) => Cause::by(Class::VerifierDetectedDriverBug, facts.driver_suspect(image)),
        None => Cause::of(Class::VerifierDetectedDriverBug),
    };
    match offender.and_then(|o| Some((o, o.frame.place.image.as_deref()?))) {
        Some((standee, image)) => {
            let cause = cause(Some(image));
            findings.supports(&cause, evidence(Basis::Verifier, weights::STRONG, text).shown_by(".bugcheck"));
            let text = format!(
                "{} (frame {}) is the nearest driver to the check that failed",
                standee.frame.place.label().unwrap_or_default(),
                standee.index
            );
            findings.supports(
                &cause,
                evidence(Basis::Stack, weights::CLEAR, text).shown_by("k").at(standee.frame.instruction),
            );
        }
        None => {
            findings.supports(
                &cause(None),
                evidence(Basis::Verifier, weights::STRONG, text).shown_by(".bugcheck"),
            );
        }
    }
}

/// Stops about a driver that went and left something behind, or whose code was paged out while it was needed: arguments say
/// where its code was.
fn named(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let name = stop.name.as_deref().unwrap_or_default();
    // What was touched lies where the driver was; so does what touched it, where its code went on running. 0xCB has the
    // callers that locked the pages.
    let places = match stop.base {
        0xcb => [stop.arg(1), stop.arg(2)],
        0xce => [stop.arg(1), stop.arg(3)],
        _ => [stop.arg(1), stop.arg(4)],
    };
    let address = VirtAddr(places[0]);
    let owned = places.into_iter().map(VirtAddr).find_map(|at| {
        Some((at, facts.place(at))).filter(|(_, place)| {
            place.image.as_deref().is_some_and(|image| standing(image) != Standing::Core)
        })
    });
    if let Some((address, image)) =
        owned.as_ref().and_then(|(at, place)| Some((*at, place.image.as_deref()?)))
    {
        let text = format!("{name}: {} is in {image}", address.windbg());
        findings.supports(
            &driver_cause(facts, image),
            evidence(Basis::Arguments, weights::DECISIVE, text)
                .shown_by(format!("ln {address:#}"))
                .at(address),
        );
        return;
    }
    if stop.base == 0xd3 {
        return; // its code was paged out, and it is there still
    }
    let text = format!("{name}: a driver was unloaded, or ended a request, and left work or memory behind");
    findings.supports(
        &Cause::of(Class::DriverBug),
        evidence(Basis::Arguments, weights::STRONG, text).shown_by(".bugcheck; lm u"),
    );
    findings.missing(format!("which driver owned {}: it is in no module named here", address.windbg()));
}
