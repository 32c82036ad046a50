//! What others already concluded: a debugger's blame in pasted text. Evidence, never an answer.

use super::driver_cause;
use crate::facts::{Facts, Standing, standing};
use crate::findings::{Findings, evidence};
use crate::verdict::Basis;
use crate::weights;
use crate::witness::Topic;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    for remark in facts.witness.remarks().iter().filter(|r| r.topic == Topic::DebuggerBlame) {
        let image = remark.text.to_ascii_lowercase();
        if standing(&image) != Standing::ThirdParty || !image.contains('.') {
            continue;
        }
        let text =
            format!("the debugger's own analysis blames {image}; it follows the stack, as this one does");
        findings.supports(
            &driver_cause(facts, &image),
            evidence(Basis::Knowledge, weights::SLIGHT, text).shown_by("!analyze -v"),
        );
    }
}
