//! Around the crash: how long the machine ran, what was in progress, what else is installed.

use crate::facts::Facts;
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;

/// A machine that ran for a week without a stop is no freshly mounted one.
const LONG_UPTIME_SECONDS: f64 = 7.0 * 86_400.0;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    if let Some(uptime) = facts.witness.system().uptime_seconds.get()
        && uptime >= LONG_UPTIME_SECONDS
    {
        let days = uptime / 86_400.0;
        let text = format!(
            "the machine had run for {days:.0} days: failing memory or processors seldom wait so long"
        );
        let item = evidence(Basis::Environment, weights::SLIGHT, text).shown_by(".time");
        findings.contradicts_all(
            |cause| matches!(cause.class, Class::MemoryHardware | Class::ProcessorHardware),
            &item,
        );
    }
    if facts.stop.is_some() && facts.witness.stacks().is_empty() && facts.code_address().is_none() {
        let text = "nothing is known but the stop code and its arguments: no stack and no registers";
        findings.supports(
            &Cause::of(Class::Unknown),
            evidence(Basis::Stack, weights::SLIGHT, text).shown_by("k; r"),
        );
    }
    if facts.is_dump() && facts.witness.verifier().value().is_some_and(|verifier| verifier.flags == 0) {
        findings.missing(
            "Driver Verifier was off: what it would have caught at the source was not caught".to_owned(),
        );
    }
}
