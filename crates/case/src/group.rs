//! Inputs of one machine together, and the joint verdict on it.

use crate::describe;
use crate::identity::{Identity, in_common};
use crate::judge::Judged;
use crate::report::{CaseReport, MachineReport};
use stopcode_analysis::{SeriesMember, judge_series};

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
    matches!((&a.identity, &b.identity), (Some(a), Some(b)) if a.same_machine(b))
}

fn case(group: &mut [&Judged]) -> CaseReport {
    group.sort_by_key(|judged| judged.time);
    let members: Vec<SeriesMember<'_>> = group
        .iter()
        .filter_map(|judged| {
            let base = judged.report.stop.as_ref().map(|stop| stop.base_code.clone());
            Some(SeriesMember {
                name: &judged.report.input.path,
                base_code: base,
                verdict: judged.verdict.as_ref()?,
            })
        })
        .collect();
    let joint = judge_series(&members);
    let identities: Vec<&Identity> = group.iter().filter_map(|judged| judged.identity.as_ref()).collect();
    let newest = identities.last().copied();
    CaseReport {
        machine: MachineReport {
            name: newest.map_or_else(|| "a machine".to_owned(), Identity::name),
            grouped_by: in_common(&identities),
        },
        members: group.iter().map(|judged| judged.report.input.path.clone()).collect(),
        summary: stopcode_base::visible(&joint.summary),
        hypotheses: joint.hypotheses.iter().map(describe::hypothesis).collect(),
        next_steps: joint.next_steps.iter().map(describe::next_step).collect(),
    }
}
