//! Values of types in a machine's memory.

use super::spelling::label;
use super::{BaseKind, MAX_NESTING, Record, Type, TypeId, Types};
use std::fmt;
use stopcode_base::{Memory, Miss, VirtAddr, visible};

/// Longest text that is read, in bytes.
const MAX_TEXT: usize = 1024;

/// A value, as far as one line shows it. [`fmt::Display`] writes it as WinDbg's `dt` does.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A number without sign.
    Unsigned(u64),
    /// A number with sign.
    Signed(i64),
    /// An 8-bit character or number.
    Character {
        /// The byte.
        byte: u8,
        /// Whether its type has a sign.
        signed: bool,
    },
    /// A UTF-16 unit.
    Wide(u16),
    /// A truth value.
    Bool(bool),
    /// A fraction.
    Float(f64),
    /// Bits of a number.
    Bits {
        /// The bits, the first one lowest.
        value: u64,
        /// How many.
        length: u32,
    },
    /// A named number.
    Enum {
        /// The number.
        value: i128,
        /// Its name, if it has one.
        name: Option<String>,
    },
    /// A pointer.
    Pointer {
        /// Where it points.
        to: VirtAddr,
        /// 4 or 8 bytes.
        size: u64,
        /// What is there, as `dt` spells it.
        target: String,
    },
    /// The two ends of a `_LIST_ENTRY`.
    List {
        /// `Flink`.
        flink: VirtAddr,
        /// `Blink`.
        blink: VirtAddr,
        /// Bytes of a pointer.
        size: u64,
    },
    /// A string.
    Text(Text),
    /// The first of several.
    Array {
        /// How many there are.
        count: u64,
        /// The first.
        first: Box<Self>,
    },
    /// A record, whose members have lines of their own if they are asked for.
    Record {
        /// Its name.
        name: String,
        /// For `_LARGE_INTEGER` and its like the number it is.
        number: Option<u64>,
    },
}

/// A string out of memory: data, to be made visible before it is shown, as [`Value`]'s `Display` does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// The characters; unpaired surrogates and bytes beyond ASCII are replaced.
    pub text: String,
    /// For an array of characters its length; `None` for a `_UNICODE_STRING`.
    pub of: Option<u64>,
    /// The record's name for a string that is a record.
    pub record: Option<String>,
    /// True if there is more of it.
    pub cut: bool,
}

/// Reads the value of a type at an address. `None` if the type has no value: nothing is known of it, or it is a function.
pub(super) fn read(
    types: &dyn Types,
    memory: &dyn Memory,
    id: TypeId,
    at: VirtAddr,
) -> Option<Result<Value, Miss>> {
    value(types, memory, id, at, 0)
}

fn value(
    types: &dyn Types,
    memory: &dyn Memory,
    id: TypeId,
    at: VirtAddr,
    nested: usize,
) -> Option<Result<Value, Miss>> {
    match types.get(id) {
        Type::Base(base) => Some(match base.kind {
            BaseKind::Void => return None,
            BaseKind::Character { signed } => {
                memory.read_u8(at).map(|byte| Value::Character { byte, signed })
            }
            BaseKind::Wide => memory.read_u16(at).map(Value::Wide),
            BaseKind::Unsigned => number(memory, at, base.size)?.map(Value::Unsigned),
            BaseKind::Signed | BaseKind::Hresult => {
                number(memory, at, base.size)?.map(|raw| Value::Signed(extend(raw, base.size * 8)))
            }
            BaseKind::Bool => number(memory, at, base.size)?.map(|raw| Value::Bool(raw != 0)),
            BaseKind::Float => match base.size {
                4 => memory.read_u32(at).map(|raw| Value::Float(f32::from_bits(raw).into())),
                8 => memory.read_u64(at).map(|raw| Value::Float(f64::from_bits(raw))),
                _ => return None,
            },
        }),
        Type::Pointer { target, size } => {
            let target = label(types, target);
            Some(number(memory, at, size)?.map(|to| Value::Pointer { to: VirtAddr(to), size, target }))
        }
        Type::Bits { base, position, length } => {
            let size = types.size_of(base)?;
            let raw = number(memory, at, size)?;
            Some(raw.map(|raw| Value::Bits { value: bits(raw, position, length), length }))
        }
        Type::Enum(of) => {
            let size = types.size_of(of.base)?;
            let signed = matches!(types.get(of.base), Type::Base(base)
                if matches!(base.kind, BaseKind::Signed | BaseKind::Character { signed: true }));
            Some(number(memory, at, size)?.map(|raw| {
                let value = if signed { extend(raw, size * 8).into() } else { i128::from(raw) };
                let name = types.values(id).into_iter().find(|(_, other)| *other == value);
                Value::Enum { value, name: name.map(|(name, _)| name) }
            }))
        }
        Type::Array { element, count } => {
            if let Type::Base(base) = types.get(element)
                && matches!(base.kind, BaseKind::Character { .. })
            {
                return Some(characters(memory, at, count));
            }
            if count == 0 || nested >= MAX_NESTING {
                return None;
            }
            let first = value(types, memory, element, at, nested + 1)?;
            Some(first.map(|first| Value::Array { count, first: Box::new(first) }))
        }
        Type::Record(of) => Some(record(types, memory, id, of, at)),
        Type::Place { .. } | Type::Unknown | Type::Function { .. } => None,
    }
}

/// A number of up to eight bytes; `None` if it has another size.
pub(super) fn number(memory: &dyn Memory, at: VirtAddr, size: u64) -> Option<Result<u64, Miss>> {
    let size = usize::try_from(size).ok().filter(|size| (1..=8).contains(size))?;
    let mut raw = [0; 8];
    let read = memory.read(at, raw.get_mut(..size)?);
    Some(read.map(|()| u64::from_le_bytes(raw)))
}

fn extend(raw: u64, bits: u64) -> i64 {
    let unused = 64_u64.saturating_sub(bits).min(63);
    (raw << unused).cast_signed() >> unused
}

fn bits(raw: u64, position: u32, length: u32) -> u64 {
    let mask = 1_u64.checked_shl(length).map_or(u64::MAX, |bit| bit - 1);
    raw.checked_shr(position).unwrap_or(0) & mask
}

/// An array of characters, up to its NUL.
fn characters(memory: &dyn Memory, at: VirtAddr, count: u64) -> Result<Value, Miss> {
    let wanted = usize::try_from(count).unwrap_or(MAX_TEXT).min(MAX_TEXT);
    let mut raw = vec![0; wanted];
    memory.read(at, &mut raw)?;
    let end = raw.iter().position(|byte| *byte == 0);
    let shown = raw.get(..end.unwrap_or(wanted)).unwrap_or_default();
    let text = shown.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect();
    let cut = end.is_none() && wanted as u64 != count;
    Ok(Value::Text(Text { text, of: Some(count), record: None, cut }))
}

/// The records whose content is one line: lists, strings and large numbers; of others the name.
fn record(
    types: &dyn Types,
    memory: &dyn Memory,
    id: TypeId,
    of: Record,
    at: VirtAddr,
) -> Result<Value, Miss> {
    let name = of.name;
    match &*name {
        "_LIST_ENTRY" => {
            if let Some(size) = pointer_size(types, id, "Flink") {
                let end = |at| number(memory, at, size).unwrap_or(Ok(0)).map(VirtAddr);
                return Ok(Value::List { flink: end(at)?, blink: end(at.plus(size))?, size });
            }
        }
        "_UNICODE_STRING" => {
            if let Some(size) = pointer_size(types, id, "Buffer") {
                return unicode_string(memory, at, size)
                    .map(|(text, cut)| Value::Text(Text { text, of: None, record: Some(name), cut }));
            }
        }
        "_LARGE_INTEGER" | "_ULARGE_INTEGER" => {
            return memory.read_u64(at).map(|number| Value::Record { name, number: Some(number) });
        }
        _ => {}
    }
    Ok(Value::Record { name, number: None })
}

/// Bytes of a record's pointer of this name.
fn pointer_size(types: &dyn Types, id: TypeId, name: &str) -> Option<u64> {
    let member = types.members(id).list.into_iter().find(|member| member.name == name)?;
    match types.get(member.ty) {
        Type::Pointer { size: size @ (4 | 8), .. } => Some(size),
        _ => None,
    }
}

/// `Length` in bytes, `MaximumLength`, then the pointer at its own alignment.
fn unicode_string(memory: &dyn Memory, at: VirtAddr, size: u64) -> Result<(String, bool), Miss> {
    let length = usize::from(memory.read_u16(at)?);
    let buffer = number(memory, at.plus(size), size).unwrap_or(Ok(0))?;
    let mut raw = vec![0; length.min(MAX_TEXT) & !1];
    memory.read(VirtAddr(buffer), &mut raw)?;
    let units = raw.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let text = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Ok((text, length > MAX_TEXT))
}

/// A number as `dt` writes it: hexadecimal, with a back quote where it is longer than 32 bits, and a bare zero.
struct Hex(u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            small @ ..=0xffff_ffff => write!(f, "{small:#x}"),
            large => write!(f, "0x{:08x}`{:08x}", large >> 32, large & 0xffff_ffff),
        }
    }
}

/// An address with all its digits.
struct Address(VirtAddr, u64);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            4 => write!(f, "0x{:08x}", self.0.0),
            _ => write!(f, "0x{}", self.0.windbg()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => Hex(*value).fmt(f),
            Self::Signed(value) => write!(f, "0n{value}"),
            Self::Character { byte, signed } => {
                let shown = Some(char::from(*byte)).filter(|c| c.is_ascii_graphic() || *c == ' ');
                match signed {
                    true => write!(f, "{} '", byte.cast_signed())?,
                    false => write!(f, "{} '", Hex((*byte).into()))?,
                }
                shown.map_or(Ok(()), |shown| write!(f, "{shown}"))?;
                f.write_str("'")
            }
            Self::Wide(unit) => {
                let shown = char::from_u32((*unit).into()).filter(|c| c.is_ascii_graphic() || *c == ' ');
                write!(f, "{} '{}'", Hex((*unit).into()), shown.map_or_else(String::new, String::from))
            }
            Self::Bool(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Bits { value, length } => {
                write!(f, "0y{value:0width$b}", width = *length as usize)?;
                if *length > 4 { write!(f, " ({})", Hex(*value)) } else { Ok(()) }
            }
            Self::Enum { value, name: Some(name) } => write!(f, "0n{value} ( {} )", visible(name)),
            Self::Enum { value, name: None } => write!(f, "0n{value} (no matching name)"),
            Self::Pointer { to: VirtAddr(0), .. } => f.write_str("(null)"),
            Self::Pointer { to, size, target } => {
                write!(f, "{} {}", Address(*to, *size), visible(target))
            }
            Self::List { flink, blink, size } => {
                write!(f, "_LIST_ENTRY [ {} - {} ]", Address(*flink, *size), Address(*blink, *size))
            }
            Self::Text(text) => {
                if let Some(record) = &text.record {
                    write!(f, "{} ", visible(record))?;
                }
                if let Some(count) = text.of {
                    write!(f, "[{count}]  ")?;
                }
                write!(f, "\"{}\"", visible(&text.text))?;
                f.write_str(if text.cut { "…" } else { "" })
            }
            Self::Array { count, first } => write!(f, "[{count}] {first}"),
            Self::Record { name, number: Some(number) } => write!(f, "{} {}", visible(name), Hex(*number)),
            Self::Record { name, number: None } => f.write_str(&visible(name)),
        }
    }
}
