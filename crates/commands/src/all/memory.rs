//! Memory that is not all there: what `d` commands read.

use crate::answer::Stop;
use crate::arguments::Arguments;
use crate::session::Session;
use stopcode_base::{Arch, Memory, VirtAddr};

/// After this many bytes without any that is there, nothing more is looked for.
pub(super) const MOST_MISSING: u64 = 0x1000;

/// A piece of memory to show.
pub(super) struct Span {
    pub(super) start: VirtAddr,
    pub(super) bytes: u64,
}

/// The range that was asked for, or the one behind the last.
pub(super) fn range(
    session: &Session,
    arguments: &Arguments<'_>,
    unit: u64,
    count: u64,
) -> Result<Span, Stop> {
    let range = arguments.range("RANGE");
    let start = range.and_then(|range| range.start).or_else(|| session.next_data());
    let start = start.ok_or_else(|| Stop::failed("an address is missing"))?;
    let bytes = range.map_or(unit.saturating_mul(count), |range| range.bytes);
    Ok(Span { start, bytes })
}

/// `count` bytes, those that are not there as `None`.
pub(super) fn bytes(memory: &dyn Memory, at: VirtAddr, count: usize) -> Vec<Option<u8>> {
    let mut whole = vec![0; count];
    if memory.read(at, &mut whole).is_ok() {
        return whole.into_iter().map(Some).collect();
    }
    (0..count as u64).map(|offset| memory.read_u8(at.plus(offset)).ok()).collect()
}

/// A little-endian value out of bytes, if all are there.
pub(super) fn value(bytes: &[Option<u8>]) -> Option<u64> {
    bytes.iter().rev().try_fold(0, |value, byte| Some(value << 8 | u64::from((*byte)?)))
}

/// Why nothing is there, and what shows more.
pub(super) fn missing(arch: Arch, memory: &dyn Memory, at: VirtAddr) -> Stop {
    let why = memory.read_u8(at).err().map_or_else(|| "there".to_owned(), |miss| miss.reason.to_string());
    Stop::Unknown(format!("{} is {why}; `!pte {:#x}` shows its page-table entries", arch.windbg(at), at.0))
}

/// Bytes as letters, what is no letter as a dot.
pub(super) fn letters(bytes: &[Option<u8>]) -> String {
    let letter = |byte: &Option<u8>| match byte {
        Some(byte @ 0x20..0x7f) => char::from(*byte),
        Some(_) => '.',
        None => '?',
    };
    bytes.iter().map(letter).collect()
}
