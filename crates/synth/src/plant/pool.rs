//! A page of nonpaged pool: blocks one behind the other, each with its POOL_HEADER.

use super::rng::Rng;
use crate::machine::Code;
use crate::{Bytes, Hex};

/// A page under construction.
pub(super) struct Page {
    pub(super) at: u64,
    bytes: Vec<u8>,
    /// Size of the block before, in units of sixteen bytes.
    previous: u8,
}

/// `POOL_HEADER.PoolType` of nonpaged pool that is in use.
const NON_PAGED: u8 = 2;
/// Tags of blocks that are in every system.
const TAGS: [[u8; 4]; 8] = [*b"File", *b"Thre", *b"Irp ", *b"MmCa", *b"Even", *b"Vad ", *b"NtFs", *b"FMsl"];

impl Page {
    pub(super) fn new(at: u64) -> Self {
        Self { at, bytes: Vec::new(), previous: 0 }
    }

    /// Adds a block; gives the address of its contents, which come behind the header.
    pub(super) fn block(&mut self, tag: [u8; 4], contents: &[u8], in_use: bool) -> u64 {
        let units = (16 + contents.len()).div_ceil(16) as u8;
        let header = self.at + self.bytes.len() as u64;
        self.bytes.extend([self.previous, 0, units, if in_use { NON_PAGED } else { 0 }]);
        self.bytes.extend(tag);
        self.bytes.extend([0; 8]);
        self.bytes.extend(contents);
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        self.previous = units;
        header + 16
    }

    /// A few blocks of the system.
    pub(super) fn others(&mut self, rng: &mut Rng, count: u64) {
        for _ in 0..count {
            let tag = rng.pick(&TAGS).unwrap_or(*b"None");
            let words = 4 + rng.below(16);
            let contents: Vec<u8> = (0..words).flat_map(|_| (rng.word() >> 40).to_le_bytes()).collect();
            self.block(tag, &contents, true);
        }
    }

    /// The word at an address of the page.
    pub(super) fn word(&self, at: u64) -> u64 {
        let offset = (at - self.at) as usize;
        self.bytes.get(offset..offset + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    /// Writes at an address of the page.
    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        let slots = self.bytes.iter_mut().skip((at - self.at) as usize);
        slots.zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    }

    /// The page, filled up by one block that is free.
    pub(super) fn finish(mut self) -> Code {
        let rest = 0x1000_usize.saturating_sub(self.bytes.len());
        if rest >= 32 {
            self.block(*b"Free", &vec![0; rest - 16], false);
        }
        self.bytes.resize(0x1000, 0);
        Code { at: Hex(self.at), bytes: Bytes::from(self.bytes), about: "nonpaged pool".to_owned() }
    }
}
