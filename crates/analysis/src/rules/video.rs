//! Graphics: a card that did not answer in time (0x116, 0x117, 0x119, 0x141, 0xEA …).

use crate::facts::{Facts, Standing, standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_base::VirtAddr;
use stopcode_knowledge as knowledge;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let name = stop.name.as_deref().unwrap_or_default();
    // All codes of the graphics system's are called so, but for that of a driver's thread (0xEA).
    if stop.base != 0xea && !name.starts_with("VIDEO_") {
        return;
    }
    let what = match stop.base {
        0x116 => "the graphics card did not answer in time and could not be brought back",
        0x117 | 0x141 => "the graphics card did not answer in time and was reset",
        0xea => "a thread of the display driver span without end, waiting for the card",
        _ => "the graphics system found an error it cannot mend",
    };
    let cause = display_driver(facts).map_or_else(
        || Cause::of(Class::GpuDriverOrHardware),
        |image| Cause::by(Class::GpuDriverOrHardware, facts.driver_suspect(&image)),
    );
    let text = format!("{name}: {what}");
    findings.supports(&cause, evidence(Basis::Arguments, weights::STRONG, text).shown_by(".bugcheck"));
    if let (0x116 | 0x117 | 0x141, address) = (stop.base, VirtAddr(stop.arg(2))) {
        let place = facts.place(address);
        let base = facts.witness.module_at(address).map(|module| module.base);
        if let (Some(label), Some(base)) = (place.label(), base) {
            let text = format!("Arg2 points into the driver that was responsible: {label}");
            findings.supports(
                &cause,
                evidence(Basis::Arguments, weights::MODERATE, text)
                    .shown_by(format!("lm a {address:#}; ? {address:#} - {base:#}"))
                    .at(address),
            );
        }
    }
}

/// The display driver: by Arg2, then by the stack, then the only graphics driver that is loaded.
fn display_driver(facts: &Facts<'_>) -> Option<String> {
    let stop = facts.stop.as_ref()?;
    let responsible =
        (stop.arg(2) != 0).then(|| facts.place(VirtAddr(stop.arg(2)))).and_then(|place| place.image);
    if let Some(image) = responsible.filter(|image| standing(image) == Standing::ThirdParty) {
        return Some(image);
    }
    let on_stack =
        facts.witness.stacks().iter().flat_map(|stack| facts.standees(stack)).find_map(|standee| {
            let image = standee.frame.place.image.as_deref()?;
            is_display(image).then(|| image.to_owned())
        });
    on_stack.or_else(|| {
        let mut displays = facts.witness.modules().iter().filter(|module| is_display(&module.image));
        let only = displays.next()?;
        displays.next().is_none().then(|| only.image.clone())
    })
}

/// A vendor's kernel-mode display driver (not Windows' own graphics kernel).
fn is_display(image: &str) -> bool {
    knowledge::driver(image)
        .is_some_and(|driver| driver.category == knowledge::Category::Gpu && !driver.inbox)
}
