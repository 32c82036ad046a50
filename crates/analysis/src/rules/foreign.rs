//! Stop codes that are not Microsoft's: a driver passed its own to KeBugCheckEx, and the caller is who knows why.

use super::driver_cause;
use crate::facts::{Facts, Standing};
use crate::findings::{Findings, evidence};
use crate::verdict::Basis;
use crate::weights;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    if stop.name.is_some() {
        return;
    }
    let Some(stack) = facts.bug_check_stack() else {
        findings.missing(format!(
            "who passed {:#x} to KeBugCheckEx: not a Microsoft code, and no stack tells its caller",
            stop.code
        ));
        return;
    };
    // Frame 0 is KeBugCheckEx itself; the next frame outside the kernel passed the code.
    let caller = facts.standees(stack).skip(1).find(|standee| standee.standing != Standing::Core);
    let Some((caller, image)) = caller.and_then(|c| Some((c, c.frame.place.image.as_deref()?))) else {
        findings.missing(format!(
            "who passed {:#x} to KeBugCheckEx: not a Microsoft code, and no driver stands on its stack",
            stop.code
        ));
        return;
    };
    let direct = caller.index == 1;
    let text = format!(
        "{:#x} is not a Microsoft code; {} {} KeBugCheckEx with it (Arg1 {:#x})",
        stop.code,
        caller.frame.place.label().unwrap_or_default(),
        if direct { "called" } else { "is the nearest driver below the call of" },
        stop.arg(1),
    );
    let weight = if direct { weights::STRONG } else { weights::CLEAR };
    findings.supports(
        &driver_cause(facts, image),
        evidence(Basis::Stack, weight, text).shown_by(".bugcheck; k").at(caller.frame.instruction),
    );
}
