//! A value with where it comes from, or the reason why it is not known.

use std::borrow::Cow;
use std::fmt;

/// Where a value was found, in a reader's words: `dump header`, `KTHREAD.StackLimit`, `Arg2 of the bug check`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source(Cow<'static, str>);

impl Source {
    /// A source from its words.
    pub fn new(words: impl Into<Cow<'static, str>>) -> Self {
        Self(words.into())
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something the dump may tell. A missing fact always says why, so that nobody has to guess.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact<T> {
    /// Known, and from where.
    Known {
        /// The value.
        value: T,
        /// Where it was read.
        source: Source,
    },
    /// Not known, and why.
    Missing {
        /// The reason in words, for the reader: `page not in this minidump`.
        reason: Cow<'static, str>,
    },
}

impl<T> Fact<T> {
    /// A known fact.
    pub fn known(value: T, source: impl Into<Cow<'static, str>>) -> Self {
        Self::Known { value, source: Source::new(source) }
    }

    /// A missing fact.
    pub fn missing(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Missing { reason: reason.into() }
    }

    /// The value, if known.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Known { value, .. } => Some(value),
            Self::Missing { .. } => None,
        }
    }

    /// The value with its source, if known.
    pub fn known_with_source(&self) -> Option<(&T, &Source)> {
        match self {
            Self::Known { value, source } => Some((value, source)),
            Self::Missing { .. } => None,
        }
    }

    /// Why it is missing, if it is.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Known { .. } => None,
            Self::Missing { reason } => Some(reason),
        }
    }

    /// The same fact with its value changed and its source kept.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known { value, source } => Fact::Known { value: change(value), source },
            Self::Missing { reason } => Fact::Missing { reason },
        }
    }
}

impl<T: Copy> Fact<T> {
    /// The value, copied, if known.
    pub fn get(&self) -> Option<T> {
        self.value().copied()
    }
}
