//! What can be wrong with an expression, and where.

use std::fmt;

/// An expression that has no value: what is wrong, and the text where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExpressionError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The rest of the expression from there on; empty at its end.
    pub at: String,
}

/// What is wrong with an expression.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name that is no number, symbol or register. `missing` if the dump or the symbols at hand do not tell, in words.
    Unresolved {
        /// Why the name cannot be told; `None` if it is simply not there.
        missing: Option<String>,
    },
    /// A value should stand here.
    NumberMissing,
    /// Something else should stand here.
    Syntax,
    /// Text behind the end of the expression.
    ExtraCharacters,
    /// A number of more than 64 bits.
    Overflow,
    /// A division by zero.
    Operand,
    /// Memory that an operator reads is not there: why, in words.
    Memory(String),
    /// A range that ends before it begins, or is longer than allowed.
    Range,
    /// More parentheses and operators in one another than are read.
    TooDeep,
}

impl ExpressionError {
    pub(crate) fn new(kind: ErrorKind, at: &str) -> Self {
        /// Enough to find the place.
        const SHOWN: usize = 80;
        Self { kind, at: at.trim_end().chars().take(SHOWN).collect() }
    }

    /// True if the expression is right and the dump, or the symbols at hand, do not hold what it asks for.
    pub fn is_unknown(&self) -> bool {
        matches!(self.kind, ErrorKind::Memory(_) | ErrorKind::Unresolved { missing: Some(_) })
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.kind {
            ErrorKind::Unresolved { .. } => "Couldn't resolve error",
            ErrorKind::NumberMissing => "Numeric expression missing",
            ErrorKind::Syntax => "Syntax error",
            ErrorKind::ExtraCharacters => "Extra character error",
            ErrorKind::Overflow => "Overflow error",
            ErrorKind::Operand => "Operand error",
            ErrorKind::Memory(_) => "Memory access error",
            ErrorKind::Range => "Range error",
            ErrorKind::TooDeep => "Expression too deep",
        };
        let at = if self.at.is_empty() { "<EOL>" } else { &self.at };
        write!(f, "{what} at '{at}'")?;
        match &self.kind {
            ErrorKind::Unresolved { missing: Some(why) } | ErrorKind::Memory(why) => write!(f, ": {why}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ExpressionError {}
