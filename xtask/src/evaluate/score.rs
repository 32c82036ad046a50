//! Held against the truth: who was right, how sure, and whether the figures deserve trust.

use super::cases::{Truth, stem};
use std::collections::BTreeMap;
use stopcode_analysis::{Class, Hypothesis};

/// Causes that call for the same kind of action.
fn family(class: &str) -> &'static str {
    match class {
        "driver_bug"
        | "verifier_detected_driver_bug"
        | "pool_corruption_by_driver"
        | "antivirus_or_filter_driver" => "software",
        "kernel_stack_overflow" => "stack",
        "memory_hardware"
        | "processor_hardware"
        | "storage_hardware"
        | "overheating_or_power"
        | "firmware_bios" => "hardware",
        "gpu_driver_or_hardware" => "gpu",
        "usb_device" => "usb",
        "os_bug" => "os",
        "filesystem_corruption" => "storage",
        "misconfiguration" => "configuration",
        "deadlock_or_hang" => "hang",
        "intentional_or_test" | "tampering_or_research_tool" => "intentional",
        _ => "unknown",
    }
}

/// The truth's family.
pub(super) fn family_of(truth: &Truth) -> &'static str {
    family(&truth.class)
}

/// The family is right and no wrong image is named; a family next door counts only with the right image.
pub(super) fn is_right(truth: &Truth, class: Class, module: Option<&str>) -> bool {
    let (got, want) = (family(class.id()), family(&truth.class));
    let culprits = truth.culprits();
    let named = module.map(stem).is_some_and(|module| culprits.contains(&module));
    let near = |family| matches!(family, "gpu" | "usb" | "os" | "hang" | "intentional");
    let neighbour = named && (got == "software" && near(want) || want == "software" && near(got));
    let wrong_image = module.is_some()
        && (!culprits.is_empty() && !named || culprits.is_empty() && want == "hardware" && got == "software");
    (got == want || neighbour) && !wrong_image
}

/// The same for a hypothesis.
pub(super) fn is_right_hypothesis(truth: &Truth, hypothesis: &Hypothesis) -> bool {
    is_right(
        truth,
        hypothesis.class,
        hypothesis.suspect.as_ref().and_then(|suspect| suspect.module.as_deref()),
    )
}

/// One verdict and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) family: &'static str,
    pub(super) lead: Class,
    pub(super) confidence: f64,
    pub(super) right: bool,
    pub(super) bare: bool,
    /// The culprit is known and the text names it: whether the lead does.
    pub(super) named: Option<bool>,
}

/// Figures over many outcomes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) answerable: usize,
    pub(super) abstained: usize,
    /// Mean over the families with two cases or more of the share that was right.
    pub(super) balanced: f64,
    pub(super) named: (usize, usize),
    pub(super) sure: usize,
    pub(super) sure_wrong: usize,
    pub(super) bare: usize,
    pub(super) bare_over: usize,
    pub(super) brier: f64,
    pub(super) ece: f64,
}

/// At this confidence a verdict is sure.
const SURE: f64 = 0.8;
/// A case of which only the code is known supports no claim of more than this.
const TOO_SURE_FOR_BARE: f64 = 0.6;

pub(super) fn figures(outcomes: &[Outcome]) -> Figures {
    let mut figures = Figures::default();
    let mut families: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for outcome in outcomes {
        if outcome.bare {
            figures.bare += 1;
            let over =
                outcome.confidence >= TOO_SURE_FOR_BARE && !outcome.right && outcome.lead != Class::Unknown;
            figures.bare_over += usize::from(over);
            continue;
        }
        figures.answerable += 1;
        figures.abstained += usize::from(outcome.lead == Class::Unknown);
        let (right, all) = families.entry(outcome.family).or_default();
        *right += usize::from(outcome.right);
        *all += 1;
        if outcome.confidence >= SURE {
            figures.sure += 1;
            figures.sure_wrong += usize::from(!outcome.right);
        }
        if let Some(named) = outcome.named {
            figures.named.0 += usize::from(named);
            figures.named.1 += 1;
        }
    }
    let shares: Vec<f64> = families
        .values()
        .filter(|(_, all)| *all >= 2)
        .map(|(right, all)| *right as f64 / *all as f64)
        .collect();
    figures.balanced = mean(&shares);
    let points: Vec<(f64, bool)> =
        outcomes.iter().map(|outcome| (outcome.confidence, outcome.right)).collect();
    (figures.brier, figures.ece) = calibration(&points);
    figures
}

/// Brier score, and the expected calibration error over five bins of equal count.
pub(super) fn calibration(points: &[(f64, bool)]) -> (f64, f64) {
    const BINS: usize = 5;
    if points.is_empty() {
        return (1.0, 1.0);
    }
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let hit = |right: bool| if right { 1.0 } else { 0.0 };
    let squares: Vec<f64> = sorted.iter().map(|(p, right)| (p - hit(*right)).powi(2)).collect();
    let mut error = 0.0;
    for bin in 0..BINS {
        let (from, to) = (bin * sorted.len() / BINS, (bin + 1) * sorted.len() / BINS);
        let part = sorted.get(from..to).unwrap_or_default();
        if part.is_empty() {
            continue;
        }
        let said = mean(&part.iter().map(|point| point.0).collect::<Vec<_>>());
        let was = mean(&part.iter().map(|point| hit(point.1)).collect::<Vec<_>>());
        error += part.len() as f64 / sorted.len() as f64 * (said - was).abs();
    }
    (mean(&squares), error)
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "answerable {} abstained {} balanced {:.3} culprit {}/{} sure {} sure-wrong {} bare {} bare-over {} brier {:.3} ece {:.3}",
            self.answerable,
            self.abstained,
            self.balanced,
            self.named.0,
            self.named.1,
            self.sure,
            self.sure_wrong,
            self.bare,
            self.bare_over,
            self.brier,
            self.ece
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(class: &str, image: Option<&str>) -> Truth {
        Truth { class: class.to_owned(), culprit_image: image.map(str::to_owned), ..Truth::default() }
    }

    #[test]
    fn a_wrong_image_is_wrong_and_a_neighbour_needs_the_image() {
        let driver = truth("driver_bug", Some("A.sys"));
        assert!(is_right(&driver, Class::DriverBug, Some("a.sys")));
        assert!(is_right(&driver, Class::PoolCorruptionByDriver, None));
        assert!(!is_right(&driver, Class::DriverBug, Some("b.sys")));
        assert!(is_right(&driver, Class::UsbDevice, Some("a.sys")));
        assert!(!is_right(&driver, Class::UsbDevice, None));
        assert!(!is_right(&truth("memory_hardware", None), Class::DriverBug, Some("a.sys")));
    }

    #[test]
    fn calibration_is_nought_where_figures_keep_their_word() {
        let kept: Vec<(f64, bool)> = (0..100).map(|n| (0.5, n % 2 == 0)).collect();
        let (brier, _) = calibration(&kept);
        assert!((brier - 0.25).abs() < 1e-9);
        let boast: Vec<(f64, bool)> = (0..100).map(|n| (0.9, n % 2 == 0)).collect();
        assert!((calibration(&boast).1 - 0.4).abs() < 0.41 && calibration(&boast).1 > 0.3);
    }
}
