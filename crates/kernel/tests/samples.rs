//! The machine of each shipped sample, told by the sample's description: what was written in must come out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use stopcode_base::{Arch, VirtAddr};
use stopcode_dump::Dump;
use stopcode_kernel::{Machine, StackKind};
use stopcode_symbols::SymbolSource;

fn machine(sample: &str) -> Machine {
    let path = format!("{}/../../samples/{sample}.dmp", env!("CARGO_MANIFEST_DIR"));
    Machine::new(Dump::open(path.as_ref()).unwrap(), &SymbolSource::new([]))
}

#[test]
fn the_double_fault_is_read_by_its_thread_limits() {
    let machine = machine("seed-double-fault");
    assert_eq!((machine.stop().code, machine.stop().arguments[0]), (0x7f, 8));
    assert_eq!(machine.arch(), Arch::X64);
    assert_eq!(machine.build().version.value().map(String::as_str), Some("6.1.7601"));

    // Windows 7 keeps StackBase elsewhere than later Windows, and its debugger data does not say where.
    let thread = machine.thread();
    assert_eq!(thread.stack_limit.get(), Some(VirtAddr(0xfffff880_03dcd000)));
    assert_eq!(thread.stack_base.get(), Some(VirtAddr(0xfffff880_03dd3000)));

    let frozen: Vec<_> = machine.processors().iter().map(|p| p.ipi_frozen).collect();
    assert_eq!(frozen, [2, 2, 2, 2, 0, 2, 2, 2].map(Some));
    let crashed: Vec<_> = machine.processors().iter().filter(|p| p.crashed).map(|p| p.number).collect();
    assert_eq!(crashed, [4]);

    let guard = machine.page_table_entries(VirtAddr(0xfffff880_03dcc000));
    let lowest = machine.page_table_entries(VirtAddr(0xfffff880_03dcd000));
    assert_eq!(guard.first().map(|pte| (pte.level, pte.valid())), Some((1, false)));
    assert_eq!(lowest.first().map(|pte| (pte.level, pte.valid())), Some((1, true)));
}

#[test]
fn a_stack_that_ran_out_is_walked_from_its_end() {
    let machine = machine("seed-double-fault");
    let stack = machine.stacks().iter().find(|stack| stack.kind == StackKind::Exception).unwrap();
    let child_sps: Vec<u64> = stack.frames.iter().map(|frame| frame.stack_pointer.0).collect();
    // As in the post of 2014. A small dump holds no images: which frames a search finds it finds without them.
    let post = [
        0xfffff880_03dccfd0,
        0xfffff880_03dcd090,
        0xfffff880_03dcd400,
        0xfffff880_03dcd460,
        0xfffff880_03dcd490,
        0xfffff880_03dcd4d0,
    ];
    assert!(post.iter().all(|sp| child_sps.contains(sp)), "{child_sps:x?}");
    assert_eq!(child_sps[..2], post[..2]);
    assert!(
        stack.frames[1].gap_before,
        "what the innermost frame kept below the stack's end cannot be searched"
    );
    let iastor =
        stack.frames.iter().find(|frame| frame.place.image.as_deref() == Some("iastor.sys")).unwrap();
    assert_eq!(iastor.place.label().as_deref(), Some("iaStor+0x253f5"));
}

#[test]
fn the_trap_frame_gives_the_context_not_the_header() {
    let machine = machine("driver-null-write");
    let context = machine.context().value().unwrap();
    assert_eq!(context.registers.instruction().0, machine.stop().arguments[3]);
    assert!(context.trap_frame.is_some(), "{}", context.origin);
    assert_eq!(context.known >> 12 & 0xf, 0, "a trap frame does not hold r12 to r15");
    assert_eq!(machine.place(context.registers.instruction()).image.as_deref(), Some("exnetflt.sys"));
    assert_eq!(machine.build().version.value().map(String::as_str), Some("10.0.19041.804"));
}

#[test]
fn what_the_dump_does_not_hold_says_so() {
    let machine = machine("memory-bit-flip");
    assert!(machine.exception().reason().is_some_and(|reason| !reason.is_empty()));
    assert_eq!(machine.place(VirtAddr(0x1234)).label(), None);
}
