//! What a command comes back with.

use serde::Serialize;
use serde_json::Value;

/// How a command went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It shows what was asked for, or as much of it as there is.
    Answer,
    /// The dump, or the symbols at hand, do not hold what was asked for.
    Unknown,
    /// It was asked wrongly, or was stopped.
    Failed,
}

/// One command's answer: text for people, data for programs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Answer {
    /// The command as it was given.
    pub command: String,
    /// How it went.
    pub status: Status,
    /// Why it is no answer, or what is missing in it, in words.
    pub reason: Option<String>,
    /// What a person reads: lines that end with a line feed, and no other control character.
    pub text: String,
    /// The same, typed: codes and addresses are strings (`0x` and lower-case hex), counts and sizes numbers, what is not known
    /// is `null`.
    pub data: Value,
}

/// Why a command ended without an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The dump or the symbols do not hold it: why, and what shows more.
    Unknown(String),
    /// It was asked wrongly: how it is asked.
    Failed(String),
    /// Somebody wants no more of it.
    Interrupted,
    /// It wrote more than is kept.
    TooLong,
}

impl Stop {
    /// The dump or the symbols do not hold it.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown(why.into())
    }

    /// It was asked wrongly.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }
}

impl From<crate::ExpressionError> for Stop {
    fn from(error: crate::ExpressionError) -> Self {
        if error.is_unknown() { Self::Unknown(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

/// What running a command gives: data, or why there is none.
pub type Outcome = Result<Value, Stop>;
