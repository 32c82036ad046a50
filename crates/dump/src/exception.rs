//! `EXCEPTION_RECORD64`, in the dump header and in the memory of the crashed machine.

use crate::bytes::{is_filler, u32_at, u64_at};
use stopcode_base::{Memory, Miss, VirtAddr};

/// Parameters that a record has room for.
const MAXIMUM_PARAMETERS: u32 = 15;
/// Bytes before the parameters.
const FIXED_SIZE: usize = 0x20;
const FIXED_SIZE_32: usize = 0x14;

/// An exception as the system dispatched it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExceptionRecord {
    /// NTSTATUS code.
    pub code: u32,
    /// `EXCEPTION_NONCONTINUABLE` and its like.
    pub flags: u32,
    /// The record of the exception before it; zero if there is none.
    pub nested: VirtAddr,
    /// The instruction that raised it.
    pub address: VirtAddr,
    /// `ExceptionInformation`, at most 15.
    pub parameters: Vec<u64>,
}

impl ExceptionRecord {
    /// The record at `at`, or the first byte of it that is missing. Only the parameters it claims are read.
    pub fn read(memory: &dyn Memory, at: VirtAddr) -> Result<Self, Miss> {
        let mut fixed = [0; FIXED_SIZE];
        memory.read(at, &mut fixed)?;
        let word = |offset| u32_at(&fixed, offset).unwrap_or(0);
        let parameters = (0..u64::from(word(0x18).min(MAXIMUM_PARAMETERS)))
            .map(|n| memory.read_u64(at.plus(FIXED_SIZE as u64 + 8 * n)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            code: word(0),
            flags: word(4),
            nested: VirtAddr(u64_at(&fixed, 8).unwrap_or(0)),
            address: VirtAddr(u64_at(&fixed, 0x10).unwrap_or(0)),
            parameters,
        })
    }

    /// The same for `EXCEPTION_RECORD32`.
    pub fn read32(memory: &dyn Memory, at: VirtAddr) -> Result<Self, Miss> {
        let mut fixed = [0; FIXED_SIZE_32];
        memory.read(at, &mut fixed)?;
        let word = |offset| u32_at(&fixed, offset).unwrap_or(0);
        let parameters = (0..u64::from(word(0x10).min(MAXIMUM_PARAMETERS)))
            .map(|n| memory.read_u32(at.plus(FIXED_SIZE_32 as u64 + 4 * n)).map(u64::from))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            code: word(0),
            flags: word(4),
            nested: VirtAddr(word(8).into()),
            address: VirtAddr(word(0xc).into()),
            parameters,
        })
    }

    /// The record at the start of `bytes`, a copy in a 64-bit dump header; `None` if it was never set.
    pub(crate) fn from_header(bytes: &[u8]) -> Option<Self> {
        let code = u32_at(bytes, 0).filter(|code| *code != 0 && !is_filler(*code))?;
        let count = u32_at(bytes, 0x18)?.min(MAXIMUM_PARAMETERS) as usize;
        Some(Self {
            code,
            flags: u32_at(bytes, 4)?,
            nested: VirtAddr(u64_at(bytes, 8)?),
            address: VirtAddr(u64_at(bytes, 0x10)?),
            parameters: (0..count).map_while(|n| u64_at(bytes, FIXED_SIZE + 8 * n)).collect(),
        })
    }

    /// The same for `EXCEPTION_RECORD32`.
    pub(crate) fn from_header32(bytes: &[u8]) -> Option<Self> {
        let code = u32_at(bytes, 0).filter(|code| *code != 0 && !is_filler(*code))?;
        let count = u32_at(bytes, 0x10)?.min(MAXIMUM_PARAMETERS) as usize;
        Some(Self {
            code,
            flags: u32_at(bytes, 4)?,
            nested: VirtAddr(u64::from(u32_at(bytes, 8)?)),
            address: VirtAddr(u64::from(u32_at(bytes, 0xc)?)),
            parameters: (0..count).map_while(|n| u32_at(bytes, 0x14 + 4 * n).map(u64::from)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopcode_base::SliceMemory;

    #[test]
    fn a_record_in_memory() {
        let mut bytes = vec![0; 0x98];
        bytes[..4].copy_from_slice(&0xc000_0005u32.to_le_bytes());
        bytes[0x10] = 0x99;
        bytes[0x18] = 2;
        bytes[0x20] = 1;
        bytes[0x28] = 0xee;
        let memory = SliceMemory { base: VirtAddr(0x1000), bytes: &bytes };
        let record = ExceptionRecord::read(&memory, VirtAddr(0x1000)).unwrap();
        assert_eq!(
            (record.code, record.address, record.parameters.as_slice()),
            (0xc000_0005, VirtAddr(0x99), &[1, 0xee][..])
        );
        assert_eq!(ExceptionRecord::from_header(&bytes), Some(record));
        let cut = SliceMemory { base: VirtAddr(0x1000), bytes: &bytes[..0x2c] };
        assert_eq!(ExceptionRecord::read(&cut, VirtAddr(0x1000)).unwrap_err().at, VirtAddr(0x102c));
    }

    #[test]
    fn a_count_out_of_range_is_cut() {
        let mut bytes = vec![7; 0x98];
        bytes[0x18..0x1c].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(ExceptionRecord::from_header(&bytes).unwrap().parameters.len(), 15);
    }
}
