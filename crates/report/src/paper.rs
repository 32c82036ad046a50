//! Where text goes: wraps, indents, paints, and is the one gate through which every string of a report passes.

use crate::Style;
use anstyle::{AnsiColor, Style as Ink};
use stopcode_base::visible;

/// Why a piece of text stands out. The words say the same: colour only helps the eye.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Plain,
    Heading,
    For,
    Against,
    Error,
    Warning,
    Hint,
}

impl Tone {
    fn ink(self) -> Ink {
        let colour = |colour: AnsiColor| Ink::new().fg_color(Some(colour.into()));
        match self {
            Self::Plain => Ink::new(),
            Self::Heading => Ink::new().bold(),
            Self::For => colour(AnsiColor::Green),
            Self::Against => colour(AnsiColor::Red),
            Self::Error => colour(AnsiColor::Red).bold(),
            Self::Warning => colour(AnsiColor::Yellow),
            Self::Hint => colour(AnsiColor::Cyan),
        }
    }
}

/// A page of text that grows downwards.
pub(crate) struct Paper {
    out: String,
    style: Style,
}

impl Paper {
    pub(crate) fn new(style: Style) -> Self {
        Self { out: String::new(), style: Style { width: style.width.max(80), ..style } }
    }

    pub(crate) fn width(&self) -> usize {
        self.style.width
    }

    /// The text, ending with one line feed.
    pub(crate) fn finish(self) -> String {
        format!("{}\n", self.out.trim_end())
    }

    /// A heading, with an empty line before it.
    pub(crate) fn heading(&mut self, text: &str) {
        self.blank();
        self.painted(Tone::Heading, &visible(text));
        self.out.push('\n');
    }

    /// An empty line, unless there is one or nothing stands above.
    pub(crate) fn blank(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// A paragraph, wrapped.
    pub(crate) fn paragraph(&mut self, indent: usize, text: &str) {
        self.item(indent, "", Tone::Plain, text);
    }

    /// A wrapped text behind a mark (`+ `, `1. `, `hint: `); its further lines start below its first word.
    pub(crate) fn item(&mut self, indent: usize, mark: &str, tone: Tone, text: &str) {
        let text = visible(text);
        let hang = indent + width(mark);
        let lines = wrap(&text, self.style.width.saturating_sub(hang).max(20));
        for (index, line) in lines.iter().enumerate() {
            if index == 0 {
                self.spaces(indent);
                self.painted(tone, mark);
            } else {
                self.spaces(hang);
            }
            self.out.push_str(line);
            self.end_line();
        }
    }

    /// `Label     text`, with the text wrapped in its own column.
    pub(crate) fn field(&mut self, label: &str, text: &str) {
        self.item(2, &format!("{label:<14}"), Tone::Plain, text);
    }

    /// A line as it is: tables, stacks, commands.
    pub(crate) fn line(&mut self, indent: usize, tone: Tone, text: &str) {
        self.spaces(indent);
        self.painted(tone, visible(text).trim_end());
        self.end_line();
    }

    fn painted(&mut self, tone: Tone, text: &str) {
        let ink = tone.ink();
        if self.style.colour && !ink.is_plain() && !text.is_empty() {
            self.out.push_str(&format!("{ink}{text}{ink:#}"));
        } else {
            self.out.push_str(text);
        }
    }

    fn spaces(&mut self, count: usize) {
        self.out.extend(std::iter::repeat_n(' ', count));
    }

    fn end_line(&mut self) {
        self.out.truncate(self.out.trim_end_matches(' ').len());
        self.out.push('\n');
    }
}

/// Columns that a text takes: one a character. (Wide scripts take two; names of drivers hardly ever use them.)
pub(crate) fn width(text: &str) -> usize {
    text.chars().count()
}

/// Breaks at spaces; a word longer than `columns` gets a line of its own, whole, so that it can be copied.
/// There is always a line, if an empty one.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let wide = width(word);
        if used > 0 && used + 1 + wide > columns {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += wide;
    }
    lines.push(line);
    lines
}

/// How many of `total` a list shows, and the line that says what was left out.
pub(crate) fn rest(total: usize, shown: usize) -> Option<String> {
    let left = total.checked_sub(shown).filter(|left| *left > 0)?;
    Some(format!("… and {} more (--format json shows all)", crate::words::grouped(left as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_spaces_and_keeps_long_words_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a nt!KiDoubleFaultAbort+0xb2 b", 8), ["a", "nt!KiDoubleFaultAbort+0xb2", "b"]);
        assert_eq!(wrap("", 8), [""]);
    }

    #[test]
    fn further_lines_hang_below_the_first_word() {
        let mut paper = Paper::new(Style { colour: false, width: 80 });
        paper.item(2, "+ ", Tone::For, &"word ".repeat(30));
        let text = paper.finish();
        assert!(text.starts_with("  + word") && text.contains("\n    word"));
        assert!(text.lines().all(|line| width(line) <= 80));
    }

    #[test]
    fn only_our_own_escapes_reach_the_page() {
        let mut paper = Paper::new(Style { colour: true, width: 80 });
        paper.item(0, "+ ", Tone::For, "a\x1b[2Jb");
        paper.line(0, Tone::Error, "c\u{202e}\r\nd");
        let text = paper.finish();
        assert_eq!(text, "\x1b[32m+ \x1b[0ma\\u{1b}[2Jb\n\x1b[1m\x1b[31mc\\u{202e}\\u{d}\\u{a}d\x1b[0m\n");
    }

    #[test]
    fn the_rest_is_counted() {
        assert_eq!(rest(3, 3), None);
        assert_eq!(rest(2, 3), None);
        assert_eq!(rest(1_500, 3).unwrap(), "… and 1,497 more (--format json shows all)");
    }
}
