//! An image and a stack that hold anything: a frame is unwound or refused, and a walk ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_base::{Memory, MissReason, Registers, SliceMemory, VirtAddr, X64Registers};
use stopcode_unwind::{Code, CodeAt, ImageView, Images, Options, StackKind, StackRange, walk_with_images};

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

fuzz_target!(|input: (Vec<u8>, Vec<u8>, (u32, u32), u16, u16, [u64; 16])| {
    let (image, stack, pdata, rip, rsp, mut gpr) = input;
    gpr[X64Registers::RSP] = LOW.plus(u64::from(rsp) & !7).0;
    let registers = X64Registers { rip: BASE.plus(u64::from(rip)).0, gpr, ..X64Registers::default() };
    let range = StackRange { low: LOW, high: LOW.plus(stack.len() as u64), kind: StackKind::Thread };
    let machine = Machine { image, stack, pdata };
    let options = Options::default();
    let walked =
        walk_with_images(&Registers::X64(registers), &machine, &machine, &machine, &[range], &options);
    assert!(!walked.frames.is_empty() && walked.frames.len() <= options.max_frames);
    assert!(walked.refused.iter().all(|refused| refused.frame < walked.frames.len()));
});
