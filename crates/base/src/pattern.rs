//! Wild cards in names.

/// True if the whole `name` fits `pattern`: `*` is any text, `?` any one character; letters fit in either case. Takes time
/// in proportion to the product of both lengths at most: only the last `*` is ever tried again.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    let (mut wanted, mut left) = (pattern.chars(), name.chars());
    let mut retry = None;
    loop {
        match (wanted.clone().next(), left.clone().next()) {
            (Some('*'), _) => {
                wanted.next();
                retry = Some((wanted.clone(), left.clone()));
            }
            (None, None) => return true,
            (Some(one), Some(other)) if one == '?' || one.eq_ignore_ascii_case(&other) => {
                wanted.next();
                left.next();
            }
            _ => {
                let Some((after, rest)) = &mut retry else { return false };
                if rest.next().is_none() {
                    return false;
                }
                (wanted, left) = (after.clone(), rest.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_and_questions() {
        for (pattern, name, fit) in [
            ("_KPR*", "_KPRCB", true),
            ("_kpr*", "_KPROCESS", true),
            ("*LIST*", "_LIST_ENTRY", true),
            ("*_ENTRY", "_LIST_ENTRY", true),
            ("_?PRCB", "_KPRCB", true),
            ("_KPRCB", "_KPRCB2", false),
            ("ke*ex", "KeBugCheckEx", true),
            ("*a*b", "xaybzb", true),
            ("*a*b", "xaybz", false),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
            ("?", "\u{e9}", true),
            ("**", "x", true),
            ("x", "", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
        assert!(!fits(&"*a".repeat(50), &"a".repeat(49)));
    }
}
