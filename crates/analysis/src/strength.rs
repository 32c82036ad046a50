//! How strongly an observation speaks, in steps; what a step counts is the weights' affair.

/// How strongly an observation speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Strength {
    /// Worth a line; moves nothing much.
    Noted,
    /// A base rate: what is usual behind a stop code leads where nothing else is known, and makes nothing sure.
    Usual,
    /// Slight.
    Slight,
    /// Moderate.
    Moderate,
    /// More often so than not.
    Likely,
    /// Clear.
    Clear,
    /// The nearest driver that does not come with Windows, on a sound stack.
    Nearest,
    /// Seldom seen unless the hypothesis is true.
    Strong,
    /// Settles the matter: Driver Verifier's own accusation, a proof from limits and page tables.
    Decisive,
}
