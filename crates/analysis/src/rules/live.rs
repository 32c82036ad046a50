//! Live dumps that somebody asked for. (Those about something that waited too long are `hang`'s, like the crashes.)

use super::hang::person;
use crate::facts::Facts;
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_knowledge as knowledge;

/// Written because somebody asked: by a command or a program (0x161), for Storage Replica (0x184), with the keys for a black
/// screen (0x21C8).
const ASKED: [u32; 3] = [0x161, 0x184, 0x21c8];

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let Some(known) = knowledge::bug_check(stop.base) else { return };
    let item = |weight| {
        let text = format!("{}: {}", known.name, known.summary.trim_end_matches('.'));
        evidence(Basis::Arguments, weight, text).shown_by(".bugcheck")
    };
    if ASKED.contains(&stop.base) {
        findings.supports(&Cause::by(Class::IntentionalOrTest, person()), item(weights::STRONG));
    }
    if stop.base == 0x21c8 {
        // The keys are for a screen that stays black.
        let text = "the keys are pressed when the screen stays black: why it did is the question";
        let black = evidence(Basis::Arguments, weights::CLEAR, text).shown_by(".bugcheck");
        findings.supports(&Cause::of(Class::GpuDriverOrHardware), black);
    }
}
