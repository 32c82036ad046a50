//! Every number of the analysis, in one place.
//!
//! Rules say how strong an observation is in nine steps ([`Strength`]); what a step counts in log-odds (natural
//! logarithm), what each class starts from, and how far the whole is to be trusted, are the [`Weights`].
//! [`Weights::BY_HAND`] were set from how much rarer an observation is where its hypothesis is false;
//! [`Weights::FITTED`] are what `cargo xtask fit` makes of them on cases whose cause is known, held near the first.

use crate::strength::Strength;
use crate::verdict::{Class, Evidence, Hypothesis};

/// Hypotheses below this are left out.
pub(crate) const NOT_WORTH_SAYING: f64 = 0.02;
/// What is left to causes that nobody thought of, however clear a case looks: no verdict is certain.
pub(crate) const UNTHOUGHT_OF: f64 = 0.02;
/// At most this many hypotheses besides "unknown".
pub(crate) const MOST_HYPOTHESES: usize = 7;

pub(crate) const NOTED: Strength = Strength::Noted;
pub(crate) const USUAL: Strength = Strength::Usual;
pub(crate) const SLIGHT: Strength = Strength::Slight;
pub(crate) const MODERATE: Strength = Strength::Moderate;
pub(crate) const LIKELY: Strength = Strength::Likely;
pub(crate) const CLEAR: Strength = Strength::Clear;
pub(crate) const NEAREST: Strength = Strength::Nearest;
pub(crate) const STRONG: Strength = Strength::Strong;
pub(crate) const DECISIVE: Strength = Strength::Decisive;

impl Strength {
    /// Log-odds by the weights in use.
    pub(crate) fn log_odds(self) -> f64 {
        Weights::FITTED.strength(self)
    }
}

/// What everything counts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Weights {
    /// Log-odds of each [`Strength`], weakest first.
    pub strengths: [f64; 9],
    /// What each further item of evidence for one cause counts, as a part of the one before.
    pub further: f64,
    /// Log-odds of "none of the causes considered".
    pub unknown: f64,
    /// What a class starts from, in the order of [`Class::ALL`].
    pub classes: [f64; Class::ALL.len()],
}

impl Weights {
    /// As they were set by hand: third-party drivers cause most stops, Windows itself, which runs in all of them,
    /// seldom; somebody has to hold what others wait for, so a hang is seldom the last word.
    pub const BY_HAND: Self = Self {
        strengths: [0.1, 0.35, 0.4, 0.9, 1.2, 1.5, 1.2, 2.2, 3.5],
        further: 0.7,
        unknown: 0.0,
        classes: [
            0.0, 0.0, 0.0, 0.0, 0.0, -0.3, -0.3, -0.5, -0.8, -0.8, 0.0, 0.0, -0.8, -0.5, -0.8, -0.5, 0.0,
            -0.5, 0.0,
        ],
    };

    /// The weights in use.
    pub const FITTED: Self = Self {
        strengths: [0.1, 0.36, 0.36, 1.09, 1.94, 2.76, 1.38, 3.2, 3.51],
        further: 0.71,
        unknown: -0.23,
        classes: [
            0.21, 0.03, 0.1, 0.0, 0.14, -0.47, -0.33, -0.56, -0.8, -0.8, 0.01, 0.0, -0.84, -0.57, -0.76,
            -0.5, 0.0, -0.51, 0.0,
        ],
    };

    fn strength(&self, strength: Strength) -> f64 {
        self.strengths.get(strength as usize).copied().unwrap_or_default()
    }

    fn class(&self, class: Class) -> f64 {
        Class::ALL
            .iter()
            .position(|known| *known == class)
            .and_then(|at| self.classes.get(at))
            .copied()
            .unwrap_or(0.0)
    }

    /// What several items weigh together. Facts of one crash are seldom independent: each further one, taken by
    /// weight, counts for less.
    fn together(&self, items: &[Evidence]) -> f64 {
        let counts = |item: &Evidence| item.strength.map_or(item.weight, |strength| self.strength(strength));
        let mut weights: Vec<f64> = items.iter().map(counts).collect();
        weights.sort_by(|a, b| b.total_cmp(a));
        weights.iter().zip(0..).map(|(weight, rank)| weight * self.further.powi(rank)).sum()
    }

    /// Log-odds of a hypothesis by its evidence.
    fn score(&self, hypothesis: &Hypothesis) -> f64 {
        if hypothesis.class == Class::Unknown {
            return self.unknown + self.together(&hypothesis.supports);
        }
        self.class(hypothesis.class) + self.together(&hypothesis.supports)
            - self.together(&hypothesis.contradicts)
    }

    /// The probability of each hypothesis, "unknown" among them: evidence adds up in log-odds, and a softmax shares
    /// out what there is.
    pub fn confidences(&self, hypotheses: &[Hypothesis]) -> Vec<f64> {
        let odds: Vec<f64> = hypotheses.iter().map(|h| self.score(h).clamp(-20.0, 20.0).exp()).collect();
        let total: f64 = odds.iter().sum();
        let shares: Vec<f64> = odds.into_iter().map(|odds| odds / total).collect();
        let known = shares.iter().zip(hypotheses).filter(|(_, h)| h.class != Class::Unknown);
        let excess = (known.map(|(share, _)| *share).fold(0.0, f64::max) - (1.0 - UNTHOUGHT_OF)).max(0.0);
        let capped = |(share, hypothesis): (f64, &Hypothesis)| match hypothesis.class {
            Class::Unknown => share + excess,
            _ => share.min(1.0 - UNTHOUGHT_OF),
        };
        shares.into_iter().zip(hypotheses).map(capped).collect()
    }
}

/// Log-odds of an item: a step of the scale, or a figure where a rule works one out.
#[derive(Clone, Copy)]
pub(crate) struct Weight {
    pub(crate) strength: Option<Strength>,
    pub(crate) log_odds: f64,
}

impl From<Strength> for Weight {
    fn from(strength: Strength) -> Self {
        Self { strength: Some(strength), log_odds: strength.log_odds() }
    }
}

impl From<f64> for Weight {
    fn from(log_odds: f64) -> Self {
        Self { strength: None, log_odds }
    }
}
