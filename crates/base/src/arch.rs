//! Processor architectures that Windows writes dumps for.

use crate::VirtAddr;
use std::fmt;

/// An architecture, as `MachineImageType` in the dump header names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// AMD64, machine 0x8664.
    X64,
    /// ARM64, machine 0xaa64.
    Arm64,
    /// 32-bit x86, machine 0x014c.
    X86,
}

impl Arch {
    /// The architecture of an `IMAGE_FILE_MACHINE_*` value.
    #[must_use]
    pub const fn from_machine(machine: u32) -> Option<Self> {
        match machine {
            0x8664 => Some(Self::X64),
            0xaa64 => Some(Self::Arm64),
            0x014c => Some(Self::X86),
            _ => None,
        }
    }

    /// True if `address` lies outside the kernel's part of the address space: below the upper half, of 4 GiB on x86
    /// (where a boot option can give user mode more).
    #[must_use]
    pub const fn is_user(self, address: VirtAddr) -> bool {
        match self {
            Self::X86 => address.0 & 0x8000_0000 == 0,
            Self::X64 | Self::Arm64 => !address.is_kernel(),
        }
    }

    /// True if `address` lies in the kernel's part of the address space: the upper half, of 4 GiB on x86. What lies in
    /// neither part is no address of the processor.
    #[must_use]
    pub const fn is_kernel(self, address: VirtAddr) -> bool {
        match self {
            Self::X86 => address.0 >> 31 == 1,
            Self::X64 | Self::Arm64 => address.is_kernel(),
        }
    }

    /// WinDbg's form of an address: as [`VirtAddr::windbg`], but eight digits on x86.
    #[must_use]
    pub fn windbg(self, address: VirtAddr) -> String {
        match self {
            Self::X86 if address.0 >> 32 == 0 => format!("{:08x}", address.0),
            _ => address.windbg(),
        }
    }

    /// Bytes in a pointer.
    #[must_use]
    pub const fn pointer_size(self) -> u64 {
        if matches!(self, Self::X86) { 4 } else { 8 }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X64 => "x64",
            Self::Arm64 => "arm64",
            Self::X86 => "x86",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86_divides_and_writes_its_addresses_by_32_bits() {
        let kernel = VirtAddr(0x8054_a6c0);
        assert!(Arch::X86.is_kernel(kernel) && !Arch::X86.is_user(kernel));
        assert!(!Arch::X86.is_kernel(VirtAddr(0x7fff_ffff)) && Arch::X86.is_user(VirtAddr(0x7fff_ffff)));
        assert!(!Arch::X86.is_kernel(VirtAddr(0xffff_ffff_8054_a6c0)), "no address of 32 bits");
        assert!(!Arch::X64.is_kernel(kernel));
        assert_eq!(Arch::X86.windbg(kernel), "8054a6c0");
        assert_eq!(Arch::X64.windbg(kernel), "00000000`8054a6c0");
    }
}
