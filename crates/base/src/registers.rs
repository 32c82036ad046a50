//! Register sets, by architecture.

use crate::{Arch, VirtAddr};

/// Registers of an x64 processor, as a `CONTEXT` or a trap frame gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct X64Registers {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15: the processor's own numbering.
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub eflags: u32,
    /// Code segment selector.
    pub cs: u16,
    /// Stack segment selector.
    pub ss: u16,
}

impl X64Registers {
    /// Index of rsp in [`Self::gpr`].
    pub const RSP: usize = 4;
    /// Index of rbp in [`Self::gpr`].
    pub const RBP: usize = 5;
    /// Register names in the order of [`Self::gpr`].
    pub const NAMES: [&'static str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];

    /// The stack pointer.
    #[must_use]
    pub const fn rsp(&self) -> u64 {
        self.gpr[Self::RSP]
    }
}

/// Registers of an ARM64 processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arm64Registers {
    /// x0 to x28, then x29 (fp) and x30 (lr).
    pub x: [u64; 31],
    /// Stack pointer.
    pub sp: u64,
    /// Program counter.
    pub pc: u64,
    /// Processor state.
    pub cpsr: u32,
}

/// Registers of a 32-bit x86 processor, as a `CONTEXT` or a trap frame gives them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct X86Registers {
    /// eax, ecx, edx, ebx, esp, ebp, esi, edi: the processor's own numbering.
    pub gpr: [u32; 8],
    /// Instruction pointer.
    pub eip: u32,
    /// Flags.
    pub eflags: u32,
    /// Code segment selector.
    pub cs: u16,
    /// Stack segment selector.
    pub ss: u16,
    /// The selectors ds, es, fs, gs.
    pub data_segments: [u16; 4],
}

impl X86Registers {
    /// Index of esp in [`Self::gpr`].
    pub const ESP: usize = 4;
    /// Index of ebp in [`Self::gpr`].
    pub const EBP: usize = 5;
    /// Register names in the order of [`Self::gpr`].
    pub const NAMES: [&'static str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
    /// Names of [`Self::data_segments`].
    pub const DATA_SEGMENTS: [&'static str; 4] = ["ds", "es", "fs", "gs"];

    /// The stack pointer.
    #[must_use]
    pub const fn esp(&self) -> u32 {
        self.gpr[Self::ESP]
    }
}

/// The registers of one context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Registers {
    /// x64.
    X64(X64Registers),
    /// ARM64.
    Arm64(Arm64Registers),
    /// 32-bit x86.
    X86(X86Registers),
}

impl Registers {
    /// Which architecture these belong to.
    #[must_use]
    pub const fn arch(&self) -> Arch {
        match self {
            Self::X64(_) => Arch::X64,
            Self::Arm64(_) => Arch::Arm64,
            Self::X86(_) => Arch::X86,
        }
    }

    /// The instruction pointer (rip, pc, eip).
    #[must_use]
    pub const fn instruction(&self) -> VirtAddr {
        VirtAddr(match self {
            Self::X64(r) => r.rip,
            Self::Arm64(r) => r.pc,
            Self::X86(r) => r.eip as u64,
        })
    }

    /// The stack pointer (rsp, sp, esp).
    #[must_use]
    pub const fn stack_pointer(&self) -> VirtAddr {
        VirtAddr(match self {
            Self::X64(r) => r.rsp(),
            Self::Arm64(r) => r.sp,
            Self::X86(r) => r.esp() as u64,
        })
    }

    /// General registers with their names, in the order a debugger prints them.
    pub fn named(&self) -> Vec<(String, u64)> {
        match self {
            Self::X64(r) => X64Registers::NAMES.iter().map(|n| (*n).to_owned()).zip(r.gpr).collect(),
            Self::Arm64(r) => {
                let names = (0..29).map(|n| format!("x{n}")).chain(["fp".to_owned(), "lr".to_owned()]);
                names.zip(r.x).collect()
            }
            Self::X86(r) => {
                let values = r.gpr.map(u64::from);
                X86Registers::NAMES.iter().map(|n| (*n).to_owned()).zip(values).collect()
            }
        }
    }
}
