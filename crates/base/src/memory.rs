//! Memory of the crashed machine: bytes at virtual addresses, and a typed reason for every byte that is not there.

use crate::{Arch, VirtAddr};
use std::fmt;

/// Why bytes are not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum MissReason {
    /// The dump holds no bytes for this address: normal in a minidump.
    NotInDump,
    /// The dump says it holds them, but the file ends before.
    FileTruncated,
    /// The address cannot be used on this processor.
    NotCanonical,
    /// A page-table entry at this level (4 = top) is empty.
    NotMapped {
        /// 1 is the page table, 4 the top of a four-level walk.
        level: u8,
    },
    /// The page of the page table of this level is not in the dump.
    TableNotInDump {
        /// 1 is the page table, 4 the top of a four-level walk.
        level: u8,
    },
    /// The page is in a page file.
    PagedOut,
    /// The page belongs to a file or a section, and was not in memory.
    NotResident,
    /// The page belongs to a section, and which entry counts only the process' virtual address descriptors tell.
    InVad,
}

impl fmt::Display for MissReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInDump => f.write_str("not in this dump"),
            Self::FileTruncated => f.write_str("the file ends before these bytes"),
            Self::NotCanonical => f.write_str("not a canonical address"),
            Self::NotMapped { level } => write!(f, "not mapped (level {level} entry is empty)"),
            Self::TableNotInDump { level } => write!(f, "the level {level} page table is not in this dump"),
            Self::PagedOut => f.write_str("paged out"),
            Self::NotResident => f.write_str("backed by a file or section, and not in memory"),
            Self::InVad => f.write_str("part of a section, which only the process' VADs lead to"),
        }
    }
}

/// A read that could not be done whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason} at {at} ({got} of {wanted} bytes read)")]
pub struct Miss {
    /// The first address without a byte.
    pub at: VirtAddr,
    /// How many bytes were read before it.
    pub got: usize,
    /// How many were asked for.
    pub wanted: usize,
    /// Why there is none.
    pub reason: MissReason,
}

/// Bytes at virtual addresses.
///
/// An implementation gives [`Memory::read_some`]; the rest follows from it.
pub trait Memory {
    /// Fills the start of `buffer` with the bytes from `at` on and says how many; at least one.
    ///
    /// Fewer than asked for is no error: the next byte may come from elsewhere, or be missing.
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason>;

    /// Fills `buffer` or says which byte is missing, why, and how many came before it.
    fn read(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<(), Miss> {
        let wanted = buffer.len();
        let mut got = 0;
        while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
            let here = at.plus(got as u64);
            match self.read_some(here, rest) {
                Ok(0) => return Err(Miss { at: here, got, wanted, reason: MissReason::NotInDump }),
                Ok(read) => got += read.min(rest.len()),
                Err(reason) => return Err(Miss { at: here, got, wanted, reason }),
            }
        }
        Ok(())
    }

    /// The bytes from `at` on up to `limit`, as many as are there without a gap.
    fn read_available(&self, at: VirtAddr, limit: usize) -> Vec<u8> {
        let mut bytes = vec![0; limit];
        if let Err(miss) = self.read(at, &mut bytes) {
            bytes.truncate(miss.got);
        }
        bytes
    }

    /// One byte.
    fn read_u8(&self, at: VirtAddr) -> Result<u8, Miss> {
        let mut b = [0; 1];
        self.read(at, &mut b).map(|()| u8::from_le_bytes(b))
    }

    /// A little-endian 16-bit word.
    fn read_u16(&self, at: VirtAddr) -> Result<u16, Miss> {
        let mut b = [0; 2];
        self.read(at, &mut b).map(|()| u16::from_le_bytes(b))
    }

    /// A little-endian 32-bit word.
    fn read_u32(&self, at: VirtAddr) -> Result<u32, Miss> {
        let mut b = [0; 4];
        self.read(at, &mut b).map(|()| u32::from_le_bytes(b))
    }

    /// A word as wide as a pointer of `arch`; of x86 its sign is not extended.
    fn read_word(&self, arch: Arch, at: VirtAddr) -> Result<u64, Miss> {
        if arch.pointer_size() == 4 { self.read_u32(at).map(u64::from) } else { self.read_u64(at) }
    }

    /// A little-endian 64-bit word.
    fn read_u64(&self, at: VirtAddr) -> Result<u64, Miss> {
        let mut b = [0; 8];
        self.read(at, &mut b).map(|()| u64::from_le_bytes(b))
    }
}

/// Memory over one run of bytes, for tests and for structures that were copied out of a dump.
#[derive(Clone, Copy, Debug)]
pub struct SliceMemory<'a> {
    /// Address of the first byte.
    pub base: VirtAddr,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl Memory for SliceMemory<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let rest = at
            .offset_from(self.base)
            .and_then(|offset| usize::try_from(offset).ok())
            .and_then(|offset| self.bytes.get(offset..))
            .filter(|rest| !rest.is_empty())
            .ok_or(MissReason::NotInDump)?;
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_read_names_the_missing_byte() {
        let memory = SliceMemory { base: VirtAddr(0x1000), bytes: &[1, 2, 3, 4, 5] };
        assert_eq!(memory.read_u32(VirtAddr(0x1001)).unwrap(), 0x0504_0302);
        let miss = memory.read_u64(VirtAddr(0x1001)).unwrap_err();
        assert_eq!((miss.at, miss.got, miss.wanted), (VirtAddr(0x1005), 4, 8));
        assert_eq!(memory.read_available(VirtAddr(0x1003), 100), [4, 5]);
        assert!(memory.read_u8(VirtAddr(0xfff)).is_err());
        assert!(memory.read_u64(VirtAddr(u64::MAX)).is_err());
    }
}
