//! A process that Windows cannot do without ended (0xEF, 0xF4, 0xC000021A), and what lies under it: storage (0x7A, 0x77,
//! 0x154, 0x24, 0x7B, 0xED).

use super::{hardware, memory};
use crate::facts::Facts;
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class, Suspect, SuspectKind};
use crate::weights;
use stopcode_knowledge as knowledge;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    match stop.base {
        0xef | 0xf4 | 0xc000_021a => critical_process(facts, findings),
        0x7a | 0x77 | 0x154 => in_page(facts, findings),
        0x24 => {
            let text = "NTFS found an error in its structures or in reading them";
            let item = |weight| evidence(Basis::Arguments, weight, text).shown_by(".bugcheck");
            findings.supports(&Cause::of(Class::FilesystemCorruption), item(weights::LIKELY));
            findings.supports(&storage(), item(weights::MODERATE));
        }
        0x7b | 0xed => {
            let text =
                "the disk that Windows starts from could not be reached: driver, controller mode or disk";
            let item = |weight| evidence(Basis::Arguments, weight, text).shown_by(".bugcheck");
            findings.supports(&Cause::of(Class::Misconfiguration), item(weights::LIKELY));
            findings.supports(&storage(), item(weights::MODERATE));
        }
        _ => {}
    }
}

fn storage() -> Cause {
    hardware(Class::StorageHardware, "disk, its cable or controller")
}

fn critical_process(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let process = facts.witness.thread().process.value().cloned();
    let name = stop.name.as_deref().unwrap_or("a critical process ended");
    let text = match &process {
        Some(process) => {
            format!("{name}: a process Windows cannot do without ended; {process} ran at that moment")
        }
        None => format!("{name}: a process Windows cannot do without ended"),
    };
    let item = |weight| {
        evidence(Basis::Arguments, weight, text.clone()).shown_by(format!("!process {:#x} 0", stop.arg(1)))
    };
    findings.supports(&storage(), item(weights::SLIGHT));
    findings.supports(&Cause::of(Class::FilesystemCorruption), item(weights::SLIGHT));
    findings.supports(&memory(), item(weights::NOTED));
    if let Some(process) = process {
        let suspect =
            Suspect { kind: SuspectKind::Process, module: Some(process.to_ascii_lowercase()), name: process };
        findings.supports(&Cause::by(Class::OsBug, suspect), item(weights::NOTED));
    }
    findings.missing("why the process ended: its exit status and its own exception are user-mode facts that a minidump does not hold".to_owned());
}

fn in_page(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let status = match stop.base {
        0x77 => stop.arg(1),
        _ => stop.arg(2),
    } as u32;
    let name = knowledge::ntstatus(status).map(|status| status.name);
    let text = match name {
        Some(name) => format!("kernel data could not be read back from storage: {status:#010x} {name}"),
        None => "kernel data could not be read back from storage".to_owned(),
    };
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    findings.supports(&storage(), item(weights::LIKELY));
    findings.supports(&memory(), item(weights::SLIGHT));
}
