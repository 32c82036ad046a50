//! Dumps behind a bitmap: one bit a page frame, and the pages packed in the order of the bits.
//!
//! The number of bits is written as whole words of them: public readers take the rest of a division by eight, or by
//! more, as nothing, and lose the last pages of a dump that has such a rest.

use crate::Error;
use crate::machine::Arch;
use crate::physical::{PAGE_SIZE, Physical};
use crate::record::Record;
use crate::triage::header_size;

/// Bytes of the header before its bits, of Windows 8 and later.
const NEW_HEADER: usize = 0x38;
/// Bits are counted in words of these many.
const BITS: u64 = 64;
/// Bits that are kept in memory while they are written: those of 64 TiB.
const MOST_BITS: u64 = 1 << 34;

/// The header of Windows 8 and later, its bits, and zeros up to the first page.
pub(super) fn new(arch: Arch, pages: &Physical, signature: [u8; 4]) -> Result<Vec<u8>, Error> {
    let mut r = room(pages, NEW_HEADER)?;
    let first = (header_size(arch) + r.len()) as u64;
    r.put(0, &signature).put(4, b"DUMP").u32(8, 1);
    r.u64(0x20, first).u64(0x28, pages.count()).u64(0x30, pages.end().next_multiple_of(BITS));
    Ok(with_bits(r, NEW_HEADER, pages))
}

/// The header of Windows XP to 7, which counts in 32 bits and has an RTL_BITMAP behind its fields.
pub(super) fn old(arch: Arch, pages: &Physical) -> Result<Vec<u8>, Error> {
    // The bitmap's own pointer is the last field, and aligned.
    let before = match arch {
        Arch::X64 | Arch::Arm64 => 0x28,
        Arch::X86 => 0x20,
    };
    let narrow = |value: u64| u32::try_from(value).map_err(|_| Error::TooLarge("the memory".to_owned()));
    let mut r = room(pages, before)?;
    let first = (header_size(arch) + r.len()) as u64;
    let bits = narrow(pages.end().next_multiple_of(BITS))?;
    r.put(0, b"SDMPDUMP").u32(8, 1).u32(0xc, narrow(first)?).u32(0x10, bits);
    r.u32(0x14, narrow(pages.count())?).u32(0x18, bits);
    Ok(with_bits(r, before, pages))
}

fn room(pages: &Physical, header: usize) -> Result<Record, Error> {
    if pages.end() > MOST_BITS {
        return Err(Error::TooLarge("the memory".to_owned()));
    }
    Ok(Record::zeroed((header + pages.end().next_multiple_of(BITS) as usize / 8).next_multiple_of(PAGE_SIZE)))
}

fn with_bits(r: Record, header: usize, pages: &Physical) -> Vec<u8> {
    let mut bytes = r.into_bytes();
    let slots = bytes.iter_mut().skip(header);
    slots.zip(pages.words().flat_map(u64::to_le_bytes)).for_each(|(slot, byte)| *slot = byte);
    bytes
}
