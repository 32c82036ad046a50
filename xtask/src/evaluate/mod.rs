//! How good the analyst is: accuracy, calibration and confusion on real crashes whose cause is known, in every layout
//! they could have been pasted in; and weights fitted to them, judged on projects that the fitting has not seen.
//!
//! The cases lie outside the repository and are read when asked for.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

mod cases;
mod fit;
mod planted;
mod render;
mod score;

use cases::{Case, load, stem};
use fit::Sample;
use render::{Damage, Kept, Layout, SHAPES, render};
use score::{Outcome, figures};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use stopcode_analysis::{Class, Hypothesis, Verdict, Weights};

/// Prints figures, confusion and the reason of every miss.
pub(crate) fn evaluate(shared: &Path) -> anyhow::Result<()> {
    let cases = load(&shared.join("data/cases"))?;
    let mut all = Vec::new();
    let mut misses = BTreeMap::new();
    for (layout, damage) in SHAPES {
        let judged = judge_all(&cases, layout, damage, Kept::All);
        println!(
            "{layout:?}/{damage:?}: {}",
            figures(&judged.iter().map(Judged::outcome).collect::<Vec<_>>())
        );
        for judged in judged {
            if !judged.outcome().right {
                misses.insert(judged.case.id.clone(), judged.reason());
            }
            all.push(judged.outcome());
        }
    }
    println!("\ntogether: {}", figures(&all));
    confusion(&all);
    println!("\nwith less to go by:");
    for kept in [Kept::NoStack, Kept::NoModules, Kept::Arguments] {
        let judged = judge_all(&cases, Layout::Kv, Damage::None, kept);
        println!("  {kept:?}: {}", figures(&judged.iter().map(Judged::outcome).collect::<Vec<_>>()));
    }
    println!("\nmissed:");
    for reason in misses.values() {
        println!("  {reason}");
    }
    Ok(())
}

/// Prints how well planted faults are told from their twins, and every verdict that is wrong.
pub(crate) fn planted(first_seed: u64, seeds: u64) -> anyhow::Result<()> {
    let table = planted::run(first_seed..first_seed.saturating_add(seeds), |wrong| println!("{wrong}\n"))?;
    let total = planted::total(&table);
    println!("{}", planted::markdown(&table));
    println!(
        "{} of {} machines right ({} pairs); a driver at 0.5 or more in {} hardware twins",
        total.right,
        total.all,
        total.all / 2,
        total.blamed
    );
    Ok(())
}

/// Fits weights to the cases and prints them, with what they are worth in and out of the sample.
pub(crate) fn fit_weights(shared: &Path) -> anyhow::Result<()> {
    let cases = load(&shared.join("data/cases"))?;
    let samples = samples(&cases);
    let of = |weights: &Weights| {
        let outcomes: Vec<Outcome> =
            samples.iter().map(|(case, sample)| outcome_with(case, sample, weights)).collect();
        figures(&outcomes)
    };
    println!("by hand:        {}", of(&Weights::BY_HAND));
    println!("in use:         {}", of(&Weights::FITTED));
    let plain: Vec<Sample> = samples.iter().map(|(_, sample)| sample.clone()).collect();
    let fitted = fit::fit(&plain);
    println!("in the sample:  {}", of(&fitted));
    println!("out of project: {}", figures(&out_of_project(&samples)));
    println!("\n{fitted:.2?}");
    Ok(())
}

/// Each project judged with weights that were fitted to all others.
fn out_of_project(samples: &[(&Case, Sample)]) -> Vec<Outcome> {
    let projects: BTreeSet<&str> = samples.iter().map(|(_, sample)| sample.project.as_str()).collect();
    let mut outcomes = Vec::new();
    for project in projects {
        let others: Vec<Sample> = samples
            .iter()
            .map(|(_, sample)| sample)
            .filter(|sample| sample.project != project)
            .cloned()
            .collect();
        let weights = fit::fit(&others);
        let own = samples.iter().filter(|(_, sample)| sample.project == project);
        outcomes.extend(own.map(|(case, sample)| outcome_with(case, sample, &weights)));
    }
    outcomes
}

fn samples(cases: &[Case]) -> Vec<(&Case, Sample)> {
    let share = 1.0 / SHAPES.len() as f64;
    let mut samples = Vec::new();
    for (layout, damage) in SHAPES {
        for judged in judge_all(cases, layout, damage, Kept::All) {
            let Some(verdict) = judged.verdict else { continue };
            let sample = Sample::new(judged.case.project(), &judged.case.truth, verdict.hypotheses, share);
            samples.push((judged.case, sample));
        }
    }
    samples
}

fn outcome_with(case: &Case, sample: &Sample, weights: &Weights) -> Outcome {
    let confidences = weights.confidences(&sample.hypotheses);
    let lead = confidences.iter().zip(&sample.hypotheses).max_by(|a, b| a.0.total_cmp(b.0));
    outcome(case, lead.map(|(confidence, hypothesis)| (hypothesis, *confidence)))
}

/// A case, the text that was made of it, and what was said of it.
struct Judged<'c> {
    case: &'c Case,
    verdict: Option<Verdict>,
}

fn judge_all(cases: &[Case], layout: Layout, damage: Damage, kept: Kept) -> Vec<Judged<'_>> {
    cases.iter().map(|case| judge(case, layout, damage, kept)).collect()
}

fn judge(case: &Case, layout: Layout, damage: Damage, kept: Kept) -> Judged<'_> {
    let text = render(case, layout, damage, kept);
    let crashes = stopcode_transcript::parse(text.as_bytes()).unwrap_or_default();
    Judged { case, verdict: crashes.first().map(|crash| stopcode_analysis::judge(crash)) }
}

impl Judged<'_> {
    fn outcome(&self) -> Outcome {
        let lead = self.verdict.as_ref().and_then(|verdict| verdict.hypotheses.first());
        outcome(self.case, lead.map(|lead| (lead, lead.confidence)))
    }

    /// What was said, on what grounds, and what it was.
    fn reason(&self) -> String {
        let case = self.case;
        let wanted = format!("{} {:?}", case.truth.class, case.truth.culprits());
        let Some(lead) = self.verdict.as_ref().and_then(|verdict| verdict.hypotheses.first()) else {
            return format!("{}: no verdict, was {wanted}", case.id);
        };
        let ground = lead.supports.first().map_or("nothing", |item| item.text.as_str());
        let bare = if case.is_bare() { " (bare)" } else { "" };
        let (said, sure) = (lead.class.id(), lead.confidence);
        format!("{}{bare}: was {wanted}, said {said} at {sure:.2} for: {ground}", case.id)
    }
}

fn outcome(case: &Case, lead: Option<(&Hypothesis, f64)>) -> Outcome {
    let module = lead.and_then(|(lead, _)| lead.suspect.as_ref()?.module.as_deref().map(stem));
    let culprits = case.truth.culprits();
    let text = render(case, Layout::Kv, Damage::None, Kept::All).to_lowercase();
    let nameable = culprits.iter().any(|culprit| words(&text).any(|word| word == culprit));
    Outcome {
        family: score::family_of(&case.truth),
        lead: lead.map_or(Class::Unknown, |(lead, _)| lead.class),
        confidence: lead.map_or(0.0, |(_, confidence)| confidence),
        right: lead.is_some_and(|(lead, _)| score::is_right_hypothesis(&case.truth, lead)),
        bare: case.is_bare(),
        named: nameable.then(|| module.is_some_and(|module| culprits.contains(&module))),
    }
}

/// Words as an image's name is one: letters, digits, underscores and what stands in names of files.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-')))
}

/// The truth's families against the classes that were said.
fn confusion(outcomes: &[Outcome]) {
    let mut table: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for outcome in outcomes {
        *table.entry(outcome.family).or_default().entry(outcome.lead.id()).or_default() += 1;
    }
    println!("\nwas: said");
    for (family, said) in table {
        let said: Vec<String> = said.iter().map(|(class, count)| format!("{class} {count}")).collect();
        println!("  {family}: {}", said.join(", "));
    }
}

#[cfg(test)]
mod tests;
