//! Dumps whose pages are told by ranges of frames.

use crate::Error;
use crate::machine::Arch;
use crate::physical::Physical;
use crate::record::Record;
use crate::triage::header_size;

/// PHYSICAL_MEMORY_DESCRIPTOR in the dump header.
pub(super) fn in_header(arch: Arch, header: &mut Record, pages: &Physical) -> Result<(), Error> {
    let runs = pages.runs()?;
    let most = match arch {
        Arch::X64 | Arch::Arm64 => 42,
        Arch::X86 => 86,
    };
    if runs.len() > most {
        return Err(Error::TooLarge(format!("the number of runs ({} of at most {most})", runs.len())));
    }
    if arch == Arch::X86 {
        header.u32(0x64, runs.len() as u32).u32(0x68, pages.count() as u32);
        for (n, (first, count)) in runs.iter().enumerate() {
            header.u32(0x6c + 8 * n, *first as u32).u32(0x70 + 8 * n, *count as u32);
        }
        return Ok(());
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
    if !full && runs.first().is_some_and(|(first, _)| *first == 0) {
        return Err(Error::Contradiction("page 0, and a range that starts there ends the list".to_owned()));
    }
    let ranges = runs.len() + usize::from(!full);
    let metadata = (0x10 + 16 * ranges) as u64;
    let mut r = Record::zeroed(0x30 + 16 * ranges);
    r.u32(0, 0x40).put(4, b"RDMP").put(8, b"DUMP").u64(0x10, metadata);
    // Only 64-bit dumps come in this form.
    r.u64(0x18, header_size(Arch::X64) as u64 + metadata + 0x20);
    if full {
        r.u32(0x20, runs.len() as u32).u64(0x28, pages.count());
    }
    for (n, (first, count)) in runs.iter().enumerate() {
        r.u64(0x30 + 16 * n, *first).u64(0x38 + 16 * n, *count);
    }
    Ok(r.into_bytes())
}
