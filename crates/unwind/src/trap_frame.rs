//! The x64 `KTRAP_FRAME`: what the kernel saves when an exception or interrupt stops code.
//!
//! 0x190 bytes, the same in every public symbol file from Windows 7 to 11 (22000).

use crate::{Code, CodeAt, StackRange};
use stopcode_base::{Memory, Miss, VirtAddr, X64Registers};

/// Bytes in a `KTRAP_FRAME`.
pub const SIZE: u64 = 0x190;

/// Where in it the machine frame begins that the processor pushed.
pub(crate) const RIP: u64 = 0x168;

/// At most this many bytes of a range are searched by [`find_in`].
const MAX_SEARCH: u64 = 0x2_0000;
/// At most this many trap frames are returned by [`find_in`].
const MAX_FOUND: usize = 64;

/// `EFLAGS` bit 1 always reads as one; the bits from 22 on as zero.
const EFLAGS_ONE: u64 = 2;
const EFLAGS_RESERVED: u64 = 0xffff_ffff_ffc0_0000;

/// What stood in a `KTRAP_FRAME`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrapFrame {
    /// Where it lies.
    pub address: VirtAddr,
    /// The registers it holds. A trap entry saves RBP and the volatile registers; RBX, RSI and RDI only on some
    /// paths, so they may be stale; R12 to R15 are not in the structure and are 0 here.
    pub registers: X64Registers,
    /// Processor mode before: 0 kernel, 1 user.
    pub previous_mode: u8,
    /// IRQL before, where the entry saved it: interrupts do, faults need not.
    pub previous_irql: u8,
    /// CR2 of a page fault; on other paths whatever that path stored.
    pub fault_address: VirtAddr,
    /// The error code the processor pushed, if the vector has one.
    pub error_code: u64,
}

/// Where interrupted code ran, by its code segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ring {
    Kernel,
    User,
}

impl TrapFrame {
    /// Reads the structure at `address`, plausible or not.
    pub fn read(memory: &dyn Memory, address: VirtAddr) -> Result<Self, Miss> {
        let mut bytes = [0; SIZE as usize];
        memory.read(address, &mut bytes)?;
        Ok(Self::of_bytes(address, &bytes))
    }

    fn of_bytes(address: VirtAddr, bytes: &[u8; SIZE as usize]) -> Self {
        let word = |offset: usize| {
            bytes
                .get(offset..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |word| u64::from_le_bytes(*word))
        };
        let byte = |offset: usize| bytes.get(offset).copied().unwrap_or(0);
        // In the processor's numbering: rax rcx rdx rbx rsp rbp rsi rdi r8 .. r11, then r12 .. r15 that are not kept.
        let saved = [0x30, 0x38, 0x40, 0x140, 0x180, 0x158, 0x150, 0x148, 0x48, 0x50, 0x58, 0x60];
        let mut gpr = [0; 16];
        for (register, offset) in gpr.iter_mut().zip(saved) {
            *register = word(offset);
        }
        Self {
            address,
            registers: X64Registers {
                gpr,
                rip: word(0x168),
                eflags: word(0x178) as u32,
                cs: word(0x170) as u16,
                ss: word(0x188) as u16,
            },
            previous_mode: byte(0x28),
            previous_irql: byte(0x29),
            fault_address: VirtAddr(word(0xd0)),
            error_code: word(0x160),
        }
    }

    /// The interrupted instruction.
    #[must_use]
    pub const fn rip(&self) -> VirtAddr {
        VirtAddr(self.registers.rip)
    }

    /// The interrupted stack pointer.
    #[must_use]
    pub const fn rsp(&self) -> VirtAddr {
        VirtAddr(self.registers.rsp())
    }

    /// True if user mode was interrupted.
    #[must_use]
    pub fn is_user(&self) -> bool {
        self.ring() == Some(Ring::User)
    }

    /// True if this can be a trap frame: selectors of one ring that Windows uses, possible flags, RIP in code (or
    /// in user space), RSP where it can be.
    ///
    /// The processor rounds RSP down to a multiple of 16 before it pushes, so a trap that stays on its stack ends
    /// exactly at the interrupted RSP; any other distance on `own_stack` is no trap frame.
    pub fn is_plausible(&self, code: &dyn Code, own_stack: &StackRange) -> bool {
        let flags = u64::from(self.registers.eflags);
        if self.address.0 & 0xf != 0 || flags & EFLAGS_ONE == 0 || flags & EFLAGS_RESERVED != 0 {
            return false;
        }
        match self.ring() {
            Some(Ring::Kernel) => {
                let rsp = self.rsp();
                let stays = VirtAddr(rsp.0 & !0xf) == self.address.plus(SIZE);
                rsp.is_kernel()
                    && rsp.0.trailing_zeros() >= 3
                    && (stays || !own_stack.contains(rsp))
                    && !matches!(code.at(self.rip()), CodeAt::NotCode | CodeAt::Data)
            }
            Some(Ring::User) => [self.rip(), self.rsp()].iter().all(|a| !a.is_kernel() && a.is_canonical()),
            None => false,
        }
    }

    /// By the selectors of 64-bit Windows: kernel 10 and 18 (an interrupt from an IST stack may leave SS null),
    /// user 33, or 23 for 32-bit code, and 2b.
    fn ring(&self) -> Option<Ring> {
        match (self.registers.cs, self.registers.ss) {
            (0x10, 0x18 | 0) => Some(Ring::Kernel),
            (0x33 | 0x23, 0x2b) => Some(Ring::User),
            _ => None,
        }
    }
}

/// The plausible trap frames in a stack, in address order: where exceptions and interrupts struck, of live calls and
/// of calls long over.
///
/// At most 128 KiB are searched and 64 frames given.
pub fn find_in(memory: &dyn Memory, range: &StackRange, code: &dyn Code) -> Vec<TrapFrame> {
    let low = range.low.0.checked_next_multiple_of(16).unwrap_or(u64::MAX);
    let high = range.high.0.min(low.saturating_add(MAX_SEARCH)).saturating_sub(SIZE - 1);
    (low..high)
        .step_by(16)
        .filter_map(|address| plausible_at(memory, VirtAddr(address), code, range))
        .take(MAX_FOUND)
        .collect()
}

/// The trap frame at `address`, if what is there can be one.
pub(crate) fn plausible_at(
    memory: &dyn Memory,
    address: VirtAddr,
    code: &dyn Code,
    own_stack: &StackRange,
) -> Option<TrapFrame> {
    // The code segment alone refuses nearly every address, at the price of two bytes.
    let selector = memory.read_u16(address.plus(0x170)).ok()?;
    matches!(selector, 0x10 | 0x33 | 0x23)
        .then(|| TrapFrame::read(memory, address).ok())
        .flatten()
        .filter(|frame| frame.is_plausible(code, own_stack))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StackKind;
    use stopcode_base::SliceMemory;

    struct Image;
    impl Code for Image {
        fn at(&self, address: VirtAddr) -> CodeAt {
            if address.0 >> 32 == 0xffff_f800 { CodeAt::Module } else { CodeAt::NotCode }
        }
    }

    const STACK: StackRange = StackRange {
        low: VirtAddr(0xffff_8000_0000_0000),
        high: VirtAddr(0xffff_8000_0000_1000),
        kind: StackKind::Thread,
    };

    fn put(bytes: &mut [u8], offset: usize, word: u64) {
        bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
    }

    fn planted(at: usize) -> Vec<u8> {
        let mut bytes = vec![0; 0x1000];
        put(&mut bytes, at + 0x38, 0xcc);
        put(&mut bytes, at + 0x168, 0xffff_f800_0001_2345);
        put(&mut bytes, at + 0x170, 0x10);
        put(&mut bytes, at + 0x178, 0x50246);
        put(&mut bytes, at + 0x180, STACK.low.0 + at as u64 + SIZE + 8);
        put(&mut bytes, at + 0x188, 0x18);
        bytes
    }

    #[test]
    fn a_kernel_trap_is_found_where_it_is() {
        let bytes = planted(0x340);
        let memory = SliceMemory { base: STACK.low, bytes: &bytes };
        let found = find_in(&memory, &STACK, &Image);
        let [frame] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(frame.address, STACK.low.plus(0x340));
        assert_eq!(frame.rip(), VirtAddr(0xffff_f800_0001_2345));
        assert_eq!((frame.registers.gpr[1], frame.registers.cs, frame.registers.ss), (0xcc, 0x10, 0x18));
        assert!(!frame.is_user());
    }

    #[test]
    fn what_cannot_be_one() {
        for (offset, word) in [
            (0x168, 0x1234),                      // RIP in no image
            (0x178, 0x50244),                     // flags without the bit that is always set
            (0x180, STACK.low.0 + 0x340 + 0x1c0), // RSP not at the end of the frame
            (0x188, 0x2b),                        // selectors of two rings
        ] {
            let mut bytes = planted(0x340);
            put(&mut bytes, 0x340 + offset, word);
            let memory = SliceMemory { base: STACK.low, bytes: &bytes };
            assert_eq!(find_in(&memory, &STACK, &Image), [], "{offset:#x}");
        }
    }

    #[test]
    fn a_user_trap() {
        let mut bytes = planted(0x340);
        for (offset, word) in [(0x168, 0x7ff6_0000_1000), (0x170, 0x33), (0x180, 0x12_3456), (0x188, 0x2b)] {
            put(&mut bytes, 0x340 + offset, word);
        }
        let memory = SliceMemory { base: STACK.low, bytes: &bytes };
        assert!(find_in(&memory, &STACK, &Image).iter().all(TrapFrame::is_user));
        assert_eq!(find_in(&memory, &STACK, &Image).len(), 1);
    }

    #[test]
    fn odd_ranges() {
        let memory = SliceMemory { base: STACK.low, bytes: &[] };
        for (low, high) in [(0, 0), (5, 3), (u64::MAX, u64::MAX), (0, u64::MAX), (u64::MAX - 5, 0)] {
            let range = StackRange { low: VirtAddr(low), high: VirtAddr(high), kind: StackKind::Other };
            assert_eq!(find_in(&memory, &range, &Image), []);
        }
    }
}
