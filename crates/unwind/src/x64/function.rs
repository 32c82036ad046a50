//! One entry of the function table.

use crate::{ImageView, Refusal};

/// Bytes in a `RUNTIME_FUNCTION`.
pub(super) const SIZE: u32 = 12;

/// A chain of entries is at most this long; Windows draws the same line.
pub(crate) const LONGEST_CHAIN: usize = 32;

/// One `RUNTIME_FUNCTION`; all RVAs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Function {
    pub(crate) begin: u32,
    pub(crate) end: u32,
    /// Of the unwind data; with bit 0 set, of another entry to use instead.
    pub(crate) info: u32,
}

impl Function {
    pub(crate) const fn contains(&self, rva: u32) -> bool {
        self.begin <= rva && rva < self.end
    }

    pub(crate) fn read(image: &ImageView<'_>, rva: u32) -> Result<Self, Refusal> {
        let mut bytes = [0; SIZE as usize];
        image.read(rva, &mut bytes).map_err(Refusal::DataMissing)?;
        Ok(Self::of_bytes(bytes))
    }

    pub(super) fn of_bytes(bytes: [u8; SIZE as usize]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |at: usize| words.get(at).map_or(0, |word| u32::from_le_bytes(*word));
        Self { begin: word(0), end: word(1), info: word(2) }
    }
}

/// Follows entries that only name another one.
pub(crate) fn resolve(image: &ImageView<'_>, mut function: Function) -> Result<Function, Refusal> {
    for _ in 0..LONGEST_CHAIN {
        if function.info & 1 == 0 {
            return Ok(function);
        }
        function = Function::read(image, function.info & !1)?;
    }
    Err(Refusal::ChainTooLong)
}
