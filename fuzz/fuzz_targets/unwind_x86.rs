//! An x86 image, a stack, and frame data with a program that hold anything, from registers of which any may be unknown: a
//! walk ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_base::{Memory, MissReason, Registers, SliceMemory, VirtAddr, X86Registers};
use stopcode_unwind::{
    Code, CodeAt, FrameData, ImageView, Images, Options, StackKind, StackRange, Stands, Start,
    walk_with_images,
};

const BASE: VirtAddr = VirtAddr(0x8260_0000);
const LOW: VirtAddr = VirtAddr(0x9000_0000);

struct Machine {
    image: Vec<u8>,
    stack: Vec<u8>,
    program: String,
    sizes: [u32; 4],
    flags: u8,
}

impl Machine {
    fn image(&self) -> SliceMemory<'_> {
        SliceMemory { base: BASE, bytes: &self.image }
    }
}

impl Memory for Machine {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let stack = SliceMemory { base: LOW, bytes: &self.stack };
        self.image().read_some(at, buffer).or_else(|_| stack.read_some(at, buffer))
    }
}

impl Images for Machine {
    fn image_at(&self, _: VirtAddr) -> Option<ImageView<'_>> {
        None
    }

    fn frame_data(&self, address: VirtAddr) -> Option<FrameData<'_>> {
        let [locals, parameters, saved, prolog] = self.sizes;
        let (is_function, keeps_ebp) = (self.flags & 1 != 0, self.flags & 2 != 0);
        // Every other 0x40 bytes have some.
        (address.0 & 0x40 == 0).then_some(FrameData {
            start: VirtAddr(address.0 & !0x3f),
            locals,
            parameters,
            saved,
            prolog,
            is_function,
            keeps_ebp,
            program: &self.program,
        })
    }
}

impl Code for Machine {
    fn at(&self, address: VirtAddr) -> CodeAt {
        match address.offset_from(BASE) {
            Some(offset) if offset >= self.image.len() as u64 => CodeAt::NotCode,
            Some(offset) if offset & 0x3f == 0 => CodeAt::Start,
            Some(offset) => CodeAt::Function { offset: offset & 0x3f, size: Some(0x40) },
            None => CodeAt::NotCode,
        }
    }
}

type Input = (Vec<u8>, Vec<u8>, String, [u32; 4], u16, u16, u16, u32, u8);

fuzz_target!(|input: Input| {
    let (image, stack, program, sizes, eip, esp, ebp, known, flags) = input;
    let place = |base: VirtAddr, offset: u16| base.plus(offset.into()).0 as u32;
    let mut registers = X86Registers { eip: place(BASE, eip), ..X86Registers::default() };
    registers.gpr[X86Registers::ESP] = place(LOW, esp);
    registers.gpr[X86Registers::EBP] = place(LOW, ebp);
    let stands = if flags & 4 == 0 { Stands::Interrupted } else { Stands::AfterCall };
    let start = Start { registers: Registers::X86(registers), known, stands };
    let range = StackRange { low: LOW, high: LOW.plus(stack.len() as u64), kind: StackKind::Thread };
    let machine = Machine { image, stack, program, sizes, flags };
    let options = Options::default();
    let walked = walk_with_images(&start, &machine, &machine, &machine, &[range], &options);
    assert!(!walked.frames.is_empty() && walked.frames.len() <= options.max_frames);
});
