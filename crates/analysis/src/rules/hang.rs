//! Hangs and watchdogs: 0x101, 0x133, 0x1CA, 0x1DB, 0x1C8, 0x11C8, 0xE2, and all that are called after a watchdog. What did not go on, and who was asked to stop it?

use super::{driver_cause, firmware, processor};
use crate::facts::{Facts, Standing, standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class, Suspect, SuspectKind};
use crate::weights;
use crate::witness::Topic;
use std::collections::BTreeMap;
use stopcode_kernel::StackKind;
use stopcode_knowledge as knowledge;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    match stop.base {
        0x101 => clock_watchdog(facts, findings),
        0x133 => dpc_watchdog(facts, findings),
        0x1ca | 0x1db => starved(facts, findings),
        0x1c8 | 0x11c8 => power_button(facts, findings),
        0xe2 => {
            let text = "MANUALLY_INITIATED_CRASH: somebody pressed the keys or called for it";
            findings.supports(
                &Cause::by(Class::IntentionalOrTest, person()),
                evidence(Basis::Arguments, weights::DECISIVE, text).shown_by(".bugcheck"),
            );
        }
        _ => waited(facts, findings),
    }
}

/// Any other stop or report that is called after something that did not end in time, where no rule knows more of it.
fn waited(facts: &Facts<'_>, findings: &mut Findings) {
    const WORDS: [&str; 5] = ["WATCHDOG", "TIMEOUT", "DEADLOCK", "HUNG", "HANG"];
    let Some(known) = facts.stop.as_ref().and_then(|stop| knowledge::bug_check(stop.base)) else { return };
    if findings.causes().next().is_some() || !known.name.split('_').any(|word| WORDS.contains(&word)) {
        return;
    }
    let text = format!("{}: {}", known.name, known.summary.trim_end_matches('.'));
    findings.supports(
        &Cause::of(Class::DeadlockOrHang),
        evidence(Basis::Arguments, weights::MODERATE, text).shown_by(".bugcheck"),
    );
}

pub(super) fn person() -> Suspect {
    Suspect { kind: SuspectKind::Person, module: None, name: "somebody at the machine".to_owned() }
}

/// A processor took no clock interrupt: Arg4 is its number, Arg3 its PRCB.
fn clock_watchdog(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let number = stop.arg(4);
    let text = format!("processor {number} took no clock interrupt for {:#x} ticks", stop.arg(1));
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    findings.supports(&processor(), item(weights::LIKELY));
    findings.supports(&firmware(), item(weights::SLIGHT));
    findings.supports(&Cause::of(Class::DeadlockOrHang), item(weights::SLIGHT));
    let hung = facts.witness.processors().iter().find(|p| u64::from(p.number) == number);
    let Some(hung) = hung else {
        findings.missing(format!("what processor {number} was doing: its PRCB is not in this dump"));
        return;
    };
    if hung.ipi_frozen == Some(5) {
        let text = format!(
            "processor {number} did not even answer the freeze (IpiFrozen 5): interrupts were off or it stood still"
        );
        findings
            .supports(&processor(), evidence(Basis::Environment, weights::MODERATE, text).shown_by("!ipi"));
    }
    let stack = facts
        .witness
        .stacks()
        .iter()
        .find(|s| s.kind == StackKind::Processor && s.processor == Some(hung.number));
    match stack {
        None => findings.missing(format!(
            "the stack of processor {number}: what it ran when it stopped is not in this dump"
        )),
        Some(stack) => {
            if let Some((standee, image)) = facts
                .standees(stack)
                .find(|s| s.standing == Standing::ThirdParty)
                .and_then(|s| Some((s, s.frame.place.image.as_deref()?)))
            {
                let text = format!(
                    "{} stands on the stack of the hung processor {number}",
                    standee.frame.place.label().unwrap_or_default()
                );
                findings.supports(
                    &driver_cause(facts, image),
                    evidence(Basis::Stack, weights::MODERATE, text).shown_by("!running -it"),
                );
            }
        }
    }
}

fn dpc_watchdog(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    if stop.arg(1) == 0 {
        let text = format!("one DPC ran {:#x} ticks of {:#x} allowed", stop.arg(2), stop.arg(3));
        let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
        findings.supports(&Cause::of(Class::DriverBug), item(weights::MODERATE));
    } else {
        let text = "DPCs and interrupts took too long in sum (Arg1 1): who took how much is in the processors' history, seldom in a minidump";
        findings.supports(
            &Cause::of(Class::DriverBug),
            evidence(Basis::Arguments, weights::SLIGHT, text).shown_by(".bugcheck"),
        );
    }
    history(facts, findings);
}

/// What the watchdog wrote down while calls took too long: who stands there most.
fn history(facts: &Facts<'_>, findings: &mut Findings) {
    /// Fewer addresses say nothing.
    const ENOUGH: usize = 8;
    let histories = facts.witness.dpc_histories();
    let Some(histories) = histories.value() else {
        let why = histories.reason().unwrap_or_default();
        findings.missing(format!("the history of deferred procedure calls: {why}"));
        return;
    };
    for history in histories.iter().filter(|history| history.code.len() >= ENOUGH) {
        let images = history.code.iter().filter_map(|at| facts.place(*at).image);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for image in images.filter(|image| standing(image) == Standing::ThirdParty) {
            *counts.entry(image).or_default() += 1;
        }
        let Some((image, count)) = counts.into_iter().max_by_key(|(_, count)| *count) else { continue };
        let all = history.code.len();
        let text = format!(
            "of {all} code addresses that the DPC watchdog wrote down on processor {} (from {} on) {count} lie in {image}, more than in any other driver that does not come with Windows",
            history.processor,
            history.start.windbg()
        );
        // A stack is mostly the kernel's: a sixth of it is every sample of a driver's own call.
        let weight = if count * 6 >= all { weights::CLEAR } else { weights::SLIGHT };
        let shown = format!("dps {:#} {:#}", history.start, history.end);
        let item = evidence(Basis::Memory, weight, text).shown_by(shown).at(history.start);
        findings.supports(&driver_cause(facts, &image), item);
    }
}

/// Virtual processors or interprocessor interrupts were starved.
fn starved(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let text = format!("{}: a processor did not get to run", stop.name.as_deref().unwrap_or("watchdog"));
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    findings.supports(&Cause::of(Class::DeadlockOrHang), item(weights::CLEAR));
    findings.supports(&firmware(), item(weights::SLIGHT));
    findings.supports(&processor(), item(weights::SLIGHT));
}

/// The owner held the button because nothing went on: no driver is accused by that.
fn power_button(facts: &Facts<'_>, findings: &mut Findings) {
    let name = facts.stop.as_ref().and_then(|stop| stop.name.clone()).unwrap_or_default();
    let text = format!("{name}: the power button was held until Windows wrote this dump; nothing crashed");
    findings.supports(
        &Cause::by(Class::IntentionalOrTest, person()),
        evidence(Basis::Arguments, weights::STRONG, text).shown_by(".bugcheck"),
    );
    let hang = Cause::of(Class::DeadlockOrHang);
    let text = "a button is held when the machine no longer answers: what hung is the question";
    findings.supports(&hang, evidence(Basis::Arguments, weights::CLEAR, text).shown_by(".bugcheck"));
    for remark in facts.witness.remarks().iter().filter(|remark| remark.topic == Topic::BlackBox) {
        findings.supports(
            &hang,
            evidence(Basis::Environment, weights::NOTED, remark.text.clone())
                .shown_by("!blackboxpnp; !blackboxwinlogon"),
        );
    }
    let idle =
        facts.witness.processors().iter().filter(|p| p.thread.is_some() && p.thread == p.idle_thread).count();
    let all = facts.witness.processors().len();
    if all > 0 {
        let text = format!("{idle} of {all} processors ran their idle thread when the button was held");
        findings.supports(&hang, evidence(Basis::Environment, weights::NOTED, text).shown_by("!running -it"));
    }
    findings.missing("what the machine waited for: a minidump holds no stacks of waiting threads".to_owned());
}
