//! What kind of thing a symbol names.

/// What a symbol names, as far as its name tells: neither ISF nor public symbols say whether it is code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SymbolKind {
    /// A decorated function name.
    Code,
    /// A decorated variable, an import pointer, a GUID, a vtable.
    Data,
    /// A string literal (`??_C@`): data; and where basic-block optimisation moved one into the code
    /// (`FNODOBFM`), the only name near the cold parts of functions.
    StringLiteral,
    /// The name does not tell.
    Unknown,
}

impl SymbolKind {
    /// What `name` tells. (Decorated names: `?` opens one; after the `@@` that ends the scope, letters are functions,
    /// digits variables and tables. Scopes with templates or functions in them have more `@@` and are left alone.)
    pub fn of(name: &str) -> Self {
        if name.starts_with("??_C@") {
            return Self::StringLiteral;
        }
        if name.starts_with("__imp_") || name.starts_with("_imp_") || name.ends_with("_NULL_THUNK_DATA") {
            return Self::Data;
        }
        let Some(decorated) = name.strip_prefix('?') else { return Self::Unknown };
        let Some((scope, code)) = decorated.split_once("@@") else { return Self::Unknown };
        let local = scope.get(1..).is_some_and(|scope| scope.contains("??"));
        match code.bytes().next() {
            Some(b'0'..=b'9') => Self::Data,
            Some(b'A'..=b'Z') if !local => Self::Code,
            _ => Self::Unknown,
        }
    }

    /// True if it is surely data; false if surely code; `None` if the name does not tell.
    pub fn is_data(self) -> Option<bool> {
        match self {
            Self::Code => Some(false),
            Self::Data | Self::StringLiteral => Some(true),
            Self::Unknown => None,
        }
    }
}
