//! Stacks of described machines whose images are at hand: unwound, across stacks, of threads that do not run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use stopcode_base::VirtAddr;
use stopcode_dump::Dump;
use stopcode_kernel::{Frame, Machine, Recursion, Stack, StackArea, StackKind, Trust, Turn, WordMark};
use stopcode_symbols::SymbolSource;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::{Bytes, Code, Hex};

fn described(sample: &str) -> stopcode_synth::Machine {
    let path = format!("{}/../../samples/{sample}.json", env!("CARGO_MANIFEST_DIR"));
    stopcode_synth::Machine::read(path.as_ref()).unwrap()
}

fn opened(machine: &stopcode_synth::Machine, symbols: &[PathBuf]) -> Machine {
    let dump = Dump::from_bytes(container::write(machine, Kind::Triage).unwrap()).unwrap();
    Machine::new(dump, &SymbolSource::new(symbols.iter().cloned()))
}

/// `sub rsp, n` as the whole prologue.
fn allocates(bytes: u16) -> Vec<u8> {
    let [low, high] = (bytes / 8).to_le_bytes();
    vec![1, 4, 2, 0, 4, 1, low, high]
}

/// What a trap entry does above a machine frame with an error code: `push rbp; sub rsp, 158`.
fn trap_entry() -> Vec<u8> {
    vec![1, 8, 4, 0, 8, 1, 0x2b, 0, 1, 5 << 4, 0, 0xa | 1 << 4]
}

/// An x64 image with nothing in it but functions' unwind data, as a file and as it lies in memory: sections begin
/// where they do in both.
fn image(stamp: u32, size: u32, functions: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
    const TABLE: usize = 0x400;
    let mut file = vec![0; 0x1000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let word = |value: u32| value.to_le_bytes();
    put(0, b"MZ");
    put(0x3c, &word(0x80));
    put(0x80, b"PE\0\0\x64\x86");
    put(0x88, &word(stamp));
    put(0x94, &0xf0_u16.to_le_bytes());
    let optional = 0x98;
    put(optional, &0x20b_u16.to_le_bytes());
    for (at, value) in [(56, size), (60, 0x1000), (108, 16), (112 + 24, TABLE as u32)] {
        put(optional + at, &word(value));
    }
    put(optional + 112 + 28, &word(12 * functions.len() as u32));
    let mut data = TABLE + 12 * functions.len();
    for (index, (begin, end, info)) in functions.iter().enumerate() {
        let entry = [*begin, *end, data as u32].map(u32::to_le_bytes);
        put(TABLE + 12 * index, entry.as_flattened());
        put(data, info);
        data += info.len().next_multiple_of(4);
    }
    file
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stopcode-stacks-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(Path::new(&self.0));
    }
}

fn stack(machine: &Machine, kind: StackKind) -> &Stack {
    machine.stacks().iter().find(|stack| stack.kind == kind).unwrap()
}

fn labels(stack: &Stack) -> Vec<(String, Trust)> {
    stack.frames.iter().map(|frame| (frame.place.label().unwrap_or_default(), frame.trust)).collect()
}

const FILTER: (u64, u32, u32) = (0xffff_f802_1a46_0000, 0x60a3_c11e, 0xe000);

fn filter_functions() -> Vec<(u32, u32, Vec<u8>)> {
    vec![(0x1e00, 0x2000, allocates(0x58)), (0x2a00, 0x2c00, allocates(0x78))]
}

/// Both of its frames are exact, the next function's image is not there, and that is said.
fn is_unwound_as_far_as_the_image_goes(machine: &Machine) {
    let stack = stack(machine, StackKind::Exception);
    let known = [
        ("exnetflt+0x2b1c".to_owned(), Trust::Context),
        ("exnetflt+0x1f44".to_owned(), Trust::Unwind),
        ("ndis+0x1e90d".to_owned(), Trust::Unwind),
    ];
    assert_eq!(labels(stack)[..3], known);
    assert!(stack.frames[3].gap_before && !stack.frames[3].trust.is_high());
    assert_eq!(stack.refused, [(2, "no image of ndis.sys is at hand".to_owned())]);
}

#[test]
fn an_image_among_the_symbols_unwinds_its_functions() {
    let folder = Folder::new("file");
    let (_, stamp, size) = FILTER;
    let file = folder.write("exnetflt.sys", &image(stamp, size, &filter_functions()));
    is_unwound_as_far_as_the_image_goes(&opened(&described("driver-null-write"), &[file]));
}

#[test]
fn an_image_of_another_build_is_not_taken() {
    let folder = Folder::new("other");
    let (_, stamp, size) = FILTER;
    let machine = described("driver-null-write");
    let alone = opened(&machine, &[]);
    for (name, bytes) in [
        ("a.sys", image(stamp + 1, size, &filter_functions())),
        ("b.sys", image(stamp, size + 0x1000, &filter_functions())),
        ("c.sys", image(stamp, size, &[])),
    ] {
        let file = folder.write(name, &bytes);
        assert_eq!(opened(&machine, &[file]).stacks(), alone.stacks(), "{name}");
    }
}

#[test]
fn an_image_in_memory_unwinds_its_functions() {
    let (base, stamp, size) = FILTER;
    let mut machine = described("driver-null-write");
    let bytes = image(stamp, size, &filter_functions());
    machine.memory.push(Code { at: Hex(base), bytes: Bytes::from(bytes.clone()), about: String::new() });
    is_unwound_as_far_as_the_image_goes(&opened(&machine, &[]));

    // The unwind data lies on a page that is not there: nothing is made up, and the file steps in.
    let folder = Folder::new("pages");
    let mut cut = bytes.clone();
    cut.truncate(0x400 + 2 * 12);
    machine.memory.last_mut().unwrap().bytes = Bytes::from(cut);
    let cut = opened(&machine, &[]);
    let found = stack(&cut, StackKind::Exception);
    assert!(found.refused[0].1.starts_with("the unwind data is missing: not in this dump"), "{found:?}");
    assert!(found.frames[1].gap_before && !found.frames[1].trust.is_high());
    let file = folder.write("exnetflt.sys", &bytes);
    is_unwound_as_far_as_the_image_goes(&opened(&machine, &[file]));

    // A header that says something else than the loader recorded is damaged, or another image's.
    let other = image(stamp + 1, size, &filter_functions());
    machine.memory.last_mut().unwrap().bytes = Bytes::from(other);
    assert_eq!(opened(&machine, &[]).stacks(), opened(&described("driver-null-write"), &[]).stacks());
}

#[test]
fn from_the_double_faults_stack_into_the_guard_page_of_the_thread() {
    const TSS: u64 = 0xffff_f880_009b_0000;
    let folder = Folder::new("ist");
    let functions = [
        (0x73580, 0x73680, trap_entry()),
        (0x75100, 0x75200, allocates(0x138)),
        (0x75bc0, 0x75cc0, allocates(0x28)),
        (0x7a790, 0x7aa00, allocates(0xc8)),
        (0x94570, 0x94900, allocates(0xb8)),
        (0xd6100, 0xd6200, allocates(0x1e8)),
    ];
    let nt = folder.write("ntoskrnl.exe", &image(0x521e_a035, 0x5e_6000, &functions));
    let mut machine = described("seed-double-fault");
    let prcb = machine.processors.iter().find(|cpu| cpu.number == machine.crash_processor).unwrap().prcb.0;
    let mut memory = |at: u64, word: u64| {
        machine.memory.push(Code {
            at: Hex(at),
            bytes: Bytes::from(word.to_le_bytes().to_vec()),
            about: String::new(),
        });
    };
    memory(prcb - 0x180 + 8, TSS);
    memory(TSS + 0x24, 0xffff_f880_009b_a0c0);
    // The descriptor table: NMI, double fault and machine check on entries 3, 1 and 2.
    memory(prcb - 0x180 + 0x38, TSS + 0x1000);
    for (vector, entry) in [(2, 3), (8, 1), (0x12, 2)] {
        memory(TSS + 0x1000 + 16 * vector, 0x8e00 << 40 | entry << 32);
    }
    let machine = opened(&machine, &[nt]);
    let stack = stack(&machine, StackKind::BugCheck);
    let frames: Vec<_> = stack.frames.iter().map(|f| (f.stack_pointer.0, f.area, f.trust)).take(7).collect();
    let (ist, thread) = (Some(StackArea::Ist(1)), Some(StackArea::Thread));
    assert_eq!(
        frames,
        [
            (0xffff_f880_009b_9de8, ist, Trust::Context),
            (0xffff_f880_009b_9df0, ist, Trust::Unwind),
            (0xffff_f880_009b_9f30, ist, Trust::Unwind),
            (0xffff_f880_03dc_cfd0, thread, Trust::MachineFrame),
            (0xffff_f880_03dc_d090, thread, Trust::Unwind),
            (0xffff_f880_03dc_d160, thread, Trust::Unwind),
            (0xffff_f880_03dc_d350, thread, Trust::Unwind),
        ]
    );
    let crossing = stack.frames[3].crossing.unwrap();
    assert_eq!(
        (crossing.turn, crossing.switch()),
        (Turn::DoubleFault, Some((StackArea::Ist(1), StackArea::Thread)))
    );
    assert_eq!(crossing.trap_frame, Some(VirtAddr(0xffff_f880_009b_9f30)));
    assert_eq!(stack.frames[2].trap_frame, crossing.trap_frame);
    assert_eq!(stack.bytes(1), Some(0x140));
    assert_eq!(stack.bytes(2), None, "another stack begins");
    assert_eq!(stack.bytes(3), Some(0xc0));
}

#[test]
fn a_thread_that_does_not_run_is_walked_from_where_it_was_switched_out() {
    const BASE: u64 = 0xffff_f304_8000_6000;
    const LIMIT: u64 = BASE - 0x6000;
    const KERNEL: u64 = 0xffff_f802_14e0_0000;
    let mut machine = described("driver-null-write");
    let mut thread = machine.threads[1].clone();
    let at = VirtAddr(0xffff_b280_00ff_0080);
    thread.at = Hex(at.0);
    thread.state = 5;
    (thread.stack_limit, thread.stack_base) = (Hex(LIMIT), Hex(BASE));
    (thread.initial_stack, thread.kernel_stack) = (Hex(BASE - 0x370), Hex(BASE - 0x800));
    machine.threads.push(thread);
    let switch = BASE - 0x800;
    let word = |at: u64, value: u64| Code {
        at: Hex(at),
        bytes: Bytes::from(value.to_le_bytes().to_vec()),
        about: String::new(),
    };
    let mut stack = word(switch, 0);
    stack.bytes = Bytes::from(vec![0; 0x800]);
    for (at, value) in [(0x38, KERNEL + 0x3f_9a66), (0x78, KERNEL + 0x2_1234), (0x100, KERNEL + 0x30_0100)] {
        stack.bytes.0[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    machine.memory.push(stack.clone());

    // SwapContext's caller keeps 0x38 bytes, its caller 0x80.
    let folder = Folder::new("switched");
    let functions = [(0x2_1000, 0x2_2000, allocates(0x80)), (0x3f_9a00, 0x3f_9b00, allocates(0x38))];
    let nt = folder.write("ntoskrnl.exe", &image(0x0d83_33e6, 0x104_6000, &functions));
    let opened_once = opened(&machine, &[nt]);
    let found = opened_once.stack_of(at);
    let walked = found.value().unwrap();
    let frames: Vec<_> = walked
        .frames
        .iter()
        .map(|f| (f.instruction.0 - KERNEL, f.stack_pointer.0 - switch, f.trust))
        .collect();
    assert_eq!(
        frames,
        [
            (0x3f_9a66, 0x40, Trust::Context),
            (0x2_1234, 0x80, Trust::Unwind),
            (0x30_0100, 0x108, Trust::Unwind)
        ]
    );
    assert_eq!(walked.frames[0].crossing.unwrap().turn, Turn::SwitchedOut);

    // One that runs is walked from its processor's registers.
    let running = opened_once.processors()[0].clone();
    let of_processor = opened_once.stack_of(running.thread.unwrap());
    assert_eq!(of_processor.value().unwrap().frames[0].instruction, running.registers.unwrap().instruction());

    // No code where the switch should return to, no thread, no stack: each has its reason.
    let mut broken = machine.clone();
    broken.memory.last_mut().unwrap().bytes.0[0x38..0x40].fill(0);
    let reason = |machine: &stopcode_synth::Machine, at| {
        opened(machine, &[]).stack_of(at).reason().unwrap().to_owned()
    };
    assert_eq!(reason(&broken, at), "what lies at KTHREAD.KernelStack is no KSWITCH_FRAME");
    assert!(reason(&machine, VirtAddr(0xffff_b280_00ff_f080)).contains("not in this dump"));
    broken.memory.pop();
    assert!(reason(&broken, at).starts_with("the stack's memory is missing"));
}

#[test]
fn an_expanded_stack_leads_back_to_the_one_before() {
    const CONTROL: u64 = 0x370;
    let mut machine = described("driver-null-write");
    let (base, before) = (0xffff_f304_8000_6000_u64, 0xffff_f304_9000_6000_u64);
    let mut thread = machine.threads[1].clone();
    let at = VirtAddr(0xffff_b280_00ff_0080);
    thread.at = Hex(at.0);
    (thread.stack_limit, thread.stack_base) = (Hex(base - 0x6000), Hex(base));
    (thread.initial_stack, thread.kernel_stack) = (Hex(base - CONTROL), Hex(base - 0x500));
    machine.threads.push(thread);
    let kernel = 0xffff_f802_14e0_0000_u64;
    let mut put = |at: u64, words: &[(usize, u64)], size: usize| {
        let mut bytes = vec![0; size];
        for (offset, word) in words {
            bytes[*offset..offset + 8].copy_from_slice(&word.to_le_bytes());
        }
        machine.memory.push(Code { at: Hex(at), bytes: Bytes::from(bytes), about: String::new() });
    };
    // Rbp of the switch routine keeps the stack pointer of the stack before: mov rbp, rsp; mov rsp, new.
    let old = before - 0x400;
    let control = [(0x190, base), (0x198, base - 0x6000), (0x1a0, before), (0x1a8, before - 0x6000)];
    put(base - 0x500, &[&[(0x30, old), (0x38, kernel + 0x3f_9a66)][..], &control].concat(), 0x500);
    put(old, &[(8, kernel + 0x30_0100)], 0x400);
    let set_frame = vec![1, 4, 2, 5, 4, 3, 1, 5 << 4];
    let folder = Folder::new("expanded");
    let nt =
        folder.write("ntoskrnl.exe", &image(0x0d83_33e6, 0x104_6000, &[(0x3f_9a00, 0x3f_9b00, set_frame)]));
    let machine = opened(&machine, &[nt]);
    let found = machine.stack_of(at);
    let frames = &found.value().unwrap().frames;
    assert_eq!((frames[0].area, frames[1].area), (Some(StackArea::Expanded), Some(StackArea::Thread)));
    assert_eq!(frames[1].stack_pointer.0, old + 0x10);
    let crossing = frames[1].crossing.unwrap();
    assert_eq!(crossing.turn, Turn::StackSwitch);
    assert_eq!(crossing.switch(), Some((StackArea::Expanded, StackArea::Thread)));
}

#[test]
fn every_word_of_a_stack_says_what_it_is() {
    let machine = opened(&described("seed-double-fault"), &[]);
    let stack = stack(&machine, StackKind::BugCheck);
    let from = stack.frames[0].stack_pointer;
    let words = machine.stack_words(stack, from, 0x80);
    let mark = |at: u64| words.iter().find(|word| word.address.0 == at).unwrap().mark;
    assert_eq!(mark(0xffff_f880_009b_9de8), WordMark::Return(1));
    assert_eq!(mark(0xffff_f880_009b_9df0), WordMark::Plain);
    assert_eq!(mark(0xffff_f880_009b_9f28), WordMark::Return(2));
    assert_eq!(mark(0xffff_f880_009b_9f30), WordMark::TrapFrame(VirtAddr(0xffff_f880_009b_9f30)));
    assert_eq!(mark(0xffff_f880_009b_a0b8), WordMark::TrapFrame(VirtAddr(0xffff_f880_009b_9f30)));
    let thread = machine.stack_words(stack, VirtAddr(0xffff_f880_03dc_d000), usize::MAX);
    assert_eq!(thread.len(), 0x6000 / 8, "to the stack's end and no further");
    let stale = thread.iter().filter(|word| word.mark == WordMark::Stale).count();
    let returns = thread.iter().filter(|word| matches!(word.mark, WordMark::Return(_))).count();
    assert!(stale > 0 && returns > 20, "{stale} stale, {returns} live");
    for word in &thread {
        if let WordMark::Return(index) = word.mark {
            assert_eq!(word.value, stack.frames[index].instruction);
        }
    }
}

#[test]
fn use_and_recursion_are_counted_by_frames() {
    let machine = opened(&described("seed-double-fault"), &[]);
    let mut stack = stack(&machine, StackKind::Exception).clone();
    let whole: u64 = (0..stack.frames.len()).filter_map(|index| stack.bytes(index)).sum();
    let modules = stack.module_use();
    assert_eq!(modules.iter().map(|module| module.bytes).sum::<u64>(), whole);
    assert_eq!(modules.iter().map(|module| module.frames).sum::<usize>(), stack.frames.len());
    assert!(modules.is_sorted_by(|a, b| a.bytes >= b.bytes));
    assert_eq!(stack.recursions(), []);

    // a b c b c b c d d d: one cycle of two, then one of one.
    let (frame, base) = (stack.frames[2].clone(), 0xffff_f880_03dd_0000);
    stack.frames = [1, 2, 3, 2, 3, 2, 3, 4, 4, 4]
        .into_iter()
        .enumerate()
        .map(|(index, at)| Frame {
            instruction: VirtAddr(at),
            stack_pointer: VirtAddr(base + 0x40 * index as u64),
            gap_before: false,
            crossing: None,
            ..frame.clone()
        })
        .collect();
    assert_eq!(
        stack.recursions(),
        [
            Recursion { first: 1, period: 2, rounds: 3, bytes: 6 * 0x40 },
            Recursion { first: 7, period: 1, rounds: 3, bytes: 2 * 0x40 }
        ]
    );
}

#[test]
fn of_trap_frames_at_one_instruction_the_one_about_the_argument_counts() {
    let mut machine = described("driver-null-write");
    let real = machine.traps[0].clone();
    assert_eq!(real.fault_address, machine.bug_check.arguments[0]);
    // An earlier fault of the same instruction, left over further down: it would be found first.
    let mut earlier = real.clone();
    earlier.at = Hex(real.at.0 + 0x600);
    earlier.registers.rsp = Hex(earlier.at.0 + 0x190);
    earlier.fault_address = Hex(0x1234);
    let crashed = machine.processors.iter().position(|cpu| cpu.number == machine.crash_processor).unwrap();
    assert!(machine.processors[crashed].registers.rsp.0 < real.at.0);
    machine.traps = vec![real.clone(), earlier.clone()];
    let found =
        |machine: &stopcode_synth::Machine| opened(machine, &[]).context().value().unwrap().trap_frame;
    assert_eq!(found(&machine), Some(VirtAddr(real.at.0)));
    machine.traps[0].fault_address = earlier.fault_address;
    machine.traps[1].fault_address = real.fault_address;
    assert_eq!(found(&machine), Some(VirtAddr(earlier.at.0)));
}
