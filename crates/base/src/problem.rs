//! What is wrong with an input, in words the reader can act on.

/// How much a problem costs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Note,
    /// Part of the input could not be used.
    Warning,
    /// The input could not be used.
    Error,
}

/// One problem of an input: what, where, and what the reader can do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// How much it costs.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// Where in the input: `triage header`, `offset 0x2078`.
    pub place: String,
    /// What the reader can do; empty where nothing helps.
    pub hint: String,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(severity: Severity, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity, what: what.into(), place: place.into(), hint: String::new() }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}
