//! Types in words: as `dt` spells them, and as C does.

use super::{MAX_NESTING, Type, TypeId, Types};

/// A type in one line, as `dt` spells it.
pub(super) fn label(types: &dyn Types, id: TypeId) -> String {
    let mut words = String::new();
    let mut id = id;
    for _ in 0..MAX_NESTING {
        let last = match types.get(id) {
            Type::Pointer { target, size } => {
                words += &format!("Ptr{} ", size.saturating_mul(8));
                if let Type::Function { returns, .. } = types.get(target) {
                    // What a function takes is not shown, what it returns as C has it.
                    let returns = returns.map_or_else(|| "function".to_owned(), |of| declared(types, of));
                    return words + "    " + &returns;
                }
                id = target;
                continue;
            }
            Type::Array { element, count } => {
                words += &format!("[{count}] ");
                id = element;
                continue;
            }
            Type::Base(base) => base.dt_name().into_owned(),
            Type::Record(record) => record.name,
            Type::Enum(of) => of.name,
            Type::Bits { position, length, .. } | Type::Place { bits: Some((position, length)) } => {
                format!("Pos {position}, {length} Bit{}", if length == 1 { "" } else { "s" })
            }
            Type::Place { bits: None } => "?".to_owned(),
            Type::Function { .. } => "function".to_owned(),
            Type::Unknown => "<unknown>".to_owned(),
        };
        return words + &last;
    }
    words + "…"
}

/// A type as C spells it: `_KTHREAD*`, `unsigned long`.
pub fn declared(types: &dyn Types, id: TypeId) -> String {
    let mut behind = String::new();
    let mut id = id;
    for _ in 0..MAX_NESTING {
        let name = match types.get(id) {
            Type::Pointer { target, .. } => {
                behind.insert(0, '*');
                id = target;
                continue;
            }
            Type::Array { element, count } => {
                behind += &format!("[{count}]");
                id = element;
                continue;
            }
            Type::Bits { base, length, .. } => {
                behind += &format!(":{length}");
                id = base;
                continue;
            }
            Type::Base(base) => base.name.into_owned(),
            Type::Record(record) => record.name,
            Type::Enum(of) => of.name,
            Type::Function { .. } => "<function>".to_owned(),
            Type::Unknown | Type::Place { .. } => "<unknown>".to_owned(),
        };
        return name + &behind;
    }
    format!("…{behind}")
}
