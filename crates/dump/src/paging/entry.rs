//! What one page-table entry says.

use super::Paging;
use std::fmt;
use stopcode_base::{PhysAddr, VirtAddr};

/// One step of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkEntry {
    /// 1 is the page table; the top is 2 to 5.
    pub level: u8,
    /// Where the entry lies in physical memory; `None` where it was read through the self-map.
    pub address: Option<PhysAddr>,
    /// Where the self-map shows the entry, if the table has one.
    pub mapped_at: Option<VirtAddr>,
    /// The entry.
    pub value: u64,
    /// What it says.
    pub kind: EntryKind,
    /// How the processor treats what it leads to.
    pub flags: EntryFlags,
}

impl WalkEntry {
    /// The page frame number that the entry names, where it names one.
    #[must_use]
    pub const fn pfn(&self) -> Option<u64> {
        match self.kind {
            EntryKind::Valid(at) | EntryKind::Large(at) | EntryKind::Transition(at) => Some(at.0 >> 12),
            _ => None,
        }
    }
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
        /// Which page file; 2 is commonly the compressed store. `None` where the entry reads differently before and
        /// after the patches of 2018, and the build may be either.
        number: Option<u8>,
        /// Which page of it, as the entry has it: where the kernel guards entries against L1TF and the guard is not
        /// known ([`Form::invalid_mask`]), a bit of this may be the guard's.
        page: u32,
    },
    /// In a file: the entry names a control area (Windows 11 22H2 and later).
    File,
    /// Never used yet: reads as zeros.
    DemandZero,
    /// Nothing is mapped.
    Empty,
    /// Bits set that are no entry of any form known.
    Reserved,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid(at) => write!(f, "valid, pfn {:x}", at.0 >> 12),
            Self::Large(at) => write!(f, "valid, large page from pfn {:x} on", at.0 >> 12),
            Self::Transition(at) => write!(f, "in transition, pfn {:x}", at.0 >> 12),
            Self::Prototype(at) => write!(f, "prototype, the entry at {} counts", VirtAddr(*at).windbg()),
            Self::PrototypeInVad => f.write_str("prototype, which one the VAD tells"),
            Self::PageFile { number: Some(number), page } => {
                write!(f, "paged out, page file {number}, page {page:x}")
            }
            Self::PageFile { number: None, page } => write!(f, "paged out, page {page:x} of a page file"),
            Self::File => f.write_str("in a file, not in memory"),
            Self::DemandZero => f.write_str("demand zero"),
            Self::Empty => f.write_str("not mapped"),
            Self::Reserved => f.write_str("no form of entry that is known"),
        }
    }
}

/// Flags of a valid entry, as `!pte` prints them; of any other all are clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EntryFlags {
    /// The processor uses the entry.
    pub valid: bool,
    /// Written to only after a copy was made.
    pub copy_on_write: bool,
    /// Stays in the TLB when the address space changes.
    pub global: bool,
    /// Maps a large page.
    pub large: bool,
    /// Was written to.
    pub dirty: bool,
    /// Was used.
    pub accessed: bool,
    /// Is not cached.
    pub cache_disabled: bool,
    /// Writes go through the cache.
    pub write_through: bool,
    /// User mode may use it.
    pub user: bool,
    /// May be written to.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
}

/// The letters of `!pte`: `-G-DA--KWEV`.
impl fmt::Display for EntryFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [
            (self.copy_on_write, 'C', '-'),
            (self.global, 'G', '-'),
            (self.large, 'L', '-'),
            (self.dirty, 'D', '-'),
            (self.accessed, 'A', '-'),
            (self.cache_disabled, 'N', '-'),
            (self.write_through, 'T', '-'),
            (self.user, 'U', 'K'),
            (self.writable, 'W', 'R'),
            (self.executable, 'E', '-'),
            (self.valid, 'V', '-'),
        ];
        letters.iter().try_for_each(|(set, yes, no)| write!(f, "{}", if *set { yes } else { no }))
    }
}

/// How entries are to be read: the processor's form, and what Windows makes of those the processor does not take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// The processor's form.
    pub paging: Paging,
    /// Build number of Windows; 0 if it is not known.
    pub build: u32,
    /// The first physical address past all memory of the machine; `None` if it is not known.
    pub memory_end: Option<u64>,
    /// `InvalidPteMask` of `nt!MiState`: the bits that guard entries against L1TF; `None` if it is not known.
    pub invalid_mask: Option<u64>,
}

/// Bits of a page frame in x64 entries; Windows up to 19041 uses 36 of them, later ones 40.
const X64_FRAME: u64 = 0x000f_ffff_ffff_f000;
const ARM64_FRAME: u64 = 0x0000_ffff_ffff_f000;
/// Clear in an entry whose bits of `InvalidPteMask` are the guard's.
const SWIZZLE_BIT: u64 = 1 << 4;
/// The usual guard against L1TF.
const USUAL_GUARD: u64 = 1 << 45;
/// No guard is lower than this: its bit is the highest that the processor can address.
const LOWEST_GUARD: u64 = 1 << 38;
/// The first build that was never without the layout of software entries that came with the guard.
const FIRST_GUARDED: u32 = 17_134;
/// The first build whose entries name control areas.
const FIRST_WITH_FILES: u32 = 22_621;

impl Form {
    /// This form of page tables, of a machine of which nothing more is known.
    #[must_use]
    pub const fn new(paging: Paging) -> Self {
        Self { paging, build: 0, memory_end: None, invalid_mask: None }
    }

    /// What `value` says as an entry of `level`.
    #[must_use]
    pub fn kind(&self, level: u8, value: u64) -> EntryKind {
        let valid = match self.paging {
            Paging::X64FourLevel | Paging::X64FiveLevel => x64(level, value),
            Paging::X86Pae => pae(level, value),
            Paging::X86 => x86(level, value),
            Paging::Arm64 => arm64(level, value),
        };
        valid.unwrap_or_else(|| self.software(level, value))
    }

    /// Flags of `value` as an entry of `level` for `address`.
    #[must_use]
    pub fn flags(&self, level: u8, value: u64, address: VirtAddr) -> EntryFlags {
        let bit = |n: u32| value >> n & 1 != 0;
        let large = match self.kind(level, value) {
            EntryKind::Valid(_) => false,
            EntryKind::Large(_) => true,
            _ => return EntryFlags::default(),
        };
        if self.paging == Paging::Arm64 {
            let last = level == 1 || large;
            let never = if address.is_kernel() { 53 } else { 54 };
            return EntryFlags {
                valid: true,
                large,
                global: last && !bit(11),
                dirty: last && !bit(7),
                accessed: last && bit(10),
                user: last && bit(6),
                // AP[2] makes it read-only; bit 55 is Windows' own.
                writable: !last || !bit(7) || bit(55),
                executable: !last || !bit(never),
                ..EntryFlags::default()
            };
        }
        EntryFlags {
            valid: true,
            large,
            copy_on_write: bit(9),
            global: bit(8),
            dirty: bit(6),
            accessed: bit(5),
            cache_disabled: bit(4),
            write_through: bit(3),
            user: bit(2),
            // Windows keeps its own bit: a page that was not written yet is read-only to the processor.
            writable: bit(1) || bit(11),
            executable: self.paging == Paging::X86 || !bit(63),
        }
    }

    /// An entry that the processor takes for not present.
    fn software(&self, level: u8, value: u64) -> EntryKind {
        const PROTOTYPE: u64 = 1 << 10;
        const TRANSITION: u64 = 1 << 11;
        if value == 0 {
            return EntryKind::Empty;
        }
        // The top of PAE belongs to the processor alone.
        if self.paging == Paging::X86Pae && level == 3 {
            return EntryKind::Reserved;
        }
        let prototype = value & PROTOTYPE != 0;
        if prototype && self.is_in_vad(value) {
            return EntryKind::PrototypeInVad;
        }
        if self.build >= FIRST_WITH_FILES
            && self.paging.entry_size() == 8
            && value & 0xffff_8000_0000_000f == 0xffff_8000_0000_0000
        {
            return EntryKind::File;
        }
        if prototype {
            return EntryKind::Prototype(self.prototype(value));
        }
        if value & TRANSITION != 0 {
            return EntryKind::Transition(self.transition_frame(value));
        }
        self.page_file(value)
    }

    /// The address of the prototype that counts is all ones: it is in the VAD.
    fn is_in_vad(&self, value: u64) -> bool {
        match self.paging {
            Paging::X86 => value >> 12 == 0xf_ffff,
            Paging::X86Pae => value >> 32 == 0xffff_ffff,
            _ => value >> 16 == 0xffff_ffff_0000 || value >> 16 == 0xffff_ffff_ffff,
        }
    }

    fn prototype(&self, value: u64) -> u64 {
        match self.paging {
            Paging::X86 => 0x8000_0000 | (value >> 1 & 0x7fff_fc00) | (value << 1 & 0x3ff),
            Paging::X86Pae => value >> 32,
            _ => ((value as i64) >> 16) as u64,
        }
    }

    /// The entry without its guard, where that is known.
    fn without_guard(&self, value: u64) -> u64 {
        match self.invalid_mask {
            Some(mask) if value & SWIZZLE_BIT == 0 => value & !mask,
            _ => value,
        }
    }

    /// The frame of a page in transition.
    fn transition_frame(&self, value: u64) -> PhysAddr {
        PhysAddr(match self.paging {
            Paging::X86 => value & 0xffff_f000,
            Paging::X86Pae => value & 0x0000_003f_ffff_f000,
            Paging::Arm64 => value & ARM64_FRAME,
            _ if self.invalid_mask.is_some() => self.without_guard(value) & X64_FRAME,
            _ if value & SWIZZLE_BIT != 0 => value & X64_FRAME,
            // The guard is the highest bit the processor can address, where no memory is: a frame there is no frame.
            _ => {
                let end = self.memory_end.and_then(u64::checked_next_power_of_two);
                let guards = end.map_or(USUAL_GUARD, |end| !(end.max(LOWEST_GUARD) - 1));
                value & X64_FRAME & !guards
            }
        })
    }

    /// A page in a page file, or one that was never used. With the guard of 2018 the number of the page file moved up.
    fn page_file(&self, value: u64) -> EntryKind {
        let value = if self.paging == Paging::X86 { value } else { self.without_guard(value) };
        let (old, new) = ((value >> 1 & 0xf) as u8, (value >> 12 & 0xf) as u8);
        let (number, page) = match self.paging {
            Paging::X86 => (Some(old), value >> 12),
            _ if self.build >= FIRST_GUARDED || new != 0 || old == 0 => (Some(new), value >> 32),
            _ => (None, value >> 32),
        };
        match page {
            0 => EntryKind::DemandZero,
            _ => EntryKind::PageFile { number, page: page as u32 },
        }
    }
}

fn x64(level: u8, value: u64) -> Option<EntryKind> {
    const LARGE: u64 = 1 << 7;
    if value & 1 == 0 {
        return None;
    }
    Some(match level {
        2 if value & LARGE != 0 => EntryKind::Large(PhysAddr(value & X64_FRAME & !0x1f_ffff)),
        3 if value & LARGE != 0 => EntryKind::Large(PhysAddr(value & X64_FRAME & !0x3fff_ffff)),
        _ => EntryKind::Valid(PhysAddr(value & X64_FRAME)),
    })
}

fn pae(level: u8, value: u64) -> Option<EntryKind> {
    match level {
        3 => (value & 1 != 0).then_some(EntryKind::Valid(PhysAddr(value & X64_FRAME))),
        _ => x64(level, value),
    }
}

fn x86(level: u8, value: u64) -> Option<EntryKind> {
    if value & 1 == 0 {
        return None;
    }
    Some(if level == 2 && value & 1 << 7 != 0 {
        // PSE-36 keeps the upper four bits of the address in bits 13 to 16.
        EntryKind::Large(PhysAddr(value & 0xffc0_0000 | (value >> 13 & 0xf) << 32))
    } else {
        EntryKind::Valid(PhysAddr(value & 0xffff_f000))
    })
}

fn arm64(level: u8, value: u64) -> Option<EntryKind> {
    match (value & 3, level) {
        (3, _) => Some(EntryKind::Valid(PhysAddr(value & ARM64_FRAME))),
        (1, 2) => Some(EntryKind::Large(PhysAddr(value & ARM64_FRAME & !0x1f_ffff))),
        (1, 3) => Some(EntryKind::Large(PhysAddr(value & ARM64_FRAME & !0x3fff_ffff))),
        (1, _) => Some(EntryKind::Reserved),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x64(level: u8, value: u64) -> EntryKind {
        Form::new(Paging::X64FourLevel).kind(level, value)
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
        assert_eq!(x64(1, 0x77 << 32 | 2 << 12 | 0x80), EntryKind::PageFile { number: Some(2), page: 0x77 });
        assert_eq!(x64(1, 0x8a01_2345_6789_0400), EntryKind::Prototype(0xffff_8a01_2345_6789));
        assert_eq!(x64(1, 0xffff_ffff_0000_0400), EntryKind::PrototypeInVad);
        let pae = |level, value| Form::new(Paging::X86Pae).kind(level, value);
        assert_eq!(pae(3, 0x1001), EntryKind::Valid(PhysAddr(0x1000)));
        assert_eq!(pae(3, 0x1000), EntryKind::Reserved);
        assert_eq!(pae(1, 0x8123_4560_0000_0400), EntryKind::Prototype(0x8123_4560));
    }

    #[test]
    fn entries_of_other_processors() {
        let x86 = |level, value| Form::new(Paging::X86).kind(level, value);
        assert_eq!(x86(2, 0x0040_0000 | 3 << 13 | 0x81), EntryKind::Large(PhysAddr(0x3_0040_0000)));
        assert_eq!(x86(1, 5 << 12 | 2 << 1), EntryKind::PageFile { number: Some(2), page: 5 });
        let arm = |level, value| Form::new(Paging::Arm64).kind(level, value);
        assert_eq!(arm(2, 0x4000_0701), EntryKind::Large(PhysAddr(0x4000_0000)));
        assert_eq!(arm(1, 0x4000_0701), EntryKind::Reserved);
        assert_eq!(arm(1, 0x0060_0000_4000_0703), EntryKind::Valid(PhysAddr(0x4000_0000)));
    }

    #[test]
    fn the_guard_against_l1tf_is_no_address() {
        let with = |memory_end, invalid_mask| Form {
            memory_end,
            invalid_mask,
            build: 19_041,
            ..Form::new(Paging::X64FourLevel)
        };
        let frame = |form: Form, value| match form.kind(1, value) {
            EntryKind::Transition(at) => at.0,
            other => panic!("{other:?}"),
        };
        let small = with(Some(0x4_4000_0000), None);
        for guard in [1 << 38, 1 << 45, 1 << 47] {
            assert_eq!(frame(small, guard | 0x1_2345_6880), 0x1_2345_6000, "{guard:#x}");
            assert_eq!(frame(small, guard | 0x1_2345_6890), guard | 0x1_2345_6000, "SwizzleBit: no guard");
        }
        // Memory that may be there is never taken for a guard.
        assert_eq!(frame(small, 1 << 37 | 0x5880), 1 << 37 | 0x5000);
        assert_eq!(frame(with(Some(0x81_0000_0000), None), 1 << 39 | 0x5880), 1 << 39 | 0x5000);
        assert_eq!(frame(with(None, Some(1 << 36)), 1 << 36 | 0x5880), 0x5000);
        assert_eq!(frame(with(None, Some(0)), 1 << 45 | 0x5880), 1 << 45 | 0x5000);
        let known = with(None, Some(1 << 45));
        assert_eq!(known.kind(1, 1 << 45 | 0x80), EntryKind::DemandZero);
        let paged = EntryKind::PageFile { number: Some(1), page: 7 };
        assert_eq!(known.kind(1, (0x2007 << 32) | 0x1080), paged);
        assert_eq!(small.kind(1, 1 << 45 | 0x80), EntryKind::PageFile { number: Some(0), page: 0x2000 });
    }

    #[test]
    fn the_number_of_the_page_file_moved() {
        let on = |build| Form { build, ..Form::new(Paging::X64FourLevel) };
        let number = |build, low: u64| match on(build).kind(1, 9 << 32 | low) {
            EntryKind::PageFile { number, page: 9 } => number,
            other => panic!("{other:?}"),
        };
        assert_eq!(number(19_041, 1 << 12 | 1 << 2), Some(1));
        assert_eq!(number(19_041, 1 << 2), Some(0));
        assert_eq!(number(9600, 1 << 12), Some(1));
        assert_eq!(number(9600, 0x80), Some(0), "both readings agree");
        assert_eq!(number(9600, 1 << 2 | 0x80), None, "page file 2, or 0 with a flag");
    }

    #[test]
    fn pages_of_files() {
        let on = |build| Form { build, ..Form::new(Paging::X64FourLevel) };
        assert_eq!(on(22_621).kind(1, 0xffff_8a01_2345_6780), EntryKind::File);
        assert_ne!(on(19_041).kind(1, 0xffff_8a01_2345_6780), EntryKind::File);
        assert_eq!(on(22_621).kind(1, 0xffff_ffff_0000_0400), EntryKind::PrototypeInVad);
        assert_eq!(on(22_621).kind(1, 0x8a01_2345_6789_0400), EntryKind::Prototype(0xffff_8a01_2345_6789));
    }

    #[test]
    fn flags_have_the_letters_of_the_command() {
        let kernel = VirtAddr(0xffff_f804_8b58_3000);
        let x64 = |level, value| Form::new(Paging::X64FourLevel).flags(level, value, kernel).to_string();
        // Entries of a real dump of 19041.
        assert_eq!(x64(4, 0x0650_9063), "---DA--KWEV");
        assert_eq!(x64(1, 0x0900_0001_21e1_4121), "-G--A--KREV");
        assert_eq!(x64(1, 0x8a00_0000_6612_3963), "-G-DA--KW-V");
        assert_eq!(x64(2, 0x0440_01a1), "-GL-A--KREV");
        assert_eq!(x64(1, 0), "-------KR--");
        let arm = |value, at| Form::new(Paging::Arm64).flags(1, value, at).to_string();
        assert_eq!(arm(0x0060_0000_4000_0703, kernel), "-G-DA--KW-V");
        assert_eq!(arm(0x0040_0000_4000_0783, kernel), "-G--A--KREV");
        assert_eq!(arm(0x0020_0000_4000_0fc3, VirtAddr(0x1000)), "----A--UREV");
    }
}
