//! Kinds of kernel dumps, and how one is told from another.

use crate::bytes::{u32_at, u64_at};
use std::fmt;

/// Pointer width of a dump, told by its first eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Bits {
    /// `PAGEDUMP`.
    B32,
    /// `PAGEDU64`.
    B64,
}

impl Bits {
    /// Bytes of the header, after which the container's own body starts.
    #[must_use]
    pub const fn header_size(self) -> usize {
        match self {
            Self::B32 => 0x1000,
            Self::B64 => 0x2000,
        }
    }

    /// Where the header keeps its DumpType.
    pub(crate) const fn dump_type_offset(self) -> usize {
        match self {
            Self::B32 => 0xf88,
            Self::B64 => 0xf98,
        }
    }

    /// Where the header keeps its physical memory descriptor.
    pub(crate) const fn physical_memory_offset(self) -> usize {
        match self {
            Self::B32 => 0x64,
            Self::B64 => 0x88,
        }
    }

    const fn pick(self, narrow: &'static str, wide: &'static str) -> &'static str {
        match self {
            Self::B32 => narrow,
            Self::B64 => wide,
        }
    }
}

/// What a dump holds, and in which container.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// DumpType 4: a minidump, blocks keyed by virtual address.
    Triage,
    /// DumpType 1: all of physical memory, in runs.
    Full,
    /// DumpType 2: the kernel dump of Windows XP to 7.
    Summary,
    /// DumpType 3: a header and nothing else.
    HeaderOnly,
    /// A complete or active dump behind a page bitmap (`FDMP`, Windows 8 and later).
    BitmapFull,
    /// A kernel, automatic or live dump behind a page bitmap (`SDMP`, Windows 8 and later).
    BitmapKernel,
    /// DumpType 7, which Windows uses as a setting and seldom writes into a file.
    Automatic,
    /// DumpType 8, 9 or 10: what newer debuggers write with `.dump`.
    Rdmp(u32),
    /// No dump: the plain memory of a machine, page after page.
    Plain,
    /// No dump: a core file of QEMU's, or of another hypervisor.
    ElfCore,
    /// `Raw_Dmp!`: an offline dump, as firmware writes it.
    UefiRaw,
    /// A DumpType that means nothing to us, or none at all.
    Unknown(u32),
}

impl Kind {
    /// The kind of a dump that starts with `head`: its DumpType, corrected by the signature after the header, which
    /// is decisive for the bitmap kinds.
    pub(crate) fn of(head: &[u8], bits: Bits) -> Self {
        let dump_type = u32_at(head, bits.dump_type_offset()).unwrap_or(0);
        let body = bits.header_size();
        let signature = head.get(body..body.saturating_add(4)).unwrap_or_default();
        let bitmap = match signature {
            b"FDMP" => Some(Self::BitmapFull),
            b"SDMP" => Some(Self::BitmapKernel),
            _ => None,
        };
        match dump_type {
            1 => bitmap.unwrap_or(Self::Full),
            2 => Self::Summary,
            3 => Self::HeaderOnly,
            4 => Self::Triage,
            5 => bitmap.unwrap_or(Self::BitmapFull),
            6 => bitmap.unwrap_or(Self::BitmapKernel),
            7 => bitmap.unwrap_or(Self::Automatic),
            8..=10 => Self::Rdmp(dump_type),
            _ if bits == Bits::B64 && body_is_triage(head) => Self::Triage,
            _ if has_runs(head, bits) => Self::Full,
            _ => Self::Unknown(dump_type),
        }
    }

    /// A short word that stays the same between versions: `triage64`, `full64`, `bitmap_kernel64`, `triage32`.
    #[must_use]
    pub const fn id(self, bits: Bits) -> &'static str {
        match self {
            Self::Triage => bits.pick("triage32", "triage64"),
            Self::Full => bits.pick("full32", "full64"),
            Self::Summary => bits.pick("summary32", "summary64"),
            Self::HeaderOnly => bits.pick("header_only32", "header_only64"),
            Self::BitmapFull => bits.pick("bitmap_full32", "bitmap_full64"),
            Self::BitmapKernel => bits.pick("bitmap_kernel32", "bitmap_kernel64"),
            Self::Automatic => bits.pick("automatic32", "automatic64"),
            Self::Plain => bits.pick("memory32", "memory64"),
            Self::ElfCore => bits.pick("elf_core32", "elf_core64"),
            Self::UefiRaw => bits.pick("uefi_raw32", "uefi_raw64"),
            Self::Rdmp(_) => bits.pick("rdmp32", "rdmp64"),
            Self::Unknown(_) => bits.pick("unknown32", "unknown64"),
        }
    }
}

/// Both real writers put the context and the exception of the triage header at the header's own fixed offsets.
fn body_is_triage(head: &[u8]) -> bool {
    u32_at(head, 0x200c) == Some(0x348) && u32_at(head, 0x2010) == Some(0xf00)
}

/// A physical memory descriptor that could be one: some runs, and no more than fit.
pub(crate) fn has_runs(head: &[u8], bits: Bits) -> bool {
    let at = bits.physical_memory_offset();
    let pages = match bits {
        Bits::B32 => u32_at(head, at + 4).map(u64::from),
        Bits::B64 => u64_at(head, at + 8),
    };
    let limit = if bits == Bits::B32 { 86 } else { 42 };
    u32_at(head, at).is_some_and(|runs| (1..=limit).contains(&runs))
        && pages.is_some_and(|p| p > 0 && p < 1 << 40)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Triage => f.write_str("small memory dump (triage)"),
            Self::Full => f.write_str("complete memory dump"),
            Self::Summary => f.write_str("kernel memory dump (summary, before Windows 8)"),
            Self::HeaderOnly => f.write_str("dump header without memory"),
            Self::BitmapFull => f.write_str("complete or active memory dump (bitmap)"),
            Self::BitmapKernel => f.write_str("kernel memory dump (bitmap)"),
            Self::Automatic => f.write_str("automatic memory dump"),
            Self::Plain => f.write_str("memory image"),
            Self::ElfCore => f.write_str("core of a virtual machine (ELF)"),
            Self::UefiRaw => f.write_str("offline dump written by firmware"),
            Self::Rdmp(8) => f.write_str("kernel memory dump written by a debugger (RDMP)"),
            Self::Rdmp(9) => f.write_str("kernel and user memory dump written by a debugger (RDMP)"),
            Self::Rdmp(_) => f.write_str("complete memory dump written by a debugger (RDMP)"),
            Self::Unknown(number) => write!(f, "kernel dump of unknown type {number:#x}"),
        }
    }
}
