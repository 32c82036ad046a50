//! Dumps whose pages are told by ranges of frames.

use super::HEADER_SIZE;
use crate::Error;
use crate::physical::Physical;
use crate::record::Record;

/// Runs that fit into the dump header.
const MOST_RUNS: usize = 42;

/// PHYSICAL_MEMORY_DESCRIPTOR in the dump header.
pub(super) fn in_header(header: &mut Record, pages: &Physical) -> Result<(), Error> {
    let runs = pages.runs()?;
    if runs.len() > MOST_RUNS {
        return Err(Error::TooLarge(format!("the number of runs ({} of at most {MOST_RUNS})", runs.len())));
    }
    header.u32(0x88, runs.len() as u32).u32(0x8c, 0).u64(0x90, pages.count());
    for (n, (first, count)) in runs.iter().enumerate() {
        header.u64(0x98 + 16 * n, *first).u64(0xa0 + 16 * n, *count);
    }
    Ok(())
}

/// RDMP: ranges of page frames. A complete one ends by its count of pages, the others with an empty range.
pub(super) fn rdmp(pages: &Physical, full: bool) -> Result<Vec<u8>, Error> {
    let runs = pages.runs()?;
    let ranges = runs.len() + usize::from(!full);
    let metadata = (0x10 + 16 * ranges) as u64;
    let mut r = Record::zeroed(0x30 + 16 * ranges);
    r.u32(0, 0x40).put(4, b"RDMP").put(8, b"DUMP").u64(0x10, metadata);
    r.u64(0x18, HEADER_SIZE as u64 + metadata + 0x20);
    if full {
        r.u32(0x20, runs.len() as u32).u64(0x28, pages.count());
    }
    for (n, (first, count)) in runs.iter().enumerate() {
        r.u64(0x30 + 16 * n, *first).u64(0x38 + 16 * n, *count);
    }
    Ok(r.into_bytes())
}
