//! A structure of known size, filled field by field.

/// The bytes of one structure.
pub(crate) struct Record(Vec<u8>);

impl Record {
    /// A structure of zeros.
    pub(crate) fn zeroed(size: usize) -> Self {
        Self(vec![0; size])
    }

    /// A structure filled with `pattern` over and over.
    pub(crate) fn filled(size: usize, pattern: [u8; 4]) -> Self {
        Self(pattern.into_iter().cycle().take(size).collect())
    }

    /// Puts `bytes` at `offset`. All offsets come from the tables of this crate: one beyond the end is a mistake
    /// there, and is found in a debug build.
    pub(crate) fn put(&mut self, offset: usize, bytes: &[u8]) -> &mut Self {
        let slot = offset.checked_add(bytes.len()).and_then(|end| self.0.get_mut(offset..end));
        debug_assert!(slot.is_some(), "field at {offset:#x} lies outside its structure");
        if let Some(slot) = slot {
            slot.copy_from_slice(bytes);
        }
        self
    }

    pub(crate) fn u8(&mut self, offset: usize, value: u8) -> &mut Self {
        self.put(offset, &[value])
    }

    pub(crate) fn u16(&mut self, offset: usize, value: u16) -> &mut Self {
        self.put(offset, &value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, offset: usize, value: u32) -> &mut Self {
        self.put(offset, &value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, offset: usize, value: u64) -> &mut Self {
        self.put(offset, &value.to_le_bytes())
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
