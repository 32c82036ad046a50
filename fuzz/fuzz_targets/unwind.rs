//! An image and a stack that hold anything, on x64 and ARM64, from registers of which any may be unknown: a frame is
//! unwound or refused, and a walk ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_base::{Arm64Registers, Memory, MissReason, Registers, SliceMemory, VirtAddr, X64Registers};
use stopcode_unwind::{
    Code, CodeAt, ImageView, Images, Options, StackKind, StackRange, Stands, Start, walk_with_images,
};

const BASE: VirtAddr = VirtAddr(0xffff_f800_0000_0000);
const LOW: VirtAddr = VirtAddr(0xffff_8000_0000_0000);

struct Machine {
    image: Vec<u8>,
    stack: Vec<u8>,
    pdata: (u32, u32),
}

impl Memory for Machine {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        SliceMemory { base: BASE, bytes: &self.image }
            .read_some(at, buffer)
            .or_else(|_| SliceMemory { base: LOW, bytes: &self.stack }.read_some(at, buffer))
    }
}

impl Images for Machine {
    fn image_at(&self, address: VirtAddr) -> Option<ImageView<'_>> {
        let inside = address.offset_from(BASE).is_some_and(|offset| offset < self.image.len() as u64);
        inside.then_some(ImageView { base: BASE, pdata: self.pdata, memory: self })
    }
}

impl Code for Machine {
    fn at(&self, address: VirtAddr) -> CodeAt {
        if self.image_at(address).is_some() { CodeAt::Module } else { CodeAt::NotCode }
    }
}

type Input = (Vec<u8>, Vec<u8>, (u32, u32), u16, u16, [u64; 31], u32, u8);

fuzz_target!(|input: Input| {
    let (image, stack, pdata, rip, rsp, values, known, form) = input;
    let (rip, rsp) = (BASE.plus(u64::from(rip)).0, LOW.plus(u64::from(rsp) & !7).0);
    let registers = if form & 1 == 0 {
        let mut registers = X64Registers { rip, ..X64Registers::default() };
        registers.gpr.copy_from_slice(&values[..16]);
        registers.gpr[X64Registers::RSP] = rsp;
        Registers::X64(registers)
    } else {
        Registers::Arm64(Arm64Registers { x: values, sp: rsp & !15, pc: rip & !3, cpsr: 0 })
    };
    let stands = if form & 2 == 0 { Stands::Interrupted } else { Stands::AfterCall };
    // Two stacks, and what lies between them is none.
    let high = LOW.plus(stack.len() as u64);
    let middle = LOW.plus(stack.len() as u64 / 2);
    let ranges = [
        StackRange { low: LOW, high: middle, kind: StackKind::Ist(1) },
        StackRange { low: middle.plus(0x100), high, kind: StackKind::Thread },
    ];
    let ranges = &ranges[..];
    let machine = Machine { image, stack, pdata };
    let options = Options::default();
    let start = Start { registers, known, stands };
    let walked = walk_with_images(&start, &machine, &machine, &machine, ranges, &options);
    assert!(!walked.frames.is_empty() && walked.frames.len() <= options.max_frames);
    assert!(walked.refused.iter().all(|refused| refused.frame < walked.frames.len()));
});
