//! Power transitions: 0x9F and 0xA0. The device that holds up the transition names the driver.

use super::{driver_cause, firmware};
use crate::facts::{Facts, Standing, standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use crate::witness::Topic;
use stopcode_base::VirtAddr;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    match stop.base {
        0x9f => driver_power_state(facts, findings),
        0xa0 => {
            let text = format!("the power manager found an error it cannot mend (Arg1 {:#x})", stop.arg(1));
            let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
            findings.supports(&firmware(), item(weights::MODERATE));
            findings.supports(&Cause::of(Class::DriverBug), item(weights::SLIGHT));
        }
        0xa5 => {
            let text = "ACPI_BIOS_ERROR: the firmware's ACPI tables do not fit this Windows";
            findings.supports(
                &firmware(),
                evidence(Basis::Arguments, weights::STRONG, text).shown_by(".bugcheck"),
            );
        }
        _ => {}
    }
}

fn driver_power_state(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let text = match stop.arg(1) {
        3 => format!(
            "a device held a power request for too long: device {:#x}, IRP {:#x}",
            stop.arg(2),
            stop.arg(4)
        ),
        4 => {
            format!("a power transition waited for Plug and Play, whose lock thread {:#x} held", stop.arg(3))
        }
        other => format!("a driver stands in the way of a power transition (Arg1 {other:#x})"),
    };
    let command = if stop.arg(1) == 3 { format!("!irp {:#x}", stop.arg(4)) } else { ".bugcheck".to_owned() };
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(command.clone());
    // The device may be a USB one, and what holds the request may be a lock: no more than a base rate.
    findings.supports(&Cause::of(Class::DriverBug), item(weights::SLIGHT));
    findings.supports(&Cause::of(Class::DeadlockOrHang), item(weights::NOTED));
    holder(facts, findings);
    told_holder(facts, findings);
    let Some(stack) = facts.judged() else { return };
    if let Some((standee, image)) = facts
        .standees(stack)
        .find(|s| s.standing == Standing::ThirdParty)
        .and_then(|s| Some((s, s.frame.place.image.as_deref()?)))
    {
        let text = format!(
            "{} stands on the stack that held it up",
            standee.frame.place.label().unwrap_or_default()
        );
        findings.supports(
            &driver_cause(facts, image),
            evidence(Basis::Stack, weights::SLIGHT, text).shown_by("k"),
        );
    }
}

/// The same as a debugger read it, in pasted text.
fn told_holder(facts: &Facts<'_>, findings: &mut Findings) {
    for remark in facts.witness.remarks().iter().filter(|remark| remark.topic == Topic::RequestHolder) {
        let image = super::image_of_driver(&remark.text);
        let text =
            format!("the debugger's bucket names {} as the driver that holds the power request", remark.text);
        let weight = if standing(&image) == Standing::ThirdParty { weights::CLEAR } else { weights::SLIGHT };
        let item = evidence(Basis::Arguments, weight, text).shown_by("!analyze -v");
        findings.supports(&driver_cause(facts, &image), item);
    }
}

/// The driver whose part of the power request is the current one: it has not passed it on.
fn holder(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = facts.stop.as_ref().filter(|stop| stop.arg(1) == 3 && facts.is_dump()) else { return };
    let irp = facts.witness.irp(VirtAddr(stop.arg(4)));
    let current =
        irp.value().and_then(|irp| irp.locations.get(usize::from(irp.current_location).checked_sub(1)?));
    let Some(driver) = current.and_then(|location| location.driver.value()) else {
        let why =
            irp.reason().unwrap_or("its current stack location or the device's driver is not in this dump");
        findings.missing(format!("whose driver holds the power request {:#x}: {why}", stop.arg(4)));
        return;
    };
    let image = super::image_of_driver(driver);
    let text = format!(
        "the current stack location of the power request belongs to {driver}: it has not passed it on"
    );
    let item =
        |weight| evidence(Basis::Memory, weight, text.clone()).shown_by(format!("!irp {:#x}", stop.arg(4)));
    if facts.module(&image).is_none() {
        findings.supports(&Cause::of(Class::DriverBug), item(weights::SLIGHT));
        return;
    }
    let weight = if standing(&image) == Standing::ThirdParty { weights::STRONG } else { weights::MODERATE };
    findings.supports(&driver_cause(facts, &image), item(weight));
}
