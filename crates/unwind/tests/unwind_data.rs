//! x64 unwind data written for the purpose: prologues and epilogues at every instruction, machine frames, chains, and
//! data full of anything.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use proptest::prelude::*;
use stopcode_base::{Arm64Registers, Memory, MissReason, Registers, SliceMemory, VirtAddr, X64Registers};
use stopcode_unwind::{
    Arm64Frame, Code, CodeAt, End, ImageView, Images, Options, Reason, Refusal, Stack, StackKind, StackRange,
    Stands, Trust, X64Frame, X64Rules, unwind_arm64, unwind_x64, walk, walk_with_images,
};

const BASE: u64 = 0xffff_f800_0000_0000;
const LOW: u64 = 0xffff_8000_0000_0000;
const PDATA: u32 = 0x3000;
const XDATA: u32 = 0x2000;
const TEXT: u32 = 0x1000;

/// An image of four pages (headers, code, unwind data, function table) and a stack.
struct Machine {
    image: Vec<u8>,
    entries: u32,
    stack: Vec<u8>,
}

impl Machine {
    fn new() -> Self {
        Self { image: vec![0xcc; 0x4000], entries: 0, stack: vec![0; 0x4000] }
    }

    fn write(&mut self, rva: u32, bytes: &[u8]) {
        self.image[rva as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn function(&mut self, begin: u32, end: u32, info: u32) {
        let bytes: Vec<u8> = [begin, end, info].iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(PDATA + 12 * self.entries, &bytes);
        self.entries += 1;
    }

    fn put(&mut self, address: u64, word: u64) {
        let at = (address - LOW) as usize;
        self.stack[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }

    fn view(&self) -> ImageView<'_> {
        ImageView { base: VirtAddr(BASE), pdata: (PDATA, 12 * self.entries), memory: self }
    }

    fn walk(&self, rip: u64, rsp: u64) -> Stack {
        let mut registers = X64Registers { rip, ..X64Registers::default() };
        registers.gpr[4] = rsp;
        let low = VirtAddr(LOW);
        let range = StackRange { low, high: low.plus(self.stack.len() as u64), kind: StackKind::Thread };
        walk_with_images(
            &(&Registers::X64(registers)).into(),
            self,
            self,
            self,
            &[range],
            &Options::default(),
        )
    }
}

impl Memory for Machine {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        SliceMemory { base: VirtAddr(BASE), bytes: &self.image }
            .read_some(at, buffer)
            .or_else(|_| SliceMemory { base: VirtAddr(LOW), bytes: &self.stack }.read_some(at, buffer))
    }
}

impl Images for Machine {
    fn image_at(&self, address: VirtAddr) -> Option<ImageView<'_>> {
        address.offset_from(VirtAddr(BASE)).filter(|offset| *offset < 0x4000).map(|_| self.view())
    }
}

impl Code for Machine {
    fn at(&self, address: VirtAddr) -> CodeAt {
        if self.image_at(address).is_some() { CodeAt::Module } else { CodeAt::NotCode }
    }
}

/// A function as a compiler would write it: pushes, an allocation, perhaps a frame register, saves, and an epilogue.
#[derive(Clone, Debug)]
struct Shape {
    pushes: Vec<u8>,
    allocation: u32,
    /// `lea rbp, [rsp+n*16]`
    frame: Option<u8>,
    saves: Vec<(u8, u32)>,
    saves_xmm: Vec<(u8, u32)>,
    version: u8,
}

fn shape() -> impl Strategy<Value = Shape> {
    let registers = Just(vec![3_u8, 6, 7, 12, 13, 14, 15]).prop_shuffle();
    let allocation = prop_oneof![Just(0), 1_u32..=16, 17_u32..0x60].prop_map(|units| units * 8);
    (registers, 0..5_usize, allocation, proptest::option::of(0..16_u8), 0..3_usize, 0..3_usize, 1..=2_u8)
        .prop_map(|(registers, pushed, allocation, frame, saved, xmm, version)| {
            let frame = frame.filter(|units| u32::from(*units) * 16 <= allocation);
            let mut pushes = registers[..pushed].to_vec();
            if frame.is_some() {
                pushes.insert(0, 5);
            }
            let room = allocation / 16;
            let saves = registers[pushed..].iter().copied().zip(0..).take(saved.min(room as usize));
            let xmm = (6..).zip(0..).take(xmm.min((room as usize).saturating_sub(saved)));
            Shape {
                pushes,
                allocation,
                frame,
                saves: saves.map(|(register, at)| (register, at * 8)).collect(),
                saves_xmm: xmm.map(|(register, at)| (register, 16 * (at + saved as u32))).collect(),
                version,
            }
        })
}

/// What one instruction does, and its bytes.
enum Does {
    Push(u8),
    Allocate(u32),
    SetFrame(u32),
    Save(u8, u32),
    SaveXmm(u8, u32),
    /// Loads the register back.
    Load(u8, u32),
    LoadXmm(u8, u32),
    Free(u32),
    FreeByFrame(u32),
    Pop(u8),
    /// Changes what the function has saved, as its body would.
    Body,
    Return,
}

/// The bytes of an instruction, and what it does.
type Instruction = (Vec<u8>, Does);

fn rex(register: u8) -> Vec<u8> {
    if register < 8 { Vec::new() } else { vec![0x41] }
}

/// The instructions of a shape, in order, with their bytes; the unwind codes; the prologue's length.
fn compile(shape: &Shape) -> (Vec<Instruction>, Vec<u8>, u8) {
    let mut code: Vec<Instruction> = Vec::new();
    let mut ops: Vec<(u8, Vec<u8>)> = Vec::new();
    let end = |code: &Vec<Instruction>| code.iter().map(|(bytes, _)| bytes.len()).sum::<usize>() as u8;
    for &register in &shape.pushes {
        code.push(([rex(register), vec![0x50 + (register & 7)]].concat(), Does::Push(register)));
        ops.push((end(&code), vec![register << 4]));
    }
    if shape.allocation != 0 {
        let size = shape.allocation.to_le_bytes();
        code.push(([&[0x48, 0x81, 0xec][..], &size].concat(), Does::Allocate(shape.allocation)));
        ops.push((
            end(&code),
            match shape.allocation / 8 {
                units @ 1..=16 => vec![2 | (units as u8 - 1) << 4],
                units => [vec![1], (units as u16).to_le_bytes().to_vec()].concat(),
            },
        ));
    }
    if let Some(units) = shape.frame {
        let distance = u32::from(units) * 16;
        code.push((
            [&[0x48, 0x8d, 0xac, 0x24][..], &distance.to_le_bytes()].concat(),
            Does::SetFrame(distance),
        ));
        ops.push((end(&code), vec![3]));
    }
    for &(register, at) in &shape.saves {
        code.push((vec![0x90; 8], Does::Save(register, at)));
        ops.push((end(&code), [vec![4 | register << 4], ((at / 8) as u16).to_le_bytes().to_vec()].concat()));
    }
    for &(register, at) in &shape.saves_xmm {
        code.push((vec![0x90; 8], Does::SaveXmm(register, at)));
        ops.push((end(&code), [vec![8 | register << 4], ((at / 16) as u16).to_le_bytes().to_vec()].concat()));
    }
    let prolog = end(&code);
    code.push((vec![0x90], Does::Body));
    code.push((vec![0x90], Does::Body));
    code.extend(shape.saves.iter().map(|&(register, at)| (vec![0x90; 8], Does::Load(register, at))));
    code.extend(shape.saves_xmm.iter().map(|&(register, at)| (vec![0x90; 8], Does::LoadXmm(register, at))));
    if let Some(units) = shape.frame {
        let back = shape.allocation - u32::from(units) * 16;
        code.push(([&[0x48, 0x8d, 0xa5][..], &back.to_le_bytes()].concat(), Does::FreeByFrame(back)));
    } else if shape.allocation != 0 {
        let size = shape.allocation.to_le_bytes();
        code.push(([&[0x48, 0x81, 0xc4][..], &size].concat(), Does::Free(shape.allocation)));
    }
    let before_pops = end(&code);
    for &register in shape.pushes.iter().rev() {
        code.push(([rex(register), vec![0x58 + (register & 7)]].concat(), Does::Pop(register)));
    }
    code.push((vec![0xc3], Does::Return));
    let mut codes = Vec::new();
    if shape.version == 2 {
        codes.extend([end(&code) - before_pops, 6 | 1 << 4]);
    }
    for (offset, op) in ops.iter().rev() {
        codes.push(*offset);
        codes.extend(op);
    }
    (code, codes, prolog)
}

/// Puts the function and its unwind data into the image.
fn prepare(machine: &mut Machine, shape: &Shape) -> Vec<Instruction> {
    let (code, codes, prolog) = compile(shape);
    let bytes: Vec<u8> = code.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    machine.write(TEXT, &bytes);
    let frame_byte = shape.frame.map_or(0, |units| 5 | units << 4);
    machine.write(XDATA, &[shape.version, prolog, (codes.len() / 2) as u8, frame_byte]);
    machine.write(XDATA + 4, &codes);
    machine.function(TEXT, TEXT + bytes.len() as u32, XDATA);
    code
}

fn check(shape: &Shape) -> Result<usize, TestCaseError> {
    let mut machine = Machine::new();
    let code = prepare(&mut machine, shape);
    let mut now =
        X64Frame { rip: BASE + u64::from(TEXT), known: 0xffff, known_xmm: 0xffff, ..X64Frame::default() };
    for (register, value) in now.gpr.iter_mut().zip(0x1111_u64..) {
        *register = value << 16 | value;
    }
    for (register, value) in now.xmm.iter_mut().zip(0x2222_u128..) {
        *register = value << 64 | value;
    }
    now.gpr[4] = LOW + 0x2008;
    let entry = now;
    let returns_to = BASE + u64::from(TEXT) + 0x800;
    machine.put(LOW + 0x2008, returns_to);
    for (bytes, does) in &code {
        let caller = unwind_x64(&machine.view(), &machine, &now, Stands::Interrupted);
        let caller = caller.map_err(|why| TestCaseError::fail(why.to_string()))?.frame;
        let at = now.rip - BASE;
        prop_assert_eq!((caller.rip, caller.rsp()), (returns_to, LOW + 0x2010), "at {:#x}", at);
        for register in [3_u8, 5, 6, 7, 12, 13, 14, 15] {
            prop_assert_eq!(caller.get(register), entry.get(register), "register {} at {:#x}", register, at);
        }
        prop_assert_eq!(&caller.xmm[6..], &entry.xmm[6..], "at {:#x}", at);
        now.rip += bytes.len() as u64;
        run(&mut machine, &mut now, shape, does);
    }
    Ok(code.len())
}

fn run(machine: &mut Machine, now: &mut X64Frame, shape: &Shape, does: &Does) {
    let rsp = now.gpr[4];
    let word = |machine: &Machine, at: u64| machine.read_u64(VirtAddr(at)).unwrap();
    match *does {
        Does::Push(register) => {
            machine.put(rsp - 8, now.gpr[usize::from(register)]);
            now.gpr[4] -= 8;
        }
        Does::Allocate(size) => now.gpr[4] -= u64::from(size),
        Does::SetFrame(distance) => now.gpr[5] = rsp + u64::from(distance),
        Does::Save(register, at) => machine.put(rsp + u64::from(at), now.gpr[usize::from(register)]),
        Does::SaveXmm(register, at) => {
            let value = now.xmm[usize::from(register)];
            machine.put(rsp + u64::from(at), value as u64);
            machine.put(rsp + u64::from(at) + 8, (value >> 64) as u64);
        }
        Does::Body => {
            let pushed = shape.pushes.iter().filter(|register| shape.frame.is_none() || **register != 5);
            for register in pushed.copied().chain(shape.saves.iter().map(|save| save.0)) {
                now.gpr[usize::from(register)] ^= 0x5555;
            }
            for (register, _) in &shape.saves_xmm {
                now.xmm[usize::from(*register)] ^= 0x5555;
            }
        }
        Does::Load(register, at) => now.gpr[usize::from(register)] = word(machine, rsp + u64::from(at)),
        Does::LoadXmm(register, at) => {
            let at = rsp + u64::from(at);
            now.xmm[usize::from(register)] =
                u128::from(word(machine, at)) | u128::from(word(machine, at + 8)) << 64;
        }
        Does::Free(size) => now.gpr[4] += u64::from(size),
        Does::FreeByFrame(back) => now.gpr[4] = now.gpr[5] + u64::from(back),
        Does::Pop(register) => {
            now.gpr[usize::from(register)] = word(machine, rsp);
            now.gpr[4] += 8;
        }
        Does::Return => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_instruction_of_any_function(shape in shape()) {
        prop_assert!(check(&shape)? >= 3);
    }

    /// Whatever the tables, the code and the stack hold, a frame is unwound or refused.
    #[test]
    fn any_data_is_unwound_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..0x400),
        gpr in any::<[u64; 16]>(),
        known in any::<u16>(),
        at in 0..0x400_u32,
        table in (0..0x400_u32, any::<u32>()),
    ) {
        let memory = SliceMemory { base: VirtAddr(BASE), bytes: &bytes };
        let image = ImageView { base: VirtAddr(BASE), pdata: table, memory: &memory };
        let frame = X64Frame { rip: BASE + u64::from(at), gpr, known, ..X64Frame::default() };
        for stands in [Stands::Interrupted, Stands::AfterCall] {
            if let Ok(caller) = unwind_x64(&image, &memory, &frame, stands) {
                prop_assert_eq!(caller.frame.known & !0xf0f8, 0);
            }
        }
    }

    #[test]
    fn any_arm64_data_is_unwound_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..0x400),
        entry in (any::<u32>(), any::<u8>()),
        at in 0..0x400_u32,
        known in any::<u32>(),
    ) {
        // One entry that holds the address, with data that is anything: packed, or a record somewhere in the bytes.
        let mut bytes = bytes;
        let data = if entry.1 & 1 == 0 { entry.0 & 0x3fc } else { entry.0 };
        bytes.splice(0..0, [0_u32.to_le_bytes(), data.to_le_bytes()].concat());
        let memory = SliceMemory { base: VirtAddr(BASE), bytes: &bytes };
        let image = ImageView { base: VirtAddr(BASE), pdata: (0, 8), memory: &memory };
        let frame = Arm64Frame { pc: BASE + u64::from(at & !3), sp: BASE, known, ..Arm64Frame::default() };
        for stands in [Stands::Interrupted, Stands::AfterCall] {
            if let Ok(caller) = unwind_arm64(&image, &memory, &frame, stands) {
                prop_assert!(caller.interrupted.is_some() || caller.frame.known & !0x3ff8_0000 == 0);
            }
        }
    }

    /// A rule that was kept undoes a frame as the data itself does, whatever is missing of the stack.
    #[test]
    fn a_kept_rule_says_what_the_data_says(
        shape in proptest::option::weighted(0.7, shape()),
        info in proptest::collection::vec(any::<u8>(), 0x40),
        at in 0..0x60_u32,
        pointers in proptest::collection::vec(0..0x40_u64, 16),
        held in (0..0x200_usize, 0..0x200_usize),
        stands in prop_oneof![Just(Stands::Interrupted), Just(Stands::AfterCall)],
    ) {
        let mut machine = Machine::new();
        machine.write(XDATA, &info);
        machine.write(XDATA, &[1 + (info[0] & 1), info[1], info[2] & 7]);
        if let Some(shape) = &shape {
            prepare(&mut machine, shape);
        } else {
            machine.function(TEXT, TEXT + 0x60, XDATA);
        }
        let gpr: Vec<u64> = pointers.iter().map(|words| LOW + 8 * words).collect();
        let frame = X64Frame {
            rip: BASE + u64::from(TEXT + at),
            gpr: gpr.try_into().unwrap(),
            known: 0xffff,
            known_xmm: 0xffff,
            ..X64Frame::default()
        };
        let filled: Vec<u8> = (0..=255).cycle().take(held.1).collect();
        let stack = SliceMemory { base: VirtAddr(LOW + held.0 as u64), bytes: &filled };
        let expected = unwind_x64(&machine.view(), &stack, &frame, stands);
        let rules = X64Rules::new();
        for _ in 0..2 {
            let kept = rules.unwind(&machine.view(), &stack, &frame, stands);
            prop_assert_eq!(format!("{kept:?}"), format!("{expected:?}"));
        }
    }

    /// The same of a sound function table whose unwind data is anything.
    #[test]
    fn any_unwind_info_is_walked_and_left(
        info in proptest::collection::vec(any::<u8>(), 0x200),
        version in 1..=2_u8,
        words in proptest::collection::vec((0..0x800_u64, any::<u16>()), 0..0x100),
    ) {
        let mut machine = Machine::new();
        machine.write(XDATA, &info);
        machine.write(XDATA, &[version | info[0] & 0x38]);
        machine.function(TEXT, TEXT + 0x1000, XDATA);
        for (at, word) in words {
            machine.put(LOW + 8 * at, BASE + u64::from(TEXT) + u64::from(word & 0xfff));
        }
        let stack = machine.walk(BASE + u64::from(TEXT) + 0x300, LOW + 0x40);
        prop_assert!(stack.frames.len() <= Options::default().max_frames);
        let kernel = stack.frames.len() - usize::from(stack.ended == End::UserMode);
        for pair in stack.frames[..kernel].windows(2) {
            prop_assert!(pair[0].stack_pointer < pair[1].stack_pointer);
        }
    }
}

#[test]
fn a_register_saved_between_words_is_found_by_a_kept_rule_too() {
    let mut machine = Machine::new();
    // SAVE_NONVOL_FAR rbx at 0x25; ALLOC_SMALL 0x40.
    machine.write(XDATA, &[1, 8, 4, 0, 8, 0x35, 0x25, 0, 0, 0, 4, 0x72]);
    machine.function(TEXT, TEXT + 0x60, XDATA);
    machine.put(LOW + 0x20, 0x0011_2233_4455_6677);
    machine.put(LOW + 0x28, 0x8899_aabb_ccdd_eeff);
    let mut frame = X64Frame { rip: BASE + u64::from(TEXT) + 0x20, known: 0xffff, ..X64Frame::default() };
    frame.gpr[4] = LOW;
    let rules = X64Rules::new();
    for _ in 0..2 {
        let caller = rules.unwind(&machine.view(), &machine, &frame, Stands::Interrupted).unwrap();
        assert_eq!((caller.frame.get(3), caller.slot.0), (Some(0xbbcc_ddee_ff00_1122), LOW + 0x40));
    }
}

#[test]
fn a_circle_of_chained_entries_is_refused() {
    let mut machine = Machine::new();
    machine.function(TEXT, TEXT + 0x100, XDATA);
    machine.write(XDATA, &[1 | 4 << 3, 0, 0, 0]);
    let entry: Vec<u8> = [TEXT, TEXT + 0x100, XDATA].iter().flat_map(|word| word.to_le_bytes()).collect();
    machine.write(XDATA + 4, &entry);
    machine.write(TEXT, &[0x90; 0x80]);
    let frame = X64Frame { rip: BASE + u64::from(TEXT) + 0x10, known: 0xffff, ..X64Frame::default() };
    let refused =
        |machine: &Machine| unwind_x64(&machine.view(), machine, &frame, Stands::Interrupted).unwrap_err();
    assert_eq!(refused(&machine), Refusal::ChainTooLong);
    // An indirect entry that names itself.
    machine.write(PDATA + 8, &(PDATA | 1).to_le_bytes());
    assert_eq!(refused(&machine), Refusal::ChainTooLong);
}

#[test]
fn what_is_not_understood_is_refused() {
    let refused = |info: &[u8]| {
        let mut machine = Machine::new();
        machine.function(TEXT, TEXT + 0x100, XDATA);
        machine.write(TEXT, &[0x90; 0x80]);
        machine.write(XDATA, info);
        let frame = X64Frame { rip: BASE + u64::from(TEXT) + 0x10, ..X64Frame::default() };
        unwind_x64(&machine.view(), &machine, &frame, Stands::AfterCall).unwrap_err()
    };
    assert_eq!(refused(&[3, 0, 0, 0]), Refusal::Version(3));
    assert_eq!(refused(&[1, 0, 1, 0, 0, 11]), Refusal::Code(11));
    assert_eq!(refused(&[1, 0, 1, 0, 0, 1]), Refusal::Malformed, "an allocation without its size");
    assert_eq!(refused(&[1, 0, 1, 0, 0, 3]), Refusal::Malformed, "a frame register that is none");
    assert_eq!(refused(&[1, 0, 1, 5, 0, 3]), Refusal::RegisterUnknown(5));
    assert!(matches!(refused(&[1, 0, 1, 0, 0, 10]), Refusal::StackMissing(_)), "no stack at rsp 0");
}

/// A trap entry as the kernel's are: a `KTRAP_FRAME` at its stack pointer that ends with the machine frame, and rbp
/// 0x80 above its start.
fn with_trap_entry() -> Machine {
    let mut machine = Machine::new();
    // 000: sub rsp, 28; ...  100: the trap entry: push rbp; sub rsp, 158; lea rbp, [rsp+80]
    machine.function(TEXT, TEXT + 0x100, XDATA);
    machine.function(TEXT + 0x100, TEXT + 0x200, XDATA + 0x100);
    machine.write(TEXT, &[0x90; 0x200]);
    machine.write(XDATA, &[1, 4, 1, 0, 4, 2 | 4 << 4]);
    let entry = [1, 0x10, 5, 5 | 8 << 4, 0x10, 3, 8, 1, 0x2b, 0, 1, 5 << 4, 0, 0xa | 1 << 4];
    machine.write(XDATA + 0x100, &entry);
    machine
}

#[test]
fn through_a_trap_frame_with_its_registers() {
    let text = BASE + u64::from(TEXT);
    let mut machine = with_trap_entry();
    // A function called by the trap entry, the entry, the interrupted function, its caller, the thread's start.
    let (callee, trap) = (LOW + 0x100, LOW + 0x130);
    machine.put(callee + 0x28, text + 0x150);
    let interrupted = trap + 0x190;
    for (offset, word) in [
        (0x38, 0xcc),         // rcx
        (0x158, 0xb0b),       // rbp, pushed
        (0x168, text + 0x20), // the machine frame
        (0x170, 0x10),
        (0x178, 0x246),
        (0x180, interrupted),
        (0x188, 0x18),
    ] {
        machine.put(trap + offset, word);
    }
    machine.put(interrupted + 0x28, text + 0x60);
    let mut registers = X64Registers { rip: text + 0x40, ..X64Registers::default() };
    registers.gpr[4] = callee;
    registers.gpr[5] = trap + 0x80;
    let low = VirtAddr(LOW);
    let range = StackRange { low, high: low.plus(0x4000), kind: StackKind::Thread };
    let stack = walk_with_images(
        &(&Registers::X64(registers)).into(),
        &machine,
        &machine,
        &machine,
        &[range],
        &Options::default(),
    );
    let frames: Vec<_> =
        stack.frames.iter().map(|f| (f.instruction.0 - text, f.stack_pointer.0, f.trust)).collect();
    assert_eq!(
        frames,
        [
            (0x40, callee, Trust::Context),
            (0x150, trap, Trust::Unwind),
            (0x20, interrupted, Trust::MachineFrame),
            (0x60, interrupted + 0x30, Trust::Unwind),
        ]
    );
    assert_eq!(stack.ended, End::ThreadStart);
    assert_eq!(stack.trap_frames.len(), 1);
    assert!(stack.refused.is_empty());
    assert!(stack.frames[1].why.contains(&Reason::HasTrapFrameAt(VirtAddr(trap))));
    let Some(stopcode_unwind::FrameRegisters::X64(found)) = stack.frames[2].registers.as_deref() else {
        panic!()
    };
    assert_eq!((found.get(5), found.get(1), found.get(3)), (Some(0xb0b), Some(0xcc), Some(0)));
}

#[test]
fn where_the_data_ends_the_search_is_marked() {
    let text = BASE + u64::from(TEXT);
    let mut machine = with_trap_entry();
    machine.put(LOW + 0x100 + 0x28, text + 0x80);
    // That function's caller made a call outside of every function that has unwind data.
    machine.put(LOW + 0x130 + 0x28, text + 0x804);
    machine.put(LOW + 0x160 + 0x48, text + 0x905);
    machine.write(TEXT + 0x900, &[0xe8, 0, 0, 0, 0]);
    let stack = machine.walk(text + 0x40, LOW + 0x100);
    let frames: Vec<_> =
        stack.frames.iter().map(|f| (f.instruction.0 - text, f.trust.is_high(), f.gap_before)).collect();
    assert_eq!(
        frames,
        [(0x40, true, false), (0x80, true, false), (0x804, true, false), (0x905, false, true)]
    );
    assert_eq!(
        stack.refused.iter().map(|r| (r.frame, r.why)).collect::<Vec<_>>(),
        [(2, Refusal::NoEntry), (3, Refusal::NoEntry)]
    );
}

#[test]
fn what_unwind_data_says_of_a_frame_that_was_searched_for_is_no_more_sure_than_that_one() {
    let text = BASE + u64::from(TEXT);
    let mut machine = with_trap_entry();
    machine.put(LOW + 0x100 + 0x28, text + 0x804);
    machine.put(LOW + 0x130 + 0x48, text + 0x80);
    machine.put(LOW + 0x180 + 0x28, text + 0x81);
    machine.write(TEXT + 0x7b, &[0xe8, 0, 0, 0, 0]);
    let stack = machine.walk(text + 0x40, LOW + 0x100);
    let frames: Vec<_> =
        stack.frames.iter().map(|f| (f.instruction.0 - text, f.trust, f.gap_before)).collect();
    assert_eq!(
        frames,
        [
            (0x40, Trust::Context, false),
            (0x804, Trust::Unwind, false),
            (0x80, Trust::ScanCall, true),
            (0x81, Trust::UnwindFromScan, false)
        ]
    );
}

#[test]
fn a_stack_pointer_in_the_guard_page_is_searched_from_the_lowest_page_there_is() {
    let text = BASE + u64::from(TEXT);
    let mut machine = Machine::new();
    machine.put(LOW + 0x48, text + 0x905);
    machine.write(TEXT + 0x900, &[0xe8, 0, 0, 0, 0]);
    let mut registers = X64Registers { rip: text + 0x800, ..X64Registers::default() };
    registers.gpr[X64Registers::RSP] = LOW - 0x30;
    let guarded =
        StackRange { low: VirtAddr(LOW - 0x1000), high: VirtAddr(LOW + 0x1000), kind: StackKind::Thread };
    let stack = walk(&Registers::X64(registers), &machine, &machine, &[guarded], &Options::default());
    let frames: Vec<_> = stack.frames.iter().map(|f| (f.stack_pointer.0, f.gap_before)).collect();
    assert_eq!(frames, [(LOW - 0x30, false), (LOW + 0x50, true)]);
}

/// The same image with one ARM64 entry as its function table.
struct Arm<'a>(&'a Machine);
impl Images for Arm<'_> {
    fn image_at(&self, address: VirtAddr) -> Option<ImageView<'_>> {
        self.0.image_at(address).map(|view| ImageView { pdata: (PDATA, 8), ..view })
    }
}

#[test]
fn an_arm64_walk_by_packed_data() {
    let text = BASE + u64::from(TEXT);
    let mut machine = Machine::new();
    // Packed, 0x100 bytes: x19 and x20 in 0x10 bytes, a frame record at the bottom of 0x20 more.
    let packed = 1 | 0x40 << 2 | 2 << 16 | 3 << 21 | 3 << 23;
    let entry: Vec<u8> = [TEXT, packed].iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    machine.write(PDATA, &entry);
    let (low, sp) = (VirtAddr(LOW), LOW + 0x100);
    for (at, word) in [(0, sp + 0x30), (8, text + 0x50), (0x20, 0x1919), (0x28, 0x2020), (0x30, 0), (0x38, 0)]
    {
        machine.put(sp + at, word);
    }
    let mut registers = Arm64Registers { pc: text + 0x40, sp, ..Arm64Registers::default() };
    registers.x[29] = sp;
    let range = StackRange { low, high: low.plus(0x4000), kind: StackKind::Thread };
    let walked = walk_with_images(
        &(&Registers::Arm64(registers)).into(),
        &machine,
        &Arm(&machine),
        &machine,
        &[range],
        &Options::default(),
    );
    let frames: Vec<_> =
        walked.frames.iter().map(|f| (f.instruction.0 - text, f.stack_pointer.0, f.trust)).collect();
    assert_eq!(frames, [(0x40, sp, Trust::Context), (0x50, sp + 0x30, Trust::Unwind)]);
    assert_eq!(walked.ended, End::ThreadStart);
    let Some(stopcode_unwind::FrameRegisters::Arm64(found)) = walked.frames[1].registers.as_deref() else {
        panic!()
    };
    assert_eq!((found.get(19), found.get(20), found.get(30)), (Some(0x1919), Some(0x2020), None));
}
