//! Every number of the analysis, in one place.
//!
//! Weights are log-odds (natural logarithm) that an observation adds to a hypothesis. They are set by hand from how much rarer
//! an observation is where the hypothesis is false, checked against cases whose cause is known (too low rather than
//! too high), and are to be fitted on more of them; no sum of merely suggestive items makes a hypothesis sure.

use crate::verdict::Class;

/// Log-odds of "none of the causes considered".
pub(crate) const UNKNOWN: f64 = 0.0;
/// Hypotheses below this are left out.
pub(crate) const NOT_WORTH_SAYING: f64 = 0.02;
/// At most this many hypotheses besides "unknown".
pub(crate) const MOST_HYPOTHESES: usize = 7;

/// What each further item of evidence for one cause counts, as a part of the one before.
pub(crate) const FURTHER: f64 = 0.7;

/// An observation that settles the matter (Driver Verifier's own accusation, a proof from limits and page tables).
pub(crate) const DECISIVE: f64 = 3.5;
/// Strong: seldom seen unless the hypothesis is true.
pub(crate) const STRONG: f64 = 2.2;
/// The nearest driver that does not come with Windows, on a sound stack: the culprit in about six of seven cases.
pub(crate) const NEAREST: f64 = 1.8;
/// Clear.
pub(crate) const CLEAR: f64 = 1.5;
/// More often so than not.
pub(crate) const LIKELY: f64 = 1.2;
/// Moderate.
pub(crate) const MODERATE: f64 = 0.9;
/// A base rate: what is usual behind a stop code leads where nothing else is known, and makes nothing sure.
pub(crate) const USUAL: f64 = 0.35;
/// Slight.
pub(crate) const SLIGHT: f64 = 0.4;
/// Worth a line; moves nothing much.
pub(crate) const NOTED: f64 = 0.1;

/// What a class starts from before anything is known of the case: third-party drivers cause most stops; Windows
/// itself, which runs in all of them, seldom.
pub(crate) fn prior(class: Class) -> f64 {
    match class {
        Class::OsBug | Class::FirmwareBios | Class::OverheatingOrPower | Class::Misconfiguration => -0.8,
        // Somebody has to hold what others wait for: a hang is seldom the last word.
        Class::TamperingOrResearchTool
        | Class::FilesystemCorruption
        | Class::StorageHardware
        | Class::DeadlockOrHang => -0.5,
        Class::MemoryHardware | Class::ProcessorHardware => -0.3,
        _ => 0.0,
    }
}
