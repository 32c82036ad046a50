//! The rules, one file a family of bug checks. Each is a pure function from facts to findings; each finding says
//! what speaks for or against a cause and names the command that shows it.

mod access;
mod bits;
mod double_fault;
mod environment;
mod fault;
mod foreign;
mod hang;
mod hardware;
mod integrity;
mod live;
mod memory_manager;
mod opcode;
mod own_act;
mod pool;
mod power;
mod process;
mod raised;
mod reported;
mod stray;
mod suspects;
#[cfg(test)]
mod tests;
mod trap;
mod usual;
mod verifier;
mod video;

use crate::facts::{Facts, Standing, standing};
use crate::findings::{Cause, Findings};
use crate::verdict::{Class, Suspect, SuspectKind};
use stopcode_knowledge::{self as knowledge, Category};

/// A rule: looks at the facts and says what it finds, or nothing.
type Rule = fn(&Facts<'_>, &mut Findings);

/// In this order: a rule may look at what earlier ones found (`environment` weighs against all of them).
const RULES: [Rule; 21] = [
    verifier::rule,
    own_act::rule,
    integrity::rule,
    double_fault::rule,
    trap::rule,
    memory_manager::rule,
    pool::rule,
    access::rule,
    raised::rule,
    bits::rule,
    video::rule,
    hang::rule,
    live::rule,
    power::rule,
    hardware::rule,
    process::rule,
    foreign::rule,
    suspects::rule,
    reported::rule,
    usual::rule,
    environment::rule,
];

/// Runs every rule.
pub(crate) fn run(facts: &Facts<'_>, findings: &mut Findings) {
    for rule in RULES {
        rule(facts, findings);
    }
}

/// The cause that a driver's own fault would be, by what the driver is for.
pub(crate) fn driver_cause(facts: &Facts<'_>, image: &str) -> Cause {
    let class = match standing(image) {
        Standing::Core => Class::OsBug,
        // The window manager is a part of the kernel in files of its own, whatever it draws with.
        Standing::Carrier | Standing::Inbox if image.starts_with("win32k") => Class::OsBug,
        _ => match knowledge::driver(image).map(|driver| driver.category) {
            Some(Category::Antivirus | Category::VpnFilter | Category::Security) => {
                Class::AntivirusOrFilterDriver
            }
            Some(Category::Gpu) => Class::GpuDriverOrHardware,
            _ => Class::DriverBug,
        },
    };
    Cause::by(class, facts.driver_suspect(image))
}

/// The image of a driver object's name: it is called after its service, which mostly is called after the image.
pub(crate) fn image_of_driver(name: &str) -> String {
    let service = name.rsplit('\\').next().unwrap_or_default();
    format!("{}.sys", service.to_ascii_lowercase())
}

/// What a driver's place on the stack of this stop would make it: the stop code says what kind of fault it was.
pub(crate) fn cause_on_stack(facts: &Facts<'_>, image: &str) -> Cause {
    let Some(stop) = &facts.stop else { return driver_cause(facts, image) };
    if verifier::is_verifiers(stop.base) {
        Cause::by(Class::VerifierDetectedDriverBug, facts.driver_suspect(image))
    } else if pool::is_damage(stop) {
        Cause::by(Class::PoolCorruptionByDriver, facts.driver_suspect(image))
    } else {
        driver_cause(facts, image)
    }
}

/// The command that shows an image's module in full. WinDbg's module name is the image's without its extension.
pub(crate) fn lmvm(image: &str) -> String {
    format!("lmvm {}", image.rsplit_once('.').map_or(image, |(stem, _)| stem))
}

/// A part of the machine as a suspect.
pub(crate) fn hardware(class: Class, name: &str) -> Cause {
    Cause::by(class, Suspect { kind: SuspectKind::Hardware, module: None, name: name.to_owned() })
}

/// Memory modules.
pub(crate) fn memory() -> Cause {
    hardware(Class::MemoryHardware, "memory modules, their slots or settings")
}

/// The processor.
pub(crate) fn processor() -> Cause {
    hardware(Class::ProcessorHardware, "core, voltage, clock or microcode")
}

/// Firmware.
pub(crate) fn firmware() -> Cause {
    Cause::by(
        Class::FirmwareBios,
        Suspect { kind: SuspectKind::Firmware, module: None, name: "BIOS/UEFI".to_owned() },
    )
}

/// True if exactly one bit is set.
pub(crate) const fn single_bit(value: u64) -> bool {
    value.is_power_of_two()
}
