//! x86 frames against what a processor did: recordings of compiled functions in an emulator (`harness/unwind`), walked by
//! the frame data of the image's PDB.
//!
//! A sample lies beside this file. `STOPCODE_UNWIND_RECORDS_X86` names a folder with larger ones.
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use stopcode_base::{Memory, MissReason, Registers, SliceMemory, VirtAddr, X86Registers};
use stopcode_image::Image;
use stopcode_symbols::{Pdb, StackFrames};
use stopcode_unwind::{
    Code, CodeAt, FrameData, ImageView, Images, Options, StackKind, StackRange, Stands, Start,
    walk_with_images,
};

/// An image as it is loaded, with what its PDB tells.
struct Machine {
    base: u32,
    bytes: Vec<u8>,
    frames: StackFrames,
    /// Functions by their start, and their sizes.
    functions: Vec<(u32, u32)>,
}

impl Machine {
    fn open(name: &str) -> Option<Self> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/pe/x86"));
        let Ok(file) = std::fs::read(root.join(name).with_extension("sys")) else {
            eprintln!("SKIPPED: x86_against_a_processor ({name}): ../shared is not beside the checkout");
            return None;
        };
        let pdb = Pdb::parse(&std::fs::read(root.join(name).with_extension("pdb")).unwrap()).unwrap();
        let image = Image::of_file(&file).unwrap();
        let headers = image.headers();
        let mut bytes = vec![0; headers.size_of_image as usize];
        for section in &headers.sections {
            let stored = image.bytes(section.rva, section.file_size.min(section.virtual_size) as usize);
            bytes[section.rva as usize..][..stored.len()].copy_from_slice(&stored);
        }
        let functions =
            pdb.frames.iter().filter(|frame| frame.is_function).map(|frame| (frame.start, frame.size));
        let functions = functions.collect();
        Some(Self { base: headers.image_base as u32, bytes, frames: pdb.frames, functions })
    }
}

/// What a walk is given of the image.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Given {
    Everything,
    /// As in a small dump, with a PDB from a store.
    NoCode,
    NoFrameData,
}

/// One record: the machine's image, the live stack, and where the function returns to. The call that entered it
/// stands before that place.
struct Run<'a> {
    machine: &'a Machine,
    given: Given,
    stack: SliceMemory<'a>,
    back: u32,
    call: [u8; 5],
}

impl Memory for Run<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let image = SliceMemory { base: VirtAddr(self.machine.base.into()), bytes: &self.machine.bytes };
        let call = SliceMemory { base: VirtAddr(u64::from(self.back) - 5), bytes: &self.call };
        let parts = [self.stack, image, call];
        let parts = if self.given == Given::NoCode { &parts[..1] } else { &parts };
        parts.iter().find_map(|part| part.read_some(at, buffer).ok()).ok_or(MissReason::NotInDump)
    }
}

impl Code for Run<'_> {
    fn at(&self, address: VirtAddr) -> CodeAt {
        if address.0 == u64::from(self.back) {
            return CodeAt::Module;
        }
        let Some(rva) =
            address.0.checked_sub(self.machine.base.into()).and_then(|rva| u32::try_from(rva).ok())
        else {
            return CodeAt::NotCode;
        };
        let after = self.machine.functions.partition_point(|(start, _)| *start <= rva);
        match after.checked_sub(1).map(|index| self.machine.functions[index]) {
            Some((start, _)) if start == rva => CodeAt::Start,
            Some((start, size)) if rva - start < size => {
                CodeAt::Function { offset: (rva - start).into(), size: Some(size.into()) }
            }
            _ if (rva as usize) < self.machine.bytes.len() => CodeAt::Module,
            _ => CodeAt::NotCode,
        }
    }
}

impl Images for Run<'_> {
    fn image_at(&self, _: VirtAddr) -> Option<ImageView<'_>> {
        None
    }

    fn frame_data(&self, address: VirtAddr) -> Option<FrameData<'_>> {
        if self.given == Given::NoFrameData {
            return None;
        }
        let base = VirtAddr(self.machine.base.into());
        let frame = self.machine.frames.at(address.offset_from(base)?.try_into().ok()?)?;
        Some(FrameData {
            start: base.plus(frame.start.into()),
            locals: frame.locals,
            parameters: frame.parameters,
            saved: frame.saved,
            prolog: frame.prolog,
            is_function: frame.is_function,
            keeps_ebp: frame.keeps_ebp,
            program: frame.program,
        })
    }
}

#[derive(Default, Debug)]
struct Tally {
    records: usize,
    /// (function, offset), each counted once.
    points: BTreeSet<(u32, u32)>,
    /// The caller's frame is right.
    right: usize,
    /// Of those, the caller's EBP is right too: the frame above follows.
    with_ebp: usize,
    /// Of those that are right, the trust is high.
    sure: usize,
    wrong: Vec<String>,
    /// Of those that are wrong, no gap is drawn.
    silent: usize,
    wrong_and_sure: usize,
}

fn compare(machine: &Machine, recording: &[u8], given: Given) -> Tally {
    let mut tally = Tally::default();
    let mut rest = &recording[20..];
    let word = |rest: &mut &[u8]| {
        let (word, after) = rest.split_first_chunk::<4>().unwrap();
        *rest = after;
        u32::from_le_bytes(*word)
    };
    while !rest.is_empty() {
        let [kind, rva, function] = [(); 3].map(|()| word(&mut rest));
        let gpr = [(); 8].map(|()| word(&mut rest));
        let [back, esp] = [(); 2].map(|()| word(&mut rest));
        let length = word(&mut rest) as usize;
        let (stack, after) = rest.split_at(length);
        rest = after;
        let base = VirtAddr(gpr[X86Registers::ESP].into());
        let target = (machine.base + function).wrapping_sub(back).to_le_bytes();
        let call = [0xe8, target[0], target[1], target[2], target[3]];
        let run = Run { machine, given, stack: SliceMemory { base, bytes: stack }, back, call };
        let registers = X86Registers { eip: machine.base + rva, gpr, ..X86Registers::default() };
        let stands = if kind == 1 { Stands::AfterCall } else { Stands::Interrupted };
        let start = Start { registers: Registers::X86(registers), known: 0xff, stands };
        let range = StackRange { low: base.page(), high: base.plus(length as u64), kind: StackKind::Thread };
        let options = Options { max_frames: 3, ..Options::default() };
        let found = walk_with_images(&start, &run, &run, &run, &[range], &options);
        tally.records += 1;
        if kind == 0 {
            tally.points.insert((function, rva));
        }
        let at = |index: usize| {
            let frame = found.frames.get(index)?;
            Some((frame.instruction.0 as u32, frame.stack_pointer.0 as u32))
        };
        let sure = found.frames.get(1).is_some_and(|frame| frame.trust.is_high());
        if at(1) == Some((back, esp)) {
            tally.right += 1;
            tally.sure += usize::from(sure);
            tally.with_ebp += usize::from(at(2).is_some_and(|(next, _)| next == back));
        } else {
            tally.wrong_and_sure += usize::from(sure);
            tally.silent += usize::from(found.frames.get(1).is_some_and(|frame| !frame.gap_before));
            let place = format!("{stands:?} at {rva:#x} of {function:#x}");
            tally.wrong.push(format!("{place}: {:x?}, not {:x?}", at(1), (back, esp)));
        }
    }
    tally
}

/// Each recording there is, with the machine it was made on; none without the images.
fn recordings() -> Vec<(String, Machine, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let larger = std::env::var_os("STOPCODE_UNWIND_RECORDS_X86").map(PathBuf::from);
    let folders = [Some(folder), larger].into_iter().flatten();
    let files =
        folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    files
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.split('.').next()?.to_owned();
            let machine = Machine::open(&name)?;
            let mut bytes = std::fs::read(&path).unwrap();
            if path.extension().is_some_and(|extension| extension == "xz") {
                let mut plain = Vec::new();
                lzma_rust2::XzReader::new(bytes.as_slice(), false).read_to_end(&mut plain).unwrap();
                bytes = plain;
            }
            assert!(bytes.starts_with(b"SCU3"), "{name}");
            Some((name, machine, bytes))
        })
        .collect()
}

#[test]
fn every_recorded_frame_is_the_shadow_stacks() {
    for (name, machine, recording) in recordings() {
        for given in [Given::Everything, Given::NoCode, Given::NoFrameData] {
            let Tally { records, points, right, with_ebp, sure, wrong, silent, wrong_and_sure } =
                compare(&machine, &recording, given);
            eprintln!(
                "{name}, {given:?}: {} points, {records} records; {right} right, {with_ebp} with EBP, {sure} sure; \
                 {} wrong, {silent} without a gap, {wrong_and_sure} sure",
                points.len(),
                wrong.len(),
            );
            // In per cent of the records: right, and right and sure.
            let floor = match given {
                Given::Everything => (100, 97),
                Given::NoCode => (90, 5),
                Given::NoFrameData => (80, 5),
            };
            let reached = (100 * right / records, 100 * sure / records);
            let first: Vec<_> = wrong.iter().take(10).collect();
            assert!(
                points.len() > 1000 && reached.0 >= floor.0 && reached.1 >= floor.1,
                "{reached:?}: {first:#?}"
            );
            assert_eq!((with_ebp, wrong_and_sure), (right, 0), "{first:#?}");
        }
    }
}
