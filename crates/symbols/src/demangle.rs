//! Decorated C++ names as a debugger shows them.

use crate::kind::SymbolKind;
use std::borrow::Cow;
use undname::Flags;

/// A longer name stays as it is: a demangler recurses with the nesting of types. Measured without optimisation, nesting
/// of 4 KiB overflows a thread's usual 2 MiB of stack; 1 KiB fits 1 MiB, the smallest a host (Windows, a browser) gives.
const LONGEST: usize = 1024;

/// The name as a debugger shows it: the scope and name alone, without types (`SC_DISK::Free`), and what is no
/// decorated name as it is. A string literal, whose name is that of its text, becomes `` `string' ``.
pub fn demangle(name: &str) -> Cow<'_, str> {
    if SymbolKind::of(name) == SymbolKind::StringLiteral {
        return "`string'".into();
    }
    demangled(name, Flags::NAME_ONLY).map_or(name.into(), Cow::Owned)
}

/// The whole declaration, `public: static void __cdecl SC_ENV::Free(void *)`; `None` if it is no decorated name, is
/// longer than 1 KiB, or nests too deep.
pub fn declaration(name: &str) -> Option<String> {
    demangled(name, Flags::default())
}

/// What WinDbg shows at an address behind a string literal in code, `` ?? ::FNODOBFM::`string' ``: it takes the
/// nearest name for the place. `None` if the name is no such literal.
pub fn windbg_literal(name: &str) -> Option<String> {
    let scope = name.strip_prefix("??_C@")?.strip_suffix('@')?.rsplit('@').next()?;
    let plain = !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain.then(|| format!("?? ::{scope}::`string'"))
}

fn demangled(name: &str, flags: Flags) -> Option<String> {
    if !name.starts_with('?') || name.len() > LONGEST {
        return None;
    }
    undname::demangle(name, flags).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_a_debugger_shows_them() {
        for (name, shown) in [
            ("KeBugCheckEx", "KeBugCheckEx"),
            ("?Free@SC_ENV@@SAXPEAX@Z", "SC_ENV::Free"),
            ("?SmFreeWrapper@@YAXPEAX0@Z", "SmFreeWrapper"),
            ("??0SC_DISK@@QEAA@XZ", "SC_DISK::SC_DISK"),
            ("??_C@_1DO@KDEG@?$AAS@FNODOBFM@", "`string'"),
            ("?", "?"),
            ("?@@", "?@@"),
        ] {
            assert_eq!(demangle(name), shown, "{name}");
        }
        let whole = declaration("?Free@SC_ENV@@SAXPEAX@Z").unwrap();
        assert_eq!(whole, "public: static void __cdecl SC_ENV::Free(void *)");
    }

    #[test]
    fn literals_in_code_as_windbg_shows_them() {
        let shown = windbg_literal("??_C@_1DO@KDEG@?$AAS@FNODOBFM@");
        assert_eq!(shown.as_deref(), Some("?? ::FNODOBFM::`string'"));
        assert_eq!(windbg_literal("??_C@_05ABC@text?$AA@"), None);
        assert_eq!(windbg_literal("KeBugCheckEx"), None);
    }

    /// On a stack as small as threads have them, whatever nests.
    #[test]
    fn nesting_does_not_overflow_a_small_stack() {
        for unit in ["PEA", "V?$A@", "?$A@", "P6AX", "_O", "?A", "?1??", "$$BY", "U?$b@"] {
            const STACK: usize = 1 << 20;
            for name in [
                format!("?x@@3{}H@Z", unit.repeat(1000 / unit.len())),
                format!("?{}@@3HA", unit.repeat(1000 / unit.len())),
                format!("?f@@YAX{}@Z", unit.repeat(2_000_000 / unit.len())),
            ] {
                let thread = std::thread::Builder::new().stack_size(STACK);
                thread
                    .spawn(move || demangle(&name).len() + declaration(&name).map_or(0, |text| text.len()))
                    .unwrap()
                    .join()
                    .unwrap();
            }
        }
    }
}
