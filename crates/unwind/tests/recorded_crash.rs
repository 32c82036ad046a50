//! The seed crash: its images were run in an emulator (`harness/seed`), which wrote down every call on the way into the
//! kernel, through two page reads to the guard page, and over the double fault's own stack into `KeBugCheckEx`. Walked
//! by the images' unwind data, the stacks it left give these calls, all of them, and nothing else.
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::unwrap_used)]
#![allow(dead_code, reason = "what other tests share is not all used here")]

mod common;

use common::LoadedImage;
use serde_json::Value;
use std::path::{Path, PathBuf};
use stopcode_base::{Memory, MissReason, Registers, SliceMemory, VirtAddr, X64Registers};
use stopcode_unwind::{
    Code, CodeAt, End, Frame, FrameRegisters, ImageView, Images, Options, Reason, Stack, StackKind,
    StackRange, Trust, walk, walk_with_images,
};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples");
const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
const THREAD: (u64, u64) = (0xffff_f880_03dc_d000, 0xffff_f880_03dd_3000);
const DOUBLE_FAULT: (u64, u64) = (0xffff_f880_009b_9000, 0xffff_f880_009b_a0c0);

/// The fixtures as the machine had them in memory.
struct Crash {
    images: Vec<LoadedImage>,
    stacks: Vec<(u64, Vec<u8>)>,
    recorded: Value,
}

impl Crash {
    fn read() -> Self {
        let folder = Path::new(SAMPLES).join("fixtures/seed");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("sys")));
        let kernel = Path::new(SAMPLES).join("symbols/ntoskrnl.exe");
        files.push(std::fs::read_dir(kernel).unwrap().next().unwrap().unwrap().path().join("ntoskrnl.exe"));
        let text = std::fs::read_to_string(folder.join("calls.json")).unwrap();
        let mut stacks = vec![
            (THREAD.0, std::fs::read(folder.join("thread.bin")).unwrap()),
            (DOUBLE_FAULT.0, std::fs::read(folder.join("ist.bin")).unwrap()),
        ];
        let recorded: Value = serde_json::from_str(&text).unwrap();
        for number in [0, 1, 2, 3, 5, 6, 7] {
            let rsp = number_of(&recorded["processors"][number.to_string()]["registers"]["rsp"]);
            let bytes = std::fs::read(folder.join(format!("idle{number}.bin"))).unwrap();
            stacks.push((rsp & !0xfff, bytes));
        }
        let images = files.iter().map(|path| LoadedImage::of_file(&std::fs::read(path).unwrap())).collect();
        Self { images, stacks, recorded }
    }

    fn registers(&self, processor: &str) -> Registers {
        let recorded = &self.recorded["processors"][processor]["registers"];
        Registers::X64(X64Registers {
            rip: number_of(&recorded["rip"]),
            gpr: NAMES.map(|name| number_of(&recorded[name])),
            ..X64Registers::default()
        })
    }

    /// What was recorded of each frame, innermost first: stack pointer, instruction, how it was left.
    fn frames(&self, processor: &str) -> Vec<(u64, u64, &str)> {
        let frames = self.recorded["processors"][processor]["frames"].as_array().unwrap();
        let of = |frame: &'_ Value| (number_of(&frame["sp"]), number_of(&frame["ip"]));
        frames.iter().map(|f| (of(f).0, of(f).1, f["kind"].as_str().unwrap())).collect()
    }

    fn ranges(&self) -> Vec<StackRange> {
        let kind = |low| if low == DOUBLE_FAULT.0 { StackKind::Ist(1) } else { StackKind::Thread };
        // A thread's stack pointer that has left its stack stands in the page below.
        let below = |low| if low == THREAD.0 { 0x1000 } else { 0 };
        let range = |(low, bytes): &(u64, Vec<u8>)| StackRange {
            low: VirtAddr(low - below(*low)),
            high: VirtAddr(low + bytes.len() as u64),
            kind: kind(*low),
        };
        self.stacks.iter().map(range).collect()
    }

    fn walk(&self, processor: &str) -> Stack {
        let options = Options::default();
        walk_with_images(&(&self.registers(processor)).into(), self, self, self, &self.ranges(), &options)
    }
}

fn number_of(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

impl Memory for Crash {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let stacks = self.stacks.iter().map(|(base, bytes)| SliceMemory { base: VirtAddr(*base), bytes });
        let images = self.images.iter();
        let images = images.map(|image| SliceMemory { base: VirtAddr(image.base), bytes: &image.bytes });
        let mut found = stacks.chain(images).map(|memory| memory.read_some(at, buffer));
        found.find(Result::is_ok).unwrap_or(Err(MissReason::NotInDump))
    }
}

impl Images for Crash {
    fn image_at(&self, address: VirtAddr) -> Option<ImageView<'_>> {
        let holds = |image: &&LoadedImage| address.0.wrapping_sub(image.base) < image.bytes.len() as u64;
        self.images.iter().find(holds).map(LoadedImage::view)
    }
}

impl Code for Crash {
    fn at(&self, address: VirtAddr) -> CodeAt {
        if self.image_at(address).is_some() { CodeAt::Module } else { CodeAt::NotCode }
    }
}

#[test]
fn every_recorded_call_is_a_frame() {
    let crash = Crash::read();
    let stack = crash.walk("4");
    let found: Vec<(u64, u64, &str)> = stack
        .frames
        .iter()
        .map(|frame| {
            let kind = match frame.trust {
                Trust::Context => "context",
                Trust::Unwind => "call",
                Trust::MachineFrame if frame.instruction.0 >> 63 == 0 => "user",
                Trust::MachineFrame => "interrupted",
                other => other.id(),
            };
            (frame.stack_pointer.0, frame.instruction.0, kind)
        })
        .collect();
    assert_eq!(found, crash.frames("4"));
    assert_eq!(found.len(), 92);
    assert_eq!((stack.ended, stack.refused), (End::UserMode, vec![]));
}

/// The machine frame leads from the double fault's stack to the thread's, one page below its end.
#[test]
fn the_double_fault_leads_back_to_the_threads_stack() {
    let crash = Crash::read();
    let stack = crash.walk("4");
    let interrupted = &stack.frames[3];
    assert_eq!((interrupted.stack_pointer.0, interrupted.instruction.0 & 0xfff), (THREAD.0 - 0x30, 0x875));
    assert!(interrupted.why.contains(&Reason::MachineFrameAt(VirtAddr(DOUBLE_FAULT.1 - 0x28))));
    // What the functions between there and the page fault had to give back: rdi of KeFlushMultipleRangeTb's caller.
    let Some(FrameRegisters::X64(registers)) = stack.frames[3].registers.as_deref() else {
        panic!("unwind data restores registers")
    };
    assert_eq!((registers.get(3), registers.get(7)), (Some(0x21), Some(5)), "rbx, rdi; edi is edx");
    // All of the stack is used: from the page below it to the system call's trap frame.
    let top = stack.frames[90].stack_pointer.0;
    assert_eq!(top + 0x190, THREAD.1 - 0x250);
}

#[test]
fn idle_processors_are_walked_to_their_threads_start() {
    let crash = Crash::read();
    for processor in ["0", "1", "2", "3", "5", "6", "7"] {
        let stack = crash.walk(processor);
        let found: Vec<(u64, u64)> =
            stack.frames.iter().map(|frame| (frame.stack_pointer.0, frame.instruction.0)).collect();
        let recorded: Vec<(u64, u64)> =
            crash.frames(processor).iter().map(|(sp, ip, _)| (*sp, *ip)).collect();
        assert_eq!(found, recorded, "processor {processor}");
        assert_eq!(stack.ended, End::ThreadStart);
    }
}

/// What a minidump holds: the stacks without the images.
struct StacksAlone<'a>(&'a Crash);

impl Memory for StacksAlone<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let in_image = self.0.image_at(at).is_some();
        if in_image { Err(MissReason::NotInDump) } else { self.0.read_some(at, buffer) }
    }
}

/// Without the images a search finds what it can, and nothing that it calls certain is wrong.
#[test]
fn a_search_claims_no_more_than_it_knows() {
    let crash = Crash::read();
    let stack =
        walk(&crash.registers("4"), &StacksAlone(&crash), &crash, &crash.ranges(), &Options::default());
    let recorded = crash.frames("4");
    let is_recorded = |frame: &&Frame| {
        let found = (frame.stack_pointer.0, frame.instruction.0);
        recorded.iter().any(|(sp, ip, _)| (*sp, *ip) == found)
    };
    assert!(stack.frames.iter().filter(|frame| frame.trust.is_high()).all(|frame| is_recorded(&frame)));
    let right = stack.frames.iter().filter(is_recorded).count();
    eprintln!("{right} of {} recorded frames, among {} found", recorded.len(), stack.frames.len());
    assert!(right >= 30 && stack.frames.len() - right <= 10);
}
