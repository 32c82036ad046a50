//! Where a text tells the stop code: the heading of `!analyze`, its newer fields, `BugCheck 7F, {…}`, `.bugcheck`,
//! the blue screen, the event log's sentence, and the lists that [`reports`] knows.

use crate::draft::{Found, Stop};
use crate::frame;
use crate::lines::Lines;
use crate::reports;
use crate::scan::{contains_ci, field, find_ci, hex, number, prompt, strip_prefix_ci};
use stopcode_knowledge as knowledge;

/// How far below its heading the arguments of `!analyze` may stand: the longest explanations have some 30 lines.
const FARTHEST: usize = 80;

/// The explanation of an argument takes no more lines.
const LONGEST_EXPLANATION: usize = 8;

/// Reads a stop at line `at`.
pub(crate) fn read(lines: &Lines, at: usize) -> Option<Found> {
    let line = lines.trimmed(at);
    if line.is_empty() || line.len() > 600 {
        return None;
    }
    braced(lines, at, line)
        .or_else(|| heading(lines, at, line))
        .or_else(|| fields(lines, at, line))
        .or_else(|| bugcheck_command(lines, at, line))
        .or_else(|| reports::read(lines, at))
        .or_else(|| parenthesised(lines, at, line))
        .or_else(|| list_of_arguments(lines, at, line))
}

fn code(value: u64) -> Option<u32> {
    // Codes such as c000021a may be printed sign-extended.
    matches!(value >> 32, 0 | 0xffff_ffff).then_some(value as u32)
}

/// The code at the start of `text`, with the name that some outputs put first: `0x0000007f`, `D1`.
fn leading_code(text: &str) -> Option<u32> {
    let token = text
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ':' | '{'))
        .find(|t| !t.is_empty())?;
    code(number(token)?)
}

/// Up to four numbers separated by commas or blanks, and whether all were padded to 16 digits or to 8.
fn arguments(text: &str) -> ([Option<u64>; 4], Option<bool>) {
    let mut found = [None; 4];
    let mut widths = [0; 4];
    let tokens = text.split(|c: char| c.is_whitespace() || c == ',').filter(|token| !token.is_empty());
    for ((slot, width), token) in found.iter_mut().zip(&mut widths).zip(tokens) {
        let Some(value) = number(token) else { break };
        *slot = Some(value);
        *width = token.trim_start_matches("0x").bytes().filter(u8::is_ascii_hexdigit).count();
    }
    let wide = match widths {
        [8, 8, 8, 8] => Some(false),
        [16, 16, 16, 16] => Some(true),
        _ => None,
    };
    (found, wide)
}

/// `BugCheck 7F, {8, 80050033, 406f8, fffff800032aa875}`.
fn braced(lines: &Lines, at: usize, line: &str) -> Option<Found> {
    let start = find_ci(line, "bugcheck ")?;
    let rest = line.get(start + "bugcheck ".len()..)?;
    let (head, inner) = rest.split_once('{')?;
    if head.len() > 24 {
        return None;
    }
    let code = leading_code(head)?;
    let (text, used) = enclosed(lines, at, inner, '}')?;
    let (arguments, wide) = arguments(&text);
    Some(Found { stop: Stop { code, arguments }, source: "the BugCheck line", lines: used, wide })
}

/// The text up to `end`, which may stand one or two lines further on, and how many lines that took.
fn enclosed(lines: &Lines, at: usize, first: &str, end: char) -> Option<(String, usize)> {
    let mut text = String::new();
    for used in 1..=3 {
        let part = if used == 1 { first } else { lines.trimmed(at + used - 1) };
        if let Some((inner, _)) = part.split_once(end) {
            text.push_str(inner);
            return Some((text, used));
        }
        text.push_str(part);
        text.push(' ');
    }
    None
}

/// `NAME (7f)`, an explanation, `Arguments:`, `Arg1:` to `Arg4:`.
fn heading(lines: &Lines, at: usize, line: &str) -> Option<Found> {
    let (name, code) = name_and_code(line)?;
    for below in 1..FARTHEST {
        let Some(next) = lines.get(at + below).map(str::trim_start) else { break };
        if let Some(mut found) = list_of_arguments(lines, at + below, next) {
            found.stop.code = code;
            found.lines += below;
            return Some(found);
        }
        let other = name_and_code(next).is_some() || field(next).is_some_and(|(name, _)| name.len() > 6);
        if other || prompt(next).is_some() {
            break;
        }
    }
    // Without arguments the name must be the code's own: prose has capitals and brackets, too.
    let known = knowledge::bug_check(code)?;
    let own = name.strip_suffix("_M").unwrap_or(name) == known.name
        || known.aliases.iter().any(|alias| alias == name);
    let stop = Stop { code, arguments: [None; 4] };
    own.then_some(Found { stop, source: "the heading of !analyze", lines: 1, wide: None })
}

/// The name and the code of a heading: `UNEXPECTED_KERNEL_MODE_TRAP (7f)`.
fn name_and_code(line: &str) -> Option<(&str, u32)> {
    let bare = line.trim_matches(|c: char| matches!(c, '#' | '=' | ' '));
    let (name, rest) = bare.rsplit_once('(')?;
    let code = code(number(rest.strip_suffix(')')?)?)?;
    let name = name.trim_end();
    let capitals = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let plausible = (capitals && name.len() >= 4) || name.eq_ignore_ascii_case("unknown bugcheck code");
    plausible.then_some((name, code))
}

/// `Arguments:` and `Arg1:` to `Arg4:` with their explanations, each of which may take several lines.
///
/// The code stands elsewhere: it is 0 here, and a caller that has none drops the find.
fn list_of_arguments(lines: &Lines, at: usize, line: &str) -> Option<Found> {
    let mut index = at;
    if strip_prefix_ci(line, "Arguments:").is_some_and(|rest| rest.trim().is_empty()) {
        index += 1;
    } else if argument(line)?.0 != 1 {
        return None;
    }
    let mut found = [None; 4];
    let mut widths = [0_usize; 4];
    let mut end = index;
    while let Some(line) = lines.get(index).map(str::trim_start) {
        if let Some((number, value, width)) = argument(line) {
            let slot = number.checked_sub(1)?;
            if found.get(slot).is_some_and(Option::is_some) {
                break; // the next crash's
            }
            *found.get_mut(slot)? = Some(value);
            *widths.get_mut(slot)? = width;
        } else {
            // A blank line ends the list, unless the paste has one between any two lines.
            let complete = found.iter().all(Option::is_some);
            let more = || lines.get(index + 1).is_some_and(|next| argument(next.trim_start()).is_some());
            let ends = if line.is_empty() { complete || !more() } else { ends_arguments(line) };
            let explained = found.iter().any(Option::is_some) && index < end + LONGEST_EXPLANATION;
            if ends || !explained {
                break;
            }
            index += 1;
            continue;
        }
        index += 1;
        end = index;
    }
    let end = if found.iter().all(Option::is_some) { index } else { end };
    let wide = match widths.iter().max() {
        Some(16) => Some(true),
        Some(8) => Some(false),
        _ => None,
    };
    let stop = Stop { code: 0, arguments: found };
    stop.has_arguments().then_some(Found { stop, source: "pasted !analyze", lines: end - at, wide })
}

/// True for a line that is no explanation of an argument, in texts that lost their blank lines.
fn ends_arguments(line: &str) -> bool {
    let is_frame =
        !matches!(frame::read(line, None), frame::Reading::Other) || frame::heading(line).is_some();
    is_frame
        || prompt(line).is_some()
        || field(line).is_some()
        || strip_prefix_ci(line, "Debugging Details").is_some()
}

/// `Arg1: 0000000000000008, EXCEPTION_DOUBLE_FAULT`: number, value and how many digits it had.
fn argument(line: &str) -> Option<(usize, u64, usize)> {
    let rest = strip_prefix_ci(line, "Arg")?.trim_start();
    let (index, rest) = rest.split_once(':')?;
    let index = index.trim().parse().ok().filter(|index| (1..=4).contains(index))?;
    let token = rest.split_whitespace().next()?;
    let digits = token.bytes().filter(u8::is_ascii_hexdigit).count();
    Some((index, number(token)?, digits))
}

/// `BUGCHECK_CODE:  d1` and `BUGCHECK_P1:` to `BUGCHECK_P4:`.
fn fields(lines: &Lines, at: usize, line: &str) -> Option<Found> {
    let (name, value) = field(line)?;
    if name != "BUGCHECK_CODE" {
        return None;
    }
    let mut stop = Stop { code: leading_code(value)?, arguments: [None; 4] };
    let mut used = 1;
    for below in 1..=12 {
        let Some((name, value)) = field(lines.trimmed(at + below)) else { continue };
        let Some(index) = name.strip_prefix("BUGCHECK_P").and_then(|index| index.parse::<usize>().ok())
        else {
            break;
        };
        let slot = index.checked_sub(1).and_then(|index| stop.arguments.get_mut(index))?;
        *slot = value.split_whitespace().next().and_then(number);
        used = below + 1;
    }
    Some(Found { stop, source: "BUGCHECK_CODE and BUGCHECK_P1 to P4", lines: used, wide: None })
}

/// `.bugcheck`: `Bugcheck code 0000007F`, `Arguments 00000000`00000008 …`.
fn bugcheck_command(lines: &Lines, at: usize, line: &str) -> Option<Found> {
    let rest = strip_prefix_ci(line, "Bugcheck code ")?;
    let code = leading_code(rest)?;
    for below in 1..=2 {
        let next = lines.trimmed(at + below);
        if let Some(list) = strip_prefix_ci(next, "Arguments ") {
            let mut text = list.to_owned();
            let more = lines.trimmed(at + below + 1);
            let wrapped =
                list.split_whitespace().count() < 4 && more.split_whitespace().all(|t| number(t).is_some());
            if wrapped {
                text.push(' ');
                text.push_str(more);
            }
            let (arguments, wide) = arguments(&text);
            let used = below + 1 + usize::from(wrapped && !more.is_empty());
            return Some(Found { stop: Stop { code, arguments }, source: ".bugcheck", lines: used, wide });
        }
    }
    None
}

/// A code with four arguments in round brackets, on a line about a stop: the blue screen's own
/// `*** STOP: 0x0000007F (0x…,0x…,0x…,0x…)`, the event log's sentence, the kernel's `Fatal System Error`.
fn parenthesised(lines: &Lines, at: usize, line: &str) -> Option<Found> {
    const WORDS: [&str; 6] =
        ["stop", "bugcheck", "bug check", "fatal system error", "blue screen", "bluescreen"];
    if !WORDS.iter().any(|word| contains_ci(line, word)) {
        return None;
    }
    let joined;
    let (text, used) = if line.contains('(') {
        (line, 1)
    } else {
        let next = lines.trimmed(at + 1);
        next.strip_prefix('(')?;
        joined = format!("{line} {next}");
        (joined.as_str(), 2)
    };
    // The bracket that follows a hex number, at most a few of them on a line.
    for (open, _) in text.match_indices('(').take(8) {
        let (head, inner) = text.split_at_checked(open)?;
        let Some(code) = head.split_whitespace().next_back().and_then(stop_number) else { continue };
        let inner = inner.get(1..)?;
        let (inner, more) = match inner.split_once(')') {
            Some((inner, _)) => (inner.to_owned(), 0),
            None => match enclosed(lines, at + used, lines.trimmed(at + used), ')') {
                Some((tail, lines)) => (format!("{inner} {tail}"), lines),
                None => continue,
            },
        };
        let (arguments, wide) = arguments(&inner);
        if arguments.iter().all(Option::is_some) {
            let stop = Stop { code, arguments };
            return Some(Found { stop, source: "a line with the stop code", lines: used + more, wide });
        }
    }
    None
}

/// A number that can only be a stop code: with `0x`, or padded to eight digits.
fn stop_number(token: &str) -> Option<u32> {
    let bare = token.trim_end_matches([':', ',']);
    let prefixed = bare.strip_prefix("0x").or_else(|| bare.strip_prefix("0X"));
    let digits = prefixed.or((bare.len() == 8).then_some(bare))?;
    code(hex(digits)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<(u32, [Option<u64>; 4], usize)> {
        let lines = Lines::new(text);
        read(&lines, 0).map(|found| (found.stop.code, found.stop.arguments, found.lines))
    }

    const ALL: [Option<u64>; 4] = [Some(8), Some(0x8005_0033), Some(0x406f8), Some(0xffff_f800_032a_a875)];

    #[test]
    fn every_shape() {
        for (text, lines) in [
            ("BugCheck 7F, {8, 80050033, 406f8, fffff800032aa875}", 1),
            ("BugCheck 7F, {8, 80050033, 406f8,\nfffff800032aa875}", 2),
            (
                "UNEXPECTED_KERNEL_MODE_TRAP (7f)\nwhat it is\nArguments:\nArg1: 0000000000000008, EXCEPTION\nArg2: 0000000080050033\nArg3: 00000000000406f8\nArg4: fffff800032aa875\n\nprose",
                7,
            ),
            (
                "BUGCHECK_CODE:  7f\n\nBUGCHECK_P1: 8\n\nBUGCHECK_P2: ffffffff80050033\nBUGCHECK_P3: 406f8\nBUGCHECK_P4: fffff800032aa875\nPROCESS_NAME: x",
                7,
            ),
            (
                "Bugcheck code 0000007F\nArguments 00000000`00000008 00000000`80050033 00000000`000406f8 fffff800`032aa875",
                2,
            ),
            (
                "*** STOP: 0x0000007F (0x0000000000000008,0x0000000080050033,0x00000000000406F8,0xFFFFF800032AA875)",
                1,
            ),
            (
                "*** Fatal System Error: 0x0000007f\n   (0x0000000000000008,0x0000000080050033,0x00000000000406F8,0xFFFFF800032AA875)",
                2,
            ),
            (
                "The computer has rebooted from a bugcheck.  The bugcheck was: 0x0000007f (0x8, 0x80050033, 0x406f8, 0xfffff800032aa875). A dump was saved",
                1,
            ),
            (
                "Bug Check Code    : 0x0000007f\nParameter 1 : 00000000`00000008\nParameter 2 : 00000000`80050033\nParameter 3 : 00000000`000406f8\nParameter 4 : fffff800`032aa875",
                5,
            ),
        ] {
            let (code, arguments, used) = at(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((code, used), (0x7f, lines), "{text}");
            let expected = Stop { code: 0x7f, arguments: ALL };
            assert!(Stop { code, arguments }.agrees(&expected), "{text}: {arguments:x?}");
        }
    }

    #[test]
    fn explanations_of_arguments() {
        let text = "XX_YY (c4)\nArguments:\nArg1: 0000000000000062, A driver has forgotten\n\tits pool.\nArg2: 01, name\n\nArg4: 5";
        assert_eq!(at(text), Some((0xc4, [Some(0x62), Some(1), None, Some(5)], 7)));
    }

    #[test]
    fn what_is_no_stop() {
        for text in [
            "I got IRQL_NOT_LESS_OR_EQUAL (a) today",
            "SOME_FLAGS (12)",
            "Stop it (please)",
            "BugCheck is a word {1}",
            "Process (0x1, 0x2, 0x3, 0x4)",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
        assert_eq!(at("DRIVER_IRQL_NOT_LESS_OR_EQUAL (d1)"), Some((0xd1, [None; 4], 1)));
    }
}
