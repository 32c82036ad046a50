//! Runs of pages that lie one after another in the file: complete dumps, and the ranges of RDMP.

use super::PAGE_SIZE;

/// Physical addresses have at most 52 bits.
const PFN_LIMIT: u64 = 1 << 40;

/// One run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    /// First page frame number, and the first after the run.
    start: u64,
    end: u64,
    /// File offset of the first page.
    offset: u64,
}

/// Disjoint runs in ascending order.
#[derive(Debug, Default)]
pub(super) struct Runs {
    list: Vec<Run>,
    end: u64,
    pages: u64,
}

/// What was wrong with the runs of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Faults {
    /// Runs that cover pages of another: the one that comes first in memory keeps them.
    pub(super) overlapping: usize,
    /// Runs that reach past the end of the physical address space.
    pub(super) outside: usize,
}

impl Runs {
    /// Runs of first page and count, in the order in which the file stores their pages from `first_page` on.
    pub(super) fn new(stored: impl Iterator<Item = (u64, u64)>, first_page: u64) -> (Self, Faults) {
        let mut next = first_page;
        let placed = stored.map(|(start, count)| {
            let offset = next;
            // A run that is not believed still takes its place in the file: what follows it lies behind.
            next = next.saturating_add(count.saturating_mul(PAGE_SIZE));
            (start, count, offset)
        });
        let (runs, faults) = Self::placed(placed);
        (Self { end: next, ..runs }, faults)
    }

    /// Runs of first page, count and file offset.
    pub(super) fn placed(stored: impl Iterator<Item = (u64, u64, u64)>) -> (Self, Faults) {
        let mut faults = Faults::default();
        let mut runs = Vec::new();
        let mut last = 0;
        for (start, count, offset) in stored {
            let end = start.saturating_add(count);
            last = last.max(offset.saturating_add(count.saturating_mul(PAGE_SIZE)));
            if end > PFN_LIMIT {
                faults.outside += 1;
            }
            if start < end.min(PFN_LIMIT) {
                runs.push(Run { start, end: end.min(PFN_LIMIT), offset });
            }
        }
        runs.sort_by_key(|run| run.start);
        let mut reached = 0;
        runs.retain_mut(|run| {
            if run.start < reached {
                faults.overlapping += 1;
                let covered = reached.min(run.end) - run.start;
                run.start += covered;
                run.offset = run.offset.saturating_add(covered.saturating_mul(PAGE_SIZE));
            }
            reached = reached.max(run.end);
            run.start < run.end
        });
        let pages = runs.iter().map(|run| run.end - run.start).sum();
        (Self { list: runs, end: last, pages }, faults)
    }

    /// File offset of page `pfn`.
    pub(super) fn offset(&self, pfn: u64) -> Option<u64> {
        let after = self.list.partition_point(|run| run.start <= pfn);
        let run = self.list.get(after.checked_sub(1)?)?;
        (pfn < run.end).then(|| run.offset.saturating_add((pfn - run.start).saturating_mul(PAGE_SIZE)))
    }

    /// The file offset after the last page.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The page after the last one.
    pub(super) fn last_page(&self) -> Option<u64> {
        self.list.last().map(|run| run.end)
    }

    pub(super) fn page_count(&self) -> u64 {
        self.pages
    }

    pub(super) fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        let run = self.list.get(self.list.partition_point(|run| run.end <= from))?;
        let start = run.start.max(from);
        Some((start, run.end - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lie_behind_one_another() {
        let (runs, faults) = Runs::new([(1, 2), (0x100, 3), (4, 1)].into_iter(), 0x2000);
        assert_eq!(faults, Faults::default());
        let offsets = [0, 1, 2, 3, 4, 5, 0xff, 0x100, 0x102, 0x103].map(|pfn| runs.offset(pfn));
        let expected = [
            None,
            Some(0x2000),
            Some(0x3000),
            None,
            Some(0x7000),
            None,
            None,
            Some(0x4000),
            Some(0x6000),
            None,
        ];
        assert_eq!(offsets, expected);
        assert_eq!((runs.end(), runs.page_count()), (0x8000, 6));
        assert_eq!(
            [0, 2, 3, 5, 0x103].map(|from| runs.next_run(from)),
            [Some((1, 2)), Some((2, 1)), Some((4, 1)), Some((0x100, 3)), None]
        );
    }

    #[test]
    fn of_overlapping_runs_the_lower_keeps_the_page() {
        let (runs, faults) = Runs::new([(10, 10), (15, 10), (12, 2), (u64::MAX, u64::MAX)].into_iter(), 0);
        assert_eq!(faults, Faults { overlapping: 2, outside: 1 });
        assert_eq!(runs.offset(15), Some(5 * PAGE_SIZE));
        assert_eq!(runs.offset(20), Some((10 + 5) * PAGE_SIZE));
        assert_eq!(runs.page_count(), 15);
        assert_eq!(runs.offset(u64::MAX), None);
    }
}
