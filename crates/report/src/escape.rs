//! Text that a Markdown renderer takes as text: no link, no mention, no HTML, no way out of a fence.
//!
//! Renderers differ. What is done here holds for CommonMark and for what GitHub, Discourse, Reddit and Discord add:
//! mentions and issue numbers are found *after* rendering, where a backslash is gone, so `@` and `#` go into code
//! spans; bare domain names become links on some forums, so their dot is escaped.

use stopcode_base::visible;

/// Endings that follow a dot in the names this project prints, and that no forum takes for a domain.
const FILE_ENDINGS: [&str; 8] = ["sys", "exe", "dll", "dmp", "pdb", "inf", "bin", "txt"];

/// `text` for use inside a paragraph, cut with `…` so that the result has at most `most` characters.
pub(crate) fn inline(text: &str, most: usize) -> String {
    let text = visible(text);
    let mut out = String::new();
    let mut used = 0;
    let mut units = units(&text).into_iter().peekable();
    while let Some(unit) = units.next() {
        let wide = unit.chars().count();
        let reserve = usize::from(units.peek().is_some());
        if used + wide + reserve > most {
            // An underscore that was inside a word is at its end now.
            if out.ends_with('_') && !out.ends_with("\\_") {
                out.pop();
            }
            out.push('…');
            break;
        }
        out.push_str(&unit);
        used += wide;
    }
    out
}

/// `text` as a code span: the one form that every renderer leaves alone. Cut as in [`inline`].
pub(crate) fn span(text: &str, most: usize) -> String {
    let text = visible(text);
    // Two back quotes on each side hold an address such as fffff880`03dccfd0; longer runs are written out.
    let quoted = text.contains('`');
    let (open, close) = if quoted { ("`` ", " ``") } else { ("`", "`") };
    let text = if quoted { text.replace("``", "\\u{60}\\u{60}") } else { text };
    let room = most.saturating_sub(2 * open.len());
    let cut: String = if text.chars().count() > room {
        text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    } else {
        text
    };
    if cut.trim().is_empty() { "-".to_owned() } else { format!("{open}{cut}{close}") }
}

/// `text`, of several lines, in a fence.
///
/// Not every forum closes a fence only with one as long: so no run of back quotes inside is left to close it.
pub(crate) fn fence(text: &str) -> String {
    format!("```text\n{}\n```\n", text.trim_end().replace("```", "\\u{60}\\u{60}\\u{60}"))
}

/// Pieces that must not be cut in two, each already escaped.
fn units(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied();
    let word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    let mut units = Vec::with_capacity(characters.len());
    let mut index = 0;
    while let Some(character) = at(index) {
        let before = index.checked_sub(1).and_then(at);
        let after = at(index + 1);
        let mut taken = 1;
        units.push(match character {
            '@' | '#' => {
                taken = characters.iter().skip(index).take_while(|next| matches!(next, '@' | '#')).count();
                let run: String = characters.iter().skip(index).take(taken).collect();
                format!("`{run}`")
            }
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' | '$' | '^' | '&' => {
                format!("\\{character}")
            }
            // Inside a word an underscore is an underscore: SYSTEM_THREAD_EXCEPTION stays readable in the source.
            '_' if !(word(before) && word(after)) => "\\_".to_owned(),
            ':' if after == Some('/') => "\\:".to_owned(),
            '.' if word(before)
                && after.is_some_and(char::is_alphabetic)
                && !is_file_ending(&characters, index + 1) =>
            {
                "\\.".to_owned()
            }
            // At the start these make lists, headings and rules; `1.` and `1)` make lists.
            '-' | '+' | '=' if index == 0 => format!("\\{character}"),
            '.' | ')' if matches!(after, None | Some(' ')) && is_number(&characters, index) => {
                format!("\\{character}")
            }
            other => other.to_string(),
        });
        index += taken;
    }
    units
}

/// True if there is nothing but digits before `end`.
fn is_number(characters: &[char], end: usize) -> bool {
    end > 0 && characters.iter().take(end).all(char::is_ascii_digit)
}

/// True if the name's last part starts at `start` and is the ending of a file: `sys` of `a.sys`, not of `a.sys.org`.
fn is_file_ending(characters: &[char], start: usize) -> bool {
    let mut rest = characters.iter().skip(start).peekable();
    let mut ending = String::new();
    while let Some(next) = rest.next_if(|next| next.is_alphanumeric() && ending.len() < 8) {
        ending.extend(next.to_lowercase());
    }
    let goes_on = rest.next() == Some(&'.') && rest.next().is_some_and(|next| next.is_alphanumeric());
    FILE_ENDINGS.contains(&ending.as_str()) && !goes_on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_is_markup() {
        assert_eq!(inline("[a](http://evil.example)", 99), "\\[a\\](http\\://evil\\.example)");
        assert_eq!(inline("www.evil.com", 99), "www\\.evil\\.com");
        assert_eq!(inline("<img src=x>&lt;", 99), "\\<img src=x\\>\\&lt;");
        assert_eq!(inline("@everyone see #12", 99), "`@`everyone see `#`12");
        assert_eq!(inline("`code` *b* _i_ ~s~ a|b", 99), "\\`code\\` \\*b\\* \\_i\\_ \\~s\\~ a\\|b");
        assert_eq!(inline("- x", 99), "\\- x");
        assert_eq!(inline("1. x", 99), "1\\. x");
        assert_eq!(inline("a\nb", 99), "a\\\\u{a}b");
    }

    #[test]
    fn plain_text_stays_plain() {
        for plain in [
            "iaStor.sys",
            "SYSTEM_THREAD_EXCEPTION_NOT_HANDLED",
            "10.0.19041.804",
            "a - b: c.",
            "Done. Next",
            "nt!KeBugCheckEx+0x69",
        ] {
            assert_eq!(inline(plain, 99), plain);
        }
        assert_eq!(inline("evil.sys.com", 99), "evil\\.sys\\.com");
    }

    #[test]
    fn cuts_count_the_escaped_text_and_split_nothing() {
        assert_eq!(inline("abcd", 4), "abcd");
        assert_eq!(inline("abcde", 4), "abc…");
        assert_eq!(inline("ab@@@cde", 6), "ab…");
        assert_eq!(inline("ab@@@cde", 9), "ab`@@@`c…");
        assert_eq!(inline("***", 4), "\\*…");
        assert_eq!(inline("KERNEL_MODE", 8), "KERNEL…");
        assert_eq!(span("abcdef", 6), "`abc…`");
    }

    #[test]
    fn spans_and_fences_hold() {
        assert_eq!(span("lm t n", 99), "`lm t n`");
        assert_eq!(span("u fffff880`03dccfd0", 99), "`` u fffff880`03dccfd0 ``");
        assert_eq!(span("a``b", 99), "`` a\\u{60}\\u{60}b ``");
        assert_eq!(span("", 99), "-");
        let fenced = fence("a\n```\n@everyone\n````b");
        assert_eq!(fenced.matches("```").count(), 2, "{fenced}");
    }
}
