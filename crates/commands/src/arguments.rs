//! What stands behind a command's name, read by its definition.

use crate::expression::{ErrorKind, ExpressionError, Names, evaluate, evaluate_start};
use crate::parameter::{Kind, POINTER, Parameter};
use stopcode_base::VirtAddr;

/// A range of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Its first byte; where only a length was given, the command goes on where its last range ended.
    pub start: Option<VirtAddr>,
    /// Bytes in it.
    pub bytes: u64,
    /// True if the line says how long it is.
    pub given: bool,
    /// How many elements, where `L` says it.
    pub count: Option<u64>,
}

/// Longer ranges are asked for with `L?`.
const LONGEST: u64 = 256 << 20;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Value<'l> {
    Switch,
    Number(u64),
    Range(Range),
    Text(&'l str),
}

/// Why arguments cannot be read.
pub(crate) enum Misread {
    /// The parameter of this name has to stand there.
    Missing(&'static str),
    /// An expression is wrong, or something stands where nothing may.
    Expression(ExpressionError),
}

impl From<ExpressionError> for Misread {
    fn from(error: ExpressionError) -> Self {
        Self::Expression(error)
    }
}

/// The arguments of one invocation.
pub struct Arguments<'l> {
    /// The letters behind the name: `v` of `kv`.
    pub letters: &'l str,
    parameters: &'static [Parameter],
    values: Vec<(&'static str, Value<'l>)>,
}

impl<'l> Arguments<'l> {
    /// Reads `text` as the parameters say.
    pub(crate) fn parse(
        parameters: &'static [Parameter],
        letters: &'l str,
        text: &'l str,
        names: &dyn Names,
    ) -> Result<Self, Misread> {
        let mut arguments = Self { letters, parameters, values: Vec::new() };
        let mut positions = parameters.iter().filter(|parameter| !parameter.is_named());
        let mut rest = text.trim();
        while !rest.is_empty() {
            if let Some((parameter, behind)) = named(parameters, rest) {
                let (value, behind) = if parameter.kind == Kind::Option {
                    // A word, because `-lo 50 -d` is no difference.
                    let (value, behind) = word(behind.trim_start());
                    (Value::Number(evaluate(value, names)?), behind)
                } else {
                    (Value::Switch, behind)
                };
                arguments.values.push((parameter.name, value));
                rest = behind.trim_start();
                continue;
            }
            let Some(parameter) = positions.next() else {
                return Err(ExpressionError::new(ErrorKind::ExtraCharacters, rest).into());
            };
            let (value, behind) = match parameter.kind {
                Kind::Expression => {
                    let (value, behind) = evaluate_start(rest, names)?;
                    (Value::Number(value), behind)
                }
                Kind::Range { unit, count } => {
                    let unit = if unit == POINTER { names.pointer_size() as u64 } else { unit };
                    let (range, behind) = range(rest, unit, count, names)?;
                    (Value::Range(range), behind)
                }
                Kind::Rest => (Value::Text(rest), ""),
                Kind::Switch
                | Kind::Option
                | Kind::Word
                | Kind::Module
                | Kind::Symbol
                | Kind::Type
                | Kind::Command => {
                    let (word, behind) = word(rest);
                    (Value::Text(word), behind)
                }
            };
            arguments.values.push((parameter.name, value));
            rest = behind.trim_start();
        }
        if let Some(missing) = positions.find(|parameter| parameter.required) {
            return Err(Misread::Missing(missing.name));
        }
        Ok(arguments)
    }

    fn get(&self, name: &str) -> Option<&Value<'l>> {
        debug_assert!(
            self.parameters.iter().any(|parameter| parameter.name == name),
            "the definition has no parameter {name}"
        );
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Whether the switch stands there.
    pub fn switch(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether the letter follows the name.
    pub fn letter(&self, letter: char) -> bool {
        self.letters.contains(letter)
    }

    /// The value of an expression, where it stands there.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// The same as an address.
    pub fn address(&self, name: &str) -> Option<VirtAddr> {
        self.number(name).map(VirtAddr)
    }

    /// A range, where it stands there.
    pub fn range(&self, name: &str) -> Option<Range> {
        match self.get(name)? {
            Value::Range(range) => Some(*range),
            _ => None,
        }
    }

    /// A word or the rest of the line, where it stands there.
    pub fn text(&self, name: &str) -> Option<&'l str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The switch that `text` begins with, and what follows.
fn named<'l>(parameters: &'static [Parameter], text: &'l str) -> Option<(&'static Parameter, &'l str)> {
    let spelled = text.strip_prefix(['-', '/'])?;
    let end = spelled.find(char::is_whitespace).unwrap_or(spelled.len());
    let (word, behind) = spelled.split_at_checked(end)?;
    let mut named = parameters.iter().filter(|parameter| parameter.is_named());
    let parameter = named.find(|parameter| parameter.name.trim_start_matches(['-', '/']) == word)?;
    Some((parameter, behind))
}

/// A word, or what stands in quotes, and what follows.
pub(crate) fn word(text: &str) -> (&str, &str) {
    if let Some((quoted, behind)) = text.strip_prefix('"').and_then(|text| text.split_once('"')) {
        return (quoted, behind);
    }
    text.split_at_checked(text.find(char::is_whitespace).unwrap_or(text.len())).unwrap_or((text, ""))
}

/// True if a text is a length and no address: `L5`, `L?1000`, `L 8`. Other words with an L in front are names.
fn is_length(text: &str) -> bool {
    let (first, _) = word(text);
    let Some(rest) = first.strip_prefix(['L', 'l']) else { return false };
    let digits = rest.trim_start_matches(['?', '(']);
    rest.is_empty() || rest.len() > digits.len() || digits.starts_with(|c: char| c.is_ascii_digit())
}

/// `ADDRESS`, `ADDRESS L COUNT`, `ADDRESS L?COUNT`, `ADDRESS END` or `L COUNT`; the end is in the range.
pub(crate) fn range<'l>(
    text: &'l str,
    unit: u64,
    count: u64,
    names: &dyn Names,
) -> Result<(Range, &'l str), ExpressionError> {
    let (start, behind) = if is_length(text) {
        (None, text)
    } else {
        let (start, behind) = evaluate_start(text, names)?;
        (Some(VirtAddr(start)), behind)
    };
    let rest = behind.trim_start();
    let too_long = || ExpressionError::new(ErrorKind::Range, rest);
    if let Some(length) = rest.strip_prefix(['L', 'l']) {
        let (length, limit) = match length.strip_prefix('?') {
            Some(length) => (length, u64::MAX),
            None => (length, LONGEST),
        };
        let (count, behind) = evaluate_start(length, names)?;
        let bytes = count.checked_mul(unit).filter(|bytes| *bytes <= limit).ok_or_else(too_long)?;
        return Ok((Range { start, bytes, given: true, count: Some(count) }, behind));
    }
    if rest.is_empty() || rest.starts_with('"') {
        let bytes = unit.saturating_mul(count);
        return Ok((Range { start, bytes, given: false, count: None }, behind));
    }
    let (end, behind) = evaluate_start(rest, names)?;
    let from = start.unwrap_or_default();
    let bytes = VirtAddr(end).offset_from(from).ok_or_else(too_long)?.saturating_add(unit);
    if bytes > LONGEST {
        return Err(too_long());
    }
    Ok((Range { start, bytes, given: true, count: None }, behind))
}
