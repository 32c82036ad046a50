//! The machine itself reported an error: 0x124, 0x9C, 0x80, 0x122. What its registers and its error record say, in words.

use super::{driver_cause, hardware, memory, processor};
use crate::facts::{Facts, Standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use crate::witness::Topic;
use stopcode_kernel::{McaSection, McaStatus, McaVendor, MemorySection, PcieSection, SectionContent};
use stopcode_knowledge as knowledge;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    reported(facts, findings);
    known_instability(facts, findings);
}

fn reported(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = facts.stop.as_ref().filter(|stop| matches!(stop.base, 0x124 | 0x9c | 0x80 | 0x122))
    else {
        return;
    };
    let name = stop.name.as_deref().unwrap_or_default();
    let whole = if (stop.base, stop.arg(1)) == (0x124, 4) { device() } else { processor() };
    let source = knowledge::bug_check(stop.base).and_then(|known| known.subcode(stop.arg(1)));
    let source = source.map(|source| format!(", {}", source.meaning)).unwrap_or_default();
    let text = format!(
        "{name}: the hardware itself reported an error that cannot be corrected (Arg1 {:#x}{source})",
        stop.arg(1)
    );
    findings.supports(&whole, evidence(Basis::Arguments, weights::STRONG, text).shown_by(".bugcheck"));
    machine_check(facts, findings);
    error_record(facts, findings);
    called_by_driver(facts, findings);
}

/// Windows calls these stops itself, through its own error source. A driver that does it, without a record of an error, reports
/// none of the hardware's.
fn called_by_driver(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stack) = facts.bug_check_stack().filter(|_| facts.is_dump()) else { return };
    if facts.witness.error_record().value().is_some() {
        return;
    }
    // Frame 0 is KeBugCheckEx itself.
    let Some(caller) = facts.standees(stack).find(|standee| standee.index > 0) else { return };
    let Some(image) = caller.frame.place.image.as_deref() else { return };
    if caller.standing != Standing::ThirdParty || caller.index != 1 {
        return;
    }
    let text = format!(
        "{} called KeBugCheckEx with this code, which Windows does itself when hardware reports an error, and no error record is at hand",
        caller.frame.place.label().unwrap_or_default()
    );
    let item =
        |weight| evidence(Basis::Stack, weight, text.clone()).shown_by("k").at(caller.frame.instruction);
    findings.supports(&driver_cause(facts, image), item(weights::STRONG));
    findings.contradicts_all(|cause| cause.class == Class::ProcessorHardware, &item(weights::STRONG));
}

fn device() -> Cause {
    hardware(Class::ProcessorHardware, "a PCI Express device or its slot")
}

/// Whose machine-check bits they are, by the name of the processor.
fn vendor(facts: &Facts<'_>) -> McaVendor {
    match facts.witness.system().processor_name.as_deref() {
        Some(name) if name.contains("Intel") => McaVendor::Intel,
        Some(name) if name.contains("AMD") => McaVendor::Amd,
        _ => McaVendor::Unknown,
    }
}

/// `MCi_STATUS`, from the arguments (source 0) or from text.
fn machine_check(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let from_arguments =
        (stop.base == 0x124 && stop.arg(1) == 0).then(|| stop.arg(3) << 32 | stop.arg(4) & 0xffff_ffff);
    let remarks = facts.witness.remarks().iter();
    let from_text = remarks
        .filter(|remark| remark.topic == Topic::MachineCheckStatus)
        .find_map(|remark| u64::from_str_radix(remark.text.trim_start_matches("0x"), 16).ok());
    let Some(raw) = from_arguments.or(from_text) else { return };
    let status = McaStatus::decode(raw, vendor(facts));
    if status.is_valid() {
        weigh_status(findings, &status, "MCi_STATUS", &format!("!mca {raw:#x}"));
    }
}

/// What a machine check says, and whether it says it of memory.
fn weigh_status(findings: &mut Findings, status: &McaStatus, lead: &str, command: &str) {
    let meaning = status.meaning.as_deref().unwrap_or("a code that the manuals do not define");
    let marks: Vec<&str> = status
        .flags
        .iter()
        .filter(|(name, _)| matches!(*name, "OVER" | "UC" | "PCC" | "POISON"))
        .map(|(_, words)| *words)
        .collect();
    let marks = if marks.is_empty() { String::new() } else { format!(" ({})", marks.join("; ")) };
    let text = format!("{lead} {:#x}: {meaning}{marks}", status.raw);
    let item = |weight| evidence(Basis::Memory, weight, text.clone()).shown_by(command);
    let is_memory = is_memory_controller(status.error_code);
    findings.supports(&processor(), item(if is_memory { weights::SLIGHT } else { weights::MODERATE }));
    if is_memory {
        findings.supports(&memory(), item(weights::CLEAR));
    }
}

/// The memory controller's compound code, `000F 0000 1MMM CCCC` (Intel SDM volume 3, "Compound error codes").
const fn is_memory_controller(code: u16) -> bool {
    code & 0xef80 == 0x0080
}

/// The sections of the error record.
fn error_record(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = facts.stop.as_ref().filter(|stop| stop.base == 0x124) else { return };
    let record = facts.witness.error_record();
    let Some(record) = record.value() else {
        if facts.is_dump() {
            let why = record.reason().unwrap_or("not in this dump");
            findings.missing(format!("the error record at {:#x}: {why}", stop.arg(2)));
        }
        return;
    };
    let command = format!("!errrec {:#x}", record.address.0);
    for section in &record.sections {
        match &section.content {
            SectionContent::Mca(section) => of_machine_check(findings, section, &command),
            SectionContent::Memory(section) => of_memory(findings, section, &command),
            SectionContent::Pcie(section) => of_device(findings, section, &command),
            _ => {}
        }
    }
}

fn of_machine_check(findings: &mut Findings, section: &McaSection, command: &str) {
    let lead = format!("processor {}, bank {}, status", section.processor, section.bank);
    weigh_status(findings, &section.status, &lead, command);
}

fn of_memory(findings: &mut Findings, section: &MemorySection, command: &str) {
    let what = section.error.unwrap_or("an error of no stated kind");
    let place: Vec<String> = section.place.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let physical = section.physical.map(|at| format!(" at physical address {at:#x}")).unwrap_or_default();
    let text = format!("the record names memory: {what}{physical} {}", place.join(", "));
    findings.supports(&memory(), evidence(Basis::Memory, weights::STRONG, text.trim_end()).shown_by(command));
}

fn of_device(findings: &mut Findings, section: &PcieSection, command: &str) {
    let ids = section.ids.map(|(vendor, device)| format!(" {vendor:04x}:{device:04x}")).unwrap_or_default();
    let place = section.place.map(|(segment, bus, device, function)| {
        format!(" at {segment:x}:{bus:02x}:{device:02x}.{function:x}")
    });
    let text = format!(
        "the record names a PCI Express {}{ids}{}",
        section.port.unwrap_or("device"),
        place.unwrap_or_default()
    );
    findings.supports(&device(), evidence(Basis::Memory, weights::CLEAR, text).shown_by(command));
}

/// A generation of processors that its maker calls unstable: weighs only where something else already points to the processor.
fn known_instability(facts: &Facts<'_>, findings: &mut Findings) {
    let system = facts.witness.system();
    let Some(known) = system.processor_name.as_deref().and_then(knowledge::processor) else { return };
    if !findings.causes().any(|cause| cause.class == Class::ProcessorHardware) {
        return;
    }
    let old =
        system.microcode.map(|revision| format!("; its microcode is {revision:#x}")).unwrap_or_default();
    let name = system.processor_name.as_deref().unwrap_or_default();
    let text = format!("{name}: {} ({}){old}", known.note, known.source);
    findings.supports(&processor(), evidence(Basis::Knowledge, weights::SLIGHT, text).shown_by("!cpuinfo"));
}
