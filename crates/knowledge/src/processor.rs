//! Processors that their makers themselves call unstable.

use crate::table::data_lines;

const PROCESSORS: &str = include_str!("../../../knowledge/processors.tsv");

/// A generation of processors with a known instability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnstableProcessor {
    /// What is known, in a sentence.
    pub note: &'static str,
    /// Who says so.
    pub source: &'static str,
}

/// What is known of the processor of this CPUID brand string. All words of a line's first column have to stand in it.
pub fn processor(name: &str) -> Option<UnstableProcessor> {
    data_lines(PROCESSORS).find_map(|line| {
        let mut columns = line.split('\t');
        let mut words = columns.next()?.split(' ');
        let known = UnstableProcessor { note: columns.next()?, source: columns.next()? };
        words.all(|word| name.contains(word)).then_some(known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_needs_all_its_words() {
        assert!(processor("13th Gen Intel(R) Core(TM) i9-13900K").is_some());
        assert!(processor("Intel(R) Core(TM) i9-14900KF").is_some());
        assert_eq!(processor("12th Gen Intel(R) Core(TM) i9-12900K"), None);
        assert_eq!(processor("13th Gen Intel(R) Core(TM) i7-13700H"), None, "mobile parts are not named");
        assert_eq!(processor(""), None);
    }

    #[test]
    fn every_line_has_three_columns() {
        for line in data_lines(PROCESSORS) {
            let columns: Vec<&str> = line.split('\t').collect();
            assert!(columns.len() == 3 && columns.iter().all(|column| !column.trim().is_empty()), "{line}");
        }
    }
}
