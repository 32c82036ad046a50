//! Pieces of a machine's memory.

/// Bytes from one address on.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) at: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Block {
    pub(crate) fn end(&self) -> u64 {
        self.at.wrapping_add(self.bytes.len() as u64)
    }

    /// The bytes from `at` to the end of the block, if it lies inside.
    pub(crate) fn from(&self, at: u64) -> Option<&[u8]> {
        let offset = usize::try_from(at.checked_sub(self.at)?).ok()?;
        self.bytes.get(offset..).filter(|rest| !rest.is_empty())
    }

    /// Writes `bytes` at `at`; false where they do not fit inside.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> bool {
        let offset = at.checked_sub(self.at).and_then(|o| usize::try_from(o).ok());
        let slot = offset.and_then(|o| self.bytes.get_mut(o..)?.get_mut(..bytes.len()));
        slot.map(|slot| slot.copy_from_slice(bytes)).is_some()
    }
}
