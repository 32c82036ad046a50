//! Stops as Windows' own reports list them, a label and a value each: problem reports of Windows Error Reporting and
//! Reliability Monitor, the event log, BlueScreenView.

use crate::draft::{Found, Stop};
use crate::lines::Lines;
use crate::scan::{contains_ci, find_ci, number};

/// One kind of report.
struct Report {
    /// Before the code.
    code: &'static str,
    /// Before the arguments.
    arguments: [&'static str; 4],
    /// How the code is written, where it has no `0x`.
    radix: u32,
    /// What an earlier line has to say, where the labels are everyday words.
    heading: Option<&'static str>,
    source: &'static str,
}

const PARAMETERS: [&str; 4] = ["Parameter 1", "Parameter 2", "Parameter 3", "Parameter 4"];

const REPORTS: [Report; 5] = [
    Report {
        code: "Bug Check Code",
        arguments: PARAMETERS,
        radix: 16,
        heading: None,
        source: "a list of parameters",
    },
    Report {
        code: "Bugcheck Code",
        arguments: PARAMETERS,
        radix: 16,
        heading: None,
        source: "a list of parameters",
    },
    Report {
        code: "BCCode",
        arguments: ["BCP1", "BCP2", "BCP3", "BCP4"],
        radix: 16,
        heading: None,
        source: "a problem report (BCCode)",
    },
    Report {
        code: "Code",
        arguments: PARAMETERS,
        radix: 16,
        heading: Some("LiveKernelEvent"),
        source: "a problem report (LiveKernelEvent)",
    },
    // The event log counts in tens: 26 is 0x1A.
    Report {
        code: "BugcheckCode",
        arguments: ["BugcheckParameter1", "BugcheckParameter2", "BugcheckParameter3", "BugcheckParameter4"],
        radix: 10,
        heading: None,
        source: "the event log (BugcheckCode)",
    },
];

/// Arguments stand no farther below their code.
const FARTHEST: usize = 12;

/// Reads such a stop at line `at`.
pub(crate) fn read(lines: &Lines, at: usize) -> Option<Found> {
    REPORTS.iter().find_map(|report| report.read(lines, at))
}

impl Report {
    fn read(&self, lines: &Lines, at: usize) -> Option<Found> {
        let line = lines.trimmed(at);
        let written = labelled(line, self.code)?;
        if self.heading.is_some_and(|heading| !is_under(lines, at, heading)) {
            return None;
        }
        let prefixed = written.starts_with("0x") || written.starts_with("0X");
        let code = if self.radix == 16 || prefixed { number(written)? } else { written.parse().ok()? };
        // A restart that no stop preceded is reported as one of code 0.
        let code = u32::try_from(code).ok().filter(|code| *code != 0)?;
        let mut stop = Stop { code, arguments: [None; 4] };
        let mut used = 1;
        for below in 0..=FARTHEST {
            let next = lines.trimmed(at + below);
            for (slot, label) in
                stop.arguments.iter_mut().zip(self.arguments).filter(|(slot, _)| slot.is_none())
            {
                if let Some(value) = labelled(next, label).and_then(number) {
                    *slot = Some(value);
                    used = below + 1;
                }
            }
        }
        stop.has_arguments().then_some(Found { stop, source: self.source, lines: used, wide: None })
    }
}

/// The value behind a label anywhere in the line: `BCCode:  116`, `Parameter 1 : 8`, `BugcheckCode 26`, `Name="BugcheckCode">26<`.
fn labelled<'a>(line: &'a str, label: &str) -> Option<&'a str> {
    let at = find_ci(line, label)?;
    let ends_before = line.get(..at)?.ends_with(|c: char| c.is_alphanumeric());
    let rest = line.get(at + label.len()..)?;
    let value = rest.trim_start_matches([' ', ':', '=', '"', '\'', '>']);
    let apart = value.len() < rest.len();
    let end =
        value.find(|c: char| c.is_whitespace() || matches!(c, '<' | '"' | ',' | ';')).unwrap_or(value.len());
    let value = value.get(..end).filter(|value| value.starts_with(|c: char| c.is_ascii_hexdigit()))?;
    (apart && !ends_before).then_some(value)
}

/// True if one of the lines shortly before, or this one, says so.
fn is_under(lines: &Lines, at: usize, heading: &str) -> bool {
    (at.saturating_sub(8)..=at).any(|line| contains_ci(lines.trimmed(line), heading))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(u32, [Option<u64>; 4])> {
        let lines = Lines::new(text);
        (0..lines.len())
            .filter_map(|at| read(&lines, at))
            .map(|found| (found.stop.code, found.stop.arguments))
            .collect()
    }

    #[test]
    fn every_report() {
        let expected = [Some(0xffff_fa80_07b7_54e0), Some(0xf), Some(0), Some(0xd)];
        for (code, text) in [
            (
                0x116,
                "Problem Event Name:\tBlueScreen\n  BCCode:\t116\n  BCP1:\tFFFFFA8007B754E0\n  BCP2:\tF\n  BCP3:\t0\n  BCP4:\t000000000000000D",
            ),
            (
                0x141,
                "Problem Event Name: LiveKernelEvent\nCode: 141\nParameter 1: fffffa8007b754e0\nParameter 2: f\nParameter 3: 0\nParameter 4: d\nOS version: 10_0_19041",
            ),
            (
                0x1a,
                "BugcheckCode 26\nBugcheckParameter1 0xfffffa8007b754e0\nBugcheckParameter2 0xf\nBugcheckParameter3 0x0\nBugcheckParameter4 0xd",
            ),
            (
                0x1a,
                r#"<Data Name="BugcheckCode">26</Data><Data Name="BugcheckParameter1">0xfffffa8007b754e0</Data><Data Name="BugcheckParameter2">0xf</Data><Data Name="BugcheckParameter3">0x0</Data><Data Name="BugcheckParameter4">0xd</Data>"#,
            ),
            (
                0x0a,
                "Bug Check Code    : 0x0000000a\nParameter 1       : fffffa80`07b754e0\nParameter 2 : f\nParameter 3 : 0\nParameter 4 : d",
            ),
        ] {
            assert_eq!(all(text), [(code, expected)], "{text}");
        }
    }

    #[test]
    fn what_is_no_report() {
        for text in [
            // A restart without a stop.
            "BugcheckCode 0\nBugcheckParameter1 0x0",
            "Code: 141\nParameter 1: 8",
            "Source Code: 12\nParameter 1: 8",
            "BCCode: 116",
        ] {
            assert_eq!(all(text), [], "{text}");
        }
    }
}
