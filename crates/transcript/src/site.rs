//! Call sites: `nt!KiPageFault+0x260`, `iaStor+0x253f5`, `<Unloaded_x.sys>+0x10`, and what stands behind them.

use crate::scan::{hex, number};

/// A code address by name.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Site {
    /// WinDbg's module name; empty if the address lies outside all modules.
    pub(crate) module: String,
    /// The function, as printed (`" ?? ::FNODOBFM::`string'"` with its leading blank).
    pub(crate) symbol: Option<String>,
    /// Offset from the function, or from the module where there is none.
    pub(crate) offset: u64,
    /// The module was unloaded.
    pub(crate) unloaded: bool,
    /// The bare address that stands in the place of a name.
    pub(crate) raw: Option<u64>,
}

/// A site, what follows it on the line, and whether the name seems to go on in the next line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) site: Site,
    pub(crate) rest: &'a str,
    pub(crate) open: bool,
}

/// The longest function name that is believed.
const LONGEST: usize = 2048;

/// The site that `text` starts with. `nt!` alone is *open*: its name was wrapped to the next line.
pub(crate) fn parse(text: &str) -> Option<Parsed<'_>> {
    let text = text.trim_start();
    if let Some(digits) = text.strip_prefix("0x") {
        let end = digits.find(|c: char| !(c.is_ascii_hexdigit() || c == '`')).unwrap_or(digits.len());
        let raw = number(digits.get(..end)?)?;
        let site = Site { raw: Some(raw), ..Site::default() };
        return Some(Parsed { site, rest: digits.get(end..)?, open: false });
    }
    let (module, unloaded, tail) = module(text)?;
    if let Some(name) = tail.strip_prefix('!') {
        let (symbol, offset, rest, open) = function(name);
        let site =
            Site { module: module.to_owned(), symbol: Some(symbol.to_owned()), offset, unloaded, raw: None };
        let nameless = symbol.trim().trim_matches('?').is_empty();
        return (!nameless || open).then_some(Parsed { site, rest, open });
    }
    let (offset, rest) = offset(tail)?;
    let site = Site { module: module.to_owned(), symbol: None, offset, unloaded, raw: None };
    Some(Parsed { site, rest, open: false })
}

/// The module name that `text` starts with, whether it was unloaded, and what follows.
fn module(text: &str) -> Option<(&str, bool, &str)> {
    if let Some(inner) = text.strip_prefix("<Unloaded_") {
        let (name, rest) = inner.split_once('>')?;
        return Some((name, true, rest));
    }
    let end = text.find(['!', '+'])?;
    let (name, rest) = text.split_at_checked(end)?;
    let fits = !name.is_empty()
        && name.len() <= 64
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '$' | '~'))
        && name.contains(|c: char| c.is_alphanumeric());
    let bare = name.strip_prefix("Unloaded_");
    fits.then(|| (bare.unwrap_or(name), bare.is_some(), rest))
}

/// The function name that `text` starts with, its offset, what follows, and whether the name is unfinished.
fn function(text: &str) -> (&str, u64, &str, bool) {
    let lead = text.len() - text.trim_start_matches([' ', '?']).len();
    // ` ?? ::NNGAKEGL::`string'` is the one kind of name that begins with blanks.
    let lead = if text.starts_with(" ?") || text.starts_with("??") { lead } else { 0 };
    let body = text.get(lead..).unwrap_or_default();
    let (name_end, next, open) = extent(body);
    let open = open || body.is_empty() || text == " ";
    let name = text.get(..lead + name_end).unwrap_or_default();
    let rest = body.get(next..).unwrap_or_default();
    match name.rfind("+0x").and_then(|at| Some((name.get(..at)?, hex(name.get(at + 3..)?)?))) {
        Some((symbol, value)) => (symbol, value, rest, open),
        // Parameters (`kp`) stand between the name and its offset.
        None => match offset(rest) {
            Some((value, rest)) if name_end != next => (name, value, rest, open),
            _ => (name, 0, rest, open),
        },
    }
}

/// Where the name at the start of `text` ends, where the text behind its parameters begins, and whether a
/// bracket is still open. Blanks inside `<>`, `()` and `` `' `` belong to the name.
fn extent(text: &str) -> (usize, usize, bool) {
    let mut depth = 0_u32;
    let mut parameters = None;
    let mut previous = ' ';
    // Behind the word `operator` brackets and a blank are part of the name: `operator->`, `operator new`.
    let mut operator = false;
    let mut end = 0;
    for (at, c) in text.char_indices().take(LONGEST) {
        if c.is_alphanumeric() {
            operator = false;
        } else if previous == 'r' {
            operator |= text.get(..at).is_some_and(|head| head.ends_with("operator"));
        }
        match c {
            '<' | '>' | '(' | ')' | ' ' if operator => {}
            '(' if depth == 0 && parameters.is_none() => {
                parameters = Some(at);
                depth += 1;
            }
            '<' | '(' | '`' => depth += 1,
            '>' | ')' | '\'' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => return (parameters.unwrap_or(at), at, false),
            // An arrow drawn right behind the name.
            '-' if previous == '<' => return (at - 1, at - 1, false),
            _ => {}
        }
        if depth == 0 && parameters.is_some() && c == ')' {
            return (parameters.unwrap_or(at), at + 1, false);
        }
        previous = c;
        end = at + c.len_utf8();
    }
    (parameters.unwrap_or(end), end, depth > 0)
}

/// `+0x253f5`, or `+253f5` as the fields of `!analyze` print it, and what follows.
fn offset(text: &str) -> Option<(u64, &str)> {
    let digits = text.strip_prefix('+')?;
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    Some((hex(digits.get(..end)?)?, digits.get(end..)?))
}

/// A site in a field of `!analyze`, where offsets have no `0x`: `nt!ObQueryNameStringMode+5f`.
pub(crate) fn field_site(text: &str) -> Option<Site> {
    let token = text.trim();
    let mut site = parse(token)?.site;
    if let Some(symbol) = site.symbol.take() {
        let split = symbol.rsplit_once('+').and_then(|(name, digits)| Some((name.to_owned(), hex(digits)?)));
        match split {
            Some((name, value)) if !name.ends_with("operator") => {
                site.offset = value;
                site.symbol = Some(name);
            }
            _ => site.symbol = Some(symbol),
        }
    }
    Some(site)
}

/// True in the lower half of the address space, where user mode lives.
pub(crate) const fn is_user(address: u64) -> bool {
    address != 0 && (address < 0x8000_0000 || (address > 0xffff_ffff && address < 0x8000_0000_0000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (String, Option<String>, u64, String) {
        let parsed = parse(text).unwrap();
        assert!(!parsed.open, "{text}");
        (parsed.site.module, parsed.site.symbol, parsed.site.offset, parsed.rest.trim().to_owned())
    }

    fn site(module: &str, symbol: &str, offset: u64, rest: &str) -> (String, Option<String>, u64, String) {
        (module.into(), (!symbol.is_empty()).then(|| symbol.into()), offset, rest.into())
    }

    #[test]
    fn names() {
        assert_eq!(of("nt!KeBugCheckEx"), site("nt", "KeBugCheckEx", 0, ""));
        assert_eq!(of("nt!KiPageFault+0x260 <- why"), site("nt", "KiPageFault", 0x260, "<- why"));
        assert_eq!(of("iaStor+0x253f5"), site("iaStor", "", 0x253f5, ""));
        assert_eq!(
            of("nt! ?? ::FNODOBFM::`string'+0x204ce"),
            site("nt", " ?? ::FNODOBFM::`string'", 0x204ce, "")
        );
        assert_eq!(of("a!operator new+0x10 x"), site("a", "operator new", 0x10, "x"));
        assert_eq!(of("a!Foo::operator->+0x3"), site("a", "Foo::operator->", 3, ""));
        assert_eq!(
            of("lib!rx::`anonymous namespace'::Stream<unsigned char, 1>::go+0x8e [C:\\b\\x y.cpp @ 107]"),
            site(
                "lib",
                "rx::`anonymous namespace'::Stream<unsigned char, 1>::go",
                0x8e,
                "[C:\\b\\x y.cpp @ 107]"
            )
        );
        assert_eq!(
            of("nt!Foo(unsigned long a = 0x1, int b = 0n2)+0x12 [x.c @ 3]"),
            site("nt", "Foo", 0x12, "[x.c @ 3]")
        );
        assert_eq!(
            of("nt!KiPageFault+0x42b (TrapFrame @ ff)"),
            site("nt", "KiPageFault", 0x42b, "(TrapFrame @ ff)")
        );
        assert_eq!(of("nt!KiIdleLoop (FPO: [0,0,0])"), site("nt", "KiIdleLoop", 0, "(FPO: [0,0,0])"));
        assert_eq!(of("nt!Foo<-arrow"), site("nt", "Foo", 0, "<-arrow"));
    }

    #[test]
    fn special_sites() {
        assert_eq!(parse("0xfffffa80`0c3db880").unwrap().site.raw, Some(0xffff_fa80_0c3d_b880));
        let unloaded = parse("<Unloaded_foo.sys>+0x1234").unwrap().site;
        assert_eq!((unloaded.module.as_str(), unloaded.unloaded, unloaded.offset), ("foo.sys", true, 0x1234));
        assert!(parse("nt!").unwrap().open);
        assert!(parse("nt! ??").unwrap().open);
        assert!(parse("a!Foo<int,").unwrap().open);
        for prose in ["Hello! World", "well", "", "C++ is", "a + b", "(nt!Foo)"] {
            assert_eq!(parse(prose).filter(|p| !p.open), None, "{prose}");
        }
    }

    #[test]
    fn fields() {
        let site = field_site("nt!ObQueryNameStringMode+5f").unwrap();
        assert_eq!((site.symbol.as_deref(), site.offset), (Some("ObQueryNameStringMode"), 0x5f));
        assert_eq!(field_site("e22w7x64+6c8f").unwrap().offset, 0x6c8f);
        assert_eq!(field_site("nt! ?? ::FNODOBFM::`string'+34a90").unwrap().offset, 0x34a90);
    }
}
