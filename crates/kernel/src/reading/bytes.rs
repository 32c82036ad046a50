//! Fields of structures that were copied out of a dump.

use stopcode_base::Arch;
use stopcode_dump::Guid;

/// Little-endian fields of a slice.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    pub(crate) fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(crate) fn u16(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(crate) fn guid(&self, at: usize) -> Option<Guid> {
        self.array(at).map(Guid)
    }
}

/// The word at an offset of a structure's copy, as wide as a pointer.
pub(crate) fn word(arch: Arch, bytes: &[u8], offset: u64) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let fields = Bytes(bytes);
    if arch.pointer_size() == 4 { fields.u32(start).map(u64::from) } else { fields.u64(start) }
}
