//! What the owner of the machine can do, in order, and how to take it back.

use crate::facts::{Facts, Standing, standing};
use crate::verdict::{Basis, Class, Hypothesis, NextStep};
use stopcode_knowledge::{self as knowledge, Category};

/// Hypotheses below this give no advice of their own.
const WORTH_ACTING: f64 = 0.08;

pub(crate) fn next_steps(facts: &Facts<'_>, hypotheses: &[Hypothesis]) -> Vec<NextStep> {
    let mut steps: Vec<NextStep> = Vec::new();
    for hypothesis in hypotheses.iter().filter(|h| h.confidence >= WORTH_ACTING) {
        for step in for_cause(facts, hypothesis) {
            if !steps.iter().any(|known| known.text == step.text) {
                steps.push(step);
            }
        }
    }
    for step in verifier_off(facts, hypotheses).into_iter().chain(for_drivers_beside(facts)) {
        if !steps.iter().any(|known| known.text == step.text) {
            steps.push(step);
        }
    }
    let lead = hypotheses.first();
    let unsure = lead.is_none_or(|lead| lead.confidence < 0.7);
    if unsure {
        steps.push(step(
            "Keep the next dumps and read them together (`stopcode analyze FOLDER`).",
            "one dump shows one moment; what several share is far stronger evidence",
            None,
        ));
    }
    if unsure && hypotheses.iter().any(|h| wants_verifier(h.class) && h.confidence >= WORTH_ACTING) {
        steps.push(verifier_plan(facts));
    }
    steps.truncate(10);
    steps
}

/// A stack that ran out under Driver Verifier may not run out without it.
fn verifier_off(facts: &Facts<'_>, hypotheses: &[Hypothesis]) -> Option<NextStep> {
    let lead = hypotheses.first().filter(|lead| lead.class == Class::KernelStackOverflow)?;
    lead.supports.iter().any(|item| item.basis == Basis::Verifier).then(|| {
        let flags = facts.witness.verifier().value().map(|verifier| format!(" /flags {:#x}", verifier.flags));
        step(
            "Turn Driver Verifier off (`verifier /reset`) and see whether the stops end; turn it on again for single drivers only.",
            "its checks use stack in every call they watch; a stop that it alone brings about is no fault of daily use",
            Some(&format!("`verifier{} /driver NAME.sys`", flags.unwrap_or_else(|| " /standard".to_owned()))),
        )
    })
}

fn wants_verifier(class: Class) -> bool {
    matches!(
        class,
        Class::PoolCorruptionByDriver | Class::DriverBug | Class::Unknown | Class::AntivirusOrFilterDriver
    )
}

fn step(text: impl Into<String>, reason: impl Into<String>, undo: Option<&str>) -> NextStep {
    NextStep { text: text.into(), reason: reason.into(), undo: undo.map(str::to_owned) }
}

fn for_cause(facts: &Facts<'_>, hypothesis: &Hypothesis) -> Vec<NextStep> {
    let module = hypothesis.suspect.as_ref().and_then(|suspect| suspect.module.as_deref());
    match hypothesis.class {
        Class::DriverBug
        | Class::VerifierDetectedDriverBug
        | Class::AntivirusOrFilterDriver
        | Class::PoolCorruptionByDriver => module.map(|image| for_driver(facts, image)).unwrap_or_default(),
        class => for_class(class),
    }
}

fn update_firmware() -> NextStep {
    step(
        "Update the firmware (BIOS/UEFI) from the maker's page, or go back one version if the trouble began with an update.",
        "firmware and its ACPI tables run below Windows, and it carries the processor's microcode",
        Some("flash the version before"),
    )
}

fn update_windows() -> NextStep {
    step(
        "Install the pending Windows updates.",
        "Windows and the drivers that come with it are mended there",
        Some("Settings > Windows Update > Update history > Uninstall updates"),
    )
}

/// Driver Verifier for the drivers of this very machine, fewest first: those on the stack, else all that do not come with Windows.
fn verifier_plan(facts: &Facts<'_>) -> NextStep {
    const NAMED: usize = 6;
    let mut images: Vec<&str> = Vec::new();
    let on_stacks = facts.witness.stacks().iter().take(2).flat_map(|stack| facts.standees(stack));
    let stacked = on_stacks
        .filter(|s| s.standing == Standing::ThirdParty)
        .filter_map(|s| s.frame.place.image.as_deref());
    let loaded = facts.witness.modules().iter().map(|module| module.image.as_str());
    let third = |image: &&str| {
        standing(image) == Standing::ThirdParty
            && image.rsplit_once('.').is_some_and(|(_, kind)| kind == "sys")
            && !image.starts_with("dump_")
    };
    for image in stacked.chain(loaded.filter(third)) {
        if !images.contains(&image) && images.len() < NAMED {
            images.push(image);
        }
    }
    let names = if images.is_empty() { "NAME.sys …".to_owned() } else { images.join(" ") };
    step(
        format!(
            "Set a restore point, then turn Driver Verifier on for a few drivers at a time (`verifier /standard /driver {names}`), restart, use the machine as usual, and analyse the dump it makes."
        ),
        "it stops the machine where a driver breaks a rule, not where the damage is found later",
        Some(
            "`verifier /reset` and restart; if Windows no longer starts, three failed starts open the recovery: Troubleshoot > Startup Settings > Safe Mode, and `verifier /reset` there",
        ),
    )
}

/// What to do about a kind of cause, whoever it is.
pub(crate) fn for_class(class: Class) -> Vec<NextStep> {
    match class {
        Class::MemoryHardware => vec![step(
            "Take memory back to its rated speed (XMP/EXPO off), then test it overnight with MemTest86 or MemTest86+, each module alone if errors show.",
            "a test that runs outside Windows tells memory from software",
            Some("turn the profile on again in the firmware's set-up"),
        )],
        Class::ProcessorHardware => vec![
            step(
                "Load the firmware's default settings: no overclock, no undervolt, no curve optimiser.",
                "processors that are driven past their limits err in ways that look like driver bugs",
                Some("enter the old settings again"),
            ),
            update_firmware(),
        ],
        Class::FirmwareBios => vec![update_firmware()],
        Class::GpuDriverOrHardware => vec![
            step(
                "Install the newest (or, if the trouble began with an update, the previous) display driver from the maker, as a clean installation.",
                "most time-outs of graphics cards end with another driver version",
                Some("Device Manager: Roll Back Driver"),
            ),
            step(
                "Watch the card's temperature and power, take back any overclock, and try the card in another slot or machine.",
                "if another driver changes nothing, the card, its cooling or its power is left",
                None,
            ),
        ],
        Class::StorageHardware | Class::FilesystemCorruption => vec![
            step("Save your data first.", "a disk that fails seldom recovers", None),
            step(
                "Read the disk's own report (SMART) and update its firmware; check cable and slot.",
                "it counts its errors",
                None,
            ),
            step(
                "Run `chkdsk /scan`, then `sfc /scannow` and `DISM /Online /Cleanup-Image /RestoreHealth`.",
                "they find and mend damaged files",
                None,
            ),
        ],
        Class::OverheatingOrPower => vec![step(
            "Check temperatures under load, dust, and the power supply.",
            "both cause random errors",
            None,
        )],
        Class::UsbDevice => vec![step(
            "Unplug USB devices one by one; update hub and controller drivers.",
            "the device that brings it back is found by leaving it out",
            None,
        )],
        Class::Misconfiguration => vec![step(
            "Undo the last change of settings (disk controller mode, Secure Boot, boot options).",
            "Windows starts with the settings it was installed with",
            None,
        )],
        Class::KernelStackOverflow => vec![step(
            "Reduce the number of filter drivers in the path (antivirus, backup, encryption, virtual disks): remove one, test, go on.",
            "each adds to the depth of the stack; none needs to be wrong by itself",
            Some("install it again"),
        )],
        Class::IntentionalOrTest => vec![step(
            "If somebody pressed the button on purpose, nothing needs mending.",
            "this stop is made by request",
            None,
        )],
        Class::DeadlockOrHang => vec![step(
            "If it hangs again, write a full or kernel dump (System > Advanced > Startup and Recovery) and analyse that.",
            "only it holds what the waiting threads waited for",
            Some("set the dump kind back"),
        )],
        Class::TamperingOrResearchTool => vec![step(
            "Remove tools that hook or patch the kernel (cheats, anti-cheats, old protection drivers) and scan offline for malware.",
            "Windows stops when it finds its own code changed",
            None,
        )],
        Class::OsBug => vec![update_windows()],
        Class::DriverBug
        | Class::VerifierDetectedDriverBug
        | Class::AntivirusOrFilterDriver
        | Class::PoolCorruptionByDriver
        | Class::Unknown => Vec::new(),
    }
}

/// Newer version, inbox alternative, removal.
fn for_driver(facts: &Facts<'_>, image: &str) -> Vec<NextStep> {
    let known = knowledge::driver(image);
    let mut steps = Vec::new();
    if standing(image) != Standing::ThirdParty {
        return vec![update_windows(), update_firmware()];
    }
    let age =
        facts.module(image).and_then(|module| module.link_date.get()).map(stopcode_base::FileTime::date_text);
    let dated = age.map(|date| format!(" (this one is of {date})")).unwrap_or_default();
    let fixed = known
        .as_ref()
        .and_then(|k| k.known_fixed_version.clone())
        .map(|v| format!("; {v} is known to mend it"))
        .unwrap_or_default();
    steps.push(step(
        format!("Install a newer version of {image}{dated} from its maker{fixed}."),
        "the fault may be mended there; if not, its maker needs this dump",
        Some("Device Manager: Roll Back Driver"),
    ));
    if let Some(alternative) = known.as_ref().and_then(|k| k.inbox_alternative.as_ref()) {
        // Windows 7 and older call their AHCI driver otherwise.
        let older = alternative.driver.eq_ignore_ascii_case("storahci.sys")
            && facts.witness.system().build.is_none_or(|build| build < 9200);
        let older = if older { " (msahci.sys on Windows 7 and older)" } else { "" };
        steps.push(step(
            format!(
                "Or use Microsoft's {}{older} in its place, {}.",
                alternative.driver, alternative.condition
            ),
            "the driver that comes with Windows does the same work",
            Some("install the maker's driver again"),
        ));
    }
    if known.as_ref().is_some_and(|k| matches!(k.category, Category::Antivirus | Category::VpnFilter)) {
        steps.push(step(
            format!("Remove the product that {image} belongs to with its maker's removal tool, for a test; Windows Defender stays on guard."),
            "filters sit in every file and network operation",
            Some("install it again"),
        ));
    }
    steps
}

/// Drivers that were noted beside the fault and have well-known advice.
fn for_drivers_beside(facts: &Facts<'_>) -> Vec<NextStep> {
    let mut steps = Vec::new();
    for stack in facts.witness.stacks().iter().take(1) {
        for standee in facts.standees(stack).filter(|s| s.standing == Standing::ThirdParty) {
            let Some(image) = standee.frame.place.image.as_deref() else { continue };
            if knowledge::driver(image).is_some_and(|driver| driver.inbox_alternative.is_some()) {
                steps.extend(for_driver(facts, image));
            }
        }
    }
    steps
}
