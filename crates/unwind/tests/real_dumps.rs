//! Precision and recall on real minidumps, read here with a reader of a few lines. The published stacks are the
//! measure; nothing in the algorithm was chosen by them.
#![allow(clippy::indexing_slicing, clippy::print_stderr)]

mod triage;

use stopcode_base::{Arm64Registers, Registers, VirtAddr, X64Registers};
use stopcode_unwind::{CodeAt, End, Options, Reason, Stack, StackKind, StackRange, Trust, trap_frame, walk};
use triage::{Dump, Image, shared};

const ISF_X64: &str = "data/isf/symbols/windows/ntkrnlmp.pdb/5278AFF86C341677D7D7835C85B7B844-1.json.xz";

fn x64_registers(rip: u64, rsp: u64) -> Registers {
    let mut registers = X64Registers { rip, ..X64Registers::default() };
    registers.gpr[X64Registers::RSP] = rsp;
    Registers::X64(registers)
}

fn published(name: &str) -> Vec<(VirtAddr, VirtAddr)> {
    let text = std::fs::read_to_string(shared("data/golden").unwrap().join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let hex = |value: &serde_json::Value| {
        VirtAddr(u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap())
    };
    let frames = json["frames"].as_array().unwrap();
    frames.iter().map(|frame| (hex(&frame["instruction"]), hex(&frame["stack_pointer"]))).collect()
}

/// How many of the published frames are there, and how many of ours are not published. Stack pointers increase in
/// both, so that what is found is in order too.
fn compare(stack: &Stack, published: &[(VirtAddr, VirtAddr)]) -> (usize, usize) {
    let ours: Vec<_> = stack.frames.iter().map(|frame| (frame.instruction, frame.stack_pointer)).collect();
    assert!(ours.is_sorted_by(|a, b| a.1 < b.1));
    let right = published.iter().filter(|frame| ours.contains(frame)).count();
    for missed in published.iter().filter(|frame| !ours.contains(frame)) {
        eprintln!("  missed {missed:?}");
    }
    for frame in &stack.frames {
        let known = published.contains(&(frame.instruction, frame.stack_pointer));
        if !known {
            eprintln!("  extra {} {} {:?}", frame.instruction, frame.stack_pointer, frame.why);
        }
    }
    (right, ours.len() - right)
}

fn is_honest(stack: &Stack) -> bool {
    stack.frames.iter().all(|frame| {
        let scanned = frame.return_slot.is_some();
        let checked = frame.why.contains(&Reason::CallBytesMatch);
        scanned != frame.trust.is_high() && (frame.trust == Trust::ScanCall) == (scanned && checked)
    })
}

#[test]
fn published_x64_stack() {
    let Some(dump) = Dump::open("published_x64_stack", "data/dumps/triage_x64.dmp") else { return };
    let golden = published("triage_x64.stack.json");
    let ranges = [dump.crash_stack()];
    let fault = x64_registers(golden[8].0.0, golden[8].1.0);
    let bugcheck = x64_registers(golden[0].0.0, golden[0].1.0);
    let modules_only = dump.image(None);
    let with_symbols = dump.image(Some(ISF_X64));
    // Measured; see the crate's header for why a scan cannot be exact.
    for (what, image, registers, frames, at_least, at_most_extra) in [
        ("fault, nt symbols", &with_symbols, &fault, &golden[8..], 26, 5),
        ("fault, modules only", &modules_only, &fault, &golden[8..], 24, 8),
        ("bug check, nt symbols", &with_symbols, &bugcheck, &golden[..], 33, 8),
        ("bug check, modules only", &modules_only, &bugcheck, &golden[..], 24, 14),
    ] {
        let stack = walk(registers, &dump, image, &ranges, &Options::default());
        eprintln!("{what}:");
        let (right, extra) = compare(&stack, frames);
        eprintln!("  {right} of {} right, {extra} extra, ended {:?}", frames.len(), stack.ended);
        assert!(is_honest(&stack));
        assert_eq!(stack.ended, End::StackBase);
        assert!(right >= at_least && extra <= at_most_extra, "{what}");
    }
}
