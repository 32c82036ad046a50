//! The search against what a processor did: stacks of compiled functions that called each other in an emulator
//! (`harness/unwind/record_stacks.py`), walked without the image. No published stack has a part in this.
//!
//! Recordings lie in `tests/stacks`; `STOPCODE_UNWIND_STACKS` names a folder with more. The frame sizes that the search
//! goes by were measured on the unwind data of these images and others, so that sizes are no news to it; which words
//! are live is.
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::unwrap_used)]

mod common;

use common::LoadedImage;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use stopcode_base::{Registers, SliceMemory, VirtAddr, X64Registers};
use stopcode_unwind::{Code, CodeAt, Options, StackKind, StackRange, walk};

/// Recordings by name, and the images they were made of.
const IMAGES: [(&str, &str); 5] = [
    ("systeminformer", "systeminformer/amd64/systeminformer.sys"),
    ("winpty", "node-pty/x64/winpty.dll"),
    ("windivert", "windivert/WinDivert64_2.2.sys"),
    ("winpmem", "winpmem/winpmem_x64_test.sys"),
    ("ksi", "systeminformer/amd64/ksi.dll"),
];

/// Precision and recall, with functions known and without, that a change of the search must not fall below: a little
/// under what was measured.
const LEAST: [(&str, [(f64, f64); 2]); 2] =
    [("systeminformer", [(0.61, 0.79), (0.60, 0.66)]), ("winpty", [(0.28, 0.76), (0.30, 0.59)])];

/// What is known without the image: where it is, and with symbols where its functions begin and end.
struct Names {
    base: u64,
    size: u64,
    /// Start to length.
    functions: BTreeMap<u64, u64>,
}

impl Names {
    fn new(image: &LoadedImage, with_symbols: bool) -> Self {
        let word = |at: usize| u32::from_le_bytes(image.bytes[at..at + 4].try_into().unwrap());
        let entries = (0..image.pdata.1 / 12).map(|n| (image.pdata.0 + 12 * n) as usize);
        let mut functions = BTreeMap::new();
        for at in entries.filter(|_| with_symbols) {
            let (begin, end, info) = (word(at), word(at + 4), word(at + 8) as usize);
            // A chained entry is a piece of another function, and has no symbol.
            if info & 1 == 0 && image.bytes[info] >> 3 & 4 == 0 {
                functions.insert(image.base + u64::from(begin), u64::from(end - begin));
            }
        }
        Self { base: image.base, size: image.bytes.len() as u64, functions }
    }
}

impl Code for Names {
    fn at(&self, address: VirtAddr) -> CodeAt {
        match address.0.checked_sub(self.base) {
            Some(rva) if rva >= self.size => return CodeAt::NotCode,
            Some(rva) if rva < 0x1000 => return CodeAt::Data,
            None => return CodeAt::NotCode,
            _ => {}
        }
        let Some((start, length)) = self.functions.range(..=address.0).next_back() else {
            return CodeAt::Module;
        };
        match address.0 - start {
            0 => CodeAt::Start,
            offset if offset > *length => CodeAt::Module,
            offset => CodeAt::Function { offset, size: Some(*length) },
        }
    }
}

#[derive(Default, Debug)]
struct Tally {
    stacks: usize,
    live: usize,
    found: usize,
    right: usize,
    /// Live frames that were not found, with no gap drawn where they belong.
    untold: usize,
}

impl Tally {
    fn precision(&self) -> f64 {
        self.right as f64 / self.found as f64
    }

    fn recall(&self) -> f64 {
        self.right as f64 / self.live as f64
    }
}

fn compare(image: &LoadedImage, names: &Names, recording: &[u8]) -> Tally {
    let u32_at = |at: usize| u32::from_le_bytes(recording[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(recording[at..at + 8].try_into().unwrap());
    assert_eq!(&recording[..4], b"SCUC");
    assert_eq!((u64_at(4), u32_at(12), u32_at(16)), (image.base, image.pdata.0, image.pdata.1));
    let mut tally = Tally::default();
    let mut at = 20;
    while at < recording.len() {
        let (rva, count, rsp) = (u32_at(at), u32_at(at + 4) as usize, u64_at(at + 8));
        at += 16;
        let live: Vec<_> = (0..count)
            .map(|n| at + 12 * n)
            .map(|at| (VirtAddr(u64_at(at)), VirtAddr(image.base + u64::from(u32_at(at + 8)))))
            .collect();
        at += 12 * count;
        let length = u32_at(at) as usize;
        let low = VirtAddr(rsp);
        let stack = SliceMemory { base: low, bytes: &recording[at + 4..at + 4 + length] };
        at += 4 + length;

        let mut registers = X64Registers { rip: image.base + u64::from(rva), ..X64Registers::default() };
        registers.gpr[X64Registers::RSP] = rsp;
        let range = StackRange { low, high: low.plus(length as u64), kind: StackKind::Thread };
        let walked = walk(&Registers::X64(registers), &stack, names, &[range], &Options::default());
        tally.stacks += 1;
        tally.live += live.len();
        tally.found += walked.frames.len() - 1;
        for (slot, value) in &live {
            let is_it = |frame: &&stopcode_unwind::Frame| frame.return_slot == Some(*slot);
            if walked.frames.iter().find(is_it).is_some_and(|frame| frame.instruction == *value) {
                tally.right += 1;
                continue;
            }
            let above =
                walked.frames.iter().find(|frame| frame.return_slot.is_some_and(|other| other > *slot));
            tally.untold += usize::from(above.is_none_or(|frame| !frame.gap_before));
        }
    }
    tally
}

fn recordings() -> Vec<(String, Vec<u8>)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stacks");
    let more = std::env::var_os("STOPCODE_UNWIND_STACKS").map(PathBuf::from);
    let mut found = Vec::new();
    for entry in [Some(own), more].into_iter().flatten().flat_map(|folder| std::fs::read_dir(folder).unwrap())
    {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let mut bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "xz") {
            let mut plain = Vec::new();
            lzma_rust2::XzReader::new(bytes.as_slice(), false).read_to_end(&mut plain).unwrap();
            bytes = plain;
        }
        found.push((name, bytes));
    }
    found.sort();
    found
}

#[test]
fn the_search_finds_what_is_live() {
    for (name, recording) in recordings() {
        let (_, path) = IMAGES.iter().find(|(key, _)| *key == name).unwrap();
        let Some(image) = LoadedImage::open("search_against_a_processor", path) else { return };
        let least = LEAST.iter().find(|(key, _)| *key == name).map(|(_, least)| *least).unwrap_or_default();
        let [known, unknown] = least;
        for (what, with_symbols, (precision, recall)) in
            [("functions known", true, known), ("nothing known", false, unknown)]
        {
            let tally = compare(&image, &Names::new(&image, with_symbols), &recording);
            eprintln!(
                "{name}, {what}: {} stacks, {} live frames, {} found, {} right: precision {:.1} %, recall {:.1} %, \
                 {} missed without a gap drawn",
                tally.stacks,
                tally.live,
                tally.found,
                tally.right,
                100.0 * tally.precision(),
                100.0 * tally.recall(),
                tally.untold
            );
            assert!(tally.precision() >= precision && tally.recall() >= recall, "{name}, {what}: {tally:?}");
        }
    }
}
