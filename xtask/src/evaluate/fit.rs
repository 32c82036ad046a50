//! Weights that make known causes likely, held near those set by hand: with few cases, most of what is known is in
//! the hand's figures, and a weight that few cases speak to stays where it is.

use super::cases::Truth;
use super::score::is_right_hypothesis;
use stopcode_analysis::{Class, Hypothesis, Weights};

/// One rendering of a case, judged: its hypotheses, which of them would be right, and what it counts.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) project: String,
    pub(super) hypotheses: Vec<Hypothesis>,
    right: Vec<bool>,
    share: f64,
}

impl Sample {
    /// `share`: one divided by the renderings of its case, so that every case counts once.
    pub(super) fn new(project: String, truth: &Truth, hypotheses: Vec<Hypothesis>, share: f64) -> Self {
        let mut right: Vec<bool> = hypotheses.iter().map(|h| is_right_hypothesis(truth, h)).collect();
        if !right.contains(&true) {
            // None of the causes considered: that is what "unknown" claims.
            right = hypotheses.iter().map(|h| h.class == Class::Unknown).collect();
        }
        Self { project, hypotheses, right, share }
    }

    fn loss(&self, weights: &Weights) -> f64 {
        let confidences = weights.confidences(&self.hypotheses);
        let right: f64 =
            confidences.iter().zip(&self.right).filter(|(_, right)| **right).map(|(p, _)| p).sum();
        -right.max(1e-6).ln() * self.share
    }
}

/// How far each kind of weight may go from the hand's figure before it costs as much as a factor of e^½ in one case's odds.
const STRENGTH_SCALE: f64 = 0.35;
const CLASS_SPREAD: f64 = 0.3;
const UNKNOWN_SPREAD: f64 = 0.4;
const FURTHER_SPREAD: f64 = 0.1;

/// What is minimised: the surprise at the truth, and the distance from the hand's figures.
fn cost(weights: &Weights, samples: &[Sample]) -> f64 {
    let hand = Weights::BY_HAND;
    let square = |value: f64| value * value / 2.0;
    let surprise: f64 = samples.iter().map(|sample| sample.loss(weights)).sum();
    let strengths: f64 = weights
        .strengths
        .iter()
        .zip(&hand.strengths)
        .map(|(now, then)| square((now / then).ln() / STRENGTH_SCALE))
        .sum();
    let classes: f64 = weights
        .classes
        .iter()
        .zip(&hand.classes)
        .map(|(now, then)| square((now - then) / CLASS_SPREAD))
        .sum();
    surprise
        + strengths
        + classes
        + square((weights.unknown - hand.unknown) / UNKNOWN_SPREAD)
        + square((weights.further - hand.further) / FURTHER_SPREAD)
}

/// Every number of the weights, to be turned one at a time.
fn numbers(weights: &mut Weights) -> Vec<&mut f64> {
    let Weights { strengths, further, unknown, classes } = weights;
    strengths.iter_mut().chain([further, unknown]).chain(classes.iter_mut()).collect()
}

/// The best weights for these samples: one number after the other, in ever smaller steps.
pub(super) fn fit(samples: &[Sample]) -> Weights {
    let mut best = Weights::BY_HAND;
    let mut lowest = cost(&best, samples);
    let count = numbers(&mut best).len();
    let mut step = 0.2;
    while step > 0.01 {
        let mut better = false;
        for index in 0..count {
            for sign in [step, -step] {
                let mut next = best;
                if let Some(number) = numbers(&mut next).into_iter().nth(index) {
                    *number += sign;
                }
                if next.strengths.iter().any(|strength| *strength <= 0.0)
                    || !(0.0..=1.0).contains(&next.further)
                {
                    continue;
                }
                let cost = cost(&next, samples);
                if cost < lowest - 1e-9 {
                    (best, lowest, better) = (next, cost, true);
                }
            }
        }
        if !better {
            step /= 2.0;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopcode_analysis::{Basis, Evidence, Strength};

    fn hypothesis(class: Class, supports: Vec<Evidence>) -> Hypothesis {
        Hypothesis { class, suspect: None, confidence: 0.0, supports, contradicts: Vec::new() }
    }

    #[test]
    fn fitting_follows_the_truth_but_not_far_on_one_case() {
        let item = Evidence {
            text: String::new(),
            command: None,
            address: None,
            weight: 0.0,
            strength: Some(Strength::Clear),
            basis: Basis::Stack,
            flipped_bit: None,
        };
        let truth = Truth { class: "driver_bug".to_owned(), ..Truth::default() };
        let hypotheses =
            vec![hypothesis(Class::DriverBug, vec![item]), hypothesis(Class::Unknown, Vec::new())];
        let sample = Sample::new("a".to_owned(), &truth, hypotheses.clone(), 1.0);
        let before = Weights::BY_HAND.confidences(&hypotheses)[0];
        let one = fit(std::slice::from_ref(&sample)).confidences(&hypotheses)[0];
        let many = fit(&vec![sample; 100]).confidences(&hypotheses)[0];
        assert!(before < one && one < many, "{before} {one} {many}");
        assert!(one < before + 0.1, "{before} {one}");
    }
}
