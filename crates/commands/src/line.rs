//! A command line, split as the debugger splits it.

use crate::table::{Command, find};

/// One command of a line with its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invocation<'l> {
    /// The definition.
    pub command: &'static Command,
    /// The processor it was prefixed with (`~3k`).
    pub processor: Option<u32>,
    /// What follows the name, trimmed.
    pub arguments: &'l str,
}

/// A part of a line that names no known command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownCommand(pub String);

/// Splits a line at `;` outside quotes and finds each part's command.
pub fn parse_line(line: &str) -> Result<Vec<Invocation<'_>>, UnknownCommand> {
    split(line).into_iter().map(str::trim).filter(|part| !part.is_empty()).map(parse_part).collect()
}

fn split(line: &str) -> Vec<&str> {
    let mut quoted = false;
    line.split(|c: char| {
        if c == '"' {
            quoted = !quoted;
        }
        c == ';' && !quoted
    })
    .collect()
}

fn parse_part(part: &str) -> Result<Invocation<'_>, UnknownCommand> {
    let (processor, rest) = prefix(part);
    let (name, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match find(name) {
        Some(command) => Ok(Invocation { command, processor, arguments: arguments.trim() }),
        None => Err(UnknownCommand(name.to_owned())),
    }
}

/// `~3k` runs `k` on processor 3.
fn prefix(part: &str) -> (Option<u32>, &str) {
    let Some(rest) = part.strip_prefix('~') else { return (None, part) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, command) = rest.split_at(end);
    match digits.parse() {
        Ok(number) => (Some(number), command.trim_start()),
        Err(_) => (None, part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_prefixes() {
        let parsed = parse_line(".cxr 0xffff850429891720; u 0xfffff8048b58334c L1 ; ~3k").unwrap();
        let names: Vec<_> = parsed.iter().map(|i| (i.command.name, i.processor, i.arguments)).collect();
        assert_eq!(
            names,
            [(".cxr", None, "0xffff850429891720"), ("u", None, "0xfffff8048b58334c L1"), ("k", Some(3), "")]
        );
        assert_eq!(parse_line("frobnicate 1"), Err(UnknownCommand("frobnicate".to_owned())));
        assert_eq!(parse_line("").unwrap(), []);
    }

    #[test]
    fn quotes_hold_a_line_together() {
        assert_eq!(parse_line("lm m \"a;b\"").unwrap().len(), 1);
    }
}
