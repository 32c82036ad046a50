//! The debug directory: which PDB belongs to an image, and whether its time stamp is one.

use super::{Image, u32_at};

const DIRECTORY_DEBUG: usize = 6;
/// `IMAGE_DEBUG_TYPE_CODEVIEW`.
const CODEVIEW: u32 = 2;
/// `IMAGE_DEBUG_TYPE_REPRO`.
const REPRO: u32 = 16;
/// Images have about five.
const MAX_ENTRIES: usize = 64;
const MAX_PATH: usize = 1024;

/// One entry of the debug directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DebugEntry {
    /// `IMAGE_DEBUG_TYPE_*`.
    pub kind: u32,
    /// Where its data is mapped; 0 if it is only in the file.
    pub rva: u32,
    /// Bytes of data.
    pub size: u32,
}

/// The PDB an image was linked with, as its RSDS record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CodeView {
    /// The GUID as the number its 32 hexadecimal digits make, in the order they are written.
    pub guid: u128,
    /// The age.
    pub age: u32,
    /// Path of the PDB on the machine that linked it; often only a file name. Text out of the image.
    pub path: String,
}

impl Image<'_> {
    /// The debug directory's entries.
    pub fn debug_entries(&self) -> Vec<DebugEntry> {
        let Some((rva, size)) = self.directory(DIRECTORY_DEBUG) else { return Vec::new() };
        let raw = self.bytes(rva, (size as usize).min(MAX_ENTRIES * 28));
        let entry = |raw: &[u8]| {
            Some(DebugEntry { kind: u32_at(raw, 12)?, size: u32_at(raw, 16)?, rva: u32_at(raw, 20)? })
        };
        raw.chunks_exact(28).filter_map(entry).collect()
    }

    /// The PDB it was linked with, if that part of the image is there.
    pub fn codeview(&self) -> Option<CodeView> {
        let is_codeview = |entry: &DebugEntry| entry.kind == CODEVIEW && entry.rva != 0;
        self.debug_entries().into_iter().filter(is_codeview).find_map(|entry| {
            let raw = self.bytes(entry.rva, (entry.size as usize).min(24 + MAX_PATH));
            if raw.get(..4)? != b"RSDS" {
                return None;
            }
            let guid = guid(raw.get(4..20)?.first_chunk()?);
            let path = raw.get(24..)?;
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            let path = String::from_utf8_lossy(path.get(..end)?).into_owned();
            Some(CodeView { guid, age: u32_at(&raw, 20)?, path })
        })
    }

    /// True if it was built reproducibly (`/Brepro`): its time stamp is a hash of its content and no date.
    pub fn is_reproducible(&self) -> bool {
        self.debug_entries().iter().any(|entry| entry.kind == REPRO)
    }
}

/// The first three fields of a GUID are numbers, stored little-endian; the rest are bytes.
fn guid(raw: &[u8; 16]) -> u128 {
    let [a0, a1, a2, a3, b0, b1, c0, c1, rest @ ..] = *raw;
    let [d0, d1, d2, d3, d4, d5, d6, d7] = rest;
    u128::from_be_bytes([a3, a2, a1, a0, b1, b0, c1, c0, d0, d1, d2, d3, d4, d5, d6, d7])
}
