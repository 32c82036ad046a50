//! From findings to probabilities: evidence adds up in log-odds for each hypothesis, and the hypotheses, with
//! "unknown" among them, share what there is.

use crate::strength::Strength;
use crate::verdict::{Basis, Class, Evidence, Hypothesis, Suspect};
use crate::weights::{self, Weight, Weights};
use stopcode_base::VirtAddr;

/// What evidence is about: a class of cause, and who.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cause {
    pub(crate) class: Class,
    pub(crate) suspect: Option<Suspect>,
}

impl Cause {
    /// A cause without a suspect.
    pub(crate) const fn of(class: Class) -> Self {
        Self { class, suspect: None }
    }

    /// A cause with a suspect.
    pub(crate) const fn by(class: Class, suspect: Suspect) -> Self {
        Self { class, suspect: Some(suspect) }
    }
}

/// An item of evidence under construction: text, basis and weight are needed, command and address come by chaining.
pub(crate) fn evidence(basis: Basis, weight: impl Into<Weight>, text: impl Into<String>) -> Evidence {
    let Weight { strength, log_odds } = weight.into();
    Evidence {
        text: text.into(),
        command: None,
        address: None,
        weight: log_odds,
        strength,
        basis,
        flipped_bit: None,
    }
}

impl Evidence {
    /// The debugger command that shows it.
    pub(crate) fn shown_by(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// It shows one flipped bit.
    pub(crate) fn with_bit(mut self, bit: u32) -> Self {
        self.flipped_bit = u8::try_from(bit).ok();
        self
    }

    /// The address it is about.
    pub(crate) fn at(mut self, address: VirtAddr) -> Self {
        self.address = Some(address);
        self
    }
}

#[derive(Clone, PartialEq, Debug)]
struct Account {
    cause: Cause,
    supports: Vec<Evidence>,
    contradicts: Vec<Evidence>,
}

/// What the rules found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    accounts: Vec<Account>,
    missing: Vec<String>,
}

impl Findings {
    /// `evidence` speaks for `cause`.
    pub(crate) fn supports(&mut self, cause: &Cause, evidence: Evidence) {
        self.account(cause).supports.push(evidence);
    }

    /// `evidence` speaks against `cause`. A cause that nothing speaks for is not listed in the end.
    pub(crate) fn contradicts(&mut self, cause: &Cause, evidence: Evidence) {
        self.account(cause).contradicts.push(evidence);
    }

    /// `evidence` speaks against every cause found so far that `applies` picks.
    pub(crate) fn contradicts_all(&mut self, applies: impl Fn(&Cause) -> bool, evidence: &Evidence) {
        for account in self.accounts.iter_mut().filter(|account| applies(&account.cause)) {
            account.contradicts.push(evidence.clone());
        }
    }

    /// Something that would have helped is not there.
    pub(crate) fn missing(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.missing.contains(&what) {
            self.missing.push(what);
        }
    }

    /// Causes that something speaks for.
    pub(crate) fn causes(&self) -> impl Iterator<Item = &Cause> {
        let named =
            |account: &&Account| !account.supports.is_empty() && account.cause.class != Class::Unknown;
        self.accounts.iter().filter(named).map(|a| &a.cause)
    }

    /// An item that is seldom seen unless its cause is the true one was found.
    pub(crate) fn is_settled(&self) -> bool {
        self.accounts
            .iter()
            .flat_map(|account| &account.supports)
            .any(|item| item.strength >= Some(Strength::Strong))
    }

    fn account(&mut self, cause: &Cause) -> &mut Account {
        let at = self.accounts.iter().position(|account| account.cause == *cause).unwrap_or_else(|| {
            self.accounts.push(Account {
                cause: cause.clone(),
                supports: Vec::new(),
                contradicts: Vec::new(),
            });
            self.accounts.len() - 1
        });
        // The position was just found or made.
        #[expect(clippy::indexing_slicing, reason = "position of an element of this very list")]
        &mut self.accounts[at]
    }

    /// The hypotheses by confidence, with "unknown" holding what the others leave; and what was missing.
    pub(crate) fn weigh(self) -> (Vec<Hypothesis>, Vec<String>) {
        let mut supported = self.accounts;
        supported.retain(|account| !account.supports.is_empty());
        let unknown = supported.extract_if(.., |account| account.cause.class == Class::Unknown).next();
        let mut hypotheses: Vec<Hypothesis> = supported
            .into_iter()
            .map(|account| Hypothesis {
                class: account.cause.class,
                suspect: account.cause.suspect,
                confidence: 0.0,
                supports: by_weight(account.supports),
                contradicts: by_weight(account.contradicts),
            })
            .collect();
        // Last, so that where a cause is as likely as none, the cause is named.
        hypotheses.push(Hypothesis {
            class: Class::Unknown,
            suspect: None,
            confidence: 0.0,
            supports: unknown.map(|account| account.supports).unwrap_or_default(),
            contradicts: Vec::new(),
        });
        let confidences = Weights::FITTED.confidences(&hypotheses);
        for (hypothesis, confidence) in hypotheses.iter_mut().zip(confidences) {
            hypothesis.confidence = round(confidence);
        }
        hypotheses.retain(|h| h.class == Class::Unknown || h.confidence >= weights::NOT_WORTH_SAYING);
        hypotheses.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        let mut named = 0;
        hypotheses.retain(|h| {
            named += usize::from(h.class != Class::Unknown);
            h.class == Class::Unknown || named <= weights::MOST_HYPOTHESES
        });
        (hypotheses, self.missing)
    }
}

fn by_weight(mut evidence: Vec<Evidence>) -> Vec<Evidence> {
    evidence.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    evidence
}

/// Downwards to three places, so that the sum stays at most 1.
fn round(confidence: f64) -> f64 {
    (confidence * 1000.0).floor() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidences_sum_to_one_at_most_and_are_sorted() {
        let mut findings = Findings::default();
        for (class, weight) in [(Class::DriverBug, 2.0), (Class::OsBug, 0.5), (Class::MemoryHardware, 1.0)] {
            findings.supports(&Cause::of(class), evidence(Basis::Stack, weight, "x"));
        }
        findings.contradicts(&Cause::of(Class::UsbDevice), evidence(Basis::Stack, 1.0, "never listed"));
        let (hypotheses, _) = findings.weigh();
        assert_eq!(hypotheses.len(), 4);
        assert_eq!(hypotheses[0].class, Class::DriverBug);
        assert!(hypotheses.windows(2).all(|w| w[0].confidence >= w[1].confidence));
        assert!(hypotheses.iter().map(|h| h.confidence).sum::<f64>() <= 1.0);
    }

    #[test]
    fn nothing_found_is_unknown() {
        let (hypotheses, _) = Findings::default().weigh();
        assert_eq!(hypotheses.len(), 1);
        assert_eq!(hypotheses[0].class, Class::Unknown);
        assert!((hypotheses[0].confidence - 1.0).abs() < 0.01);
    }
}
