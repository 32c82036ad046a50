//! Inputs of one machine together, and the joint verdict on it.
//!
//! A crash counts once, however many inputs tell of it: a small dump, the whole one, what a debugger printed of either.

use crate::describe;
use crate::identity::{Identity, in_common};
use crate::judge::Judged;
use crate::report::{CaseReport, DriverChangeReport, MachineReport, StopReport};
use stopcode_analysis::{ChangeKind, DriverChange, Drivers, SeriesMember, driver_changes, judge_series};
use stopcode_base::VirtAddr;

/// Groups what could be judged by machine and judges each group.
pub(crate) fn cases(judged: &[Judged]) -> Vec<CaseReport> {
    let mut groups: Vec<Vec<&Judged>> = Vec::new();
    for one in judged.iter().filter(|judged| judged.identity.is_some()) {
        let home = groups.iter().position(|group| group.iter().any(|other| same(one, other)));
        match home.and_then(|index| groups.get_mut(index)) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups.iter_mut().map(|group| case(group)).collect()
}

fn same(a: &Judged, b: &Judged) -> bool {
    matches!((&a.identity, &b.identity), (Some(a), Some(b)) if a.same_machine(b)) || is_one_crash(a, b)
}

fn case(group: &mut [&Judged]) -> CaseReport {
    group.sort_by_key(|judged| judged.time);
    let crashes = crashes(group);
    let members: Vec<SeriesMember<'_>> = crashes
        .iter()
        .filter_map(|crash| crash.first())
        .filter_map(|judged| {
            let base = judged.report.stop.as_ref().map(|stop| stop.base_code.clone());
            Some(SeriesMember {
                name: &judged.report.input.path,
                base_code: base,
                verdict: judged.verdict.as_ref()?,
                drivers: judged.drivers.as_ref(),
            })
        })
        .collect();
    let joint = judge_series(&members);
    let identities: Vec<&Identity> = group.iter().filter_map(|judged| judged.identity.as_ref()).collect();
    let newest = identities.last().copied();
    CaseReport {
        machine: MachineReport {
            name: newest.map_or_else(|| "a machine".to_owned(), Identity::name),
            grouped_by: if crashes.len() == 1 && group.len() > 1 {
                vec!["one crash: code, arguments and moment are the same".to_owned()]
            } else {
                in_common(&identities)
            },
        },
        members: group.iter().map(|judged| judged.report.input.path.clone()).collect(),
        summary: stopcode_base::visible(&format!("{}{}", joint.summary, told_twice(&crashes))),
        hypotheses: joint.hypotheses.iter().map(describe::hypothesis).collect(),
        next_steps: joint.next_steps.iter().map(describe::next_step).collect(),
        driver_changes: changes(&crashes),
    }
}

/// The crashes, each with all that tells of it, what tells most first.
fn crashes<'j>(group: &[&'j Judged]) -> Vec<Vec<&'j Judged>> {
    let mut crashes: Vec<Vec<&Judged>> = Vec::new();
    for judged in group {
        match crashes.iter_mut().find(|crash| crash.iter().any(|other| is_one_crash(judged, other))) {
            Some(crash) => crash.push(judged),
            None => crashes.push(vec![judged]),
        }
    }
    for crash in &mut crashes {
        // Text is what somebody chose to show of a dump; a larger dump holds what a smaller one does.
        crash.sort_by_key(|judged| {
            std::cmp::Reverse((judged.report.input.kind != "text", judged.report.input.size))
        });
    }
    crashes
}

/// One code with one set of arguments at one moment; where a text does not tell the moment, one of the arguments must be an
/// address of the kernel's, which no two starts of a machine have in common.
fn is_one_crash(a: &Judged, b: &Judged) -> bool {
    const SECOND: u64 = 10_000_000;
    let (Some(first), Some(second)) = (&a.report.stop, &b.report.stop) else { return false };
    let values =
        |stop: &StopReport| stop.arguments.iter().map(|argument| argument.value.clone()).collect::<Vec<_>>();
    if first.base_code != second.base_code || values(first) != values(second) {
        return false;
    }
    match (a.time, b.time) {
        (Some(one), Some(other)) => one.0.abs_diff(other.0) < SECOND,
        _ => values(first).iter().any(|value| is_kernel_address(value)),
    }
}

fn is_kernel_address(value: &str) -> bool {
    let number = value.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.is_some_and(|number| VirtAddr(number).is_kernel() && number <= u64::MAX - 0x1_0000)
}

/// What became of drivers between the crashes.
fn changes(crashes: &[Vec<&Judged>]) -> Vec<DriverChangeReport> {
    let firsts: Vec<&Judged> = crashes.iter().filter_map(|crash| crash.first().copied()).collect();
    let drivers: Vec<Option<&Drivers>> = firsts.iter().map(|judged| judged.drivers.as_ref()).collect();
    let seen = drivers.iter().flatten().count();
    let path =
        |place: usize| firsts.get(place).map_or_else(String::new, |judged| judged.report.input.path.clone());
    let report = |change: DriverChange| DriverChangeReport {
        image: stopcode_base::visible(&change.image),
        change: match change.kind {
            ChangeKind::Changed => "changed",
            ChangeKind::Came => "came",
            ChangeKind::Went => "went",
            ChangeKind::AtTimes => "at_times",
        }
        .to_owned(),
        before: path(change.before),
        after: path(change.after),
        link_date_before: change.linked_before.map(|date| date.to_string()),
        link_date_after: change.linked_after.map(|date| date.to_string()),
        loaded_in: change.loaded_in,
        dumps: seen,
    };
    driver_changes(&drivers).into_iter().map(report).collect()
}

/// Which inputs are of one crash, as a sentence behind the summary.
fn told_twice(crashes: &[Vec<&Judged>]) -> String {
    let several = crashes.iter().filter(|crash| crash.len() > 1);
    let sentence = |crash: &Vec<&Judged>| {
        let names: Vec<&str> = crash.iter().map(|judged| judged.report.input.path.as_str()).collect();
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        format!(" One crash, counted once, is in {} and {last}.", others.join(", "))
    };
    several.map(sentence).collect()
}
