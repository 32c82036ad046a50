//! Look-ups the other way round: from what a person types to what the tables know.

use crate::bug_check::{BUG_CHECKS, BugCheck, SUBCODES, Subcode, bug_check};
use crate::function::{FUNCTIONS, Function, function};
use crate::ntstatus::{NtStatus, STATUSES, ntstatus};
use crate::table::{Table, data_lines, hex, leading_text};

/// What there is to read on a matter that is no single code, driver or function, as Markdown.
const TOPICS: [(&str, &str); 4] = [
    ("double-fault", include_str!("../../../knowledge/topics/double-fault.md")),
    ("driver-verifier", include_str!("../../../knowledge/topics/driver-verifier.md")),
    ("frozen-processors", include_str!("../../../knowledge/topics/frozen-processors.md")),
    ("live-dump", include_str!("../../../knowledge/topics/live-dump.md")),
];

impl Table {
    /// Every line, edits first; a key that was edited comes twice.
    fn lines(&self) -> impl Iterator<Item = &'static str> {
        data_lines(self.edits).chain(data_lines(self.generated))
    }
}

/// The article of this name, in any case, with blanks or hyphens between its words.
pub fn topic(name: &str) -> Option<&'static str> {
    let wanted = name.trim().to_ascii_lowercase().replace([' ', '_'], "-");
    TOPICS.iter().find(|(name, _)| *name == wanted).map(|(_, text)| *text)
}

/// The names of all articles.
pub fn topics() -> impl Iterator<Item = &'static str> {
    TOPICS.iter().map(|(name, _)| *name)
}

/// The bug check of this name or alias, in any case.
pub fn bug_check_named(name: &str) -> Option<BugCheck> {
    let upper = name.trim().to_ascii_uppercase();
    // Only lines that hold the name are worth parsing.
    let candidates = BUG_CHECKS.lines().filter(|line| !upper.is_empty() && line.contains(&upper));
    candidates
        .filter_map(|line| bug_check(u32::try_from(hex(leading_text(line, 0))?).ok()?))
        .find(|known| known.name == upper || known.aliases.contains(&upper))
}

/// Every subcode of a bug check, by value.
pub fn subcodes(of: &BugCheck) -> Vec<Subcode> {
    let code = u64::from(of.same_as.unwrap_or(of.code));
    let own = SUBCODES.lines().filter(|line| hex(leading_text(line, 0)) == Some(code));
    let mut values: Vec<u64> = own.filter_map(|line| hex(leading_text(line, 1))).collect();
    values.sort_unstable();
    values.dedup();
    values.into_iter().filter_map(|value| of.subcode(value)).collect()
}

/// The status of this name, in any case, with its code.
pub fn ntstatus_named(name: &str) -> Option<(u32, NtStatus)> {
    let wanted = name.trim();
    STATUSES.lines().find_map(|line| {
        let mut columns = line.split('\t');
        let code = u32::try_from(hex(columns.next()?)?).ok()?;
        columns.next()?.eq_ignore_ascii_case(wanted).then(|| Some((code, ntstatus(code)?)))?
    })
}

/// The functions of this name: `nt!KiPageFault` in that module, `KiPageFault` in any; in any case.
pub fn functions_named(name: &str) -> Vec<Function> {
    let wanted = name.trim();
    let is_it = |symbol: &&str| {
        let bare = symbol.split_once('!').map_or(*symbol, |(_, name)| name);
        symbol.eq_ignore_ascii_case(wanted) || bare.eq_ignore_ascii_case(wanted)
    };
    let mut symbols: Vec<&str> = FUNCTIONS.lines().map(|line| leading_text(line, 0)).filter(is_it).collect();
    symbols.sort_unstable();
    symbols.dedup();
    let known = symbols.into_iter().filter_map(|symbol| symbol.split_once('!'));
    known.filter_map(|(module, name)| function(module, name)).collect()
}

/// Names of bug checks, statuses and functions that contain this word, in any case; at most `limit`.
pub fn names_with(word: &str, limit: usize) -> Vec<String> {
    let wanted = word.trim().to_ascii_lowercase();
    if wanted.len() < 3 {
        return Vec::new();
    }
    let bug_checks = BUG_CHECKS.lines().map(|line| leading_text(line, 1).to_owned());
    let statuses = STATUSES.lines().filter_map(|line| line.split('\t').nth(1).map(str::to_owned));
    let functions = FUNCTIONS.lines().map(|line| leading_text(line, 0).to_owned());
    let mut names: Vec<String> = Vec::new();
    for name in bug_checks.chain(functions).chain(statuses) {
        if names.len() == limit {
            break;
        }
        if name.to_ascii_lowercase().contains(&wanted) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_codes() {
        assert_eq!(bug_check_named("unexpected_kernel_mode_trap").unwrap().code, 0x7f);
        assert_eq!(bug_check_named("UNEXPECTED_KERNEL_MODE"), None);
        assert_eq!(bug_check_named(""), None);
        assert_eq!(ntstatus_named("status_access_violation").unwrap().0, 0xc000_0005);
        assert!(ntstatus_named("STATUS_NO_SUCH_STATUS").is_none());
    }

    #[test]
    fn every_bug_check_is_found_by_its_name() {
        for line in BUG_CHECKS.lines() {
            let Some(known) = hex(leading_text(line, 0)).and_then(|code| bug_check(code as u32)) else {
                panic!("{line}");
            };
            let found = bug_check_named(&known.name).unwrap();
            assert_eq!(found.name, known.name);
        }
    }

    #[test]
    fn functions_are_found_with_and_without_their_module() {
        assert_eq!(functions_named("nt!kebugcheckex").len(), 1);
        assert_eq!(functions_named("KeBugCheckEx").first().unwrap().symbol, "nt!KeBugCheckEx");
        assert!(functions_named("NoSuchFunction").is_empty());
        assert!(names_with("DoubleFault", 5).contains(&"nt!KiDoubleFaultAbort".to_owned()));
        assert!(names_with("xy", 5).is_empty());
    }

    #[test]
    fn subcodes_come_in_order() {
        let trap = bug_check(0x7f).unwrap();
        let all = subcodes(&trap);
        assert!(
            all.is_sorted_by_key(|subcode| subcode.value) && all.iter().any(|subcode| subcode.value == 8)
        );
    }

    #[test]
    fn articles_have_a_heading_and_plain_sections() {
        for (name, text) in TOPICS {
            assert_eq!(topic(&name.replace('-', " ")), Some(text));
            assert!(text.starts_with("# ") && text.contains("\n## "), "{name}");
        }
    }
}
