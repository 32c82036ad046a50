//! Register sets as Windows stores them: `CONTEXT` (winnt.h), `KTRAP_FRAME`, `EXCEPTION_RECORD`.

use crate::machine::{Arch, Exception, Registers, Trap};
use crate::record::Record;

/// Size of an x64 `CONTEXT`.
pub(crate) const CONTEXT_SIZE: usize = 0x4d0;
/// Size of a `KTRAP_FRAME`.
pub(crate) const TRAP_FRAME_SIZE: usize = 0x190;

/// `CONTEXT_AMD64` with control, integer, segments and floating point, as on the processor that crashed.
pub(crate) const FLAGS_CRASHED: u32 = 0x10_000f;
/// The same with extended state in place of segments' debug registers, as a frozen processor saves it.
pub(crate) const FLAGS_FROZEN: u32 = 0x10_004b;

const KERNEL_CODE: u16 = 0x10;
const KERNEL_DATA: u16 = 0x18;
const USER_CODE: u16 = 0x33;
const USER_DATA: u16 = 0x2b;
const USER_TEB: u16 = 0x53;
const MXCSR: u32 = 0x1f80;

/// `CONTEXT_ARM64` with control, integer and floating point.
const FLAGS_ARM64: u32 = 0x40_0007;
/// Size of an ARM64 `KTRAP_FRAME`, and of the float registers where they are saved behind it.
const ARM64_TRAP_FRAME_SIZE: usize = 0x150;
const ARM64_FLOAT_STATE: u64 = 0x220;
/// EL1 with the stack pointer of EL0, in which the kernel runs.
const ARM64_KERNEL_LEVEL: u32 = 4;
/// Size of an ARM64 `CONTEXT`.
const ARM64_SIZE: usize = 0x390;

/// The `CONTEXT` of an architecture, in kernel mode; `flags` are those of x64.
pub(crate) fn of(arch: Arch, registers: &Registers, flags: u32) -> Vec<u8> {
    match arch {
        Arch::X64 => context(registers, flags),
        Arch::Arm64 => arm64(registers),
        Arch::X86 => x86(registers),
    }
}

/// Selectors of x86: code and data of the kernel, of user mode, and what fs holds in each.
const X86_KERNEL: [u16; 3] = [0x8, 0x10, 0x30];
const X86_USER: [u16; 3] = [0x1b, 0x23, 0x3b];

/// `CONTEXT_i386` with control, integer, segments, floating point, debug and extended registers.
const FLAGS_X86: u32 = 0x1_003f;
/// Size of an x86 `CONTEXT`.
const X86_SIZE: usize = 0x2cc;
/// Size of an x86 `KTRAP_FRAME`, and what a debugger knows one by (`DbgArgMark`).
const X86_TRAP_FRAME_SIZE: usize = 0x8c;
const X86_TRAP_MARK: u32 = 0xbadb_0d00;

fn x86(registers: &Registers) -> Vec<u8> {
    let g = registers;
    let mut r = Record::zeroed(X86_SIZE);
    let [code, data, fs] = X86_KERNEL;
    let user_data = X86_USER[1];
    r.u32(0, FLAGS_X86).u32(0x90, fs.into()).u32(0x94, user_data.into()).u32(0x98, user_data.into());
    for (n, value) in [g.rdi, g.rsi, g.rbx, g.rdx, g.rcx, g.rax, g.rbp, g.rip].into_iter().enumerate() {
        r.u32(0x9c + 4 * n, value.0 as u32);
    }
    r.u32(0xbc, code.into()).u32(0xc0, g.eflags.0 as u32).u32(0xc4, g.rsp.0 as u32).u32(0xc8, data.into());
    r.into_bytes()
}

/// A `KTRAP_FRAME` of x86. In kernel mode the processor pushes no stack pointer: the stack goes on where it would lie.
fn x86_trap_frame(build: u32, trap: &Trap) -> Vec<u8> {
    /// Windows 8.1 gave a word up, so that what lay behind it moved down as far as its new place for MXCSR.
    const FIRST_WITH_MXCSR: u32 = 9600;
    let down = if build < FIRST_WITH_MXCSR { 0 } else { 4 };
    let g = &trap.registers;
    let mut r = Record::zeroed(X86_TRAP_FRAME_SIZE);
    let [code, data, fs] = if trap.user { X86_USER } else { X86_KERNEL };
    r.u32(0, g.rbp.0 as u32).u32(4, g.rip.0 as u32).u32(8, X86_TRAP_MARK);
    let user_data = u32::from(X86_USER[1]);
    for (n, value) in
        [user_data, user_data, g.rdx.0 as u32, g.rcx.0 as u32, g.rax.0 as u32].into_iter().enumerate()
    {
        r.u32(0x34 - down + 4 * n, value);
    }
    r.u32(0x48 - down, trap.user.into()).u32(0x50, fs.into());
    for (n, value) in [g.rdi, g.rsi, g.rbx, g.rbp, trap.error_code, g.rip].into_iter().enumerate() {
        r.u32(0x54 + 4 * n, value.0 as u32);
    }
    r.u32(0x6c, code.into()).u32(0x70, g.eflags.0 as u32);
    let mut bytes = r.into_bytes();
    if trap.user {
        let stack = [g.rsp.0 as u32, data.into()];
        let slots = bytes.iter_mut().skip(0x74);
        slots.zip(stack.into_iter().flat_map(u32::to_le_bytes)).for_each(|(slot, byte)| *slot = byte);
    } else {
        bytes.truncate(0x74);
    }
    bytes
}

fn arm64(registers: &Registers) -> Vec<u8> {
    let mut r = Record::zeroed(ARM64_SIZE);
    r.u32(0, FLAGS_ARM64).u32(4, registers.eflags.0 as u32);
    let x = registers.x.into_iter().chain([registers.rbp, registers.lr, registers.rsp, registers.rip]);
    for (n, value) in x.enumerate() {
        r.u64(8 + 8 * n, value.0);
    }
    r.into_bytes()
}

/// A `CONTEXT` in kernel mode.
pub(crate) fn context(registers: &Registers, flags: u32) -> Vec<u8> {
    let mut r = Record::zeroed(CONTEXT_SIZE);
    r.u32(0x30, flags).u32(0x34, MXCSR);
    let segments = [KERNEL_CODE, USER_DATA, USER_DATA, USER_TEB, USER_DATA, KERNEL_DATA];
    for (n, segment) in segments.into_iter().enumerate() {
        r.u16(0x38 + 2 * n, segment);
    }
    r.u32(0x44, registers.eflags.0 as u32);
    for (n, value) in registers.general().into_iter().enumerate() {
        r.u64(0x78 + 8 * n, value);
    }
    r.u64(0xf8, registers.rip.0);
    r.u32(0x118, MXCSR);
    r.into_bytes()
}

/// A `KTRAP_FRAME` of an architecture and build.
pub(crate) fn trap_frame_of(arch: Arch, build: u32, trap: &Trap) -> Vec<u8> {
    match arch {
        Arch::X86 => x86_trap_frame(build, trap),
        Arch::X64 => trap_frame(trap),
        Arch::Arm64 => arm64_trap_frame(trap),
    }
}

/// A `KTRAP_FRAME` of ARM64 (`ntddk.h`). It has no place for x19 to x28. Where the float registers are saved, they lie between
/// it and the interrupted stack.
fn arm64_trap_frame(trap: &Trap) -> Vec<u8> {
    let g = &trap.registers;
    let end = trap.at.0.wrapping_add(ARM64_TRAP_FRAME_SIZE as u64);
    let level = if trap.user { 0 } else { ARM64_KERNEL_LEVEL };
    let state = g.eflags.0 as u32 & !0xf | level;
    let mut r = Record::zeroed(ARM64_TRAP_FRAME_SIZE);
    // Mode and interrupt level share a byte: the one counts where user mode was interrupted.
    r.u8(3, if trap.user { 1 } else { trap.previous_irql }).u64(8, trap.fault_address.0);
    if g.rsp.0.wrapping_sub(end) == ARM64_FLOAT_STATE {
        r.u64(0x10, end);
    }
    r.u32(0x90, state).u32(0x94, trap.error_code.0 as u32).u64(0x98, g.rsp.0);
    for (n, value) in g.x.iter().take(19).chain([&g.lr, &g.rbp, &g.rip]).enumerate() {
        r.u64(0xa0 + 8 * n, value.0);
    }
    r.into_bytes()
}

/// A `KTRAP_FRAME` of x64. It has no place for r12 to r15: a trap keeps those in registers.
fn trap_frame(trap: &Trap) -> Vec<u8> {
    let g = &trap.registers;
    let mut r = Record::zeroed(TRAP_FRAME_SIZE);
    r.u8(0x28, u8::from(trap.user)).u8(0x29, trap.previous_irql).u8(0x2b, 1).u32(0x2c, MXCSR);
    for (n, value) in [g.rax, g.rcx, g.rdx, g.r8, g.r9, g.r10, g.r11].into_iter().enumerate() {
        r.u64(0x30 + 8 * n, value.0);
    }
    r.u64(0xd0, trap.fault_address.0);
    for (n, value) in [g.rbx, g.rdi, g.rsi, g.rbp, trap.error_code, g.rip].into_iter().enumerate() {
        r.u64(0x140 + 8 * n, value.0);
    }
    let (code, stack) = if trap.user { (USER_CODE, USER_DATA) } else { (KERNEL_CODE, KERNEL_DATA) };
    r.u16(0x170, code).u32(0x178, g.eflags.0 as u32).u64(0x180, g.rsp.0).u16(0x188, stack);
    r.into_bytes()
}

/// An `EXCEPTION_RECORD` of an architecture.
pub(crate) fn exception_record(arch: Arch, exception: &Exception) -> Vec<u8> {
    let information = exception.information.iter().take(15);
    if arch == Arch::X86 {
        let mut r = Record::zeroed(0x50);
        r.u32(0, exception.code.0 as u32)
            .u32(0xc, exception.registers.rip.0 as u32)
            .u32(0x10, information.len() as u32);
        for (n, value) in information.enumerate() {
            r.u32(0x14 + 4 * n, value.0 as u32);
        }
        return r.into_bytes();
    }
    let mut r = Record::zeroed(0x98);
    r.u32(0, exception.code.0 as u32)
        .u64(0x10, exception.registers.rip.0)
        .u32(0x18, information.len() as u32);
    for (n, value) in information.enumerate() {
        r.u64(0x20 + 8 * n, value.0);
    }
    r.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hex;

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// Offsets written out by hand from winnt.h: Rcx 80, Rsp 98, R15 f0, Rip f8.
    #[test]
    fn context_fields() {
        let registers =
            Registers { rip: Hex(1), rsp: Hex(2), rcx: Hex(3), r15: Hex(4), ..Registers::default() };
        let c = context(&registers, FLAGS_CRASHED);
        assert_eq!((word(&c, 0xf8), word(&c, 0x98), word(&c, 0x80), word(&c, 0xf0)), (1, 2, 3, 4));
        assert_eq!(c.len(), 0x4d0);
    }

    /// Offsets written out by hand from the symbols: Rbp 158, ErrorCode 160, Rip 168, SegCs 170, Rsp 180.
    #[test]
    fn trap_frame_fields() {
        let registers =
            Registers { rip: Hex(1), rsp: Hex(2), rbp: Hex(3), r11: Hex(4), ..Registers::default() };
        let mut trap = Trap {
            at: Hex(0),
            registers,
            error_code: Hex(5),
            fault_address: Hex(6),
            previous_irql: 2,
            user: false,
        };
        let f = trap_frame(&trap);
        assert_eq!((word(&f, 0x168), word(&f, 0x180), word(&f, 0x158), word(&f, 0x60)), (1, 2, 3, 4));
        assert_eq!((word(&f, 0x160), word(&f, 0xd0), f[0x170], f[0x29]), (5, 6, 0x10, 2));
        trap.user = true;
        assert_eq!(trap_frame(&trap)[0x170], 0x33);
    }
}
