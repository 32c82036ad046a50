//! Precision and recall on real minidumps, read here with a reader of a few lines. There are two published stacks to
//! measure by. Every rule has its reason in the ABI and the frame sizes come from other images, but the round priors
//! in `chain.rs` (how many stale words, how many guarded calls) were set with the x64 one in view: expect a little
//! less elsewhere.
#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::unwrap_used)]

mod triage;

use stopcode_base::{Arm64Registers, Memory, Registers, VirtAddr, X64Registers};
use stopcode_unwind::{
    Arm64TrapFrame, Code, CodeAt, End, Options, Reason, Stack, StackKind, StackRange, Trust, trap_frame, walk,
};
use triage::{Dump, shared};

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
    // As measured. What is extra are stale calls from where nothing says otherwise; see the crate's header.
    for (what, image, registers, frames, at_least, at_most_extra) in [
        ("fault, nt symbols", &with_symbols, &fault, &golden[8..], 28, 5),
        ("fault, modules only", &modules_only, &fault, &golden[8..], 26, 7),
        ("bug check, nt symbols", &with_symbols, &bugcheck, &golden[..], 35, 5),
        ("bug check, modules only", &modules_only, &bugcheck, &golden[..], 32, 8),
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

#[test]
fn the_published_stack_crosses_by_its_trap_frame() {
    let Some(dump) = Dump::open("the_published_stack_crosses_by_its_trap_frame", "data/dumps/triage_x64.dmp")
    else {
        return;
    };
    let golden = published("triage_x64.stack.json");
    let image = dump.image(None);
    let address = golden[7].1;
    let found = trap_frame::find_in(&dump, &dump.crash_stack(), &image);
    assert!(found.iter().any(|trap| trap.address == address && trap.rip() == golden[8].0));
    let stack = walk(
        &x64_registers(golden[0].0.0, golden[0].1.0),
        &dump,
        &image,
        &[dump.crash_stack()],
        &Options::default(),
    );
    assert_eq!(stack.trap_frames.iter().map(|trap| trap.address).collect::<Vec<_>>(), [address]);
    let crossed = stack.frames.iter().position(|frame| frame.trust == Trust::TrapFrame).unwrap();
    assert_eq!(stack.frames[crossed].why[0], Reason::TrapFrameAt(address));
    assert_eq!(stack.frames[crossed - 1].instruction, golden[7].0);
}

#[test]
fn published_arm64_stack() {
    let Some(dump) = Dump::open("published_arm64_stack", "data/dumps/triage_arm64.dmp") else { return };
    let golden = published("triage_arm64.stack.json");
    // CONTEXT at 348: Fp at f0, Lr at f8, Sp at 100, Pc at 108.
    let mut registers = Arm64Registers {
        sp: dump.u64(0x348 + 0x100),
        pc: dump.u64(0x348 + 0x108),
        ..Arm64Registers::default()
    };
    registers.x[29] = dump.u64(0x348 + 0xf0);
    registers.x[30] = dump.u64(0x348 + 0xf8);
    let registers = Registers::Arm64(registers);
    let stack = walk(&registers, &dump, &dump.image(None), &[dump.crash_stack()], &Options::default());
    let ours: Vec<_> = stack.frames.iter().map(|frame| (frame.instruction, frame.stack_pointer)).collect();
    assert_eq!(ours, golden);
    assert_eq!(stack.ended, End::ThreadStart);
    assert!(is_honest(&stack));
    assert_eq!(stack.frames[1].trust, Trust::ScanCall);
}

/// Two system calls of the kernel's own left their trap frames in a stack of which this dump holds a part: their syndromes say
/// `svc`, and each has the float registers behind it and the interrupted stack behind those.
#[test]
fn trap_frames_of_arm64() {
    let Some(dump) = Dump::open("trap_frames_of_arm64", "data/dumps/triage_arm64.dmp") else { return };
    let low = VirtAddr(0xffff_e00e_0f14_9000);
    let stack = StackRange { low, high: low.plus(0x2000), kind: StackKind::Other };
    let found = Arm64TrapFrame::find_in(&dump, &stack, &dump.image(None));
    let shown: Vec<_> = found.iter().map(|frame| (frame.address.0 & 0xffff, frame.syndrome)).collect();
    assert_eq!(shown, [(0x9520, 0x5600_1397), (0x9e00, 0x5600_01de)]);
    for frame in &found {
        assert_eq!(frame.sp(), frame.address.plus(0x150 + 0x220));
        assert!(!frame.is_user());
    }
    assert_eq!(found[1].registers.x[29], found[1].registers.sp);
    // A frame record that was made on the way leads to the first frame's own, which lies at its x29 and pc.
    assert_eq!(dump.read_u64(low.plus(0x4b0)), Ok(found[0].address.0 + 0x140));
}

/// No stack is published for these; what can be told is how a kernel stack ends: in the kernel's own thread start or
/// idle loop, or with a user-mode trap frame right below the top.
#[test]
fn other_dumps_end_as_kernel_stacks_do() {
    for folder in ["data/dumps/laptop-81", "data/dumps/desktop-19041", "data/dumps/training"] {
        let Some(path) = shared(folder) else {
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                "SKIPPED: other_dumps_end_as_kernel_stacks_do: ../shared is not beside the checkout\n"
                    .as_bytes(),
            );
            return;
        };
        for entry in std::fs::read_dir(path).unwrap() {
            let name = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
            let Some(dump) = Dump::open("other dumps", &name) else { continue };
            let registers = x64_registers(dump.u64(0x348 + 0xf8), dump.u64(0x348 + 0x98));
            let image = dump.image(None);
            let range = dump.crash_stack();
            let stack = walk(&registers, &dump, &image, &[range], &Options::default());
            assert!(is_honest(&stack), "{name}");
            let last = stack.frames.iter().rfind(|frame| frame.instruction.is_kernel()).unwrap();
            let (kernel, size) = dump.modules[0];
            assert!(last.instruction.0.wrapping_sub(kernel) < size, "{name}: {last:?}");
            assert_ne!(image.at(last.instruction), CodeAt::Data);
            match stack.ended {
                End::StackBase => {}
                End::UserMode => {
                    let trap = stack.trap_frames.last().unwrap();
                    assert!(trap.is_user() && range.high.0 - trap.address.0 < 0x1000, "{name}");
                }
                other => panic!("{name}: {other:?}"),
            }
            eprintln!("{name}: {} frames, {} traps", stack.frames.len(), stack.trap_frames.len());
        }
    }
}
