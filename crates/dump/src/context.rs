//! `CONTEXT` records of x64, ARM64 and x86: the registers out of one, and nothing else.
//!
//! Offsets are those of the public SDK headers; the dump header, exception dispatch and each processor's
//! `KPRCB.Context` all use the same layout.

use crate::bytes::{is_filler, is_filler64, u16_at, u32_at, u64_at};
use stopcode_base::{Arch, Arm64Registers, Memory, Miss, Registers, VirtAddr, X64Registers, X86Registers};

/// Bytes of a context that hold what [`parse`] reads: all before the floating-point state.
const X64_SIZE: usize = 0x100;
const ARM64_SIZE: usize = 0x110;
const X86_SIZE: usize = 0xcc;

/// `CONTEXT_AMD64`, `CONTEXT_ARM64` and `CONTEXT_i386`, the architecture's bit in `ContextFlags`.
const X64_FLAG: u32 = 0x0010_0000;
const ARM64_FLAG: u32 = 0x0040_0000;
const X86_FLAG: u32 = 0x0001_0000;

/// The registers and the `ContextFlags` of a context that starts at the first of `bytes`.
///
/// `None` if `bytes` is too short, if the record was never filled (zeros or the writer's `PAGE` pattern), and for
/// architectures whose registers are not modelled.
#[must_use]
pub fn parse(arch: Arch, bytes: &[u8]) -> Option<(Registers, u32)> {
    let (registers, flags) = match arch {
        Arch::X64 => x64(bytes)?,
        Arch::Arm64 => arm64(bytes)?,
        Arch::X86 => x86(bytes)?,
        _ => return None,
    };
    let (instruction, stack) = (registers.instruction().0, registers.stack_pointer().0);
    let filler = |word: u64| match arch {
        Arch::X86 => is_filler(word as u32),
        _ => is_filler64(word),
    };
    let unset = (instruction == 0 && stack == 0) || filler(instruction) || filler(stack);
    (!unset).then_some((registers, flags))
}

/// The context at `at`: as [`parse`], or the first byte that is missing.
pub fn read(memory: &dyn Memory, arch: Arch, at: VirtAddr) -> Result<Option<(Registers, u32)>, Miss> {
    let mut bytes = [0; ARM64_SIZE];
    let size = match arch {
        Arch::Arm64 => ARM64_SIZE,
        Arch::X86 => X86_SIZE,
        _ => X64_SIZE,
    };
    let wanted = bytes.get_mut(..size).unwrap_or_default();
    memory.read(at, wanted)?;
    Ok(parse(arch, wanted))
}

/// True if `flags` name another architecture than `arch`: the record is not what it was taken for.
pub(crate) fn flags_contradict(arch: Arch, flags: u32) -> bool {
    let own = match arch {
        Arch::X64 => X64_FLAG,
        Arch::Arm64 => ARM64_FLAG,
        Arch::X86 => X86_FLAG,
        _ => return false,
    };
    flags != 0 && flags & own == 0
}

fn x64(bytes: &[u8]) -> Option<(Registers, u32)> {
    let mut gpr = [0; 16];
    for (index, register) in gpr.iter_mut().enumerate() {
        *register = u64_at(bytes, 0x78 + 8 * index)?;
    }
    let registers = X64Registers {
        gpr,
        rip: u64_at(bytes, 0xf8)?,
        eflags: u32_at(bytes, 0x44)?,
        cs: u16_at(bytes, 0x38)?,
        ss: u16_at(bytes, 0x42)?,
    };
    Some((Registers::X64(registers), u32_at(bytes, 0x30)?))
}

fn arm64(bytes: &[u8]) -> Option<(Registers, u32)> {
    let mut x = [0; 31];
    for (index, register) in x.iter_mut().enumerate() {
        *register = u64_at(bytes, 8 + 8 * index)?;
    }
    let registers =
        Arm64Registers { x, sp: u64_at(bytes, 0x100)?, pc: u64_at(bytes, 0x108)?, cpsr: u32_at(bytes, 4)? };
    Some((Registers::Arm64(registers), u32_at(bytes, 0)?))
}

/// `CONTEXT` of winnt.h for i386: Gs 8c to Ds 98, Edi 9c to Eax b0, then what the processor keeps in control.
fn x86(bytes: &[u8]) -> Option<(Registers, u32)> {
    let mut gpr = [0; 8];
    // eax, ecx, edx, ebx, esp, ebp, esi, edi
    for (register, offset) in gpr.iter_mut().zip([0xb0, 0xac, 0xa8, 0xa4, 0xc4, 0xb4, 0xa0, 0x9c]) {
        *register = u32_at(bytes, offset)?;
    }
    let mut data_segments = [0; 4];
    for (segment, offset) in data_segments.iter_mut().zip([0x98, 0x94, 0x90, 0x8c]) {
        *segment = u16_at(bytes, offset)?;
    }
    let registers = X86Registers {
        gpr,
        eip: u32_at(bytes, 0xb8)?,
        eflags: u32_at(bytes, 0xc0)?,
        cs: u16_at(bytes, 0xbc)?,
        ss: u16_at(bytes, 0xc8)?,
        data_segments,
    };
    Some((Registers::X86(registers), u32_at(bytes, 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopcode_base::SliceMemory;

    #[test]
    fn x64_registers_stand_where_the_sdk_says() {
        let mut bytes = vec![0; 0x4d0];
        for n in 0..16u64 {
            bytes[0x78 + 8 * n as usize] = n as u8 + 1;
        }
        bytes[0xf8] = 0x77;
        bytes[0x30..0x34].copy_from_slice(&0x0010_000fu32.to_le_bytes());
        bytes[0x38] = 0x10;
        let (registers, flags) = parse(Arch::X64, &bytes).unwrap();
        let Registers::X64(r) = registers else { panic!() };
        assert_eq!((r.gpr[0], r.rsp(), r.gpr[15], r.rip, r.cs), (1, 5, 16, 0x77, 0x10));
        assert_eq!(flags, 0x0010_000f);
        assert!(!flags_contradict(Arch::X64, flags) && flags_contradict(Arch::Arm64, flags));
        assert_eq!(parse(Arch::X64, &bytes[..0xff]), None);
        let memory = SliceMemory { base: VirtAddr(0x5000), bytes: &bytes };
        assert_eq!(read(&memory, Arch::X64, VirtAddr(0x5000)), Ok(Some((registers, flags))));
        assert_eq!(read(&memory, Arch::X64, VirtAddr(0x5401)).unwrap_err().got, 0xcf);
    }

    #[test]
    fn arm64_registers_stand_where_the_sdk_says() {
        let mut bytes = vec![0; 0x110];
        bytes[8] = 1;
        bytes[0xf0] = 29;
        bytes[0xf8] = 30;
        bytes[0x100] = 31;
        bytes[0x108] = 32;
        let (Registers::Arm64(r), _) = parse(Arch::Arm64, &bytes).unwrap() else { panic!() };
        assert_eq!((r.x[0], r.x[29], r.x[30], r.sp, r.pc), (1, 29, 30, 31, 32));
    }

    #[test]
    fn x86_registers_stand_where_the_sdk_says() {
        let mut bytes = vec![0; 0x2cc];
        for n in 0..16u8 {
            bytes[0x8c + 4 * usize::from(n)] = n + 1;
        }
        bytes[..4].copy_from_slice(&0x0001_003fu32.to_le_bytes());
        let (registers, flags) = parse(Arch::X86, &bytes).unwrap();
        let Registers::X86(r) = registers else { panic!() };
        assert_eq!(r.data_segments, [4, 3, 2, 1]);
        assert_eq!(r.gpr, [10, 9, 8, 7, 15, 11, 6, 5]);
        assert_eq!((r.eip, r.cs, r.eflags, r.ss), (12, 13, 14, 16));
        assert!(!flags_contradict(Arch::X86, flags) && flags_contradict(Arch::X64, flags));
        assert_eq!(parse(Arch::X86, &bytes[..0xc9]), None);
        let memory = SliceMemory { base: VirtAddr(0x8000_5000), bytes: &bytes[..0xcc] };
        assert_eq!(read(&memory, Arch::X86, VirtAddr(0x8000_5000)), Ok(Some((registers, flags))));
    }

    #[test]
    fn an_unset_record_is_none() {
        assert_eq!(parse(Arch::X64, &[0; 0x4d0]), None);
        assert_eq!(parse(Arch::X64, &b"PAGE".repeat(0x134)), None);
        assert_eq!(parse(Arch::X86, &b"PAGE".repeat(0xb3)), None);
        assert_eq!(parse(Arch::X86, &[0; 0x2cc]), None);
    }
}
