//! MASM-style expressions, as WinDbg reads them unless told otherwise.
//!
//! From strongest to weakest: parentheses; unary `+ - not hi low by wo dwo qwo poi`; `* / mod %`; `+ -`;
//! `<< >> >>>`; `= == < > <= >= !=`; `and &`; `xor ^`; `or |`; equals from left to right. All values are 64-bit and wrap.
//! A name is taken for a number first, then for a symbol, then for a register; `@` before it says that it is a register.
//! (learn.microsoft.com, "MASM Numbers and Operators".)

mod error;
mod number;

pub use error::{ErrorKind, ExpressionError};

use number::number;

/// Deeper nesting is not read.
const DEEPEST: usize = 100;

/// Who answers what an expression asks for.
pub trait Names {
    /// The base of numbers without a prefix.
    fn radix(&self) -> u32;
    /// A register or pseudo-register (`rax`, `$ip`), without its `@`. `None` if there is none of this name; an error if it is
    /// not known here, in words.
    fn register(&self, name: &str) -> Option<Result<u64, String>>;
    /// A symbol (`module!name`, `name`) or a module's base by its name; see [`Names::register`].
    fn symbol(&self, name: &str) -> Option<Result<u64, String>>;
    /// A little-endian value of `size` bytes (1, 2, 4 or 8) in memory, or why it is not there.
    fn read(&self, at: u64, size: usize) -> Result<u64, String>;
    /// Bytes in a pointer.
    fn pointer_size(&self) -> usize;
}

/// The value of the expression that `text` is.
pub fn evaluate(text: &str, names: &dyn Names) -> Result<u64, ExpressionError> {
    let (value, rest) = evaluate_start(text, names)?;
    let rest = rest.trim_start();
    if rest.is_empty() { Ok(value) } else { Err(ExpressionError::new(ErrorKind::ExtraCharacters, rest)) }
}

/// The value of the expression that `text` begins with, as far as it goes, and the text behind it.
pub fn evaluate_start<'t>(text: &'t str, names: &dyn Names) -> Result<(u64, &'t str), ExpressionError> {
    let mut parser = Parser { rest: text, names, depth: 0 };
    let value = parser.binary(0)?;
    Ok((value, parser.rest))
}

#[derive(Clone, Copy)]
enum Binary {
    Or,
    Xor,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    ShiftLeft,
    ShiftRight,
    ShiftArithmetic,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// Longer spellings before those they begin with.
const SYMBOLS: [(&str, Binary, u8); 18] = [
    (">>>", Binary::ShiftArithmetic, 4),
    (">>", Binary::ShiftRight, 4),
    ("<<", Binary::ShiftLeft, 4),
    ("<=", Binary::LessOrEqual, 3),
    (">=", Binary::GreaterOrEqual, 3),
    ("==", Binary::Equal, 3),
    ("!=", Binary::NotEqual, 3),
    ("=", Binary::Equal, 3),
    ("<", Binary::Less, 3),
    (">", Binary::Greater, 3),
    ("&", Binary::And, 2),
    ("^", Binary::Xor, 1),
    ("|", Binary::Or, 0),
    ("+", Binary::Add, 5),
    ("-", Binary::Subtract, 5),
    ("*", Binary::Multiply, 6),
    ("/", Binary::Divide, 6),
    ("%", Binary::Modulo, 6),
];

const WORDS: [(&str, Binary, u8); 4] =
    [("or", Binary::Or, 0), ("xor", Binary::Xor, 1), ("and", Binary::And, 2), ("mod", Binary::Modulo, 6)];

impl Binary {
    fn apply(self, left: u64, right: u64) -> Option<u64> {
        let shift = u32::try_from(right).unwrap_or(u32::MAX);
        Some(match self {
            Self::Or => left | right,
            Self::Xor => left ^ right,
            Self::And => left & right,
            Self::Equal => u64::from(left == right),
            Self::NotEqual => u64::from(left != right),
            Self::Less => u64::from(left < right),
            Self::LessOrEqual => u64::from(left <= right),
            Self::Greater => u64::from(left > right),
            Self::GreaterOrEqual => u64::from(left >= right),
            Self::ShiftLeft => left.checked_shl(shift).unwrap_or(0),
            Self::ShiftRight => left.checked_shr(shift).unwrap_or(0),
            Self::ShiftArithmetic => (left as i64 >> shift.min(63)) as u64,
            Self::Add => left.wrapping_add(right),
            Self::Subtract => left.wrapping_sub(right),
            Self::Multiply => left.wrapping_mul(right),
            Self::Divide => left.checked_div(right)?,
            Self::Modulo => left.checked_rem(right)?,
        })
    }
}

struct Parser<'t, 'n> {
    rest: &'t str,
    names: &'n dyn Names,
    depth: usize,
}

impl<'t> Parser<'t, '_> {
    /// Operators of `level` and stronger.
    fn binary(&mut self, level: u8) -> Result<u64, ExpressionError> {
        let mut left = self.unary()?;
        while let Some((operator, strength, behind)) = self.operator().filter(|(_, s, _)| *s >= level) {
            let at = self.rest.trim_start();
            self.rest = behind;
            let right = self.deeper(|parser| parser.binary(strength + 1))?;
            left = operator.apply(left, right).ok_or_else(|| ExpressionError::new(ErrorKind::Operand, at))?;
        }
        Ok(left)
    }

    fn deeper(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<u64, ExpressionError>,
    ) -> Result<u64, ExpressionError> {
        if self.depth >= DEEPEST {
            return Err(ExpressionError::new(ErrorKind::TooDeep, self.rest));
        }
        self.depth += 1;
        let value = inner(self);
        self.depth -= 1;
        value
    }

    /// The operator that comes next, how strongly it binds, and what follows it.
    fn operator(&self) -> Option<(Binary, u8, &'t str)> {
        let rest = self.rest.trim_start();
        let word = &rest.get(..word_length(rest))?;
        let by_word = WORDS.iter().find(|(name, ..)| word.eq_ignore_ascii_case(name));
        if let Some((_, operator, strength)) = by_word {
            return Some((*operator, *strength, rest.get(word.len()..)?));
        }
        let (spelling, operator, strength) =
            SYMBOLS.iter().find(|(spelling, ..)| rest.starts_with(spelling))?;
        Some((*operator, *strength, rest.get(spelling.len()..)?))
    }

    fn unary(&mut self) -> Result<u64, ExpressionError> {
        self.rest = self.rest.trim_start();
        let start = self.rest;
        if let Some(behind) = start.strip_prefix('-') {
            self.rest = behind;
            return Ok(self.deeper(Self::unary)?.wrapping_neg());
        }
        if let Some(behind) = start.strip_prefix('+') {
            self.rest = behind;
            return self.deeper(Self::unary);
        }
        let word = start.get(..word_length(start)).unwrap_or_default();
        let pointer = self.names.pointer_size();
        let (size, apply): (_, fn(u64) -> u64) = match word.to_ascii_lowercase().as_str() {
            "not" => (None, |value| u64::from(value == 0)),
            "hi" => (None, |value| value >> 16 & 0xffff),
            "low" => (None, |value| value & 0xffff),
            "by" => (Some(1), |value| value),
            "wo" => (Some(2), |value| value),
            "dwo" => (Some(4), |value| value),
            "qwo" => (Some(8), |value| value),
            "poi" => (Some(pointer), |value| value),
            _ => return self.term(),
        };
        self.rest = start.get(word.len()..).unwrap_or_default();
        let value = self.deeper(Self::unary)?;
        let value = match size {
            None => value,
            Some(size) => self
                .names
                .read(value, size)
                .map_err(|why| ExpressionError::new(ErrorKind::Memory(why), start))?,
        };
        Ok(apply(value))
    }

    fn term(&mut self) -> Result<u64, ExpressionError> {
        let start = self.rest;
        if let Some(inside) = start.strip_prefix('(') {
            self.rest = inside;
            let value = self.deeper(|parser| parser.binary(0))?;
            let behind = self.rest.trim_start();
            self.rest =
                behind.strip_prefix(')').ok_or_else(|| ExpressionError::new(ErrorKind::Syntax, behind))?;
            return Ok(value);
        }
        if let Some(quoted) = start.strip_prefix("@!\"") {
            let (name, behind) =
                quoted.split_once('"').ok_or_else(|| ExpressionError::new(ErrorKind::Syntax, start))?;
            self.rest = behind;
            return resolved(self.names.symbol(name), start);
        }
        if let Some(register) = start.strip_prefix('@') {
            let length = word_length(register);
            self.rest = register.get(length..).unwrap_or_default();
            return resolved(self.names.register(register.get(..length).unwrap_or_default()), start);
        }
        let length = word_length(start);
        if length == 0 {
            if let Some(behind) = start.strip_prefix('.') {
                self.rest = behind;
                return resolved(self.names.register("$ip"), start);
            }
            let kind = if start.is_empty() { ErrorKind::NumberMissing } else { ErrorKind::Syntax };
            return Err(ExpressionError::new(kind, start));
        }
        let (word, behind) = start.split_at_checked(length).unwrap_or((start, ""));
        self.rest = behind;
        self.word(word, start)
    }

    fn word(&self, word: &str, start: &str) -> Result<u64, ExpressionError> {
        if let Some(parsed) = number(word, self.names.radix()) {
            return parsed.map_err(|_| ExpressionError::new(ErrorKind::Overflow, start));
        }
        // `!name` says that the name is a symbol.
        let symbol = self.names.symbol(word.strip_prefix('!').unwrap_or(word));
        match symbol {
            Some(Ok(value)) => Ok(value),
            unknown => resolved(self.names.register(word).or(unknown), start),
        }
    }
}

fn resolved(found: Option<Result<u64, String>>, start: &str) -> Result<u64, ExpressionError> {
    let missing = match found {
        Some(Ok(value)) => return Ok(value),
        Some(Err(why)) => Some(why),
        None => None,
    };
    Err(ExpressionError::new(ErrorKind::Unresolved { missing }, start))
}

/// How many bytes of `text` are a number or a name: letters, digits, `_`, `$`, `` ` ``, `?`, `~`, scopes (`::`), and one `!`
/// that is no `!=`.
fn word_length(text: &str) -> usize {
    let mut module = false;
    let mut before = ' ';
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let next = characters.peek().map_or(' ', |(_, next)| *next);
        let ours = match c {
            '!' => !module && next != '=' && (next.is_alphanumeric() || matches!(next, '_' | '?' | '$')),
            ':' => before == ':' || next == ':',
            '?' | '~' => module,
            _ => c.is_alphanumeric() || matches!(c, '_' | '$' | '`'),
        };
        if !ours {
            return at;
        }
        module |= c == '!';
        before = c;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Known;

    impl Names for Known {
        fn radix(&self) -> u32 {
            16
        }
        fn register(&self, name: &str) -> Option<Result<u64, String>> {
            match name {
                "rax" => Some(Ok(0x1000)),
                "$ip" => Some(Ok(0xffff_f800_0000_1000)),
                "rbx" => Some(Err("not in a trap frame".to_owned())),
                _ => None,
            }
        }
        fn symbol(&self, name: &str) -> Option<Result<u64, String>> {
            match name {
                "nt!KeBugCheckEx" | "KeBugCheckEx" => Some(Ok(0x2000)),
                "add" => Some(Ok(0x3000)),
                "hal!Foo" => Some(Err("no symbols for hal".to_owned())),
                _ => None,
            }
        }
        fn read(&self, at: u64, size: usize) -> Result<u64, String> {
            if at > 0x10000 { Err("not in this dump".to_owned()) } else { Ok(at + size as u64) }
        }
        fn pointer_size(&self) -> usize {
            8
        }
    }

    fn value(text: &str) -> u64 {
        evaluate(text, &Known).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn precedence_is_windbgs() {
        for (text, expected) in [
            ("1+2*3", 7),
            ("(1+2)*3", 9),
            ("1<<4+1", 0x20),
            ("f0 and 3c xor ff", 0xcf),
            ("1 or 2 and 4", 1),
            ("2 > 1 and 1", 1),
            ("7 mod 4 * 2", 6),
            ("10-4-4", 8),
            ("-1", u64::MAX),
            ("- -1", 1),
            ("not 0", 1),
            ("not 5", 0),
            ("hi 12345678", 0x1234),
            ("low 12345678", 0x5678),
            ("-1>>>1", u64::MAX),
            ("-1>>0n63", 1),
            ("1<<40", 0),
            ("ffffffffffffffff+2", 1),
            ("poi(10)+1", 0x19),
            ("poi 10+1", 0x19),
            ("by(10)", 0x11),
            ("wo 10", 0x12),
            ("dwo(10)", 0x14),
            ("qwo(poi(10))", 0x20),
            ("@rax+8", 0x1008),
            ("rax", 0x1000),
            (".", 0xffff_f800_0000_1000),
            ("nt!KeBugCheckEx+10", 0x2010),
            ("add", 0xadd),
            ("!add", 0x3000),
            ("5 != 4", 1),
            ("5!=4", 1),
            ("5 = 5", 1),
            ("fffff880`03dccfd0 - 30", 0xffff_f880_03dc_cfa0),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn errors_say_where() {
        for (text, message, unknown) in [
            ("foo+1", "Couldn't resolve error at 'foo+1'", false),
            ("1+hal!Foo", "Couldn't resolve error at 'hal!Foo': no symbols for hal", true),
            ("@rbx", "Couldn't resolve error at '@rbx': not in a trap frame", true),
            ("1+", "Numeric expression missing at '<EOL>'", false),
            ("", "Numeric expression missing at '<EOL>'", false),
            ("(1", "Syntax error at '<EOL>'", false),
            ("1 1", "Extra character error at '1'", false),
            ("1/0", "Operand error at '/0'", false),
            ("poi(ffff0000)", "Memory access error at 'poi(ffff0000)': not in this dump", true),
            ("10000000000000000", "Overflow error at '10000000000000000'", false),
        ] {
            let error = evaluate(text, &Known).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.is_unknown()), (message, unknown), "{text}");
        }
        let deep = "(".repeat(100_000);
        assert_eq!(evaluate(&deep, &Known).unwrap_err().kind, ErrorKind::TooDeep);
        let long = format!("1{}", "+1".repeat(10_000));
        assert_eq!(value(&long), 10_001);
    }

    #[test]
    fn an_expression_ends_where_no_operator_follows() {
        assert_eq!(evaluate_start("10 + 2 L8", &Known), Ok((0x12, " L8")));
        assert_eq!(evaluate_start("10 20", &Known), Ok((0x10, " 20")));
    }

    /// An expression as text in full parentheses, and its value worked out on the way.
    fn written() -> impl Strategy<Value = (String, Option<u64>)> {
        let leaf = any::<u64>().prop_map(|value| (format!("0x{value:x}"), Some(value)));
        leaf.prop_recursive(5, 40, 2, |inner| {
            (inner.clone(), inner, 0..8u8).prop_map(|((a, x), (b, y), operator)| {
                let both = x.zip(y);
                let (symbol, value) = match operator {
                    0 => ("+", both.map(|(x, y)| x.wrapping_add(y))),
                    1 => ("-", both.map(|(x, y)| x.wrapping_sub(y))),
                    2 => ("*", both.map(|(x, y)| x.wrapping_mul(y))),
                    3 => ("/", both.and_then(|(x, y)| x.checked_div(y))),
                    4 => ("mod", both.and_then(|(x, y)| x.checked_rem(y))),
                    5 => ("and", both.map(|(x, y)| x & y)),
                    6 => ("|", both.map(|(x, y)| x | y)),
                    _ => ("<=", both.map(|(x, y)| u64::from(x <= y))),
                };
                (format!("({a} {symbol} {b})"), value)
            })
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_what_is_read((text, expected) in written()) {
            prop_assert_eq!(evaluate(&text, &Known).ok(), expected);
        }

        #[test]
        fn no_text_panics(text in "[-0-9a-fxnty`@$!.()+*/<>=&|^ poi]{0,60}|\\PC{0,40}") {
            let _ = evaluate(&text, &Known);
        }
    }
}
