//! The machine itself reported an error: 0x124, 0x9C, 0x80, 0x122.

use super::{hardware, processor};
use crate::facts::Facts;
use crate::findings::{Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use crate::witness::Topic;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    if !matches!(stop.base, 0x124 | 0x9c | 0x80 | 0x122) {
        return;
    }
    let name = stop.name.as_deref().unwrap_or_default();
    let whole = match (stop.base, stop.arg(1)) {
        (0x124, 4) => hardware(Class::ProcessorHardware, "a PCI Express device or its slot"),
        _ => processor(),
    };
    let text = format!(
        "{name}: the hardware itself reported an error that cannot be corrected (Arg1 {:#x})",
        stop.arg(1)
    );
    findings.supports(
        &whole,
        evidence(Basis::Arguments, weights::STRONG, text).shown_by(format!("!errrec {:#x}", stop.arg(2))),
    );
    machine_check(facts, findings);
}

/// `MCi_STATUS`, from the arguments (source 0) or from text.
fn machine_check(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let from_arguments =
        (stop.base == 0x124 && stop.arg(1) == 0).then(|| stop.arg(3) << 32 | stop.arg(4) & 0xffff_ffff);
    let from_text = facts
        .witness
        .remarks()
        .iter()
        .find(|r| r.topic == Topic::MachineCheckStatus)
        .and_then(|r| u64::from_str_radix(r.text.trim_start_matches("0x"), 16).ok());
    let Some(status) = from_arguments.or(from_text).filter(|status| status >> 63 == 1) else { return };
    let code = status & 0xffff;
    let (words, is_memory) = decode(code);
    let text = format!("MCi_STATUS {status:#x}: {words}");
    let item =
        |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(format!("!mca {status:#x}"));
    findings.supports(&processor(), item(if is_memory { weights::SLIGHT } else { weights::MODERATE }));
    if is_memory {
        findings.supports(&super::memory(), item(weights::CLEAR));
    }
}

/// The architectural part of a machine-check code (Intel SDM volume 3, "Interpreting machine-check error codes"), and whether the
/// memory controller reports it.
fn decode(code: u64) -> (&'static str, bool) {
    let code = code & !0x1000; // bit 12 only says that corrected errors are filtered
    match code {
        0x0005 => ("an internal parity error", false),
        0x0400 => ("an internal timer ran out: a core made no progress", false),
        _ if code & 0xf800 == 0x0800 => ("the bus or interconnect between cores, memory and devices", false),
        _ if code & 0xff00 == 0x0100 => ("a cache", false),
        _ if code & 0xfff0 == 0x0010 => ("an address-translation cache (TLB)", false),
        _ if code & 0xff80 == 0x0080 => ("the memory controller", true),
        _ => ("a model-specific error", false),
    }
}
