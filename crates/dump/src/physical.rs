//! Physical memory of the crashed machine: which page lies where in the file.
//!
//! Every container but the small dump keeps whole pages. Where one lies is worked out, never looked up in a list of
//! pages: by binary search among runs, or by counting bits up to the page's own.

mod bitmap;
mod container;
mod runs;

pub(crate) use container::parse;

use crate::source::{Source, read_full};
use bitmap::Bitmap;
use runs::Runs;
use std::sync::Arc;
use stopcode_base::{MissReason, PhysAddr};

/// Bytes of a page.
pub(crate) const PAGE_SIZE: u64 = 0x1000;

/// Bytes at physical addresses.
pub trait PhysicalMemory: Send + Sync {
    /// Fills the start of `buffer` with the bytes from `at` on and says how many; at least one, unless `buffer` is
    /// empty. A read ends at the end of its page: the next page may lie anywhere.
    ///
    /// # Errors
    /// [`MissReason::NotInDump`] for a page that the dump does not hold, [`MissReason::FileTruncated`] for one that
    /// lies past the end of the file.
    fn read_physical(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<usize, MissReason>;

    /// How many pages the dump holds, or would if its file were whole.
    fn page_count(&self) -> u64;

    /// The first run of pages that the dump holds at or after page `from`: its first page frame number and how many
    /// pages. A run may be followed by another without a gap.
    fn next_run(&self, from: u64) -> Option<(u64, u64)>;

    /// The first physical address past all that the container has room for, which no memory of the machine lies
    /// behind; `None` if it does not tell.
    fn memory_end(&self) -> Option<u64> {
        None
    }
}

/// Pages in a file.
#[derive(Debug)]
pub(crate) struct Pages {
    source: Arc<dyn Source>,
    index: Index,
}

/// Where pages lie.
#[derive(Debug)]
enum Index {
    Runs(Runs),
    Bitmap(Bitmap),
}

impl Pages {
    fn new(source: &Arc<dyn Source>, index: Index) -> Self {
        Self { source: Arc::clone(source), index }
    }

    /// Runs of pages as first page, count and file offset, and how many of them are damaged.
    pub(crate) fn placed(
        source: &Arc<dyn Source>,
        runs: impl Iterator<Item = (u64, u64, u64)>,
    ) -> (Self, usize) {
        let (runs, faults) = Runs::placed(runs);
        (Self::new(source, Index::Runs(runs)), faults.overlapping + faults.outside)
    }

    /// File offset of page `pfn`.
    fn offset(&self, pfn: u64) -> Option<u64> {
        match &self.index {
            Index::Runs(runs) => runs.offset(pfn),
            Index::Bitmap(bitmap) => bitmap.offset(pfn),
        }
    }

    /// The file offset after the last page, had the file all of them.
    pub(crate) fn end(&self) -> u64 {
        match &self.index {
            Index::Runs(runs) => runs.end(),
            Index::Bitmap(bitmap) => bitmap.end(),
        }
    }
}

impl PhysicalMemory for Pages {
    fn read_physical(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let inside = at.0 % PAGE_SIZE;
        let page = self.offset(at.0 / PAGE_SIZE).ok_or(MissReason::NotInDump)?;
        let room = buffer.len().min((PAGE_SIZE - inside) as usize);
        let wanted = buffer.get_mut(..room).unwrap_or_default();
        match read_full(self.source.as_ref(), page.saturating_add(inside), wanted) {
            0 if room > 0 => Err(MissReason::FileTruncated),
            got => Ok(got),
        }
    }

    fn page_count(&self) -> u64 {
        match &self.index {
            Index::Runs(runs) => runs.page_count(),
            Index::Bitmap(bitmap) => bitmap.page_count(),
        }
    }

    fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        match &self.index {
            Index::Runs(runs) => runs.next_run(from),
            Index::Bitmap(bitmap) => bitmap.next_run(from),
        }
    }

    fn memory_end(&self) -> Option<u64> {
        let pages = match &self.index {
            Index::Runs(runs) => runs.last_page()?,
            Index::Bitmap(bitmap) => bitmap.bits(),
        };
        pages.checked_mul(PAGE_SIZE)
    }
}
