//! Tables as text: sorted lines, found by bisection, with hand edits laid over the generated ones.

use std::cmp::Ordering;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A table: the generated lines, and the lines people wrote, each sorted by the same key.
pub(crate) struct Table {
    pub(crate) generated: &'static str,
    pub(crate) edits: &'static str,
}

/// The table of this name: `knowledge/<name>` and `knowledge/edits/<name>`.
macro_rules! table {
    ($name:literal) => {
        $crate::table::Table {
            generated: include_str!(concat!("../../../knowledge/", $name)),
            edits: include_str!(concat!("../../../knowledge/edits/", $name)),
        }
    };
}
pub(crate) use table;

impl Table {
    /// The line that `compare` (line against the wanted key) calls equal, an edit before a generated line.
    pub(crate) fn line(&self, compare: impl Fn(&str) -> Ordering) -> Option<&'static str> {
        find(self.edits, &compare).or_else(|| find(self.generated, &compare))
    }

    /// The JSON record that `compare` calls equal, with the fields of an edit merged into it.
    pub(crate) fn record<T: DeserializeOwned>(&self, compare: impl Fn(&str) -> Ordering) -> Option<T> {
        let generated = find(self.generated, &compare);
        match (generated, find(self.edits, &compare)) {
            (Some(line), None) | (None, Some(line)) => serde_json::from_str(line).ok(),
            // A broken edit must not cost the fact under it.
            (Some(line), Some(edit)) => merged(line, edit).ok().or_else(|| serde_json::from_str(line).ok()),
            (None, None) => None,
        }
    }
}

/// `line` with `edit` laid over it as a JSON merge patch (RFC 7396).
pub(crate) fn merged<T: DeserializeOwned>(line: &str, edit: &str) -> serde_json::Result<T> {
    let mut record: Value = serde_json::from_str(line)?;
    merge(&mut record, serde_json::from_str(edit)?);
    serde_json::from_value(record)
}

/// Recursion is as deep as the patch, whose depth serde_json limits.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.shift_remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// The lines that carry data: no comments, no empty ones.
pub(crate) fn data_lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| is_data(line))
}

pub(crate) fn is_data(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// Bisects sorted lines. Comments and empty lines may stand anywhere.
fn find(text: &'static str, compare: impl Fn(&str) -> Ordering) -> Option<&'static str> {
    let (mut low, mut high) = (0, text.len());
    // Both bounds are starts of lines (or the end), and the wanted line starts in low..high.
    while low < high {
        let middle = start_of_line(text, low, low.midpoint(high));
        let mut start = middle;
        let line = loop {
            let line = text.get(start..)?.split('\n').next()?;
            let content = line.strip_suffix('\r').unwrap_or(line);
            if is_data(content) || start >= high {
                break content;
            }
            start = start.saturating_add(line.len() + 1);
        };
        if start >= high {
            high = middle;
            continue;
        }
        match compare(line) {
            Ordering::Less => low = text.get(start..)?.find('\n').map_or(high, |end| start + end + 1),
            Ordering::Greater => high = middle,
            Ordering::Equal => return Some(line),
        }
    }
    None
}

fn start_of_line(text: &str, low: usize, position: usize) -> usize {
    let before = text.as_bytes().get(low..position).unwrap_or_default();
    before.iter().rposition(|byte| *byte == b'\n').map_or(low, |newline| low + newline + 1)
}

/// The `index`th value of a JSON line whose first values are texts: the key stands first, so that it can be read
/// without parsing the line.
pub(crate) fn leading_text(line: &str, index: usize) -> &str {
    // {"name":"value","name":"value": the values are pieces 3, 7, 11 … between quotes.
    line.split('"').nth(4 * index + 3).unwrap_or_default()
}

/// `0x…` as a number.
pub(crate) fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Orders as if both were lower case, as file names on Windows do.
pub(crate) fn compare_ignoring_case(left: &str, right: &str) -> Ordering {
    let left = left.bytes().map(|byte| byte.to_ascii_lowercase());
    left.cmp(right.bytes().map(|byte| byte.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# about\n0x1 one\n\n# why\n\r\n0x5 five\n0x7 seven\r\n# end\n";

    fn look_up(text: &'static str, wanted: u64) -> Option<&'static str> {
        find(text, |line| hex(line.split(' ').next().unwrap()).cmp(&Some(wanted)))
    }

    #[test]
    fn lines_are_found_among_comments_and_empty_lines() {
        assert_eq!(look_up(TEXT, 1), Some("0x1 one"));
        assert_eq!(look_up(TEXT, 5), Some("0x5 five"));
        assert_eq!(look_up(TEXT, 7), Some("0x7 seven"));
        for absent in [0, 2, 6, 8] {
            assert_eq!(look_up(TEXT, absent), None);
        }
        assert_eq!(look_up("", 1), None);
        assert_eq!(look_up("# only\n#comments", 1), None);
        assert_eq!(look_up("0x1 without an end", 1), Some("0x1 without an end"));
    }

    #[test]
    fn an_edit_changes_only_what_it_names() {
        let line = r#"{"image":"a.sys","old":1,"values":{"2":{"0x1":"write","0x8":"?"}}}"#;
        let edit = r#"{"image":"a.sys","old":null,"values":{"2":{"0x8":"execute"}},"new":{"x":"y"}}"#;
        let expected = r#"{"image":"a.sys","values":{"2":{"0x1":"write","0x8":"execute"}},"new":{"x":"y"}}"#;
        assert_eq!(merged::<Value>(line, edit).unwrap().to_string(), expected);
    }

    #[test]
    fn a_broken_edit_leaves_the_generated_fact() {
        let table = Table { generated: "{\"k\":\"a\"}\n", edits: "{\"k\":\"a\",\n" };
        let record: Option<Value> = table.record(|line| leading_text(line, 0).cmp("a"));
        assert_eq!(record.unwrap().to_string(), r#"{"k":"a"}"#);
    }

    #[test]
    fn leading_values_are_read_without_parsing() {
        let line = r#"{"code": "0xc4", "value":"0x20002","meaning":"a \"quoted\" word"}"#;
        assert_eq!((leading_text(line, 0), leading_text(line, 1)), ("0xc4", "0x20002"));
        assert_eq!(leading_text("nonsense", 0), "");
    }
}
