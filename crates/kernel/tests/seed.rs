//! The seed crash as a whole machine: the committed kernel dump, against what the emulator that made its stacks wrote
//! down (`harness/seed`), with the fixture's symbols and with nothing but the dump.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use stopcode_base::VirtAddr;
use stopcode_dump::Dump;
use stopcode_kernel::{Machine, Stack, StackArea, StackKind, Trust, Turn};
use stopcode_symbols::SymbolSource;

const LIMIT: VirtAddr = VirtAddr(0xfffff880_03dcd000);
const BASE: VirtAddr = VirtAddr(0xfffff880_03dd3000);

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(name)
}

fn machine(symbols: &[&str]) -> Machine {
    let dump = Dump::open(&sample("seed-double-fault-kernel.dmp")).unwrap();
    Machine::new(dump, &SymbolSource::new(symbols.iter().map(|name| sample(name))))
}

/// Stack pointer and instruction of each frame of a processor, innermost first.
fn recorded(processor: u32) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(sample("fixtures/seed/calls.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let number = |value: &Value| u64::from_str_radix(&value.as_str().unwrap()[2..], 16).unwrap();
    let frames = all["processors"][processor.to_string()]["frames"].as_array().unwrap().iter();
    frames.map(|frame| (number(&frame["sp"]), number(&frame["ip"]))).collect()
}

fn found(stack: &Stack) -> Vec<(u64, u64)> {
    stack.frames.iter().map(|frame| (frame.stack_pointer.0, frame.instruction.0)).collect()
}

fn stack_of(machine: &Machine, kind: StackKind) -> &Stack {
    machine.stacks().iter().find(|stack| stack.kind == kind).unwrap()
}

fn labels(stack: &Stack) -> Vec<String> {
    stack.frames.iter().map(|frame| frame.place.label().unwrap_or_default()).collect()
}

/// With symbols and without: names are one thing, frames another.
#[test]
fn the_walk_equals_the_recorded_calls() {
    for symbols in [&[][..], &["symbols"]] {
        let machine = machine(symbols);
        let stack = stack_of(&machine, StackKind::BugCheck);
        assert_eq!(found(stack), recorded(4));
        assert!(stack.frames.iter().all(|frame| frame.trust.is_high() && !frame.gap_before));
        assert!(stack.refused.is_empty());
        let exception = stack_of(&machine, StackKind::Exception);
        assert_eq!(found(exception), recorded(4)[3..]);
        let idle: Vec<&Stack> =
            machine.stacks().iter().filter(|stack| stack.kind == StackKind::Processor).collect();
        assert_eq!(idle.len(), 7);
        for stack in idle {
            assert_eq!(found(stack), recorded(stack.processor.unwrap()));
        }
    }
}

#[test]
fn the_double_fault_crosses_from_its_own_stack() {
    let machine = machine(&[]);
    let frames = &stack_of(&machine, StackKind::BugCheck).frames;
    let areas: Vec<_> = frames.iter().map(|frame| frame.area).collect();
    assert_eq!(areas[..3], [Some(StackArea::Ist(1)); 3]);
    assert_eq!(areas[4..91], [Some(StackArea::Thread); 87]);
    let crossing = frames[3].crossing.unwrap();
    assert_eq!((crossing.turn, frames[3].trust), (Turn::DoubleFault, Trust::MachineFrame));
    assert_eq!(
        (frames[2].trap_frame, frames[2].place.offset),
        (Some(VirtAddr(0xfffff880_009b9f30)), 0x73632)
    );
}

/// What every frame takes: together it is the whole stack, and the last of it lies beyond the limit.
#[test]
fn byte_counts_prove_the_overflow() {
    let machine = machine(&[]);
    let stack = stack_of(&machine, StackKind::Exception);
    let used: u64 = stack.module_use().iter().map(|module| module.bytes).sum();
    // All but the system call's trap frame and the processor's state above it.
    assert_eq!(used, BASE.0 - 0x250 - 0x190 - stack.frames[0].stack_pointer.0);
    assert!(stack.frames[0].stack_pointer < LIMIT);
    let most = &stack.module_use()[0];
    assert_eq!((most.module.as_deref(), most.bytes > 0x2000), (Some("Ntfs"), true));
    let iastor = stack.module_use().into_iter().find(|m| m.module.as_deref() == Some("iaStor")).unwrap();
    assert_eq!(
        (iastor.frames, iastor.bytes),
        (5, 0x1e0),
        "the driver named by the post takes two hundredths"
    );
    let guard = machine.page_table_entries(LIMIT.minus(8));
    let lowest = machine.page_table_entries(LIMIT);
    assert_eq!(guard.first().map(|pte| (pte.level, pte.valid())), Some((1, false)));
    assert_eq!(lowest.first().map(|pte| (pte.level, pte.valid())), Some((1, true)));
}

#[test]
fn names_come_from_the_fixtures_symbols() {
    let with = machine(&["symbols"]);
    let labels = labels(stack_of(&with, StackKind::BugCheck));
    let post = [
        "nt!KeBugCheckEx",
        "nt!KiBugCheckDispatch+0x69",
        "nt!KiDoubleFaultAbort+0xb2",
        "nt!KiIpiSendRequest+0x305",
        "nt!KeFlushMultipleRangeTb+0x22a",
    ];
    assert_eq!(labels[..5], post);
    // Between these the post has what WinDbg makes of a part of a function that was moved away: the nearest name.
    let post = [
        "nt!MiEmptyWorkingSet+0x24a",
        "nt!MiTrimAllSystemPagableMemory+0x218",
        "nt!MmVerifierTrimMemory+0xf1",
        "nt!ViKeRaiseIrqlSanityChecks+0xcf",
        "nt!VerifierKeAcquireSpinLockRaiseToDpc+0x54",
        "iaStor+0x253f5",
        "iaStor+0x32a2",
        "iaStor+0x52489",
    ];
    assert_eq!(labels[6..14], post);
}

/// The kernel's image in the dump names its PDB: that alone is enough, without the image's file.
#[test]
fn the_pdb_alone_is_found_by_what_the_image_in_memory_says() {
    let folder = std::fs::read_dir(sample("symbols/ntkrnlmp.pdb")).unwrap().next().unwrap().unwrap();
    let pdb = folder.path().join("ntkrnlmp.pdb");
    let alone = machine(&[pdb.to_str().unwrap()]);
    assert_eq!(labels(stack_of(&alone, StackKind::Exception))[0], "nt!KiIpiSendRequest+0x305");
    assert!(alone.build().names.as_deref().unwrap().ends_with("ntkrnlmp.pdb"));
}

#[test]
fn without_symbols_there_are_modules_and_offsets() {
    let without = machine(&[]);
    let labels = labels(stack_of(&without, StackKind::Exception));
    assert_eq!(labels[..3], ["nt+0x94875", "nt+0x7a9ba", "nt+0xd6198"]);
    assert_eq!(labels[8], "iaStor+0x253f5");
    assert!(labels.iter().all(|label| !label.contains('!')));
}

/// What the processor itself would read says which stack the double fault is handled on.
#[test]
fn the_processors_tables_lead_to_the_double_faults_stack() {
    let machine = machine(&["symbols"]);
    for processor in machine.processor_states() {
        let table = machine.interrupt_table(&processor);
        let gates = table.value().unwrap();
        let gate = |vector| gates.iter().find(|entry| entry.vector == vector && entry.present).unwrap();
        let (double_fault, page_fault) = (gate(8), gate(14));
        assert_eq!((double_fault.ist, page_fault.ist), (1, 0));
        assert_eq!(machine.place(double_fault.handler).label().as_deref(), Some("nt!KiDoubleFaultAbort"));
        assert_eq!(machine.place(page_fault.handler).label().as_deref(), Some("nt!KiPageFault"));
        let task = *machine.task_state(&processor).value().unwrap();
        if processor.number == 4 {
            // The trap frame that KiDoubleFaultAbort builds there ends where the stack does.
            assert_eq!(task.ist[0], VirtAddr(0xfffff880_009b9f30 + 0x190));
            assert_eq!(task.rsp0, BASE.minus(0x250));
        }
    }
}

#[test]
fn the_machine_is_the_posts() {
    let machine = machine(&[]);
    assert_eq!(machine.stop().code, 0x7f);
    assert_eq!(machine.stop().arguments, [8, 0x80050033, 0x406f8, 0xfffff800_032aa875]);
    let states = machine.processor_states();
    let frozen: Vec<_> = states.iter().map(|p| (p.ipi.frozen.get(), p.ipi.target_count.get())).collect();
    let others = (Some(2), Some(0));
    let running = (Some(0), Some(0));
    assert_eq!(frozen, [others, others, others, others, running, others, others, others]);
    // The push that met the guard page while the first fault was being delivered.
    let special = states[4].special.value().unwrap();
    assert_eq!((special.cr2, special.cr0), (LIMIT.0 - 0x38, 0x80050033));
    let verifier = machine.verifier_state();
    assert_eq!(verifier.value().and_then(|v| v.flags.get()).map(|flags| flags & 2), Some(2), "forced IRQL");
    let images: Vec<&str> = machine.modules().iter().map(|module| module.image.as_str()).collect();
    assert!(["iastor.sys", "kl1.sys", "klif.sys"].iter().all(|name| images.contains(name)), "{images:?}");
}
