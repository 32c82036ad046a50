//! The small pieces every recogniser is made of: numbers as debuggers print them, prompts, fields, dates.

use stopcode_base::FileTime;

/// Up to 16 hex digits and nothing else.
pub(crate) fn hex(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// A number in hex as any debugger output gives it: `8`, `0x8`, `00000000`00000008`, `8,`, `(8)`.
pub(crate) fn number(token: &str) -> Option<u64> {
    let token =
        token.trim_matches(|c: char| matches!(c, '(' | ')' | '{' | '}' | '[' | ']' | ',' | ';' | '.' | ':'));
    let token = token.strip_prefix("0x").or_else(|| token.strip_prefix("0X")).unwrap_or(token);
    match split_halves(token) {
        Some((high, low)) if !high.is_empty() && high.len() <= 8 && low.len() == 8 => {
            Some(hex(high)? << 32 | hex(low)?)
        }
        Some(_) => None,
        None => hex(token),
    }
}

/// An address as a column holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Column {
    pub(crate) value: u64,
    /// 16 digits; else 8.
    pub(crate) wide: bool,
}

/// A full-width address: 16 digits with or without the back quote, or 8 digits.
pub(crate) fn column(token: &str) -> Option<Column> {
    if let Some((high, low)) = split_halves(token) {
        let full = high.len() == 8 && low.len() == 8;
        return full.then(|| Some(Column { value: hex(high)? << 32 | hex(low)?, wide: true })).flatten();
    }
    let prefixed = token.strip_prefix("0x").filter(|digits| digits.len() >= 9);
    let digits = prefixed.unwrap_or(token);
    match digits.len() {
        16 => hex(digits).map(|value| Column { value, wide: true }),
        8 => hex(digits).map(|value| Column { value, wide: false }),
        9..=15 if prefixed.is_some() => hex(digits).map(|value| Column { value, wide: true }),
        _ => None,
    }
}

/// The halves of `fffff880`03dcd160`, whatever a web page made of the back quote.
fn split_halves(token: &str) -> Option<(&str, &str)> {
    token.split_once(['`', '\'', '_'])
}

/// A column without a value: `--------`--------`.
pub(crate) fn is_dashes(token: &str) -> bool {
    token.len() >= 8 && token.bytes().all(|byte| matches!(byte, b'-' | b'`'))
}

/// A command at a debugger's prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Prompt<'a> {
    /// The processor that the prompt names (`4: kd>`).
    pub(crate) processor: Option<u32>,
    /// What was typed.
    pub(crate) command: &'a str,
}

/// A prompt and its command: `4: kd> k`, `kd> !ipi`, `lkd>`, `0: kd:x86> kv`, `16.0: kd>`, `0:000> k`.
pub(crate) fn prompt(line: &str) -> Option<Prompt<'_>> {
    let (head, command) = line.split_once('>')?;
    if head.len() > 24 {
        return None;
    }
    let command = command.trim();
    if let Some((processor, thread)) = head.split_once(':').filter(|(_, thread)| is_digits(thread)) {
        // A user-mode prompt names a process and a thread, no processor.
        return is_digits(processor)
            .then_some(Prompt { processor: None, command: command.trim_start_matches(thread) });
    }
    let (before, name) = head.rsplit_once(' ').unwrap_or(("", head));
    let kernel = matches!(name.split(':').next(), Some("kd" | "lkd"));
    let number = before.trim().strip_suffix(':').unwrap_or_default();
    let number = number.rsplit('.').next().unwrap_or_default();
    let fits = kernel && (before.trim().is_empty() || is_digits(number));
    fits.then(|| Prompt { processor: number.parse().ok(), command })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A field of `!analyze`: `NAME: value` with a name in capitals.
pub(crate) fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim_end();
    let capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let fits = name.len() >= 3
        && name.len() <= 48
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(capital);
    fits.then_some((name, value.trim()))
}

/// The part of `line` behind a label, whatever its case and the blanks around its colon or equals sign.
pub(crate) fn after<'a>(line: &'a str, label: &str) -> Option<&'a str> {
    let rest = strip_prefix_ci(line.trim_start(), label)?.trim_start();
    rest.strip_prefix([':', '=']).map(str::trim)
}

/// `text` behind `prefix`, whatever the case.
pub(crate) fn strip_prefix_ci<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| text.get(prefix.len()..)).flatten()
}

/// Where `needle` starts in `text`, whatever the case. For needles of constant length only.
pub(crate) fn find_ci(text: &str, needle: &str) -> Option<usize> {
    text.as_bytes().windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

/// True if `needle` is in `text`, whatever the case.
pub(crate) fn contains_ci(text: &str, needle: &str) -> bool {
    find_ci(text, needle).is_some()
}

/// The first decimal number in `text`.
pub(crate) fn first_decimal(text: &str) -> Option<u32> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let digits = text.get(start..)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// A date as debuggers print it, as if it were UTC, and the offset from UTC in seconds where the line names one.
///
/// `Wed Feb 01 19:15:24 2012`, `Sun Apr 14 02:40:38.798 2019 (UTC - 7:00)`, `2012-02-01T19:15:24`.
pub(crate) fn date(text: &str) -> Option<(FileTime, Option<i64>)> {
    iso_date(text).or_else(|| printed_date(text))
}

fn iso_date(text: &str) -> Option<(FileTime, Option<i64>)> {
    let token = text.split_whitespace().find(|token| token.len() >= 19 && token.get(10..11) == Some("T"))?;
    let mut day = token.get(..10)?.split('-');
    let (year, month, day) = (day.next()?, day.next()?, day.next()?);
    let clock = token.get(11..)?;
    let time =
        from_civil(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?, clock.trim_end_matches('Z'))?;
    Some((time, clock.ends_with('Z').then_some(0)))
}

fn printed_date(text: &str) -> Option<(FileTime, Option<i64>)> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_whitespace();
    let (at, _) = text.split_whitespace().enumerate().find(|(_, word)| MONTHS.contains(word))?;
    let month = words.nth(at).and_then(|word| MONTHS.iter().position(|month| *month == word))?;
    let day = words.next()?.parse().ok()?;
    let clock = words.next()?;
    let year = words.next()?.trim_end_matches([')', ',', '*']).parse().ok()?;
    let time = from_civil(year, u32::try_from(month).ok()? + 1, day, clock)?;
    Some((time, utc_offset(text)))
}

/// Seconds east of UTC from `(UTC - 4:00)` or `(GMT-4)`.
fn utc_offset(text: &str) -> Option<i64> {
    let at = find_ci(text, "(UTC").or_else(|| find_ci(text, "(GMT"))?;
    let zone = text.get(at + 4..)?.split(')').next()?.trim();
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let mut parts = zone.trim_start_matches(['+', '-']).trim().split(':');
    let hours: i64 = parts.next()?.trim().parse().ok().filter(|hours| *hours <= 14)?;
    let minutes: i64 = parts.next().and_then(|minutes| minutes.parse().ok()).unwrap_or(0);
    Some(sign * (hours * 3600 + minutes * 60))
}

/// A date of the proleptic Gregorian calendar with a clock of `h:mm:ss[.fff]`.
fn from_civil(year: i64, month: u32, day: u32, clock: &str) -> Option<FileTime> {
    if !(1970..=2200).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut parts = clock.split(':');
    let hour: u64 = parts.next()?.parse().ok().filter(|hour| *hour < 24)?;
    let minute: u64 = parts.next()?.parse().ok().filter(|minute| *minute < 60)?;
    let (second, fraction) =
        parts.next()?.split_once('.').map_or_else(|| (clock.rsplit(':').next(), ""), |(s, f)| (Some(s), f));
    let second: u64 = second?.parse().ok().filter(|second| *second < 61)?;
    let digits: u64 = fraction
        .get(..fraction.len().min(7))
        .filter(|f| !f.is_empty())
        .map_or(Some(0), |f| f.parse().ok())?;
    let ticks = digits * 10_u64.pow(7 - u32::try_from(fraction.len().min(7)).ok()?);
    // Days from civil, after Howard Hinnant, counted from 1970.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let month_index = i64::from((month + 9) % 12);
    let of_year = (153 * month_index + 2) / 5 + i64::from(day) - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = u64::try_from(days).ok()? * 86_400 + hour * 3600 + minute * 60 + second;
    Some(FileTime((seconds + 11_644_473_600) * 10_000_000 + ticks))
}

/// `0 days 4:41:17.788` in seconds.
pub(crate) fn uptime(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let first = words.next()?;
    let (days, clock) = match words.next() {
        Some(word) if word.starts_with("day") => (first.parse::<u32>().ok()?, words.next()?),
        _ => (0, first),
    };
    let mut parts = clock.split(':');
    let hours: u32 = parts.next()?.parse().ok()?;
    let minutes: u32 = parts.next()?.parse().ok()?;
    let seconds: f64 =
        parts.next()?.trim_end_matches(',').parse().ok().filter(|s| (0.0..61.0).contains(s))?;
    Some(f64::from(days) * 86_400.0 + f64::from(hours) * 3600.0 + f64::from(minutes) * 60.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number("0x80050033,"), Some(0x8005_0033));
        assert_eq!(number("fffff880`03dccfd0"), Some(0xffff_f880_03dc_cfd0));
        assert_eq!(number("{8,"), Some(8));
        assert_eq!(number("zz"), None);
        assert_eq!(column("fffff88003dccfd0"), Some(Column { value: 0xffff_f880_03dc_cfd0, wide: true }));
        assert_eq!(column("f5d2997c"), Some(Column { value: 0xf5d2_997c, wide: false }));
        assert_eq!(column("00"), None);
        assert_eq!(column("0fb70db4892100"), None);
        assert!(is_dashes("--------`--------"));
    }

    #[test]
    fn prompts() {
        let of = |line| prompt(line).map(|prompt| (prompt.processor, prompt.command));
        assert_eq!(of("4: kd> k"), Some((Some(4), "k")));
        assert_eq!(of("kd> !ipi"), Some((None, "!ipi")));
        assert_eq!(of("16.1: kd:x86> kv 5"), Some((Some(1), "kv 5")));
        assert_eq!(of("0:000> k"), Some((None, "k")));
        assert_eq!(of("lkd> lm"), Some((None, "lm")));
        assert_eq!(of("a -> b"), None);
        assert_eq!(of("I typed kd> k"), None);
    }

    #[test]
    fn dates() {
        let text = |line| date(line).map(|(time, offset)| (time.to_string(), offset));
        assert_eq!(text("Wed Feb 01 19:15:24 2012"), Some(("2012-02-01T19:15:24Z".into(), None)));
        assert_eq!(
            text("Sun Apr 14 02:40:38.798 2019 (UTC - 7:00)"),
            Some(("2019-04-14T02:40:38.7980000Z".into(), Some(-25_200)))
        );
        assert_eq!(
            text("Tue Mar  1 9:00:00 2005 (GMT+2)"),
            Some(("2005-03-01T09:00:00Z".into(), Some(7200)))
        );
        assert_eq!(text("2012-02-01T19:15:24"), Some(("2012-02-01T19:15:24Z".into(), None)));
        assert_eq!(text("Feb 99 19:15:24 2012"), None);
        assert_eq!(uptime("0 days 4:41:17.788"), Some(16_877.788));
        assert_eq!(uptime("1 days 0:00:01"), Some(86_401.0));
        assert_eq!(uptime("not available"), None);
    }
}
