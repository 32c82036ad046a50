//! Planted stacks, and stacks full of anything.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use proptest::prelude::*;
use stopcode_base::{Arm64Registers, Memory, MissReason, Registers, SliceMemory, VirtAddr, X64Registers};
use stopcode_unwind::{
    Code, CodeAt, End, Options, Reason, Stack, StackKind, StackRange, Trust, UnusableStack, walk,
};

const LOW: u64 = 0xffff_8000_0000_0000;
const CODE: u64 = 0xffff_f800_0000_0000;
const FUNCTION: u64 = 0x80;

/// Functions of 0x80 bytes, one behind the other, 0x100 of them; no bytes.
struct Functions;

impl Code for Functions {
    fn at(&self, address: VirtAddr) -> CodeAt {
        match address.0.wrapping_sub(CODE) {
            offset if offset >= 0x100 * FUNCTION => CodeAt::NotCode,
            offset if offset % FUNCTION == 0 => CodeAt::Start,
            offset => CodeAt::Function { offset: offset % FUNCTION, size: Some(FUNCTION) },
        }
    }
}

/// A stack, and code bytes.
struct Machine {
    stack: Vec<u8>,
    code: Vec<u8>,
}

impl Machine {
    fn new(size: usize) -> Self {
        Self { stack: vec![0; size], code: Vec::new() }
    }

    fn put(&mut self, offset: u64, word: u64) {
        self.stack[offset as usize..offset as usize + 8].copy_from_slice(&word.to_le_bytes());
    }

    /// Code at the addresses of [`Functions`]: nothing but `nop`, with calls where `call` puts them.
    fn with_code(mut self) -> Self {
        self.code = vec![0x90; 0x100 * FUNCTION as usize];
        self
    }

    fn call(&mut self, returns_to: u64, target: u64) {
        let at = (returns_to - CODE) as usize;
        self.code[at - 5] = 0xe8;
        self.code[at - 4..at].copy_from_slice(&(target.wrapping_sub(returns_to) as u32).to_le_bytes());
    }

    fn range(&self) -> StackRange {
        let high = VirtAddr(LOW + self.stack.len() as u64);
        StackRange { low: VirtAddr(LOW), high, kind: StackKind::Thread }
    }

    fn walk(&self, rip: u64, rsp: u64) -> Stack {
        walk(&x64(rip, rsp), self, &Functions, &[self.range()], &Options::default())
    }
}

impl Memory for Machine {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        SliceMemory { base: VirtAddr(LOW), bytes: &self.stack }
            .read_some(at, buffer)
            .or_else(|_| SliceMemory { base: VirtAddr(CODE), bytes: &self.code }.read_some(at, buffer))
    }
}

fn x64(rip: u64, rsp: u64) -> Registers {
    let mut registers = X64Registers { rip, ..X64Registers::default() };
    registers.gpr[X64Registers::RSP] = rsp;
    Registers::X64(registers)
}

fn at(function: u64, offset: u64) -> u64 {
    CODE + function * FUNCTION + offset
}

fn instructions(stack: &Stack) -> Vec<u64> {
    stack.frames.iter().map(|frame| frame.instruction.0).collect()
}

#[test]
fn a_plain_chain() {
    let mut machine = Machine::new(0x400);
    let frames = [(0x48, at(1, 0x31)), (0x98, at(2, 0x77)), (0x108, at(3, 0x11))];
    for (slot, value) in frames {
        machine.put(slot, value);
    }
    machine.put(0x60, at(9, 0)); // a pointer to a function
    machine.put(0x70, at(9, 0x33)); // not 8 modulo 16
    let stack = machine.walk(at(0, 0x20), LOW + 0x10);
    assert_eq!(instructions(&stack), [at(0, 0x20), at(1, 0x31), at(2, 0x77), at(3, 0x11)]);
    assert_eq!(stack.frames[2].stack_pointer, VirtAddr(LOW + 0xa0));
    assert_eq!(stack.frames[2].return_slot, Some(VirtAddr(LOW + 0x98)));
    assert_eq!(stack.frames[2].why, [Reason::InsideKnownFunction]);
    assert_eq!((stack.frames[0].trust, stack.frames[1].trust), (Trust::Context, Trust::Scan));
    assert_eq!(stack.ended, End::StackBase);
}

#[test]
fn call_targets_decide_between_rivals() {
    let mut machine = Machine::new(0x400).with_code();
    // Two words 0x20 apart exclude each other; only the second calls the function that runs.
    machine.put(0x48, at(5, 0x31));
    machine.put(0x68, at(1, 0x31));
    machine.put(0xd8, at(2, 0x40)); // code bytes say that this is no call
    machine.call(at(5, 0x31), at(7, 0));
    machine.call(at(1, 0x31), at(0, 0));
    let stack = machine.walk(at(0, 0x20), LOW + 0x10);
    assert_eq!(instructions(&stack), [at(0, 0x20), at(1, 0x31)]);
    assert_eq!(stack.frames[1].trust, Trust::ScanCall);
    let why = [Reason::CallBytesMatch, Reason::CallTargetIsCallee, Reason::InsideKnownFunction];
    assert_eq!(stack.frames[1].why, why);
}

#[test]
fn a_function_that_has_not_begun() {
    let mut machine = Machine::new(0x100);
    machine.put(0x18, at(1, 0x31));
    machine.put(0x28, at(2, 0x31));
    let stack = machine.walk(at(0, 0), LOW + 0x18);
    assert_eq!(instructions(&stack), [at(0, 0), at(1, 0x31)]);
    assert!(stack.frames[1].why.contains(&Reason::CalleeAtEntry));
}

fn plant_trap(machine: &mut Machine, offset: u64, rip: u64, rsp: u64, selectors: (u64, u64)) {
    for (field, value) in
        [(0x168, rip), (0x170, selectors.0), (0x178, 0x246), (0x180, rsp), (0x188, selectors.1)]
    {
        machine.put(offset + field, value);
    }
}

#[test]
fn through_trap_frames_to_user_mode() {
    let mut machine = Machine::new(0x800);
    machine.put(0x48, at(1, 0x31)); // the trap entry that called what runs
    plant_trap(&mut machine, 0x50, at(2, 0x55), LOW + 0x1e0, (0x10, 0x18));
    machine.put(0x208, at(3, 0x55));
    machine.put(0x248, at(4, 0x55)); // the system-call entry
    plant_trap(&mut machine, 0x250, 0x7ff6_0000_1234, 0x12_3450, (0x33, 0x2b));
    let stack = machine.walk(at(0, 0x20), LOW + 0x10);
    let expected = [at(0, 0x20), at(1, 0x31), at(2, 0x55), at(3, 0x55), at(4, 0x55), 0x7ff6_0000_1234];
    assert_eq!(instructions(&stack), expected);
    assert_eq!(stack.ended, End::UserMode);
    assert_eq!(stack.trap_frames.len(), 2);
    assert_eq!(stack.frames[2].trust, Trust::TrapFrame);
    assert_eq!(stack.frames[2].stack_pointer, VirtAddr(LOW + 0x1e0));
    assert!(stack.frames[1].why.contains(&Reason::HasTrapFrameAt(VirtAddr(LOW + 0x50))));
}

#[test]
fn to_another_stack_and_not_back() {
    let mut machine = Machine::new(0x1000);
    let ist = StackRange { low: VirtAddr(LOW), high: VirtAddr(LOW + 0x800), kind: StackKind::Ist(1) };
    let thread =
        StackRange { low: VirtAddr(LOW + 0x800), high: VirtAddr(LOW + 0x1000), kind: StackKind::Thread };
    machine.put(0x48, at(1, 0x31));
    plant_trap(&mut machine, 0x50, at(2, 0x55), LOW + 0x900, (0x10, 0x18));
    machine.put(0x948, at(3, 0x55));
    plant_trap(&mut machine, 0x950, at(4, 0x55), LOW + 0x10, (0x10, 0x18));
    let walked =
        walk(&x64(at(0, 0x20), LOW + 0x10), &machine, &Functions, &[ist, thread], &Options::default());
    assert_eq!(instructions(&walked), [at(0, 0x20), at(1, 0x31), at(2, 0x55), at(3, 0x55), at(4, 0x55)]);
    let why = UnusableStack::NotIncreasing;
    assert_eq!(walked.ended, End::Unusable { pointer: VirtAddr(LOW + 0x10), why });
}

#[test]
fn ends_say_why() {
    let machine = Machine::new(0x400);
    let unusable = |pointer: u64, why| End::Unusable { pointer: VirtAddr(pointer), why };
    assert_eq!(machine.walk(at(0, 1), 0x1000).ended, unusable(0x1000, UnusableStack::OutOfStack));
    assert_eq!(machine.walk(at(0, 1), LOW + 3).ended, unusable(LOW + 3, UnusableStack::Unaligned));
    assert_eq!(machine.walk(at(0, 1), LOW + 8).ended, End::NoCandidate);
    let larger = StackRange { high: VirtAddr(LOW + 0x800), ..machine.range() };
    let walked = walk(&x64(at(0, 1), LOW), &machine, &Functions, &[larger], &Options::default());
    let End::MemoryMissing(miss) = walked.ended else { panic!("{:?}", walked.ended) };
    assert_eq!((miss.at, miss.got), (VirtAddr(LOW + 0x400), 0x400));
    let short = Options { max_scan_bytes: 0x100, ..Options::default() };
    assert_eq!(walk(&x64(at(0, 1), LOW), &machine, &Functions, &[larger], &short).ended, End::Limit);
}

#[test]
fn a_recursion_is_cut_at_the_limit() {
    let mut machine = Machine::new(0x8000);
    for frame in 0..0x1f0 {
        machine.put(0x48 + frame * 0x40, at(1, 0x31));
    }
    let stack = machine.walk(at(0, 0x20), LOW + 0x10);
    assert_eq!((stack.frames.len(), stack.ended), (256, End::Limit));
}

fn arm64(pc: u64, sp: u64, fp: u64) -> Registers {
    let mut registers = Arm64Registers { pc, sp, ..Arm64Registers::default() };
    registers.x[29] = fp;
    Registers::Arm64(registers)
}

#[test]
fn an_arm64_chain() {
    let mut machine = Machine::new(0x400).with_code();
    machine.put(0x40, LOW + 0x100);
    machine.put(0x48, at(1, 0x34) & 0xff80_ffff_ffff_ffff); // signed: only bit 55 still says kernel
    machine.put(0x100, 0);
    machine.put(0x108, at(2, 0x38));
    machine.code[(FUNCTION + 0x30) as usize..][..4].copy_from_slice(&0x9400_0010_u32.to_le_bytes());
    let registers = arm64(at(0, 0x20), LOW + 0x20, LOW + 0x40);
    let stack = walk(&registers, &machine, &Functions, &[machine.range()], &Options::default());
    assert_eq!(instructions(&stack), [at(0, 0x20), at(1, 0x34), at(2, 0x38)]);
    assert_eq!(stack.ended, End::ThreadStart);
    assert_eq!((stack.frames[1].trust, stack.frames[2].trust), (Trust::ScanCall, Trust::Scan));
    assert_eq!(stack.frames[1].stack_pointer, VirtAddr(LOW + 0x50));
    // A record that points down ends the chain.
    machine.put(0x100, LOW + 0x40);
    let stack = walk(&registers, &machine, &Functions, &[machine.range()], &Options::default());
    let why = UnusableStack::NotIncreasing;
    assert_eq!(stack.ended, End::Unusable { pointer: VirtAddr(LOW + 0x40), why });
}

/// Words that mean something to a walk, and any others.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0..0x100_u64, 0..FUNCTION).prop_map(|(function, offset)| at(function, offset)),
        2 => (0..0x140_u64).prop_map(|slot| LOW + slot * 8),
        1 => prop_oneof![Just(0x10), Just(0x18), Just(0x33), Just(0x2b), Just(0x246), Just(0x10_000f)],
        1 => any::<u64>(),
        2 => Just(0),
    ]
}

proptest! {
    #[test]
    fn any_stack_is_walked_and_left(
        words in prop::collection::vec(word(), 0..0x120),
        traps in prop::collection::vec((0..0x100_u64, word(), any::<bool>()), 0..4),
        instruction in word(),
        pointer in word(),
        frame_pointer in word(),
        max_frames in 0..40_usize,
    ) {
        let mut machine = Machine::new(words.len() * 8);
        for (index, word) in words.iter().enumerate() {
            machine.put(index as u64 * 8, *word);
        }
        for (slot, rip, stays) in traps {
            let offset = slot * 8;
            if offset + 0x190 <= machine.stack.len() as u64 {
                let rsp = if stays { LOW + offset + 0x190 } else { pointer };
                plant_trap(&mut machine, offset, rip, rsp, (0x10, 0x18));
            }
        }
        let middle = VirtAddr(LOW + words.len() as u64 * 4);
        let lower = StackRange { high: middle, ..machine.range() };
        let upper = StackRange { low: middle, high: VirtAddr(LOW + 0xa00), kind: StackKind::Ist(1) };
        let options = Options { max_frames, ..Options::default() };
        for registers in [x64(instruction, pointer), arm64(instruction, pointer, frame_pointer)] {
            for stacks in [&[machine.range()][..], &[lower, upper], &[]] {
                let walked = walk(&registers, &machine, &Functions, stacks, &options);
                prop_assert!(!walked.frames.is_empty() && walked.frames.len() <= max_frames.max(1));
                prop_assert_eq!(walked.frames[0].trust, Trust::Context);
                for range in stacks {
                    // From frame 1 on: an ARM64 frame 0 may stand on its callee's frame record.
                    let inside = walked.frames.iter().skip(1).map(|frame| frame.stack_pointer);
                    let inside: Vec<_> = inside.filter(|pointer| range.contains(*pointer)).collect();
                    prop_assert!(inside.is_sorted_by(|a, b| a < b), "{:x?}", inside);
                }
                for frame in &walked.frames {
                    prop_assert!(frame.return_slot.is_none_or(|slot| stacks.iter().any(|s| s.contains(slot))));
                    prop_assert_eq!(frame.return_slot.is_none(), frame.trust.is_high());
                }
            }
        }
    }
}

/// The most work a stack can make: every aligned word of the largest scan is a call that can be looked at.
#[test]
fn a_stack_full_of_calls_is_walked_in_bounded_time() {
    let mut machine = Machine::new(0x3_0000).with_code();
    for slot in (8..0x3_0000).step_by(16) {
        machine.put(slot, at(slot / 16 % 0x100, 0x31));
    }
    for function in 0..0x100 {
        machine.call(at(function, 0x31), at((function + 0xfd) % 0x100, 0));
    }
    let started = std::time::Instant::now();
    let stack = machine.walk(at(0xfe, 0x20), LOW);
    assert_eq!(stack.ended, End::Limit);
    // Every third word calls the one three words down: the chain that tiles the stack.
    assert!(stack.frames.iter().skip(1).all(|frame| frame.why.contains(&Reason::CallTargetIsCallee)));
    assert!(started.elapsed().as_secs() < 30);
}
