//! Patterns with `*` and `?`.

/// True if the whole name fits the pattern; letters fit in either case. Takes time in proportion to the product of both
/// lengths at most: only the last `*` is ever tried again.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, n));
                continue;
            }
            Some(wanted) if *wanted == b'?' || wanted.eq_ignore_ascii_case(byte) => {
                (p, n) = (p + 1, n + 1);
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = retry else { return false };
        (p, n) = (after, from + 1);
        retry = Some((after, from + 1));
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_questions() {
        for (pattern, name, fits) in [
            ("_KPR*", "_KPRCB", true),
            ("_kpr*", "_KPROCESS", true),
            ("*LIST*", "_LIST_ENTRY", true),
            ("*_ENTRY", "_LIST_ENTRY", true),
            ("_?PRCB", "_KPRCB", true),
            ("_KPRCB", "_KPRCB2", false),
            ("*a*b", "xaybzb", true),
            ("*a*b", "xaybz", false),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49)));
    }
}
