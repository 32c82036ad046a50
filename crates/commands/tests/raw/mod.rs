//! A small dump read by the bytes: offsets of the file format and of the debugger data block, written down from their
//! descriptions. It shares nothing with the crates under test, and panics on what it does not expect.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a reader for tests fails by panicking")]

use std::path::{Path, PathBuf};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");

/// Every real dump; `None`, loudly, if there are none beside the checkout.
pub(crate) fn dumps(test: &str) -> Option<Vec<PathBuf>> {
    fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                collect(&entry.path(), into);
            } else if entry.path().extension().is_some_and(|extension| extension == "dmp") {
                into.push(entry.path());
            }
        }
    }
    let root = Path::new(SHARED).join("data/dumps");
    if !root.is_dir() {
        let skipped = format!("SKIPPED: {test}: ../shared is not beside the checkout\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), skipped.as_bytes());
        return None;
    }
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    Some(paths)
}

/// A run of memory: address, file offset, size.
type Run = (u64, usize, usize);

/// A 64-bit small dump.
pub(crate) struct Raw {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    pub(crate) arm: bool,
}

/// Offsets of the fields of a structure, as this test's list of questions needs them.
pub(crate) struct Part<'r> {
    raw: &'r Raw,
    at: usize,
}

impl Part<'_> {
    pub(crate) fn get(&self, offset: u64, size: usize) -> u64 {
        self.raw.file(self.at + offset as usize, size)
    }
}

impl Raw {
    /// The dump in `bytes`; `None` if it is none of the kind.
    pub(crate) fn new(bytes: Vec<u8>) -> Option<Self> {
        if bytes.len() < 0x3000 || !bytes.starts_with(b"PAGEDU64") || bytes[0xf98] != 4 {
            return None;
        }
        let arm = bytes[0x30..0x32] == [0x64, 0xaa];
        let mut raw = Self { bytes, runs: Vec::new(), arm };
        let (table, count) = (raw.file(0x2078, 4) as usize, raw.file(0x207c, 4) as usize);
        for index in 0..count {
            let entry = table + 16 * index;
            let run = (raw.file(entry, 8), raw.file(entry + 8, 4) as usize, raw.file(entry + 12, 4) as usize);
            raw.runs.push(run);
        }
        let place = |at: usize| raw.file(at, 4) as usize;
        let stack = (raw.file(0x2048, 8), place(0x2028), place(0x202c));
        let kdbg = (raw.file(0x80, 8), place(0x2070), place(0x2074));
        let thread = (raw.thread_address(), place(0x2024), raw.kdbg(0x2c0, 2) as usize);
        let process = (raw.process_address(), place(0x2020), raw.kdbg(0x2a8, 2) as usize);
        raw.runs.extend([stack, kdbg, thread, process]);
        Some(raw)
    }

    /// A little-endian number of the file.
    pub(crate) fn file(&self, at: usize, size: usize) -> u64 {
        self.bytes[at..at + size].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// A field of the debugger data block; 0 past its end.
    pub(crate) fn kdbg(&self, offset: u64, size: usize) -> u64 {
        let (at, length) = (self.file(0x2070, 4) as usize, self.file(0x2074, 4));
        if offset + size as u64 > length { 0 } else { self.file(at + offset as usize, size) }
    }

    /// A word of memory, if the dump holds it in one piece.
    pub(crate) fn memory(&self, at: u64, size: usize) -> Option<u64> {
        let holds = |run: &&Run| run.0 <= at && at + size as u64 <= run.0 + run.2 as u64;
        self.runs.iter().find(holds).map(|run| self.file(run.1 + (at - run.0) as usize, size))
    }

    pub(crate) fn prcb(&self) -> Part<'_> {
        Part { raw: self, at: self.file(0x201c, 4) as usize }
    }

    pub(crate) fn process(&self) -> Part<'_> {
        Part { raw: self, at: self.file(0x2020, 4) as usize }
    }

    pub(crate) fn thread(&self) -> Part<'_> {
        Part { raw: self, at: self.file(0x2024, 4) as usize }
    }

    pub(crate) fn build(&self) -> u64 {
        self.file(0xc, 4)
    }

    pub(crate) fn processors(&self) -> u64 {
        self.file(0x34, 4)
    }

    pub(crate) fn crashed(&self) -> u64 {
        self.prcb().get(self.kdbg(0x2be, 2), 4)
    }

    pub(crate) fn thread_address(&self) -> u64 {
        self.prcb().get(8, 8)
    }

    pub(crate) fn process_address(&self) -> u64 {
        self.thread().get(self.kdbg(0x2a0, 2), 8)
    }

    /// KPRCB of a processor, by the array that the debugger data lead to.
    pub(crate) fn prcb_of(&self, number: u64) -> Option<u64> {
        self.memory(self.kdbg(0x218, 8) + 8 * number, 8)
    }

    /// A register of a processor's saved context.
    pub(crate) fn context(&self, number: u64, offset: u64) -> Option<u64> {
        let field = Some(self.kdbg(0x338, 2)).filter(|offset| *offset != 0)?;
        let context = self.memory(self.prcb_of(number)? + field, 8)?;
        self.memory(context + offset, 8)
    }

    /// The data of a blob of secondary data, by the bytes of its GUID.
    pub(crate) fn blob(&self, guid: [u8; 16]) -> Option<&[u8]> {
        let end = self.file(0x2004, 4) as usize;
        let at = end + self.bytes.get(end..)?.windows(16).position(|window| window == guid)?;
        let (size, before) = (self.file(at + 16, 4) as usize, self.file(at + 20, 4) as usize);
        self.bytes.get(at + 28 + before..at + 28 + before + size)
    }
}
