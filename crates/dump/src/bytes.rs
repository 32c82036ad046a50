//! Little-endian fields out of a byte slice. A field that is not wholly there is `None`, never a panic.

use std::ops::{Deref, Range};
use std::sync::Arc;

/// `PAGE`: what the writer fills the header with before it sets the fields it knows.
const FILLER: u32 = u32::from_le_bytes(*b"PAGE");
const FILLER64: u64 = u64::from_le_bytes(*b"PAGEPAGE");

/// `N` bytes at `offset`.
fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// The byte at `offset`.
pub(crate) fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

/// The 16-bit word at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_le_bytes)
}

/// The 32-bit word at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

/// The 64-bit word at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array(bytes, offset).map(u64::from_le_bytes)
}

/// The 32-bit word at `offset`, unless it is filler.
pub(crate) fn set_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    u32_at(bytes, offset).filter(|value| *value != FILLER)
}

/// The 64-bit word at `offset`, unless it is filler.
pub(crate) fn set_u64(bytes: &[u8], offset: usize) -> Option<u64> {
    u64_at(bytes, offset).filter(|value| *value != FILLER64)
}

/// True if `value` is filler.
pub(crate) fn is_filler(value: u32) -> bool {
    value == FILLER
}

/// True if `value` is filler.
pub(crate) fn is_filler64(value: u64) -> bool {
    value == FILLER64
}

/// True if every byte is zero; by chunks, which the compiler turns into wide instructions.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}

/// UTF-16 text, made fit to show; `bytes` may end in half a unit, which is dropped.
pub(crate) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| u16_at(pair, 0));
    let text: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    stopcode_base::visible(&text)
}

/// UTF-16 text up to its NUL or the end of `bytes`.
pub(crate) fn utf16_until_nul(bytes: &[u8]) -> String {
    let end = bytes.chunks_exact(2).position(|pair| pair == [0, 0]).map_or(bytes.len(), |units| units * 2);
    utf16(bytes.get(..end).unwrap_or_default())
}

/// 8-bit text up to its NUL or the end of `bytes`, made fit to show.
pub(crate) fn text_until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    stopcode_base::visible(&String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()))
}

/// The 8-bit text in a header field of fixed size: `None` if it is filler or empty.
pub(crate) fn fixed_text(bytes: &[u8], range: Range<usize>) -> Option<String> {
    let field = bytes.get(range)?;
    let unset = field.starts_with(b"PAGEPAGE");
    Some(text_until_nul(field)).filter(|text| !unset && !text.is_empty())
}

/// A part of the file that keeps the bytes it lies in alive.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Part {
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
    origin: usize,
}

impl Part {
    /// The part of `file` in `range`, cut at the end of the file.
    pub(crate) fn new(file: &Arc<Vec<u8>>, range: Range<usize>) -> Self {
        Self::of_tail(file, range, 0)
    }

    /// The part in `range` of `bytes`, which are the file from `origin` on.
    pub(crate) fn of_tail(bytes: &Arc<Vec<u8>>, range: Range<usize>, origin: usize) -> Self {
        let end = range.end.min(bytes.len());
        Self { bytes: Arc::clone(bytes), range: range.start.min(end)..end, origin }
    }

    /// Where in the file it lies.
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.start.saturating_add(self.origin)..self.range.end.saturating_add(self.origin)
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let range = self.range();
        write!(f, "{:#x}..{:#x}", range.start, range.end)
    }
}
