//! Several dumps of one machine, judged together: what they share is stronger evidence than any of them alone, and codes
//! that never repeat point below the software.

use crate::changes::{ChangeKind, Drivers, driver_changes};
use crate::findings::{Cause, Findings, evidence};
use crate::rules;
use crate::verdict::{Basis, Class, Evidence, Hypothesis, NextStep, Suspect, SuspectKind, Verdict};
use crate::weights::{self, DECISIVE, NOTED, SLIGHT};
use crate::{steps, summary};
use std::collections::BTreeSet;
use stopcode_base::FileTime;

/// One crash of a series.
pub struct SeriesMember<'v> {
    /// How to call it: its file name.
    pub name: &'v str,
    /// Its base stop code as text.
    pub base_code: Option<String>,
    /// Its own verdict.
    pub verdict: &'v Verdict,
    /// Its drivers, where it shows all of them.
    pub drivers: Option<&'v Drivers>,
}

impl SeriesMember<'_> {
    fn lead(&self) -> Option<&Hypothesis> {
        self.verdict.hypotheses.first()
    }

    /// Its own evidence explains it, whatever the others say.
    fn is_explained(&self) -> bool {
        self.lead().is_some_and(|lead| lead.class != Class::Unknown && lead.confidence >= EXPLAINED)
    }
}

/// From this confidence on a dump needs no others to explain it.
const EXPLAINED: f64 = 0.8;
/// What no member holds for likelier than this is not carried into the joint verdict.
const WORTH_CARRYING: f64 = 0.1;

/// The verdict on a series.
pub struct SeriesVerdict {
    /// Two or three sentences.
    pub summary: String,
    /// By confidence, highest first; never empty.
    pub hypotheses: Vec<Hypothesis>,
    /// In the order in which to do them.
    pub next_steps: Vec<NextStep>,
}

/// Judges a series; one member's verdict is the series' own.
pub fn judge_series(members: &[SeriesMember<'_>]) -> SeriesVerdict {
    if let [only] = members {
        return SeriesVerdict {
            summary: only.verdict.summary.clone(),
            hypotheses: only.verdict.hypotheses.clone(),
            next_steps: only.verdict.next_steps.clone(),
        };
    }
    let mut findings = Findings::default();
    carry_over(members, &mut findings);
    one_lead(members, &mut findings);
    code_that_cannot_be(members, &mut findings);
    flipped_bits(members, &mut findings);
    random_codes(members, &mut findings);
    not_there(members, &mut findings);
    let replaced = changed_in_vain(members, &mut findings);
    let (hypotheses, _) = findings.weigh();
    SeriesVerdict {
        summary: summary_of(members, &hypotheses),
        next_steps: steps(members, &hypotheses, &replaced),
        hypotheses,
    }
}

/// What happened how often, the joint cause with the best reason from the series and the best fact of a single dump, and which
/// dumps it does not explain.
fn summary_of(members: &[SeriesMember<'_>], hypotheses: &[Hypothesis]) -> String {
    let mut text = format!("{} {}", counted(members), summary::cause(hypotheses));
    let Some(lead) = hypotheses.first().filter(|lead| lead.class != Class::Unknown) else { return text };
    let (joint, single): (Vec<&Evidence>, Vec<&Evidence>) =
        lead.supports.iter().partition(|item| item.basis == Basis::Series);
    if let Some(reason) = joint.first() {
        text.push_str(&format!(" The strongest reason: {}.", reason.text));
    }
    if let Some(fact) = single.first() {
        text.push_str(&format!(" From a single dump: {}.", fact.text));
    }
    let says = |member: &&SeriesMember<'_>| {
        let same = |h: &&Hypothesis| key(h) == key(lead) && h.confidence >= WORTH_CARRYING;
        !member.verdict.hypotheses.iter().any(|h| same(&h))
    };
    let open: Vec<&SeriesMember<'_>> = members.iter().filter(says).collect();
    if !open.is_empty() && open.len() < members.len() {
        let verb = if open.len() == 1 { "does" } else { "do" };
        text.push_str(&format!(" Left open: {} {verb} not show this cause.", names(&open)));
    }
    text
}

/// `a.dmp`, `a.dmp and b.dmp`, `a.dmp, b.dmp and 15 more`.
fn names(members: &[&SeriesMember<'_>]) -> String {
    let short =
        |member: &SeriesMember<'_>| member.name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    match members {
        [] => String::new(),
        [only] => short(only),
        [first, second] => format!("{} and {}", short(first), short(second)),
        [first, second, third] => format!("{}, {} and {}", short(first), short(second), short(third)),
        [first, second, rest @ ..] => {
            format!("{}, {} and {} more", short(first), short(second), rest.len())
        }
    }
}

/// What makes two hypotheses the same cause: the class, and the module where one is named.
type Key = (Class, Option<String>);

fn key(hypothesis: &Hypothesis) -> Key {
    let module = hypothesis.suspect.as_ref().and_then(|s| s.module.clone());
    (hypothesis.class, module)
}

/// What single verdicts say, added up: each member speaks with its own confidence, and each stop code with the
/// strongest fact of one of its dumps.
fn carry_over(members: &[SeriesMember<'_>], findings: &mut Findings) {
    let mut causes: Vec<Key> = Vec::new();
    let worth = |hypothesis: &&Hypothesis| {
        hypothesis.class != Class::Unknown && hypothesis.confidence >= WORTH_CARRYING
    };
    for hypothesis in members.iter().flat_map(|member| &member.verdict.hypotheses).filter(worth) {
        let key = key(hypothesis);
        if !causes.contains(&key) {
            causes.push(key);
        }
    }
    for cause in causes {
        let said: Vec<(&SeriesMember<'_>, &Hypothesis)> = members
            .iter()
            .filter_map(|member| Some((member, member.verdict.hypotheses.iter().find(|h| key(h) == cause)?)))
            .collect();
        let Some((_, strongest)) = said.iter().max_by(|a, b| a.1.confidence.total_cmp(&b.1.confidence))
        else {
            continue;
        };
        let target = Cause { class: cause.0, suspect: strongest.suspect.clone() };
        let sum: f64 = said.iter().map(|(_, h)| h.confidence).sum();
        let share = sum / members.len() as f64;
        let who: Vec<&SeriesMember<'_>> = said.iter().map(|(member, _)| *member).collect();
        let text = format!(
            "{} of {} dumps count it among the possible causes ({}), at {:.0}% on average",
            said.len(),
            members.len(),
            names(&who),
            100.0 * sum / said.len() as f64,
        );
        let weight = (share * DECISIVE.log_odds() + (said.len() as f64).ln() * SLIGHT.log_odds())
            .min(DECISIVE.log_odds());
        findings.supports(&target, evidence(Basis::Series, weight, text));
        facts_by_code(&said, &target, findings);
    }
}

/// The strongest fact for a cause from the dumps of each stop code, with which dump it is from.
fn facts_by_code(said: &[(&SeriesMember<'_>, &Hypothesis)], target: &Cause, findings: &mut Findings) {
    const MOST: usize = 4;
    let codes: BTreeSet<Option<&str>> = said.iter().map(|(member, _)| member.base_code.as_deref()).collect();
    for code in codes.into_iter().take(MOST) {
        let of_code: Vec<&(&SeriesMember<'_>, &Hypothesis)> =
            said.iter().filter(|(member, _)| member.base_code.as_deref() == code).collect();
        let best = of_code
            .iter()
            .filter_map(|(member, hypothesis)| Some((*member, hypothesis.supports.first()?)))
            .max_by(|a, b| a.1.weight.total_cmp(&b.1.weight));
        let Some((member, best)) = best else { continue };
        let others = of_code.len() - 1;
        let like = match others {
            0 => String::new(),
            1 => " (another dump with this code counts the same cause)".to_owned(),
            n => format!(" ({n} other dumps with this code count the same cause)"),
        };
        let mut item = best.clone();
        item.text = format!("{}, {}: {}{like}", names(&[member]), code.unwrap_or("no code"), best.text);
        // The member's own weight already came in with its confidence; what is left of it orders these facts.
        item.weight = NOTED.log_odds() * best.weight / DECISIVE.log_odds();
        item.strength = None;
        findings.supports(target, item);
    }
}

/// Most dumps lead to one cause by themselves.
fn one_lead(members: &[SeriesMember<'_>], findings: &mut Findings) {
    let mut leads: Vec<(Key, Vec<&SeriesMember<'_>>)> = Vec::new();
    for member in members {
        let Some(lead) = member.lead().filter(|lead| lead.class != Class::Unknown) else { continue };
        match leads.iter_mut().find(|(known, _)| *known == key(lead)) {
            Some((_, list)) => list.push(member),
            None => leads.push((key(lead), vec![member])),
        }
    }
    for (cause, list) in leads {
        let most = list.len() >= 3 && list.len() * 3 >= members.len() * 2;
        let Some(suspect) = list.first().and_then(|member| member.lead()).map(|lead| lead.suspect.clone())
        else {
            continue;
        };
        if most && suspect.is_some() {
            let text = format!(
                "{} of {} dumps lead to this one cause, each by itself ({})",
                list.len(),
                members.len(),
                names(&list)
            );
            let target = Cause { class: cause.0, suspect };
            findings.supports(&target, evidence(Basis::Series, weights::CLEAR, text));
        }
    }
}

/// Dumps in which the processor ran what the code does not hold, or raised what the instruction cannot raise.
fn code_that_cannot_be(members: &[SeriesMember<'_>], findings: &mut Findings) {
    let shows = |member: &&SeriesMember<'_>| {
        let processor = member.verdict.hypotheses.iter().filter(|h| h.class == Class::ProcessorHardware);
        processor.flat_map(|h| &h.supports).any(|item| item.basis == Basis::CodeBytes)
    };
    let list: Vec<&SeriesMember<'_>> = members.iter().filter(shows).collect();
    if list.len() < 2 {
        return;
    }
    let text = format!(
        "{} of {} dumps show code running that cannot have run or faulted so ({}): one such dump may be chance, several are a machine that errs",
        list.len(),
        members.len(),
        names(&list)
    );
    let item = |weight| evidence(Basis::Series, weight, text.clone());
    let weight = if list.len() > 2 { weights::STRONG } else { weights::CLEAR };
    findings.supports(&rules::processor(), item(weight));
    findings.supports(&rules::memory(), item(SLIGHT));
    findings.contradicts_all(names_one_driver, &item(weights::MODERATE));
}

/// Different codes in different code, with no driver in common: the machine, not a program. Dumps that explain themselves are
/// left out.
fn random_codes(members: &[SeriesMember<'_>], findings: &mut Findings) {
    let open: Vec<&SeriesMember<'_>> = members.iter().filter(|member| !member.is_explained()).collect();
    let codes: BTreeSet<&str> = open.iter().filter_map(|member| member.base_code.as_deref()).collect();
    let places: BTreeSet<&str> =
        open.iter().filter_map(|m| m.verdict.bucket.text.rsplit('|').next()).collect();
    let list = codes.iter().copied().collect::<Vec<_>>().join(", ");
    if codes.len() >= 3 && codes.len() * 2 > open.len() {
        let text = format!(
            "{} dumps, {} different stop codes ({list}) at {} different places: software fails the same way again, a machine does not",
            open.len(),
            codes.len(),
            places.len()
        );
        let item = |weight| evidence(Basis::Series, weight, text.clone());
        findings.supports(&rules::memory(), item(weights::CLEAR));
        findings.supports(&rules::processor(), item(weights::MODERATE));
        findings.contradicts_all(names_one_driver, &item(weights::MODERATE));
        findings.contradicts_all(
            |cause| cause.suspect.is_none() && is_by_some_driver(cause.class),
            &item(SLIGHT),
        );
    } else if codes.len() == 1 && open.len() >= 3 && open.len() == members.len() {
        let text = format!(
            "{} dumps with one stop code ({list}): it repeats, as software or one failing part does",
            open.len()
        );
        findings.contradicts_all(
            |cause| cause.class == Class::MemoryHardware,
            &evidence(Basis::Series, weights::MODERATE, text),
        );
    }
}

/// Flipped bits in several dumps; the same bit again is a line or cell of one module.
fn flipped_bits(members: &[SeriesMember<'_>], findings: &mut Findings) {
    let bits: Vec<(&SeriesMember<'_>, u8)> = members
        .iter()
        .filter_map(|member| {
            let mut items = member.verdict.hypotheses.iter().flat_map(|h| &h.supports);
            Some((member, items.find_map(|evidence| evidence.flipped_bit)?))
        })
        .collect();
    if bits.is_empty() {
        return;
    }
    let again =
        bits.iter().filter(|(_, bit)| bits.iter().filter(|(_, other)| other == bit).count() > 1).count();
    let list = bits
        .iter()
        .map(|(member, bit)| format!("bit {bit} in {}", names(&[member])))
        .collect::<Vec<_>>()
        .join(", ");
    let text = if again > 1 {
        format!(
            "{} of {} dumps show a single flipped bit, {again} of them the same one ({list}): one line or cell of the memory that fails again",
            bits.len(),
            members.len()
        )
    } else {
        format!("{} of {} dumps show a single flipped bit ({list})", bits.len(), members.len())
    };
    let weight = if again > 1 { weights::STRONG } else { weights::MODERATE };
    findings.supports(&rules::memory(), evidence(Basis::Series, weight, text));
}

/// A driver that one of the dumps does not have cannot have brought that one about. Dumps that explain themselves are left out.
fn not_there(members: &[SeriesMember<'_>], findings: &mut Findings) {
    let suspects: BTreeSet<String> = findings
        .causes()
        .filter_map(|cause| {
            cause.suspect.as_ref().filter(|suspect| suspect.kind == SuspectKind::Driver)?.module.clone()
        })
        .collect();
    for image in suspects {
        let lacks = |member: &&SeriesMember<'_>| {
            !member.is_explained() && member.drivers.is_some_and(|drivers| !drivers.has(&image))
        };
        let without: Vec<&SeriesMember<'_>> = members.iter().filter(lacks).collect();
        if without.is_empty() {
            continue;
        }
        let text = format!(
            "{image} is not loaded in {}, and was not unloaded before: it cannot have brought that about",
            names(&without)
        );
        let item = evidence(Basis::Series, weights::MODERATE, text);
        let its = |cause: &Cause| {
            cause.suspect.as_ref().and_then(|suspect| suspect.module.as_ref()) == Some(&image)
        };
        findings.contradicts_all(its, &item);
    }
}

/// A driver was replaced, and the same cause led before and after: its version is not what matters. Gives such drivers.
fn changed_in_vain(members: &[SeriesMember<'_>], findings: &mut Findings) -> BTreeSet<String> {
    let drivers: Vec<Option<&Drivers>> = members.iter().map(|member| member.drivers).collect();
    let mut told: BTreeSet<String> = BTreeSet::new();
    for change in driver_changes(&drivers).into_iter().filter(|change| change.kind == ChangeKind::Changed) {
        let (Some(before), Some(after)) = (members.get(change.before), members.get(change.after)) else {
            continue;
        };
        let (Some(first), Some(then)) = (before.lead(), after.lead()) else { continue };
        let is_its = key(first).1.as_deref() == Some(change.image.as_str());
        if !is_its || key(first) != key(then) || !told.insert(change.image.clone()) {
            continue;
        }
        let day = |date: Option<FileTime>| {
            date.and_then(|date| date.to_string().get(..10).map(|day| format!(" (linked {day})")))
                .unwrap_or_default()
        };
        let text = format!(
            "{} was replaced between {}{} and {}{}, and the same came again: another version alone does not mend it",
            change.image,
            names(&[before]),
            day(change.linked_before),
            names(&[after]),
            day(change.linked_after),
        );
        let target = Cause { class: then.class, suspect: then.suspect.clone() };
        findings.supports(&target, evidence(Basis::Series, NOTED, text));
    }
    told
}

const fn is_by_some_driver(class: Class) -> bool {
    matches!(class, Class::DriverBug | Class::PoolCorruptionByDriver)
}

fn names_one_driver(cause: &Cause) -> bool {
    matches!(&cause.suspect, Some(Suspect { kind: SuspectKind::Driver | SuspectKind::Os, .. }))
}

fn counted(members: &[SeriesMember<'_>]) -> String {
    let mut codes: Vec<(&str, usize)> = Vec::new();
    for code in members.iter().filter_map(|member| member.base_code.as_deref()) {
        match codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => codes.push((code, 1)),
        }
    }
    codes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let list: Vec<String> = codes
        .iter()
        .map(|(code, count)| if *count == 1 { (*code).to_owned() } else { format!("{code} ({count} times)") })
        .collect();
    format!("{} crashes of one machine: {}.", members.len(), list.join(", "))
}

/// Advice for the joint causes, in the order of the joint verdict: for hardware by its kind, for a driver from the member that
/// is surest of it.
fn steps(
    members: &[SeriesMember<'_>],
    hypotheses: &[Hypothesis],
    replaced: &BTreeSet<String>,
) -> Vec<NextStep> {
    let mut steps: Vec<NextStep> = Vec::new();
    for hypothesis in
        hypotheses.iter().filter(|h| h.class != Class::Unknown && h.confidence >= WORTH_CARRYING)
    {
        let mut of_kind = steps::for_class(hypothesis.class);
        if hypothesis.class == Class::GpuDriverOrHardware
            && key(hypothesis).1.is_some_and(|image| replaced.contains(&image))
        {
            of_kind.reverse(); // another driver was tried: the card first
        }
        let leads =
            |verdict: &&Verdict| verdict.hypotheses.first().is_some_and(|lead| key(lead) == key(hypothesis));
        let by_member = || {
            let verdicts = members.iter().map(|member| member.verdict).filter(leads);
            let surest = verdicts.max_by(|a, b| sureness(a).total_cmp(&sureness(b)));
            surest.map(|verdict| verdict.next_steps.iter().take(3).cloned().collect()).unwrap_or_default()
        };
        for step in if of_kind.is_empty() { by_member() } else { of_kind } {
            if !steps.iter().any(|known| known.text == step.text) {
                steps.push(step);
            }
        }
    }
    steps.truncate(8);
    steps
}

fn sureness(verdict: &Verdict) -> f64 {
    verdict.hypotheses.first().map_or(0.0, |lead| lead.confidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{DRIVERS, Fake, NT};
    use stopcode_base::{VirtAddr, X64Registers};

    fn joint(fakes: &[Fake]) -> SeriesVerdict {
        let verdicts: Vec<Verdict> = fakes.iter().map(|fake| crate::judge(fake)).collect();
        let drivers: Vec<Option<Drivers>> = fakes.iter().map(|fake| Drivers::of(fake)).collect();
        let codes: Vec<String> =
            fakes.iter().map(|fake| format!("{:#x}", crate::Witness::stop(fake).unwrap().code)).collect();
        let names: Vec<String> = (1..=fakes.len()).map(|n| format!("folder/{n}.dmp")).collect();
        let members: Vec<SeriesMember<'_>> = names
            .iter()
            .zip(codes)
            .zip(verdicts.iter().zip(&drivers))
            .map(|((name, code), (verdict, drivers))| SeriesMember {
                name,
                base_code: Some(code),
                verdict,
                drivers: drivers.as_ref(),
            })
            .collect();
        judge_series(&members)
    }

    fn flipped(bit: u32) -> Fake {
        Fake::new(0x1a, [0x41792, 0xffff_f680_0000_1000, 1 << bit, 0])
    }

    fn driver_stop(code: u32) -> Fake {
        Fake::new(code, [8, 2, 0, DRIVERS + 0x1000]).stack(&[
            "nt!KeBugCheckEx",
            "guilty.sys",
            "nt!KiStartSystemThread",
        ])
    }

    #[test]
    fn one_dump_is_judged_as_by_itself() {
        let alone = crate::judge(&flipped(37));
        let series = joint(&[flipped(37)]);
        assert_eq!(series.hypotheses, alone.hypotheses);
        assert_eq!(series.summary, alone.summary);
    }

    #[test]
    fn the_same_flipped_bit_again_is_failing_memory_with_the_dumps_named() {
        let series = joint(&[flipped(37), flipped(37), Fake::new(0x50, [0; 4])]);
        let lead = &series.hypotheses[0];
        assert_eq!(lead.class, Class::MemoryHardware);
        assert!(lead.confidence > crate::judge(&flipped(37)).hypotheses[0].confidence);
        assert!(
            lead.supports.iter().any(|e| e.text.contains("bit 37 in 1.dmp, bit 37 in 2.dmp")),
            "{lead:?}"
        );
    }

    #[test]
    fn one_driver_in_every_dump_is_surer_than_in_one_and_is_no_hardware() {
        let series = joint(&[driver_stop(0xd1), driver_stop(0xd1), driver_stop(0xd1), driver_stop(0xd1)]);
        let lead = &series.hypotheses[0];
        assert_eq!(lead.suspect.as_ref().unwrap().module.as_deref(), Some("guilty.sys"));
        assert!(lead.confidence > 0.9);
        assert!(!series.hypotheses.iter().any(|h| h.class == Class::MemoryHardware));
    }

    #[test]
    fn codes_that_do_not_repeat_speak_against_any_one_driver() {
        let code = [0x90_u8; 16];
        let nt = |stop, offset| {
            Fake::new(stop, [0xffff_8000_0000_0000 + offset, 2, 0, NT + offset])
                .stack(&["nt!KeBugCheckEx", "nt!KiPageFault", "nt!A", "nt!B"])
                .fault(VirtAddr(NT + offset), 0xffff_8000_0000_0000, X64Registers::default(), &code)
        };
        let random = joint(&[nt(0x0a, 0x100), nt(0x50, 0x2200), nt(0x3b, 0x3300), driver_stop(0xd1)]);
        let alone = crate::judge(&driver_stop(0xd1)).hypotheses[0].confidence;
        let driver = random
            .hypotheses
            .iter()
            .find(|h| h.suspect.as_ref().is_some_and(|s| s.module.as_deref() == Some("guilty.sys")));
        assert!(driver.is_none_or(|h| h.confidence < alone / 2.0));
        assert!(
            random.summary.contains("Left open: 4.dmp") || random.hypotheses[0].class == Class::Unknown,
            "{}",
            random.summary
        );
    }

    #[test]
    fn a_driver_that_is_not_there_did_not_do_it() {
        let without = || Fake::new(0x0a, [8, 2, 0, NT + 0x1000]).module("other.sys");
        let with = || without().module("guilty.sys");
        let said = |second: Fake| {
            let series = joint(&[driver_stop(0xd1), second]);
            let guilty = |h: &&Hypothesis| {
                h.suspect.as_ref().is_some_and(|suspect| suspect.module.as_deref() == Some("guilty.sys"))
            };
            let guilty = series.hypotheses.iter().find(guilty).unwrap();
            guilty.contradicts.iter().any(|item| item.text.contains("guilty.sys is not loaded in 2.dmp"))
        };
        assert!(said(without()));
        assert!(!said(with()));
    }

    #[test]
    fn a_driver_that_was_replaced_in_vain_is_said_to_be() {
        let (old, new) = (0x5000_0000, 0x5800_0000);
        let stop = |linked| driver_stop(0xd1).dates("guilty.sys", linked, 0x6000_0000);
        let said = |second| {
            let series = joint(&[stop(old), stop(second)]);
            series.hypotheses[0].supports.iter().any(|item| item.text.contains("the same came again"))
        };
        assert!(said(new));
        assert!(!said(old));
        // Where it is the card's, the card comes first then.
        let card = |linked| {
            Fake::new(0x116, [0, DRIVERS + 0x500, 0, 0]).module("display.sys").dates(
                "display.sys",
                linked,
                0x6000_0000,
            )
        };
        let first = |second| joint(&[card(old), card(second)]).next_steps[0].text.clone();
        assert!(first(new).starts_with("Watch the card"), "{}", first(new));
        assert!(first(old).starts_with("Install the newest"), "{}", first(old));
    }

    #[test]
    fn many_names_are_counted() {
        let verdict = crate::judge(&flipped(1));
        let member = |name| SeriesMember { name, base_code: None, verdict: &verdict, drivers: None };
        let all = [member("a/1"), member("b\\2"), member("3"), member("4")];
        let named = |n: usize| names(&all.iter().take(n).collect::<Vec<_>>());
        assert_eq!([named(0), named(1), named(2)], ["", "1", "1 and 2"]);
        assert_eq!([named(3), named(4)], ["1, 2 and 3", "1, 2 and 2 more"]);
    }
}
