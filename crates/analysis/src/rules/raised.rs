//! Exceptions that code raises on purpose, or by what it computes: they need no bad address, and no hardware to fail.

use super::fault::{exception_command, is_about_code};
use super::{cause_on_stack, memory, processor};
use crate::facts::{Facts, Standing, standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;

/// NTSTATUS of such exceptions and what they say.
const RAISED: [(u32, &str); 6] = [
    (0x8000_0003, "a breakpoint: whoever wrote the code left it there, and no debugger took it"),
    (0xc000_0420, "a failed assertion: the code found what its author had ruled out"),
    (0xc000_0094, "a division by zero"),
    (0xc000_0095, "a division whose result does not fit"),
    (0xc000_0409, "a check of the code's own found it damaged, and ended it"),
    (0xc000_0374, "a check of the heap found it damaged"),
];

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    if !facts.stop.as_ref().is_some_and(is_about_code) {
        return;
    }
    let Some(exception) = facts.exception() else { return };
    let Some((_, what)) = RAISED.iter().find(|(code, _)| *code == exception.code) else { return };
    let text = format!("the exception is {what}");
    let item = |weight| {
        evidence(Basis::Context, weight, text.clone())
            .shown_by(exception_command(facts))
            .at(exception.address)
    };
    let place = facts.place(exception.address);
    let driver = place.image.as_deref().filter(|image| standing(image) == Standing::ThirdParty);
    let cause = driver.map_or_else(|| Cause::of(Class::DriverBug), |image| cause_on_stack(facts, image));
    findings.supports(&cause, item(weights::MODERATE));
    for hardware in [memory(), processor()] {
        findings.contradicts(&hardware, item(weights::SLIGHT));
    }
}
