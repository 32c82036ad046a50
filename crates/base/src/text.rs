//! Strings out of a dump are data: nothing in them may reach a terminal as a command or read as other than it is.

/// Makes what a terminal, a bidi renderer or a log would act on visible as `\u{..}`; all else stays.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, bidi marks, zero-width and other invisible format characters, line separators, private use.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0xad | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f
            | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f
            | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0xe000..=0xf8ff | 0xe0000..=0xe0fff | 0xf0000..=0x10_ffff)
}

/// The last part of a Windows path (`\SystemRoot\system32\drivers\a.sys` gives `a.sys`), for both kinds of slash.
pub fn file_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_shown() {
        assert_eq!(visible("a\x1b[31mb\u{202e}c"), "a\\u{1b}[31mb\\u{202e}c");
        assert_eq!(visible("Ünïcode.sys"), "Ünïcode.sys");
        assert_eq!(visible("a\nb"), "a\\u{a}b");
    }

    #[test]
    fn file_names() {
        assert_eq!(file_name(r"\SystemRoot\system32\DRIVERS\iaStor.sys"), "iaStor.sys");
        assert_eq!(file_name("nt"), "nt");
        assert_eq!(file_name("a/b\\"), "");
    }
}
