//! Dumps that hold pages: complete (1), bitmap (5, 6) and RDMP (8, 10).
//!
//! Headers as the public readers of these containers have them; see `physical` for the memory itself.

use crate::machine::Machine;
use crate::physical::{self, PAGE_SIZE, Physical};
use crate::record::Record;
use crate::{Error, blobs, kdbg, memory, triage};

/// Bytes of the dump header, and where the container's own starts.
const HEADER_SIZE: usize = 0x2000;
/// Runs that fit into the dump header.
const MOST_RUNS: usize = 42;
/// Bytes of the bitmap header before its bits.
const BITMAP_HEADER: usize = 0x38;

/// A container to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// DumpType 4: the small dump.
    Triage,
    /// DumpType 1: a complete dump, pages in runs.
    Full,
    /// DumpType 5: a complete dump behind a bitmap.
    BitmapFull,
    /// DumpType 6: a kernel dump behind a bitmap.
    BitmapKernel,
    /// DumpType 8: a kernel dump as newer debuggers write it.
    RdmpKernel,
    /// DumpType 10: a complete dump as newer debuggers write it.
    RdmpFull,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Full, Self::Triage, Self::BitmapFull, Self::BitmapKernel, Self::RdmpKernel, Self::RdmpFull];

    /// DumpType as the header records it.
    #[must_use]
    pub const fn dump_type(self) -> u32 {
        match self {
            Self::Full => 1,
            Self::Triage => 4,
            Self::BitmapFull => 5,
            Self::BitmapKernel => 6,
            Self::RdmpKernel => 8,
            Self::RdmpFull => 10,
        }
    }
}

/// Writes the machine as a dump of this kind.
///
/// What a small dump holds in blocks, the others hold in pages, under page tables that lead to them: those that
/// [`Machine::pages`] describes as they are described, and made-up ones for all else.
///
/// # Errors
/// If the description contradicts itself or lacks a part that no dump is without; [`Error`] names it.
pub fn write(machine: &Machine, kind: Kind) -> Result<Vec<u8>, Error> {
    if kind == Kind::Triage {
        return triage::write(machine);
    }
    let (image, layout) = memory::of(machine)?;
    let pages = physical::build(machine, &layout, &image, &kdbg::block(machine, &layout)?)?;
    let mut header = Record::filled(HEADER_SIZE, *b"PAGE");
    header.put(0, &triage::header(machine, 0)?);
    header.u32(0xf98, kind.dump_type()).put(0x1038, b"PAGE");
    let runs = pages.runs();
    let body = match kind {
        Kind::Full => {
            runs_header(&mut header, &pages, &runs)?;
            Vec::new()
        }
        Kind::BitmapFull => bitmap(&pages, *b"FDMP"),
        Kind::BitmapKernel => bitmap(&pages, *b"SDMP"),
        Kind::RdmpFull => rdmp(&pages, &runs, true),
        _ => rdmp(&pages, &runs, false),
    };
    let stored = pages.count() * PAGE_SIZE;
    header.u64(0xfa0, (HEADER_SIZE + body.len() + stored) as u64);
    let mut file = header.into_bytes();
    file.extend(body);
    for page in pages.contents() {
        file.extend_from_slice(page);
    }
    file.extend(blobs::chain(machine));
    Ok(file)
}

/// PHYSICAL_MEMORY_DESCRIPTOR in the dump header.
fn runs_header(header: &mut Record, pages: &Physical, runs: &[(u64, u64)]) -> Result<(), Error> {
    if runs.len() > MOST_RUNS {
        return Err(Error::TooLarge("the number of runs".to_owned()));
    }
    header.u32(0x88, runs.len() as u32).u32(0x8c, 0).u64(0x90, pages.count() as u64);
    for (n, (first, count)) in runs.iter().enumerate() {
        header.u64(0x98 + 16 * n, *first).u64(0xa0 + 16 * n, *count);
    }
    Ok(())
}

/// The bitmap header of Windows 8 and later, its bits, and zeros up to the first page.
fn bitmap(pages: &Physical, signature: [u8; 4]) -> Vec<u8> {
    let bits = pages.runs().last().map_or(0, |(first, count)| first + count);
    let size = (BITMAP_HEADER + bits.div_ceil(8) as usize).next_multiple_of(PAGE_SIZE);
    let mut r = Record::zeroed(size);
    r.put(0, &signature).put(4, b"DUMP").u32(8, 1);
    r.u64(0x20, (HEADER_SIZE + size) as u64).u64(0x28, pages.count() as u64).u64(0x30, bits);
    let mut bytes = r.into_bytes();
    for pfn in pages.frames() {
        if let Some(byte) = bytes.get_mut(BITMAP_HEADER + pfn as usize / 8) {
            *byte |= 1 << (pfn % 8);
        }
    }
    bytes
}

/// RDMP: ranges of page frames. A complete one ends by its count of pages, a kernel one with an empty range.
fn rdmp(pages: &Physical, runs: &[(u64, u64)], full: bool) -> Vec<u8> {
    let ranges = runs.len() + usize::from(!full);
    let metadata = (0x10 + 16 * ranges) as u64;
    let mut r = Record::zeroed(0x30 + 16 * ranges);
    r.u32(0, 0x40).put(4, b"RDMP").put(8, b"DUMP").u64(0x10, metadata);
    r.u64(0x18, HEADER_SIZE as u64 + metadata + 0x20);
    if full {
        r.u32(0x20, runs.len() as u32).u64(0x28, pages.count() as u64);
    }
    for (n, (first, count)) in runs.iter().enumerate() {
        r.u64(0x30 + 16 * n, *first).u64(0x38 + 16 * n, *count);
    }
    r.into_bytes()
}
