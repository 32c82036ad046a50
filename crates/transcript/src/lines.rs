//! Text → clean lines: what forums, mail programs and web pages did to the text is taken back here, once,
//! so that no parser behind has to know of it.

use crate::flat;

/// The lines of a text, cleaned. Runs of blank lines are one blank line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    text: String,
    starts: Vec<u32>,
}

impl Lines {
    /// Cleans `text`. Work and memory are proportional to its length; what lies past 4 GiB is not read.
    pub(crate) fn new(text: &str) -> Self {
        let mut lines = Self { text: String::with_capacity(text.len()), starts: Vec::new() };
        let is_break = |c| matches!(c, '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let mut line = String::new();
        for raw in text.split('\n').flat_map(|line| line.trim_end_matches('\r').split(is_break)) {
            line.clear();
            unescape(raw, &mut line);
            for part in line.split('\n').flat_map(|part| flat::lines(unquoted(part))) {
                lines.push(part);
            }
        }
        if lines.starts.last().is_some_and(|start| *start as usize == lines.text.len()) {
            lines.starts.pop();
        }
        lines
    }

    /// Adds a line, unless it is blank and follows a blank one.
    fn push(&mut self, line: &str) {
        let Ok(start) = u32::try_from(self.text.len()) else { return };
        let from = self.text.len();
        let indent = line.len() - line.trim_start().len();
        self.text.extend(std::iter::repeat_n(' ', indent));
        emphasis_off(line.trim(), &mut self.text);
        let blank = self.text.get(from..).is_none_or(|added| added.trim().is_empty());
        if blank {
            self.text.truncate(from);
        }
        if !blank || self.get(self.starts.len().wrapping_sub(1)).is_some_and(|last| !last.is_empty()) {
            self.starts.push(start);
        }
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Line `index` with its indentation but without trailing blanks, if there is such a line.
    pub(crate) fn get(&self, index: usize) -> Option<&str> {
        let start = *self.starts.get(index)? as usize;
        let end = self.starts.get(index + 1).map_or(self.text.len(), |next| *next as usize);
        self.text.get(start..end)
    }

    /// Line `index` without indentation; empty past the end.
    pub(crate) fn trimmed(&self, index: usize) -> &str {
        self.get(index).unwrap_or_default().trim_start()
    }
}

/// `line` without the marks of quoting (`> > `, `| `) and fences of code.
fn unquoted(line: &str) -> &str {
    let mut rest = line;
    loop {
        let inner = rest.trim_start();
        let Some(next) =
            inner.strip_prefix('>').or_else(|| inner.strip_prefix("| ")).or_else(|| inner.strip_prefix('»'))
        else {
            break;
        };
        // One blank belongs to the mark; the rest is the indentation of the quoted line.
        rest = next.strip_prefix(' ').unwrap_or(next);
    }
    if rest.trim_start().starts_with("```") { "" } else { rest }
}

/// Appends `line` without `**bold**` marks, and with Markdown's `\_` taken back between capitals.
fn emphasis_off(line: &str, out: &mut String) {
    let mut last = ' ';
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match c {
            '*' if last != '*' && next == Some('*') => {
                chars.next();
                if chars.peek() == Some(&'*') {
                    out.push_str("**"); // three or more are a debugger's banner
                }
                last = '*';
                continue;
            }
            '\\' if next == Some('_') && (last.is_ascii_uppercase() || last.is_ascii_digit()) => {}
            _ => out.push(c),
        }
        last = c;
    }
}

/// Appends `raw` with entities decoded, known tags removed, exotic blanks made blanks and invisible characters
/// dropped. A tag that ends a line gives `\n`.
fn unescape(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        let (text, length) = match c {
            '&' => entity(rest).unwrap_or((Some('&'), 1)),
            '<' | '[' => tag(rest, out.chars().next_back()).unwrap_or((Some(c), 1)),
            _ => (Some(c), c.len_utf8()),
        };
        if let Some(text) = text {
            push_visible(text, out);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
}

fn push_visible(c: char, out: &mut String) {
    match u32::from(c) {
        0x0a => out.push('\n'),
        0x09 | 0xa0 | 0x1680 | 0x2000..=0x200a | 0x202f | 0x205f | 0x3000 => out.push(' '),
        0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x2069 | 0xfeff => {}
        // Typographic quotes where the debugger prints its back quote or an apostrophe.
        0x2018 | 0xb4 => out.push('`'),
        0x2019 => out.push('\''),
        0x201c | 0x201d => out.push('"'),
        0x2010..=0x2013 => out.push('-'),
        _ if c.is_control() => {}
        _ => out.push(c),
    }
}

/// The character of the entity that `text` starts with, and the entity's length. `&amp;nbsp;` (escaped twice)
/// is one entity.
fn entity(text: &str) -> Option<(Option<char>, usize)> {
    const LONGEST: usize = 12;
    let mut name = text.strip_prefix('&')?;
    let mut length = 1;
    while let Some(inner) = name.strip_prefix("amp;").filter(|inner| plausible_entity(inner)) {
        name = inner;
        length += 4;
    }
    let end = name.bytes().take(LONGEST).position(|byte| byte == b';')?;
    let c = named_entity(name.get(..end)?)?;
    Some((Some(c), length + end + 1))
}

fn plausible_entity(text: &str) -> bool {
    let end = text.bytes().take(12).position(|byte| byte == b';');
    end.and_then(|end| text.get(..end)).is_some_and(|name| named_entity(name).is_some())
}

fn named_entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let hex = number.strip_prefix(['x', 'X']);
        let value = hex.map_or_else(|| number.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())?;
        return char::from_u32(value);
    }
    Some(match name {
        "gt" => '>',
        "lt" => '<',
        "amp" => '&',
        "quot" => '"',
        "apos" | "rsquo" => '\'',
        "lsquo" | "grave" => '`',
        "nbsp" | "ensp" | "emsp" | "thinsp" => ' ',
        "larr" => '\u{2190}',
        _ => return None,
    })
}

/// The length of a known HTML or forum tag that `text` starts with, and the line break it stands for.
///
/// Only known names count: `<Unloaded_x.sys>`, `Foo<int>` and `[Frozen]` are the debugger's own.
fn tag(text: &str, before: Option<char>) -> Option<(Option<char>, usize)> {
    const BREAKS: [&str; 13] =
        ["br", "p", "div", "pre", "tr", "li", "blockquote", "h1", "h2", "h3", "h4", "table", "ul"];
    const INLINE: [&str; 20] = [
        "a", "b", "i", "u", "em", "code", "span", "strong", "font", "td", "th", "tbody", "ol", "html",
        "body", "tt", "kbd", "small", "sup", "hr",
    ];
    const FORUM: [&str; 14] = [
        "code", "quote", "b", "i", "u", "color", "size", "font", "spoiler", "url", "pre", "php", "list",
        "mono",
    ];
    const LONGEST: usize = 400;
    let html = text.starts_with('<');
    let inner = text.get(1..)?;
    let (closing, inner) = inner.strip_prefix('/').map_or((false, inner), |inner| (true, inner));
    let name_end = inner.bytes().take(12).position(|byte| !byte.is_ascii_alphanumeric())?;
    let name = inner.get(..name_end)?.to_ascii_lowercase();
    let known = if html {
        BREAKS.contains(&name.as_str()) || INLINE.contains(&name.as_str())
    } else {
        FORUM.contains(&name.as_str())
    };
    let glued = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
    // `Foo<b>` may be a template argument, `<br>` and `</b>` never are.
    if !known || (name.len() == 1 && glued && !closing) {
        return None;
    }
    let close = if html { b'>' } else { b']' };
    let attributes = inner.get(name_end..)?;
    let end = attributes.bytes().take(LONGEST).position(|byte| byte == close)?;
    let fits = matches!(attributes.bytes().next(), Some(b' ' | b'/' | b'=' | b'>' | b']'));
    let length = text.len() - attributes.len() + end + 1;
    let is_break = html && BREAKS.contains(&name.as_str());
    fits.then_some((is_break.then_some('\n'), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        let lines = Lines::new(text);
        (0..lines.len()).map(|index| lines.get(index).unwrap().to_owned()).collect()
    }

    #[test]
    fn quotes_entities_and_tags() {
        assert_eq!(all("> > 4: kd&gt; k\r\n>Arg1:&nbsp; 8\n\n\n\nx"), ["4: kd> k", "Arg1:  8", "", "x"]);
        assert_eq!(
            all("&amp;nbsp;a &amp;gt; b &amp; c &unknown; `string&#39;"),
            [" a > b & c &unknown; `string'"]
        );
        assert_eq!(all("<p>a<br/>b</p>"), ["a", "b"]);
        assert_eq!(
            all("[code]k[/code] [Frozen] <Unloaded_x.sys> Foo<b> [color=#f00]r[/color]"),
            ["k [Frozen] <Unloaded_x.sys> Foo<b> r"]
        );
        assert_eq!(all("fffff880\u{2018}009b9de8\u{a0}x\u{200b}y\tz"), ["fffff880`009b9de8 xy z"]);
    }

    #[test]
    fn emphasis() {
        assert_eq!(all("**win32kbase!Q**+0x187"), ["win32kbase!Q+0x187"]);
        assert_eq!(all("*** ERROR: x\n*******"), ["*** ERROR: x", "*******"]);
        assert_eq!(all("DRIVER\\_IRQL\\_NOT (d1) C:\\_x"), ["DRIVER_IRQL_NOT (d1) C:\\_x"]);
        assert_eq!(all("```\ncode\n```\nx"), ["code", "", "x"]);
    }
}
