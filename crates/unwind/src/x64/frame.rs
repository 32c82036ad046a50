//! The registers of one frame.

use stopcode_base::{VirtAddr, X64Registers};

const RSP: usize = X64Registers::RSP;

/// rbx, rsp, rbp, rsi, rdi, r12 to r15: what a function gives back as it got it.
pub(super) const NONVOLATILE: u16 = 0xf0f8;
/// xmm6 to xmm15.
pub(super) const NONVOLATILE_XMM: u16 = 0xffc0;

/// The registers of one frame, with what of them is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct X64Frame {
    /// Instruction pointer.
    pub rip: u64,
    /// In the processor's numbering (rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15).
    pub gpr: [u64; 16],
    /// Bit n: `gpr[n]` is known. rsp always is.
    pub known: u16,
    /// xmm0 to xmm15.
    pub xmm: [u128; 16],
    /// Bit n: `xmm[n]` is known.
    pub known_xmm: u16,
}

impl X64Frame {
    /// All integer registers known, no others.
    #[must_use]
    pub const fn of_registers(registers: &X64Registers) -> Self {
        Self { rip: registers.rip, gpr: registers.gpr, known: 0xffff, xmm: [0; 16], known_xmm: 0 }
    }

    /// The stack pointer.
    #[must_use]
    pub const fn rsp(&self) -> u64 {
        self.gpr[RSP]
    }

    /// A general register, if it is known.
    #[must_use]
    pub fn get(&self, register: u8) -> Option<u64> {
        let known = self.known.checked_shr(u32::from(register)).is_some_and(|mask| mask & 1 != 0);
        self.gpr.get(usize::from(register)).copied().filter(|_| known)
    }

    pub(crate) fn set(&mut self, register: u8, value: Option<u64>) {
        let Some(slot) = self.gpr.get_mut(usize::from(register)) else { return };
        *slot = value.unwrap_or(0);
        let bit = 1 << register;
        self.known = if value.is_some() { self.known | bit } else { self.known & !bit };
    }

    /// What a function need not give back is not known of its caller.
    pub(super) const fn keep_nonvolatile(&mut self) {
        self.known &= NONVOLATILE;
        self.known_xmm &= NONVOLATILE_XMM;
    }

    pub(super) fn set_xmm(&mut self, register: u8, value: Option<u128>) {
        let Some(slot) = self.xmm.get_mut(usize::from(register)) else { return };
        *slot = value.unwrap_or(0);
        let bit = 1 << register;
        self.known_xmm = if value.is_some() { self.known_xmm | bit } else { self.known_xmm & !bit };
    }
}

/// What the processor pushed when it interrupted code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineFrame {
    /// Where it lies: the address of the interrupted RIP.
    pub address: VirtAddr,
    /// Code segment selector; its low two bits are the privilege level.
    pub cs: u16,
    /// Flags.
    pub eflags: u32,
    /// Stack segment selector.
    pub ss: u16,
    /// The lowest stack pointer of the code that was entered; a `KTRAP_FRAME` lies between it and the machine
    /// frame, or there is none.
    pub entered_at: VirtAddr,
}

impl MachineFrame {
    /// True if user mode was interrupted.
    #[must_use]
    pub const fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// One frame further up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct X64Caller {
    /// Its registers. After a call the volatile ones are not known. After an interrupt neither are they: they are
    /// not in the unwind data, only in the `KTRAP_FRAME`.
    pub frame: X64Frame,
    /// Where the return address (or the interrupted RIP) was read.
    pub slot: VirtAddr,
    /// The machine frame through which it was reached, if it was interrupted and did not call.
    pub interrupted: Option<MachineFrame>,
}
