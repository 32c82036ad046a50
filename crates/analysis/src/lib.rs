//! From facts to a reasoned verdict.
//!
//! *Promises*: analysis never fails; each statement carries its evidence, each item of evidence the debugger command
//! that shows it; what could not be checked is named; confidences are probabilities and sum to at most 1.
//! *Must never know*: how anything is printed.

mod bucket;
mod changes;
mod code;
mod facts;
#[cfg(test)]
mod fake;
mod findings;
mod machine;
mod rules;
mod series;
mod steps;
mod story;
mod strength;
mod summary;
mod verdict;
mod weights;
mod witness;

pub use changes::{ChangeKind, DriverChange, Drivers, driver_changes};
pub use machine::MachineWitness;
pub use series::{SeriesMember, SeriesVerdict, judge_series};
pub use story::frame_note;
pub use strength::Strength;
pub use verdict::{
    Basis, Bucket, Class, Evidence, Hypothesis, NextStep, Suspect, SuspectKind, Verdict, confidence_words,
};
pub use weights::Weights;
pub use witness::{Remark, Topic, Witness, WitnessKind};

/// Judges one crash.
pub fn judge(witness: &dyn Witness) -> Verdict {
    let facts = facts::Facts::new(witness);
    let mut findings = findings::Findings::default();
    if facts.stop.is_none() {
        findings.missing("the stop code");
    }
    rules::run(&facts, &mut findings);
    let (hypotheses, missing) = findings.weigh();
    Verdict {
        summary: summary::summary(&facts, &hypotheses),
        story: story::story(&facts),
        bucket: bucket::bucket(&facts),
        next_steps: steps::next_steps(&facts, &hypotheses),
        hypotheses,
        missing,
    }
}
