//! Values in words: one place for how sure, how large, how long and how addresses are written.

use stopcode_analysis::Class;
use stopcode_base::VirtAddr;
use stopcode_case::{DumpReport, HypothesisReport};

/// The word for a probability, by the scale in `STYLE.md`.
///
/// It goes by the rounded percentage, so that the word and the figure beside it never disagree.
pub fn confidence_words(confidence: f64) -> &'static str {
    stopcode_analysis::confidence_words(f64::from(rounded_percent(confidence)) / 100.0)
}

/// `72%`; a probability is never shown as certain or as impossible by rounding alone.
pub(crate) fn percent(confidence: f64) -> String {
    match rounded_percent(confidence) {
        0 if confidence > 0.0 => "<1%".to_owned(),
        100 if confidence < 1.0 => ">99%".to_owned(),
        whole => format!("{whole}%"),
    }
}

fn rounded_percent(confidence: f64) -> u32 {
    // The cast saturates and takes NaN to 0.
    (confidence.clamp(0.0, 1.0) * 100.0).round() as u32
}

/// `a bug in a driver, amdppm.sys (AMD processor power management)`; a suspect that only says again what the class says is
/// left out.
pub(crate) fn cause(hypothesis: &HypothesisReport) -> String {
    let class = class_words(&hypothesis.class);
    match &hypothesis.suspect {
        Some(suspect) if suspect.module.is_none() && class.contains(&suspect.name) => class,
        Some(suspect) => format!("{class}, {}", suspect.name),
        None => class,
    }
}

/// True if the hypothesis says that no cause can be named.
pub(crate) fn is_abstention(hypothesis: &HypothesisReport) -> bool {
    hypothesis.class == Class::Unknown.id()
}

fn class_words(id: &str) -> String {
    match Class::ALL.iter().find(|class| class.id() == id) {
        Some(Class::Unknown) => "a cause that this evidence does not show".to_owned(),
        Some(class) => class.words().to_owned(),
        None => id.replace('_', " "),
    }
}

/// The same with an upper-case first letter.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// A width of addresses: 32-bit x86 or the rest.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    narrow: bool,
}

impl Addresses {
    pub(crate) fn of(dump: &DumpReport) -> Self {
        let architecture = dump.system.as_ref().and_then(|system| system.architecture.as_deref());
        Self { narrow: architecture == Some("x86") }
    }

    /// Narrow if all dumps of a machine are.
    pub(crate) fn of_members(dumps: &[&DumpReport]) -> Self {
        Self { narrow: !dumps.is_empty() && dumps.iter().all(|dump| Self::of(dump).narrow) }
    }

    /// WinDbg's form: ``fffff880`03dccfd0``; eight digits on x86.
    pub(crate) fn address(self, hex: &str) -> String {
        match number(hex) {
            Some(value) if self.narrow && u32::try_from(value).is_ok() => format!("{value:08x}"),
            Some(value) => VirtAddr(value).windbg(),
            None => hex.to_owned(),
        }
    }

    /// An argument of a stop code as WinDbg prints it: all digits, no back quote.
    pub(crate) fn argument(self, hex: &str) -> String {
        match number(hex) {
            Some(value) if self.narrow && u32::try_from(value).is_ok() => format!("{value:08x}"),
            Some(value) => format!("{value:016x}"),
            None => hex.to_owned(),
        }
    }

    /// What WinDbg prints where a stack has no address.
    pub(crate) const fn absent(self) -> &'static str {
        if self.narrow { "--------" } else { "--------`--------" }
    }
}

/// A code as WinDbg prints it: hexadecimal without `0x`.
pub(crate) fn code(hex: &str) -> &str {
    hex.strip_prefix("0x").unwrap_or(hex)
}

fn number(hex: &str) -> Option<u64> {
    u64::from_str_radix(hex.strip_prefix("0x")?, 16).ok()
}

/// `1,048,576`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `3 modules`, `1 module`; the plural is the singular with an s.
pub(crate) fn count(number: usize, singular: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {singular}{plural}", grouped(number as u64))
}

/// `2 d 3 h 12 min`, `12 min 5 s`, `5 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, _) => format!("{minutes} min {} s", whole % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{} d {hours} h {minutes} min", grouped(days)),
    }
}

/// `2021-02-01 10:00:05 UTC` of an RFC 3339 time in UTC; the fraction is left to JSON.
pub(crate) fn time(rfc3339: &str) -> String {
    match (rfc3339.get(..10), rfc3339.get(10..11), rfc3339.get(11..19)) {
        (Some(date), Some("T"), Some(time)) if rfc3339.ends_with('Z') => format!("{date} {time} UTC"),
        _ => rfc3339.to_owned(),
    }
}

/// The date of an RFC 3339 time.
pub(crate) fn date(rfc3339: &str) -> &str {
    rfc3339.split('T').next().unwrap_or(rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_fits_the_figure() {
        for (confidence, figure, words) in [
            (1.0, "100%", "almost certain"),
            (0.9999, ">99%", "almost certain"),
            (0.899, "90%", "almost certain"),
            (0.894, "89%", "likely"),
            (0.7, "70%", "likely"),
            (0.5, "50%", "more likely than not"),
            (0.3, "30%", "plausible"),
            (0.29, "29%", "possible"),
            (0.04, "4%", "unlikely"),
            (0.001, "<1%", "unlikely"),
            (0.0, "0%", "unlikely"),
            (f64::NAN, "0%", "unlikely"),
            (7.0, "100%", "almost certain"),
        ] {
            assert_eq!((percent(confidence).as_str(), confidence_words(confidence)), (figure, words));
        }
    }

    #[test]
    fn addresses_look_as_in_windbg() {
        let wide = Addresses { narrow: false };
        assert_eq!(wide.address("0xfffff88003dccfd0"), "fffff880`03dccfd0");
        assert_eq!(wide.argument("0x8"), "0000000000000008");
        assert_eq!(wide.address("nowhere"), "nowhere");
        let narrow = Addresses { narrow: true };
        assert_eq!(narrow.address("0x8052a8ac"), "8052a8ac");
        assert_eq!(narrow.argument("0xfffff88003dccfd0"), "fffff88003dccfd0");
    }

    #[test]
    fn figures_and_times() {
        assert_eq!((grouped(0).as_str(), grouped(999).as_str()), ("0", "999"));
        assert_eq!(grouped(1_048_576), "1,048,576");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!((duration(5.9).as_str(), duration(725.0).as_str()), ("5 s", "12 min 5 s"));
        assert_eq!(
            (duration(11_520.0).as_str(), duration(184_320.0).as_str()),
            ("3 h 12 min", "2 d 3 h 12 min")
        );
        assert_eq!((duration(f64::NAN).as_str(), duration(-1.0).as_str()), ("0 s", "0 s"));
        assert_eq!(time("2021-02-01T10:00:05.1234567Z"), "2021-02-01 10:00:05 UTC");
        assert_eq!(time("yesterday"), "yesterday");
        assert_eq!(sentence("a bug"), "A bug");
    }
}
