//! Virtual addresses to physical ones, as the processor and Windows' memory manager see them.
//!
//! A walk goes through the page tables in physical memory. Where the processor would fault, Windows' own reading of
//! the entry goes on: a page in transition is still in memory, a prototype entry leads to another entry, a demand-zero
//! page reads as zeros. Formats: the Intel SDM volume 3 and the Arm ARM for what the processor reads; the public types
//! `_MMPTE_TRANSITION`, `_MMPTE_PROTOTYPE` and `_MMPTE_SOFTWARE` for the rest.

mod entry;
mod self_map;
mod space;
mod tables;
mod walk;

pub use entry::{EntryFlags, EntryKind, Form, WalkEntry};
pub use self_map::SelfMap;
pub use space::AddressSpace;
pub(crate) use tables::Tables;
pub use walk::{Mapping, Walk};

/// A form of page tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Paging {
    /// x64: four levels of nine bits.
    X64FourLevel,
    /// x64 with LA57: five levels.
    X64FiveLevel,
    /// x86 without PAE: two levels of ten bits, entries of four bytes.
    X86,
    /// x86 with PAE: three levels, the top one of four entries.
    X86Pae,
    /// ARM64 with pages of 4 KiB: four levels of nine bits.
    Arm64,
}

impl Paging {
    /// How many levels a walk has at most; level 1 is the page table.
    #[must_use]
    pub const fn levels(self) -> u8 {
        match self {
            Self::X64FourLevel | Self::Arm64 => 4,
            Self::X64FiveLevel => 5,
            Self::X86Pae => 3,
            Self::X86 => 2,
        }
    }

    /// Bytes of an entry.
    #[must_use]
    pub const fn entry_size(self) -> u64 {
        match self {
            Self::X86 => 4,
            _ => 8,
        }
    }

    /// Bits of an address that a walk uses.
    const fn address_bits(self) -> u32 {
        match self {
            Self::X64FourLevel | Self::Arm64 => 48,
            Self::X64FiveLevel => 57,
            Self::X86 | Self::X86Pae => 32,
        }
    }

    /// Bytes that an entry of `level` speaks for.
    pub(crate) const fn reach(self, level: u8) -> u64 {
        1 << self.shift(level)
    }

    /// The lowest bit of an address that selects an entry of `level`.
    const fn shift(self, level: u8) -> u32 {
        let bits = if matches!(self, Self::X86) { 10 } else { 9 };
        12 + bits * (level as u32).saturating_sub(1)
    }

    /// The number of the entry of `level` for `address`.
    const fn index(self, level: u8, address: u64) -> u64 {
        let mask = match (self, level) {
            (Self::X86, _) => 0x3ff,
            (Self::X86Pae, 3) => 3,
            _ => 0x1ff,
        };
        address >> self.shift(level) & mask
    }

    /// Physical address of the top table, out of CR3 or TTBR.
    const fn root(self, base: u64) -> u64 {
        match self {
            Self::X64FourLevel | Self::X64FiveLevel => base & 0x000f_ffff_ffff_f000,
            Self::X86 => base & 0xffff_f000,
            Self::X86Pae => base & 0xffff_ffe0,
            Self::Arm64 => base & 0x0000_ffff_ffff_f000,
        }
    }

    /// True if the processor takes `address`.
    #[must_use]
    pub const fn is_canonical(self, address: u64) -> bool {
        let unused = match self {
            Self::X64FourLevel | Self::Arm64 => 47,
            Self::X64FiveLevel => 56,
            // Addresses are 32 bits wide; debuggers extend their sign.
            Self::X86 | Self::X86Pae => return address >> 32 == 0 || address >> 31 == 0x1_ffff_ffff,
        };
        // Windows on ARM64 keeps to the same halves as on x64.
        let high = (address as i64) >> unused;
        high == 0 || high == -1
    }
}
