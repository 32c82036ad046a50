//! How an architecture's page tables are shaped.

use crate::machine::{Arch, Machine};

/// The shape of page tables, and the bits of the entries that are made here.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    arch: Arch,
    levels: u32,
    /// Bytes of an entry, and bits of an address that number one.
    pub(crate) size: u64,
    index_bits: u32,
    /// The page frame in an entry, and what CR3 or TTBR says of the top table.
    pub(crate) frame: u64,
    pub(crate) base: u64,
    /// Valid, writable, accessed, dirty; of ARM64 a table or page, accessed, inner shareable.
    kernel: u64,
    /// The same for user mode.
    user: u64,
    /// What the entry has that maps the tables themselves: where the processor can say so, it is never executed.
    pub(crate) tables: u64,
    /// A large page above the lowest level: which bits say so, and what they are then.
    large: (u64, u64),
}

const FRAME: u64 = 0x000f_ffff_ffff_f000;
const VALID: u64 = 1;
const NO_EXECUTE: u64 = 1 << 63;

impl Shape {
    pub(crate) const fn of(machine: &Machine) -> Self {
        Self::of_arch(machine.arch, machine.pae)
    }

    pub(crate) const fn of_arch(arch: Arch, pae: bool) -> Self {
        let x64 = Self {
            arch,
            levels: 4,
            size: 8,
            index_bits: 9,
            frame: FRAME,
            base: FRAME,
            kernel: 0x63,
            user: 0x67,
            tables: NO_EXECUTE | 0x63,
            large: (1 << 7, 1 << 7),
        };
        match arch {
            Arch::X64 => x64,
            Arch::Arm64 => {
                Self { kernel: 0x703, user: 0x743, tables: 0x0060_0000_0000_0703, large: (3, 1), ..x64 }
            }
            // The table of pointers to the directories takes 32 bytes, wherever these lie.
            Arch::X86 if pae => Self { levels: 3, base: 0xffff_ffe0, tables: 0x63, ..x64 },
            Arch::X86 => Self {
                levels: 2,
                size: 4,
                index_bits: 10,
                frame: 0xffff_f000,
                base: 0xffff_f000,
                tables: 0x63,
                ..x64
            },
        }
    }

    pub(crate) const fn levels(self) -> u32 {
        self.levels
    }

    /// True where a table of four pointers stands above the page directories.
    pub(crate) const fn has_pointer_table(self) -> bool {
        self.levels == 3
    }

    /// The number of the entry of `level` for `address`.
    pub(crate) const fn index(self, level: u32, address: u64) -> u64 {
        address >> (12 + self.index_bits * (level - 1)) & ((1 << self.index_bits) - 1)
    }

    /// Bytes of memory that an entry of `level` stands for.
    pub(crate) const fn reach(self, level: u32) -> u64 {
        1 << (12 + self.index_bits * (level - 1))
    }

    /// The bits of an entry of `level` that is made for `address`.
    pub(crate) const fn bits(self, level: u32, address: u64) -> u64 {
        match (self.levels, level) {
            (3, 3) => VALID,
            _ if self.arch.is_kernel(address) => self.kernel,
            _ => self.user,
        }
    }

    pub(crate) const fn is_large(self, entry: u64) -> bool {
        entry & self.large.0 == self.large.1
    }

    /// Where the entry that a prototype's points to lies; of x86 that is not written.
    pub(crate) fn prototype(self, entry: u64) -> Option<u64> {
        (self.arch != Arch::X86).then_some(((entry as i64) >> 16) as u64)
    }

    /// The bytes of an entry.
    pub(crate) fn entry(self, value: u64) -> Vec<u8> {
        value.to_le_bytes().into_iter().take(self.size as usize).collect()
    }

    /// Bytes of the address space that tables take which map themselves.
    pub(crate) const fn self_map_size(self) -> u64 {
        match self.arch {
            Arch::X64 | Arch::Arm64 => 1 << 39,
            Arch::X86 => self.size << 20,
        }
    }

    /// Where tables that map themselves from `base` on show the entry for `address`.
    pub(crate) const fn self_mapped(self, base: u64, address: u64) -> u64 {
        let bits = if matches!(self.arch, Arch::X86) { 32 } else { 48 };
        base.wrapping_add(((address & ((1 << bits) - 1)) >> 12) * self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fixed places of the two forms of x86, and of Windows 7 on x64.
    #[test]
    fn tables_show_themselves_where_windows_has_them() {
        let twice = |shape: Shape, base, at| {
            let table = shape.self_mapped(base, at);
            (table, shape.self_mapped(base, table))
        };
        let x86 = |pae| Shape::of_arch(Arch::X86, pae);
        assert_eq!(twice(x86(false), 0xc000_0000, 0x8054_a6c0), (0xc020_1528, 0xc030_0804));
        assert_eq!(twice(x86(true), 0xc000_0000, 0x8054_a6c0), (0xc040_2a50, 0xc060_2010));
        let x64 = Shape::of_arch(Arch::X64, false);
        let expected = (0xffff_f6fc_0001_4000, 0xffff_f6fb_7e00_00a0);
        assert_eq!(twice(x64, 0xffff_f680_0000_0000, 0xffff_f800_0280_0000), expected);
        assert_eq!((x86(false).self_map_size(), x86(true).self_map_size()), (0x40_0000, 0x80_0000));
    }
}
