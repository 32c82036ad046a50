//! What one page-table entry says.

use super::Paging;
use stopcode_base::PhysAddr;

/// One step of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkEntry {
    /// 1 is the page table; the top is 2 to 5.
    pub level: u8,
    /// Where the entry lies in physical memory.
    pub address: PhysAddr,
    /// The entry.
    pub value: u64,
    /// What it says.
    pub kind: EntryKind,
}

/// What a page-table entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EntryKind {
    /// Leads to a table or page at this address.
    Valid(PhysAddr),
    /// Maps a large page, which starts at this address.
    Large(PhysAddr),
    /// Not valid for the processor, but the table or page is still at this address.
    Transition(PhysAddr),
    /// The entry that counts is the prototype at this virtual address.
    Prototype(u64),
    /// A prototype entry whose place only the virtual address descriptors tell.
    PrototypeInVad,
    /// In a page file.
    PageFile {
        /// Which page file; 2 is commonly the compressed store. Kept in other bits before the patches of 2018, where
        /// this reads 0.
        number: u8,
        /// Which page of it.
        page: u32,
    },
    /// Never used yet: reads as zeros.
    DemandZero,
    /// Nothing is mapped.
    Empty,
    /// Bits set that are no entry of any form known.
    Reserved,
}

/// Bits of a page frame in x64 entries; Windows up to 19041 uses 36 of them, later ones 40.
const X64_FRAME: u64 = 0x000f_ffff_ffff_f000;
const ARM64_FRAME: u64 = 0x0000_ffff_ffff_f000;
/// Set in the frame of an entry in transition to keep speculation away from real memory (L1TF), unless the entry's
/// SwizzleBit says that it is not.
const SWIZZLED: u64 = 1 << 45;
const SWIZZLE_BIT: u64 = 1 << 4;

impl EntryKind {
    /// What `value` says as an entry of `level`.
    pub fn of(paging: Paging, level: u8, value: u64) -> Self {
        let valid = match paging {
            Paging::X64FourLevel | Paging::X64FiveLevel => Self::x64(level, value),
            Paging::X86Pae => Self::pae(level, value),
            Paging::X86 => Self::x86(level, value),
            Paging::Arm64 => Self::arm64(level, value),
        };
        valid.unwrap_or_else(|| Self::software(paging, level, value))
    }

    fn x64(level: u8, value: u64) -> Option<Self> {
        const LARGE: u64 = 1 << 7;
        if value & 1 == 0 {
            return None;
        }
        Some(match level {
            2 if value & LARGE != 0 => Self::Large(PhysAddr(value & X64_FRAME & !0x1f_ffff)),
            3 if value & LARGE != 0 => Self::Large(PhysAddr(value & X64_FRAME & !0x3fff_ffff)),
            _ => Self::Valid(PhysAddr(value & X64_FRAME)),
        })
    }

    fn pae(level: u8, value: u64) -> Option<Self> {
        match level {
            3 => (value & 1 != 0).then_some(Self::Valid(PhysAddr(value & X64_FRAME))),
            _ => Self::x64(level, value),
        }
    }

    fn x86(level: u8, value: u64) -> Option<Self> {
        if value & 1 == 0 {
            return None;
        }
        Some(if level == 2 && value & 1 << 7 != 0 {
            // PSE-36 keeps the upper four bits of the address in bits 13 to 16.
            Self::Large(PhysAddr(value & 0xffc0_0000 | (value >> 13 & 0xf) << 32))
        } else {
            Self::Valid(PhysAddr(value & 0xffff_f000))
        })
    }

    fn arm64(level: u8, value: u64) -> Option<Self> {
        match (value & 3, level) {
            (3, _) => Some(Self::Valid(PhysAddr(value & ARM64_FRAME))),
            (1, 2) => Some(Self::Large(PhysAddr(value & ARM64_FRAME & !0x1f_ffff))),
            (1, 3) => Some(Self::Large(PhysAddr(value & ARM64_FRAME & !0x3fff_ffff))),
            (1, _) => Some(Self::Reserved),
            _ => None,
        }
    }

    /// An entry that the processor takes for not present.
    fn software(paging: Paging, level: u8, value: u64) -> Self {
        const PROTOTYPE: u64 = 1 << 10;
        const TRANSITION: u64 = 1 << 11;
        if value == 0 {
            return Self::Empty;
        }
        // The top of PAE belongs to the processor alone.
        if paging == Paging::X86Pae && level == 3 {
            return Self::Reserved;
        }
        if value & PROTOTYPE != 0 {
            return Self::prototype(paging, value);
        }
        if value & TRANSITION != 0 {
            return Self::Transition(transition_frame(paging, value));
        }
        let (number, page) = match paging {
            Paging::X86 => (value >> 1, value >> 12),
            _ => (value >> 12, value >> 32),
        };
        match page {
            0 => Self::DemandZero,
            _ => Self::PageFile { number: (number & 0xf) as u8, page: page as u32 },
        }
    }

    fn prototype(paging: Paging, value: u64) -> Self {
        let (address, in_vad) = match paging {
            Paging::X86 => {
                let address = 0x8000_0000 | (value >> 1 & 0x7fff_fc00) | (value << 1 & 0x3ff);
                (address, value >> 12 == 0xf_ffff)
            }
            Paging::X86Pae => (value >> 32, value >> 32 == 0xffff_ffff),
            _ => (
                ((value as i64) >> 16) as u64,
                value >> 16 == 0xffff_ffff_0000 || value >> 16 == 0xffff_ffff_ffff,
            ),
        };
        if in_vad { Self::PrototypeInVad } else { Self::Prototype(address) }
    }
}

/// The frame of a page in transition.
fn transition_frame(paging: Paging, value: u64) -> PhysAddr {
    PhysAddr(match paging {
        Paging::X86 => value & 0xffff_f000,
        Paging::Arm64 => value & ARM64_FRAME,
        Paging::X86Pae => value & 0x0000_003f_ffff_f000,
        _ if value & SWIZZLE_BIT == 0 => value & X64_FRAME & !SWIZZLED,
        _ => value & X64_FRAME,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x64(level: u8, value: u64) -> EntryKind {
        EntryKind::of(Paging::X64FourLevel, level, value)
    }

    #[test]
    fn entries_of_a_real_walk() {
        // The chain of a driver's page and a large page of nt, as a dump of 19041 holds them.
        assert_eq!(x64(4, 0x0650_9063), EntryKind::Valid(PhysAddr(0x0650_9000)));
        assert_eq!(x64(2, 0x0a00_0001_25ba_0863), EntryKind::Valid(PhysAddr(0x1_25ba_0000)));
        assert_eq!(x64(1, 0x0900_0001_21e1_4121), EntryKind::Valid(PhysAddr(0x1_21e1_4000)));
        assert_eq!(x64(2, 0x0440_01a1), EntryKind::Large(PhysAddr(0x0440_0000)));
        assert_eq!(x64(1, 0x0440_01a1), EntryKind::Valid(PhysAddr(0x0440_0000)), "bit 7 is the PAT here");
    }

    #[test]
    fn what_the_processor_does_not_take() {
        assert_eq!(x64(1, 0), EntryKind::Empty);
        assert_eq!(x64(1, 0x80), EntryKind::DemandZero);
        assert_eq!(x64(1, 0x1234_5000 | 0x890), EntryKind::Transition(PhysAddr(0x1234_5000)));
        assert_eq!(x64(1, 0x2000_1234_5880), EntryKind::Transition(PhysAddr(0x1234_5000)), "swizzled");
        assert_eq!(x64(1, 0x77 << 32 | 2 << 12 | 0x80), EntryKind::PageFile { number: 2, page: 0x77 });
        assert_eq!(x64(1, 0x8a01_2345_6789_0400), EntryKind::Prototype(0xffff_8a01_2345_6789));
        assert_eq!(x64(1, 0xffff_ffff_0000_0400), EntryKind::PrototypeInVad);
        let pae = |level, value| EntryKind::of(Paging::X86Pae, level, value);
        assert_eq!(pae(3, 0x1001), EntryKind::Valid(PhysAddr(0x1000)));
        assert_eq!(pae(3, 0x1000), EntryKind::Reserved);
        assert_eq!(pae(1, 0x8123_4560_0000_0400), EntryKind::Prototype(0x8123_4560));
    }

    #[test]
    fn entries_of_other_processors() {
        let x86 = |level, value| EntryKind::of(Paging::X86, level, value);
        assert_eq!(x86(2, 0x0040_0000 | 3 << 13 | 0x81), EntryKind::Large(PhysAddr(0x3_0040_0000)));
        assert_eq!(x86(1, 5 << 12 | 2 << 1), EntryKind::PageFile { number: 2, page: 5 });
        let arm = |level, value| EntryKind::of(Paging::Arm64, level, value);
        assert_eq!(arm(2, 0x4000_0701), EntryKind::Large(PhysAddr(0x4000_0000)));
        assert_eq!(arm(1, 0x4000_0701), EntryKind::Reserved);
        assert_eq!(arm(1, 0x0060_0000_4000_0703), EntryKind::Valid(PhysAddr(0x4000_0000)));
    }
}
