//! A structure of known size, filled field by field.

use crate::Error;
use crate::layout::Layout;
use crate::machine::Arch;

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

    /// An address of `arch`, or another word as wide as one.
    pub(crate) fn pointer(&mut self, arch: Arch, offset: usize, value: u64) -> &mut Self {
        let bytes: Vec<u8> = arch.word(value).collect();
        self.put(offset, &bytes)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A structure of a build, filled by the names of its fields.
pub(crate) struct Structure<'a> {
    layout: &'a Layout,
    ty: &'static str,
    record: Record,
    /// The first field that was to be filled and is not there.
    failed: Option<Error>,
}

impl<'a> Structure<'a> {
    /// The structure, all zeros.
    pub(crate) fn new(layout: &'a Layout, ty: &'static str) -> Result<Self, Error> {
        Ok(Self { layout, ty, record: Record::zeroed(layout.size(ty)?), failed: None })
    }

    /// From here on fields are those of another structure that starts at the same place.
    pub(crate) fn of(&mut self, ty: &'static str) -> &mut Self {
        self.ty = ty;
        self
    }

    pub(crate) fn put(&mut self, field: &str, bytes: &[u8]) -> &mut Self {
        match self.layout.field(self.ty, field) {
            Ok(at) => _ = self.record.put(at, bytes),
            Err(_) if self.layout.is_partial() => {}
            Err(error) => self.failed = self.failed.take().or(Some(error)),
        }
        self
    }

    /// Fills a field that only some builds have.
    pub(crate) fn put_if_known(&mut self, field: &str, bytes: &[u8]) -> &mut Self {
        if self.layout.at(self.ty, field).is_some() {
            self.put(field, bytes);
        }
        self
    }

    pub(crate) fn u8(&mut self, field: &str, value: u8) -> &mut Self {
        self.put(field, &[value])
    }

    pub(crate) fn u32(&mut self, field: &str, value: u32) -> &mut Self {
        self.put(field, &value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, field: &str, value: u64) -> &mut Self {
        self.put(field, &value.to_le_bytes())
    }

    /// An address, or another word as wide as one.
    pub(crate) fn pointer(&mut self, field: &str, value: u64) -> &mut Self {
        let bytes: Vec<u8> = self.layout.arch.word(value).collect();
        self.put(field, &bytes)
    }

    /// The two words of a LIST_ENTRY.
    pub(crate) fn links(&mut self, field: &str, (next, previous): (u64, u64)) -> &mut Self {
        let arch = self.layout.arch;
        let words: Vec<u8> = [next, previous].into_iter().flat_map(|word| arch.word(word)).collect();
        self.put(field, &words)
    }

    /// The bytes, for places that are not the pack's.
    pub(crate) fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, Error> {
        self.failed.map_or(Ok(self.record.into_bytes()), Err)
    }
}

/// What lies before and after `here` in a circular list of `head` and `entries`; `here` may be the head.
pub(crate) fn neighbours(entries: &[u64], head: u64, here: u64) -> (u64, u64) {
    let ring: Vec<u64> = std::iter::once(head).chain(entries.iter().copied()).collect();
    let position = ring.iter().position(|at| *at == here).unwrap_or(0);
    let at = |n: usize| ring.get(n % ring.len()).copied().unwrap_or(head);
    (at(position + 1), at(position + ring.len() - 1))
}
