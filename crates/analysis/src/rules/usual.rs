//! What is usually behind a stop code, where the case itself tells little: a base rate, the weakest evidence there is, so
//! that no code goes without an answer and none is made sure by it.

use super::{firmware, hardware, memory, processor};
use crate::facts::Facts;
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_knowledge as knowledge;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let Some(known) = knowledge::bug_check(stop.base) else { return };
    let name = &known.name;
    if findings.causes().count() > 1 || findings.is_settled() {
        return; // the case itself tells more than what is usual
    }
    let mut causes: Vec<Cause> = Vec::new();
    // Of the traps behind one code only the double fault is about the stack.
    let other_trap = stop.base == 0x7f && stop.arg(1) != 8;
    for cause in known.typical_causes.iter().copied().filter_map(of) {
        let unfit = other_trap && cause.class == Class::KernelStackOverflow;
        if !unfit && !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    for (cause, weight) in causes.into_iter().zip([weights::USUAL, weights::NOTED, weights::NOTED]) {
        // Some driver, or a kind of one, is weighed already: "some driver" adds nothing.
        let known = findings
            .causes()
            .any(|other| other.class == cause.class || blames_code(other.class) && blames_code(cause.class));
        if known {
            continue;
        }
        let often = if weight == weights::USUAL { "most often" } else { "at times" };
        let text = format!("{name} is {often} brought about by {}", cause.class.words());
        findings.supports(&cause, evidence(Basis::Knowledge, weight, text).shown_by(".bugcheck"));
    }
}

/// Drivers of whatever kind, and what they damage.
const fn blames_code(class: Class) -> bool {
    matches!(
        class,
        Class::DriverBug
            | Class::VerifierDetectedDriverBug
            | Class::PoolCorruptionByDriver
            | Class::AntivirusOrFilterDriver
            | Class::GpuDriverOrHardware
            | Class::UsbDevice
    )
}

/// The field's word for a typical cause, as a cause of ours.
fn of(typical: knowledge::Cause) -> Option<Cause> {
    Some(match typical {
        knowledge::Cause::Firmware => firmware(),
        knowledge::Cause::Graphics => Cause::of(Class::GpuDriverOrHardware),
        knowledge::Cause::HardwareCpu | knowledge::Cause::Overclock => processor(),
        knowledge::Cause::HardwareMemory => memory(),
        knowledge::Cause::Storage => hardware(Class::StorageHardware, "disk, its cable or controller"),
        knowledge::Cause::StackOverflow => Cause::of(Class::KernelStackOverflow),
        knowledge::Cause::Filesystem => Cause::of(Class::FilesystemCorruption),
        knowledge::Cause::Usb => Cause::of(Class::UsbDevice),
        knowledge::Cause::Os => Cause::of(Class::OsBug),
        knowledge::Cause::Verifier => Cause::of(Class::VerifierDetectedDriverBug),
        knowledge::Cause::UserModeProcess => return None,
        _ => Cause::of(Class::DriverBug),
    })
}
