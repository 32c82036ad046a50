//! `!analyze` whose line breaks a web page lost: the labels tell where its lines began.

use crate::scan::find_ci;

/// The lines that were joined to `line`; `line` itself where no two labels stand in it.
pub(crate) fn lines(line: &str) -> impl Iterator<Item = &str> {
    let mut starts = starts(line);
    starts.dedup();
    // One label may stand anywhere in prose, and most lines of a debugger have one at their start.
    if starts.len() < 2 {
        starts.clear();
    }
    starts.retain(|start| *start != 0);
    starts.push(line.len());
    let mut from = 0;
    starts.into_iter().filter_map(move |end| {
        let part = line.get(from..end);
        from = end;
        part
    })
}

/// Where labels begin, in order: `Arguments:`, `Arg1:`, `BUGCHECK_STR:`; and what stands behind a heading, `NAME (5a)`.
fn starts(line: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut word = 0;
    // A label is one word; its colon ends it.
    for (colon, _) in line.match_indices(':') {
        let head = line.get(word..colon).unwrap_or_default();
        let from = head.rfind(char::is_whitespace).map_or(word, |at| word + at + 1);
        word = colon + 1;
        if line.get(from..colon).is_some_and(is_label) {
            starts.push(from);
        }
    }
    if !starts.is_empty()
        && let Some(end) = heading(line)
        && starts.first().is_some_and(|first| *first > end)
    {
        starts.insert(0, end);
    }
    starts
}

fn is_label(word: &str) -> bool {
    let argument =
        matches!(word.len(), 4) && find_ci(word, "arg") == Some(0) && word.ends_with(['1', '2', '3', '4']);
    let capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let field = word.len() <= 48 && word.contains('_') && word.starts_with(|c: char| c.is_ascii_uppercase());
    argument || word.eq_ignore_ascii_case("arguments") || (field && word.bytes().all(capital))
}

/// Where a heading at the start of the line ends: `CRITICAL_SERVICE_FAILED (5a)`.
fn heading(line: &str) -> Option<usize> {
    let (name, rest) = line.trim_start().split_once(" (")?;
    let (code, _) = rest.split_once(')')?;
    let capitals =
        name.contains('_') && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let hex = (1..=8).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_hexdigit());
    let indent = line.len() - line.trim_start().len();
    (capitals && hex).then_some(indent + name.len() + 2 + code.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<&str> {
        lines(line).map(str::trim).collect()
    }

    #[test]
    fn labels_begin_lines() {
        assert_eq!(
            split(
                "CRITICAL_SERVICE_FAILED (5a) It failed. Arguments: Arg1: 0000000000000001, what Arg2: ffffd80f4bfe7070 Arg3: 0 Arg4: 5 Debugging"
            ),
            [
                "CRITICAL_SERVICE_FAILED (5a)",
                "It failed.",
                "Arguments:",
                "Arg1: 0000000000000001, what",
                "Arg2: ffffd80f4bfe7070",
                "Arg3: 0",
                "Arg4: 5 Debugging"
            ]
        );
        assert_eq!(split("DUMP_CLASS: 1 DUMP_QUALIFIER: 401 x"), ["DUMP_CLASS: 1", "DUMP_QUALIFIER: 401 x"]);
    }

    #[test]
    fn what_is_whole_stays_so() {
        for line in [
            "",
            "Arg1: 0000000000000008, EXCEPTION_DOUBLE_FAULT",
            "FAILURE_BUCKET_ID:  0x5A_c0000428_IMAGE_filecrypt.sys",
            "fffff880`02f65d60 fffff800`032b2382 : 00000000`00000000 : nt!X_Y::Z+0x1",
            "I saw PAGE_FAULT: it was bad",
        ] {
            assert_eq!(split(line), [line]);
        }
    }
}
