//! A command line, split as the debugger splits it.

use crate::command::Command;
use crate::registry::named;

/// One command of a line with its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invocation<'l> {
    /// The definition.
    pub command: &'static Command,
    /// The processor it was prefixed with (`~3k`), or all (`~*k`).
    pub processor: Option<Which>,
    /// The letters behind its name: `v` of `kv`.
    pub letters: &'l str,
    /// What follows, trimmed.
    pub arguments: &'l str,
}

/// Which processors a command is to run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// The one of this number.
    One(u32),
    /// Each, one after the other.
    All,
}

/// A part of a line that names no known command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownCommand(pub String);

/// Splits a line at `;` outside quotes and finds each part's command.
pub fn parse_line(line: &str) -> Result<Vec<Invocation<'_>>, UnknownCommand> {
    parts(line).map(parse_part).collect()
}

/// The commands of a line as texts. A `*` at the start of one, or `$$`, makes the rest of it a comment.
pub(crate) fn parts(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let comment = line.trim_start().starts_with('*');
    let line = if comment { "" } else { line };
    line.split(move |c: char| {
        if c == '"' {
            quoted = !quoted;
        }
        c == ';' && !quoted
    })
    .map(str::trim)
    .filter(|part| !part.is_empty() && !part.starts_with("$$"))
}

/// Finds the command of one part.
pub(crate) fn parse_part(part: &str) -> Result<Invocation<'_>, UnknownCommand> {
    let (processor, rest) = prefix(part);
    let end = name_length(rest);
    let (name, arguments) = rest.split_at_checked(end).unwrap_or((rest, ""));
    // WinDbg's `?` alone is its help.
    let name = if name == "?" && arguments.trim().is_empty() { ".help" } else { name };
    match named(name) {
        Some((command, letters, value)) => {
            let arguments = rest.get(end - value.len()..).unwrap_or_default().trim();
            Ok(Invocation { command, processor, letters, arguments })
        }
        None => Err(UnknownCommand(name.to_owned())),
    }
}

/// `!name` and `.name` go to the next space; other names are letters, so that `u.` and `dps@rsp` are read; signs such as `?`
/// are names by themselves.
fn name_length(part: &str) -> usize {
    if part.starts_with(['!', '.']) {
        return part.find(char::is_whitespace).unwrap_or(part.len());
    }
    match part.find(|c: char| !c.is_ascii_alphabetic()) {
        Some(0) => part.chars().next().map_or(0, char::len_utf8),
        Some(end) => end,
        None => part.len(),
    }
}

/// `~3k` runs `k` on processor 3, `~*k` on all. `~` and `~3s` are commands of their own.
fn prefix(part: &str) -> (Option<Which>, &str) {
    let Some(rest) = part.strip_prefix('~') else { return (None, part) };
    if let Some(command) = rest.strip_prefix('*') {
        let command = command.trim_start();
        return if command.is_empty() { (None, "~") } else { (Some(Which::All), command) };
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Some((digits, command)) = rest.split_at_checked(end) else { return (None, part) };
    let command = command.trim_start();
    match digits.parse() {
        Ok(number) if !command.is_empty() && command != "s" => (Some(Which::One(number)), command),
        _ => (None, part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Vec<(&'static str, Option<Which>, &str, &str)> {
        let parsed = parse_line(line).unwrap();
        parsed.iter().map(|i| (i.command.name, i.processor, i.letters, i.arguments)).collect()
    }

    #[test]
    fn parts_and_prefixes() {
        assert_eq!(
            parsed(".cxr 0xffff850429891720; u 0xfffff8048b58334c L1 ; ~3k"),
            [
                (".cxr", None, "", "0xffff850429891720"),
                ("u", None, "", "0xfffff8048b58334c L1"),
                ("k", Some(Which::One(3)), "", "")
            ]
        );
        assert_eq!(parse_line("frobnicate 1"), Err(UnknownCommand("frobnicate".to_owned())));
        assert_eq!(parse_line("").unwrap(), []);
        assert_eq!(parse_line("* anything; at all").unwrap(), []);
        assert_eq!(parsed("~*k; ~*"), [("k", Some(Which::All), "", ""), ("~", None, "", "")]);
        assert_eq!(parsed("~3s; ~"), [("~", None, "", "3s"), ("~", None, "", "")]);
    }

    #[test]
    fn names_end_where_arguments_begin() {
        assert_eq!(parsed("?1+2"), [("?", None, "", "1+2")]);
        assert_eq!(parsed("?"), [(".help", None, "", "")]);
        assert_eq!(parsed("u."), [("u", None, "", ".")]);
        assert_eq!(parsed("dps@rsp"), [("dps", None, "", "@rsp")]);
        assert_eq!(
            parsed("kvn 5; k5; lmvm nt"),
            [("k", None, "vn", "5"), ("k", None, "", "5"), ("lm", None, "vm", "nt")]
        );
        assert_eq!(
            parsed("lmDvmdxgmms2; lmvm dxgmms2; lm t n"),
            [("lm", None, "Dvm", "dxgmms2"), ("lm", None, "vm", "dxgmms2"), ("lm", None, "", "t n")]
        );
    }

    #[test]
    fn quotes_hold_a_line_together() {
        assert_eq!(parse_line("lm m \"a;b\"").unwrap().len(), 1);
    }
}
