//! Several inputs of one machine.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // Tests.

use std::path::PathBuf;
use stopcode_case::{CaseReport, Options, Report, analyze};

fn sample(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/../../samples/{name}", env!("CARGO_MANIFEST_DIR")))
}

fn cases(names: &[&str]) -> Vec<CaseReport> {
    let paths: Vec<PathBuf> = names.iter().map(|name| sample(name)).collect();
    match analyze(&paths, &Options::default()) {
        Report::Many(series) => series.cases,
        Report::One(_) => panic!("{names:?}: more than one input"),
    }
}

/// The small dump and the kernel dump of the seed's crash are two inputs and one crash: they confirm each other in nothing.
#[test]
fn a_crash_that_two_dumps_tell_of_counts_once() {
    let (small, kernel) = ("seed-double-fault.dmp", "seed-double-fault-kernel.dmp");
    let both = cases(&[small, kernel]);
    let [case] = both.as_slice() else { panic!("{} machines", both.len()) };
    assert_eq!(case.members.len(), 2);
    assert_eq!(case.machine.grouped_by, ["one crash: code, arguments and moment are the same"]);
    assert!(case.summary.contains("One crash, counted once, is in "), "{}", case.summary);
    assert!(!case.summary.contains("2 crashes"), "{}", case.summary);
    let Report::One(alone) = analyze(&[sample(kernel)], &Options::default()) else { panic!() };
    let leads = |of: &[stopcode_case::HypothesisReport]| (of[0].class.clone(), of[0].confidence.to_string());
    assert_eq!(leads(&case.hypotheses), leads(&alone.verdict.unwrap().hypotheses));
}

#[test]
fn other_crashes_are_not_taken_for_one() {
    let apart = cases(&["driver-null-write.dmp", "memory-bit-flip.dmp", "seed-double-fault.dmp"]);
    let members: usize = apart.iter().map(|case| case.members.len()).sum();
    assert_eq!(members, 3);
    assert!(apart.iter().all(|case| !case.summary.contains("One crash")));
}
