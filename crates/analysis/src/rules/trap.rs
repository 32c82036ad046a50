//! Traps of the processor that the kernel cannot handle, but for the double fault: 0x7F with other trap numbers in Arg1.

use super::{memory, processor};
use crate::facts::Facts;
use crate::findings::{Cause, Findings, evidence};
use crate::strength::Strength;
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_knowledge as knowledge;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = facts.stop.as_ref().filter(|stop| stop.base == 0x7f) else { return };
    let trap = stop.arg(1);
    let Some((what, causes)) = causes(trap) else { return };
    let name =
        knowledge::bug_check(stop.base).and_then(|known| known.subcode(trap)).map(|known| known.meaning);
    let text = format!("trap {trap:#x}, {}: {what}", name.as_deref().unwrap_or("one of the processor's"));
    for (cause, weight) in causes {
        findings.supports(&cause, evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck"));
    }
}

/// What a trap says, and of whom, the likeliest first. (Intel SDM volume 3, "Exception and interrupt reference".)
fn causes(trap: u64) -> Option<(&'static str, Vec<(Cause, Strength)>)> {
    let driver = || Cause::of(Class::DriverBug);
    Some(match trap {
        0 | 4 | 5 | 0x10 | 0x13 => {
            ("the instruction worked on numbers that it cannot take", vec![(driver(), weights::MODERATE)])
        }
        1 | 3 => ("somebody left it in the code, or flow went astray", vec![(driver(), weights::MODERATE)]),
        2 => (
            "the board raised it, for an error that it found or because somebody asked",
            vec![
                (memory(), weights::MODERATE),
                (processor(), weights::MODERATE),
                (Cause::of(Class::IntentionalOrTest), weights::NOTED),
            ],
        ),
        6 => (
            "what ran is no code: flow went astray, or the code is not what it was",
            vec![(driver(), weights::SLIGHT), (memory(), weights::SLIGHT), (processor(), weights::NOTED)],
        ),
        7 | 0xa..=0xd | 0x11 => (
            "an address, a selector or a state that the processor does not take",
            vec![(driver(), weights::MODERATE), (memory(), weights::SLIGHT), (processor(), weights::NOTED)],
        ),
        0x12 => ("the processor found its own error", vec![(processor(), weights::STRONG)]),
        _ => return None,
    })
}
