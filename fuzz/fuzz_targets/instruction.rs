//! Bytes of code with registers that hold anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_base::{VirtAddr, X64Registers};
use stopcode_image::{KnownRegisters, decode_x64};

fuzz_target!(|input: (Vec<u8>, [u64; 16], u64, u16)| {
    let (bytes, gpr, rip, known) = input;
    let registers = KnownRegisters { registers: X64Registers { gpr, rip, ..X64Registers::default() }, known };
    if let Some(instruction) = decode_x64(&bytes, VirtAddr(rip), Some(&registers)) {
        assert!(instruction.length <= 15 && instruction.length <= bytes.len());
    }
});
