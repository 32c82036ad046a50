//! Where the fields of a triage header are: `TRIAGE_DUMP64` and `TRIAGE_DUMP32`.
//!
//! The 32-bit form has met no real file yet: it is as public readers have it.

use crate::bytes::{u32_at, u64_at};
use crate::kind::Bits;
use stopcode_base::VirtAddr;

/// File offsets of the header's fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) bits: Bits,
    /// Where the header starts and ends.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) size_of_dump: usize,
    pub(super) valid_offset: usize,
    pub(super) mm: usize,
    pub(super) unloaded: usize,
    pub(super) prcb: usize,
    pub(super) process: usize,
    pub(super) thread: usize,
    pub(super) call_stack: usize,
    pub(super) call_stack_size: usize,
    pub(super) drivers: usize,
    pub(super) driver_count: usize,
    pub(super) pool: usize,
    pub(super) pool_size: usize,
    pub(super) broken_driver: usize,
    pub(super) options: usize,
    pub(super) top_of_stack: usize,
    /// Address, offset and size of the data page.
    pub(super) data_page: [usize; 3],
    pub(super) kdbg: usize,
    pub(super) kdbg_size: usize,
    pub(super) blocks: usize,
    pub(super) block_count: usize,
}

impl Shape {
    pub(super) const fn of(bits: Bits) -> Self {
        let start = bits.header_size();
        // Up to the top of the stack both are alike; then pointers are as wide as the processor's.
        let (data_page, kdbg, blocks, end) = match bits {
            Bits::B64 => {
                ([start + 0x60, start + 0x68, start + 0x6c], start + 0x70, start + 0x78, start + 0x80)
            }
            Bits::B32 => {
                ([start + 0x4c, start + 0x50, start + 0x54], start + 0x58, start + 0x60, start + 0x68)
            }
        };
        Self {
            bits,
            start,
            end,
            size_of_dump: start + 4,
            valid_offset: start + 8,
            mm: start + 0x14,
            unloaded: start + 0x18,
            prcb: start + 0x1c,
            process: start + 0x20,
            thread: start + 0x24,
            call_stack: start + 0x28,
            call_stack_size: start + 0x2c,
            drivers: start + 0x30,
            driver_count: start + 0x34,
            pool: start + 0x38,
            pool_size: start + 0x3c,
            broken_driver: start + 0x40,
            options: start + 0x44,
            top_of_stack: start + 0x48,
            data_page,
            kdbg,
            kdbg_size: kdbg + 4,
            blocks,
            block_count: blocks + 4,
        }
    }

    /// Fields that hold the offset of a part.
    pub(super) const fn offsets(&self) -> [usize; 13] {
        [
            self.valid_offset,
            self.mm,
            self.unloaded,
            self.prcb,
            self.process,
            self.thread,
            self.call_stack,
            self.drivers,
            self.pool,
            self.broken_driver,
            self.data_page[1],
            self.kdbg,
            self.blocks,
        ]
    }

    /// Bytes of a pointer.
    pub(super) const fn pointer_size(&self) -> usize {
        match self.bits {
            Bits::B64 => 8,
            Bits::B32 => 4,
        }
    }

    /// The address at `offset`.
    pub(super) fn pointer(&self, bytes: &[u8], offset: usize) -> Option<VirtAddr> {
        let address = match self.bits {
            Bits::B64 => u64_at(bytes, offset)?,
            Bits::B32 => u32_at(bytes, offset)?.into(),
        };
        Some(VirtAddr(address))
    }

    /// True in the kernel's half.
    pub(super) const fn is_kernel(&self, address: VirtAddr) -> bool {
        match self.bits {
            Bits::B64 => address.is_kernel(),
            Bits::B32 => address.0 >= 0x8000_0000,
        }
    }

    /// Bytes of an entry of the table of data blocks: an address, an offset, a size.
    pub(super) const fn block_size(&self) -> usize {
        self.pointer_size() + 8
    }
}
