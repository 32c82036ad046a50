//! Windows found its own code or tables changed (0x109, 0x18C), and tools that are there to crash or change a kernel.

use crate::facts::{Facts, Standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_knowledge::{self as knowledge, Category};

/// Drivers whose purpose is to bring a machine down (Sysinternals NotMyFault).
const CRASHERS: [&str; 1] = ["myfault"];

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    changed(facts, findings);
    crashed_on_purpose(facts, findings);
}

/// Kernel Patch Protection compares code and tables with what they were.
fn changed(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = facts.stop.as_ref().filter(|stop| matches!(stop.base, 0x109 | 0x18c)) else {
        return;
    };
    let what = knowledge::bug_check(stop.base).and_then(|known| known.selected_subcode(&stop.arguments));
    let what = what.map(|what| format!(" ({})", what.meaning)).unwrap_or_default();
    let name = stop.name.as_deref().unwrap_or_default();
    let text = format!(
        "{name}: protected code or data of the kernel changed{what}; drivers that hook it do that on purpose"
    );
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    findings.supports(&Cause::of(Class::DriverBug), item(weights::SLIGHT));
    findings.supports(&Cause::of(Class::TamperingOrResearchTool), item(weights::SLIGHT));
    findings.supports(&super::memory(), item(weights::SLIGHT));
    for image in facts.witness.modules().iter().map(|module| module.image.as_str()) {
        if knowledge::driver(image).is_some_and(|driver| driver.category == Category::Anticheat) {
            let text =
                format!("{image} is loaded: an anti-cheat driver, which watches and may hook the kernel");
            let item = evidence(Basis::Modules, weights::NOTED, text).shown_by(super::lmvm(image));
            findings.supports(&Cause::of(Class::TamperingOrResearchTool), item);
        }
    }
    findings.missing("what exactly changed: only a comparison of the kernel in a full dump with its file shows that (`!chkimg`)");
}

/// A driver that somebody started in order to crash.
fn crashed_on_purpose(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stack) = facts.judged() else { return };
    let crasher = facts.standees(stack).filter(|s| s.standing == Standing::ThirdParty).find_map(|standee| {
        let image = standee.frame.place.image.as_deref()?;
        CRASHERS.contains(&image.trim_end_matches(".sys")).then_some((standee, image))
    });
    let Some((standee, image)) = crasher else { return };
    let text = format!(
        "{} stands in frame {}: {image} belongs to NotMyFault, which crashes a machine because somebody asked it to",
        standee.frame.place.label().unwrap_or_default(),
        standee.index
    );
    let cause = Cause::by(Class::IntentionalOrTest, facts.driver_suspect(image));
    findings.supports(&cause, evidence(Basis::Stack, weights::DECISIVE, text).shown_by("k"));
}
