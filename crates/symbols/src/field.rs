//! Fields of structures.

/// Place of a field in its structure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Bytes from the start of the structure.
    pub offset: u32,
    /// For a bit field its first bit, counted from the offset, and how many bits it has.
    pub bits: Option<(u32, u32)>,
}
