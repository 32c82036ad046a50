//! Columns of text that fit a width.

use crate::paper::{width, wrap};
use stopcode_base::visible;

/// What a column does where the page is too narrow for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It keeps its width.
    Keep,
    /// Its end is cut, down to this many characters.
    CutEnd(usize),
    /// Its start is cut, down to this many characters: for paths, whose end tells them apart.
    CutStart(usize),
    /// It goes on in the next line, down to this many characters a line. For the last column.
    Wrap(usize),
}

/// A table: a line of titles, then the rows.
pub(crate) struct Table {
    columns: Vec<(&'static str, Fit)>,
    rows: Vec<Vec<String>>,
}

const GAP: usize = 2;

impl Table {
    pub(crate) fn new<const N: usize>(columns: [(&'static str, Fit); N]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: &[String; N]) {
        self.rows.push(cells.iter().map(|cell| visible(cell)).collect());
    }

    /// The lines of the table, the titles first. A column that is empty in every row is left out.
    pub(crate) fn lines(&self, page: usize) -> Vec<String> {
        let widths = self.widths(page);
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let mut lines = Vec::new();
        for row in std::iter::once(&titles).chain(&self.rows) {
            self.push_row(row, &widths, &mut lines);
        }
        lines
    }

    /// Natural widths (0 = left out), then cut where the page asks for it: the widest that can give gives first.
    fn widths(&self, page: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::new();
        for (index, (title, _)) in self.columns.iter().enumerate() {
            let widest =
                self.rows.iter().filter_map(|row| row.get(index)).map(|cell| width(cell)).max().unwrap_or(0);
            widths.push(if widest == 0 { 0 } else { widest.max(width(title)) });
        }
        let used = widths.iter().filter(|width| **width > 0).count();
        let room = page.saturating_sub(used.saturating_sub(1) * GAP);
        let mut excess = widths.iter().sum::<usize>().saturating_sub(room);
        while excess > 0 {
            let spare = |index: usize, width: usize| {
                width.saturating_sub(self.columns.get(index).map_or(width, |(title, fit)| match fit {
                    Fit::Keep => width,
                    Fit::CutEnd(least) | Fit::CutStart(least) | Fit::Wrap(least) => (*least).max(title.len()),
                }))
            };
            let most = widths.iter_mut().enumerate().max_by_key(|(index, width)| spare(*index, **width));
            let Some((index, width)) = most else { break };
            let give = spare(index, *width).min(excess.div_ceil(2));
            if give == 0 {
                break;
            }
            *width -= give;
            excess -= give;
        }
        widths
    }

    fn push_row(&self, row: &[String], widths: &[usize], lines: &mut Vec<String>) {
        let mut line = String::new();
        let mut start = 0;
        let mut further: (usize, Vec<String>) = (0, Vec::new());
        for ((cell, wide), (_, fit)) in row.iter().zip(widths).zip(&self.columns) {
            if *wide == 0 {
                continue;
            }
            pad(&mut line, start);
            match fit {
                Fit::Wrap(_) => {
                    let mut parts = wrap(cell, *wide).into_iter();
                    line.push_str(&parts.next().unwrap_or_default());
                    further = (start, parts.collect());
                }
                Fit::CutStart(_) => line.push_str(&cut_start(cell, *wide)),
                Fit::Keep | Fit::CutEnd(_) => line.push_str(&cut_end(cell, *wide)),
            }
            start += wide + GAP;
        }
        lines.push(line);
        let (start, parts) = further;
        for part in parts {
            let mut line = String::new();
            pad(&mut line, start);
            line.push_str(&part);
            lines.push(line);
        }
    }
}

fn pad(line: &mut String, to: usize) {
    line.extend(std::iter::repeat_n(' ', to.saturating_sub(width(line))));
}

fn cut_end(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn cut_start(text: &str, most: usize) -> String {
    let wide = width(text);
    if wide <= most {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(wide + 1 - most.max(1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_page() {
        let mut table = Table::new([
            ("File", Fit::CutStart(6)),
            ("Nothing", Fit::Keep),
            ("Code", Fit::Keep),
            ("Name", Fit::CutEnd(8)),
            ("Cause", Fit::Wrap(10)),
        ]);
        table.row(&[
            "Minidump/010214-1.dmp".into(),
            String::new(),
            "7e".into(),
            "SYSTEM_THREAD_EXCEPTION".into(),
            "a bug in a driver".into(),
        ]);
        assert_eq!(
            table.lines(200)[1],
            "Minidump/010214-1.dmp  7e    SYSTEM_THREAD_EXCEPTION  a bug in a driver"
        );
        let narrow = table.lines(44);
        assert!(narrow.iter().all(|line| width(line) <= 44), "{narrow:#?}");
        assert!(narrow[0].starts_with("File") && !narrow[0].contains("Nothing"));
        assert!(narrow[1].starts_with('…') && narrow[1].contains(".dmp  7e    SYSTEM"));
        let joined = narrow.concat();
        assert!(["a bug", "driver"].iter().all(|part| joined.contains(part)), "a wrapped cell loses nothing");
    }

    #[test]
    fn cuts_count_characters() {
        assert_eq!((cut_end("äöüß", 3).as_str(), cut_start("äöüß", 3).as_str()), ("äö…", "…üß"));
        assert_eq!((cut_end("äöü", 3).as_str(), cut_start("äöü", 3).as_str()), ("äöü", "äöü"));
        assert_eq!((cut_end("abc", 0).as_str(), cut_start("abc", 0).as_str()), ("…", "…"));
    }
}
