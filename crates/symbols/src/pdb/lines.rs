//! Line information of a module (C13): which code is of which line, which files there are, where inlined functions are
//! declared. Layout: LLVM's "The Module Information Stream" and `cvinfo.h`.

use super::records::{Place, u16_at, u32_at};
use std::collections::BTreeMap;

const SUBSECTION_LINES: u32 = 0xf2;
const SUBSECTION_CHECKSUMS: u32 = 0xf4;
const SUBSECTION_INLINEES: u32 = 0xf6;
/// A subsection with this bit is to be passed over.
const IGNORE: u32 = 1 << 31;
/// Line numbers that stand for code without a line, and for code a debugger steps over.
const NO_LINES: [u32; 2] = [0xfe_efee, 0xf0_0f00];

/// The line information of one module.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// By address. An entry without line ends those before.
    rows: Vec<Row>,
    /// By offset: where a file's name lies among the names, its checksum's kind, and the checksum.
    files: BTreeMap<u32, (u32, u8, Vec<u8>)>,
    /// By number of the function: its file (an offset as above) and line.
    inlinees: BTreeMap<u32, (u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    start: u32,
    /// Files and lines, but for what has none.
    at: Option<(u32, u32)>,
}

impl Lines {
    /// Reads the subsections; `place` gives addresses.
    pub(super) fn parse(mut bytes: &[u8], place: impl Fn(Place) -> Option<u32>) -> Self {
        let mut lines = Self::default();
        while let (Some(kind), Some(length)) = (u32_at(bytes, 0), u32_at(bytes, 4)) {
            let rest = bytes.get(8..).unwrap_or_default();
            let body = rest.get(..length as usize).unwrap_or(rest);
            match kind {
                _ if kind & IGNORE != 0 => {}
                SUBSECTION_LINES => lines.rows(body, &place),
                SUBSECTION_CHECKSUMS => lines.files(body),
                SUBSECTION_INLINEES => lines.inlinees(body),
                _ => {}
            }
            bytes = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
        }
        // Of two entries for one address the later one says more; an end gives way to a beginning.
        lines.rows.sort_by_key(|row| (row.start, row.at.is_some()));
        lines
    }

    /// Code of one function: blocks of a file each.
    fn rows(&mut self, body: &[u8], place: &impl Fn(Place) -> Option<u32>) {
        let head = (u32_at(body, 0), u16_at(body, 4), u16_at(body, 6), u32_at(body, 8));
        let (Some(offset), Some(section), Some(flags), Some(size)) = head else { return };
        let Some(start) = place(Place { section, offset }) else { return };
        let columns = flags & 1 != 0;
        let mut blocks = body.get(12..).unwrap_or_default();
        while let (Some(file), Some(count)) = (u32_at(blocks, 0), u32_at(blocks, 4)) {
            let entries = blocks.get(12..).unwrap_or_default();
            let length = (count as usize).saturating_mul(8);
            for raw in entries.get(..length).unwrap_or(entries).chunks_exact(8) {
                let (Some(at), Some(line)) = (u32_at(raw, 0), u32_at(raw, 4)) else { continue };
                let line = line & 0xff_ffff;
                let at = start.saturating_add(at);
                self.rows.push(Row { start: at, at: (!NO_LINES.contains(&line)).then_some((file, line)) });
            }
            let skip = length.saturating_add(if columns { (count as usize).saturating_mul(4) } else { 0 });
            blocks = entries.get(skip..).unwrap_or_default();
        }
        self.rows.push(Row { start: start.saturating_add(size), at: None });
    }

    fn files(&mut self, body: &[u8]) {
        let mut at = 0_usize;
        while let Some(head) = body.get(at..at + 6) {
            let (Some(name), [size, kind]) =
                (u32_at(head, 0), [4, 5].map(|at| head.get(at).copied().unwrap_or(0)))
            else {
                return;
            };
            let checksum = body.get(at + 6..at + 6 + usize::from(size)).unwrap_or_default();
            self.files.insert(at as u32, (name, kind, checksum.to_vec()));
            at = (at + 6 + usize::from(size)).next_multiple_of(4);
        }
    }

    fn inlinees(&mut self, body: &[u8]) {
        // With signature 1 an entry also lists other files.
        let extra = match u32_at(body, 0) {
            Some(0) => false,
            Some(1) => true,
            _ => return,
        };
        let mut rest = body.get(4..).unwrap_or_default();
        while let (Some(function), Some(file), Some(line)) =
            (u32_at(rest, 0), u32_at(rest, 4), u32_at(rest, 8))
        {
            self.inlinees.insert(function, (file, line));
            let more = if extra { 4 + (u32_at(rest, 12).unwrap_or(0) as usize).saturating_mul(4) } else { 0 };
            rest = rest.get(12_usize.saturating_add(more)..).unwrap_or_default();
        }
    }

    /// File and line of an address, the file by its offset.
    pub(super) fn at(&self, rva: u32) -> Option<(u32, u32)> {
        let after = self.rows.partition_point(|row| row.start <= rva);
        self.rows.get(after.checked_sub(1)?)?.at
    }

    /// The offset of a file's name, the kind of its checksum, and that.
    pub(super) fn file(&self, offset: u32) -> Option<(u32, u8, &[u8])> {
        self.files.get(&offset).map(|(name, kind, checksum)| (*name, *kind, &**checksum))
    }

    /// File and line of an inlined function's declaration.
    pub(super) fn inlinee(&self, function: u32) -> Option<(u32, u32)> {
        self.inlinees.get(&function).copied()
    }

    /// Every address at which a line begins, with the file by its offset.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        self.rows.iter().filter_map(|row| row.at.map(|(file, line)| (row.start, file, line)))
    }
}
