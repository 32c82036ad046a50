//! What a fault was about, the commands that show it, and which causes blame code.

use crate::facts::{Facts, Stop};
use crate::findings::{Cause, Findings};
use crate::verdict::Class;
use stopcode_base::VirtAddr;

/// STATUS_ACCESS_VIOLATION.
const ACCESS_VIOLATION: u32 = 0xc000_0005;

/// Stops about an instruction that faulted, the family of 0xA, 0xD1, 0x50, 0x1E, 0x3B, 0x7E, 0x8E and 0xBE.
pub(super) fn is_about_code(stop: &Stop) -> bool {
    matches!(stop.base, 0x0a | 0xd1 | 0x50 | 0x1e | 0x3b | 0x7e | 0x8e | 0xbe | 0xfc | 0xd5 | 0x7f)
        && !(stop.base == 0x7f && stop.arg(1) == 8)
}

/// The address the fault was about: an argument, the exception's second parameter, or, where neither tells, the one address
/// that the instruction touches.
pub(super) fn fault_address(facts: &Facts<'_>) -> Option<VirtAddr> {
    let stop = facts.stop.as_ref()?;
    match stop.base {
        0x0a | 0xd1 | 0x50 | 0xbe | 0xfc | 0xd5 => Some(VirtAddr(stop.arg(1))),
        _ => {
            let exception = facts.exception().filter(|exception| exception.code == ACCESS_VIOLATION)?;
            exception.parameters.get(1).copied().map(VirtAddr).or_else(|| {
                let instruction = facts.instruction().filter(|i| i.address == exception.address)?;
                match instruction.accesses.as_slice() {
                    [only] => only.address,
                    _ => None,
                }
            })
        }
    }
}

/// The command that shows the exception record.
pub(super) fn exception_command(facts: &Facts<'_>) -> String {
    match &facts.stop {
        Some(stop) if stop.base == 0x7e => format!(".exr {:#x}", stop.arg(3)),
        _ => ".exr -1".to_owned(),
    }
}

/// The command that shows the address that was touched: an argument, the record's second parameter, or what the instruction
/// makes of its registers.
pub(super) fn address_command(facts: &Facts<'_>) -> String {
    let told = facts.exception().is_some_and(|exception| exception.parameters.len() > 1);
    match facts.stop.as_ref().map(|stop| stop.base) {
        Some(0x0a | 0xd1 | 0x50 | 0xbe | 0xfc | 0xd5) => ".bugcheck".to_owned(),
        _ if told => exception_command(facts),
        _ => context_command(facts),
    }
}

/// The command that selects and shows the context to judge.
pub(super) fn context_command(facts: &Facts<'_>) -> String {
    facts.context().map_or_else(|| "r".to_owned(), |context| context.command.clone())
}

/// The causes found so far that blame code.
pub(super) fn software_causes(findings: &Findings) -> Vec<Cause> {
    findings.causes().filter(|cause| is_software(cause.class)).cloned().collect()
}

/// Classes that blame code.
pub(super) const fn is_software(class: Class) -> bool {
    matches!(
        class,
        Class::DriverBug
            | Class::AntivirusOrFilterDriver
            | Class::OsBug
            | Class::GpuDriverOrHardware
            | Class::UsbDevice
    )
}

/// An instruction with its column of blanks folded, for a sentence.
pub(super) fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
