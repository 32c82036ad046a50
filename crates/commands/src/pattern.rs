//! Wild cards of names: `*` is any text, `?` any one character; case does not count.

/// Whether `name` fits `pattern`. Takes time in proportion to the product of the lengths at worst.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let fold = |text: &str| -> Vec<char> { text.chars().map(|c| c.to_ascii_lowercase()).collect() };
    let (pattern, name) = (fold(pattern), fold(name));
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == c => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wild_cards() {
        for (pattern, name, fit) in [
            ("", "", true),
            ("*", "", true),
            ("ke*ex", "KeBugCheckEx", true),
            ("*Bug*", "KeBugCheckEx", true),
            ("?eBugCheckEx", "KeBugCheckEx", true),
            ("KeBugCheck", "KeBugCheckEx", false),
            ("*a*a*a*b", &"a".repeat(2000), false),
            ("a?", "a", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }
}
