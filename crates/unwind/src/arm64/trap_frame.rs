//! The ARM64 `KTRAP_FRAME`: what the kernel saves when an exception or interrupt stops code.
//!
//! 0x150 bytes, as `ntddk.h` has them. Its last two words are the interrupted x29 and pc, so that they are a frame record:
//! the entry points x29 at them, and the chain of records leads through.

use super::step::Arm64Frame;
use super::{FP, LR};
use crate::{Code, CodeAt, StackRange};
use stopcode_base::{Arm64Registers, Memory, Miss, VirtAddr};

/// Bytes of the structure.
const SIZE: u64 = 0x150;
/// Where its frame record begins.
const RECORD: u64 = 0x140;
/// Bytes of the `KARM64_VFP_STATE` that an entry puts behind it where it saves the float registers, with its pointer.
const FLOAT_STATE: u64 = 0x220;
/// Of a stack no more is searched, and no more are found.
const MOST_SEARCHED: u64 = 0x2_0000;
const MOST_FOUND: usize = 64;

/// x0 to x18, fp and lr.
const SAVED: u32 = 0x6007_ffff;

/// Bits of `SPSR_EL1` that always read as zero, and the one that says 32-bit code, which never enters a 64-bit kernel's trap.
const RESERVED: u32 = 0x0c0f_c030;
/// The exception level and its stack pointer.
const LEVEL: u32 = 0xf;
const USER: u32 = 0;
const KERNEL: [u32; 2] = [4, 5];

/// What stood in a `KTRAP_FRAME` of ARM64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arm64TrapFrame {
    /// Where it lies.
    pub address: VirtAddr,
    /// The registers it holds; x19 to x28 are not in the structure and are 0 here.
    pub registers: Arm64Registers,
    /// `FAR_EL1` of a fault; on other paths whatever that path stored.
    pub fault_address: VirtAddr,
    /// `ESR_EL1`: the exception's class in bits 26 to 31, and what more there is to say of it.
    pub syndrome: u32,
    /// Where the float registers are saved; zero if they are not.
    float_state: VirtAddr,
}

impl Arm64TrapFrame {
    /// A bit for each of `registers.x` that the structure holds.
    pub const KNOWN: u32 = SAVED;
    /// Bytes of the structure.
    pub const SIZE: u64 = SIZE;

    /// Reads the structure at `address`, plausible or not.
    pub fn read(memory: &dyn Memory, address: VirtAddr) -> Result<Self, Miss> {
        let mut bytes = [0; SIZE as usize];
        memory.read(address, &mut bytes)?;
        let word = |offset: usize| {
            let rest = bytes.get(offset..).and_then(|rest| rest.first_chunk());
            rest.map_or(0, |word| u64::from_le_bytes(*word))
        };
        let mut x = [0; 31];
        for (register, offset) in x.iter_mut().take(19).zip((0xa0..).step_by(8)) {
            *register = word(offset);
        }
        for (register, offset) in [(FP, 0x140), (LR, 0x138)] {
            if let Some(slot) = x.get_mut(register) {
                *slot = word(offset);
            }
        }
        let (state, syndrome) = (word(0x90) as u32, (word(0x90) >> 32) as u32);
        let registers = Arm64Registers { x, sp: word(0x98), pc: word(0x148), cpsr: state };
        let float_state = VirtAddr(word(0x10));
        Ok(Self { address, registers, fault_address: VirtAddr(word(8)), syndrome, float_state })
    }

    /// The interrupted instruction.
    #[must_use]
    pub const fn pc(&self) -> VirtAddr {
        VirtAddr(self.registers.pc)
    }

    /// The interrupted stack pointer.
    #[must_use]
    pub const fn sp(&self) -> VirtAddr {
        VirtAddr(self.registers.sp)
    }

    /// True if user mode was interrupted.
    #[must_use]
    pub const fn is_user(&self) -> bool {
        self.registers.cpsr & LEVEL == USER
    }

    /// True if this can be a trap frame: a processor state that Windows runs in, pc in code (or in user space), sp where it can
    /// be, and the float registers behind the structure if anywhere.
    #[must_use]
    pub fn is_plausible(&self, code: &dyn Code, own_stack: &StackRange) -> bool {
        let end = self.address.plus(SIZE);
        let (pc, sp) = (self.pc(), self.sp());
        if self.address.0 & 0xf != 0
            || self.registers.cpsr & RESERVED != 0
            || (self.float_state.0 != 0 && self.float_state != end)
            || pc.0 & 3 != 0
            || sp.0 & 0xf != 0
        {
            return false;
        }
        if self.is_user() {
            // Windows maps nothing into the lowest 64 KiB.
            return [pc, sp].iter().all(|at| !at.is_kernel() && at.is_canonical() && at.0 >> 16 != 0);
        }
        let stays = (end.0..=end.0.saturating_add(FLOAT_STATE)).contains(&sp.0);
        KERNEL.contains(&(self.registers.cpsr & LEVEL))
            && sp.is_kernel()
            && (stays || !own_stack.contains(sp))
            && !matches!(code.at(pc), CodeAt::NotCode | CodeAt::Data)
    }

    /// The plausible ones in a stack, in address order: of live calls and of calls long over. At most 128 KiB are searched
    /// and 64 frames given.
    pub fn find_in(memory: &dyn Memory, range: &StackRange, code: &dyn Code) -> Vec<Self> {
        let low = range.low.0.checked_next_multiple_of(16).unwrap_or(u64::MAX);
        let high = range.high.0.min(low.saturating_add(MOST_SEARCHED)).saturating_sub(SIZE - 1);
        let places = (low..high).step_by(16).map(VirtAddr);
        places.filter_map(|at| Self::plausible_at(memory, at, code, range)).take(MOST_FOUND).collect()
    }

    /// The one whose frame record lies at `record`, if what is there can be one.
    pub(super) fn of_record(
        memory: &dyn Memory,
        record: VirtAddr,
        code: &dyn Code,
        own_stack: &StackRange,
    ) -> Option<Self> {
        Self::plausible_at(memory, VirtAddr(record.0.checked_sub(RECORD)?), code, own_stack)
    }

    /// The one at `address`, if what is there can be one.
    pub fn plausible_at(
        memory: &dyn Memory,
        address: VirtAddr,
        code: &dyn Code,
        own_stack: &StackRange,
    ) -> Option<Self> {
        // The processor's state alone refuses nearly every address, at the price of four bytes.
        let state = memory.read_u32(address.plus(0x90)).ok()?;
        let possible = state & RESERVED == 0 && (state & LEVEL == USER || KERNEL.contains(&(state & LEVEL)));
        let frame = possible.then(|| Self::read(memory, address).ok()).flatten()?;
        frame.is_plausible(code, own_stack).then_some(frame)
    }

    /// What is known of the code that was interrupted.
    pub(super) fn frame(&self) -> Arm64Frame {
        Arm64Frame { known: SAVED, ..Arm64Frame::of_registers(&self.registers) }
    }
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
        low: VirtAddr(0xffff_e000_0000_0000),
        high: VirtAddr(0xffff_e000_0000_1000),
        kind: StackKind::Thread,
    };
    const AT: usize = 0x340;

    /// A page with one frame that interrupted the kernel, and words in other places than those of such a frame.
    fn planted(changed: &[(usize, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; 0x1000];
        let end = STACK.low.0 + AT as u64 + SIZE;
        let words = [
            (8, 0x1234),
            (0x10, end),
            (0x90, 0x9600_0004_6000_1144),
            (0x98, end + FLOAT_STATE),
            (0xa0, 0xcc),
            (0x130, 0xdd),
            (0x138, 0xffff_f800_0000_4444),
            (0x140, end + 0x300),
            (0x148, 0xffff_f800_0001_2344),
        ];
        for (offset, word) in words.iter().chain(changed) {
            bytes[AT + offset..AT + offset + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn found(changed: &[(usize, u64)]) -> Vec<Arm64TrapFrame> {
        let bytes = planted(changed);
        Arm64TrapFrame::find_in(&SliceMemory { base: STACK.low, bytes: &bytes }, &STACK, &Image)
    }

    #[test]
    fn a_kernel_trap_is_found_where_it_is() {
        let found = found(&[]);
        let [frame] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(frame.address, STACK.low.plus(AT as u64));
        assert_eq!(
            (frame.pc().0, frame.syndrome, frame.fault_address.0),
            (0xffff_f800_0001_2344, 0x9600_0004, 0x1234)
        );
        let x = frame.registers.x;
        assert_eq!((x[0], x[18], x[19], x[LR]), (0xcc, 0xdd, 0, 0xffff_f800_0000_4444));
        assert!(!frame.is_user());
    }

    #[test]
    fn what_cannot_be_one() {
        for (offset, word) in [
            (0x148, 0x1234),                // pc in no image
            (0x148, 0xffff_f800_0001_2345), // between two instructions
            (0x90, 0x6000_1154),            // 32-bit code
            (0x90, 0x6000_1148),            // a hypervisor's level
            (0x90, 0x6008_1144),            // a reserved bit
            (0x98, STACK.low.0 + 0x200),    // sp below the frame
            (0x98, STACK.low.0 + 0xf00),    // and far above it
            (0x10, STACK.low.0),            // float registers elsewhere
        ] {
            assert_eq!(found(&[(offset, word)]), [], "{offset:#x} {word:#x}");
        }
        let zeros = vec![0; 0x1000];
        assert_eq!(
            Arm64TrapFrame::find_in(&SliceMemory { base: STACK.low, bytes: &zeros }, &STACK, &Image),
            []
        );
    }

    #[test]
    fn a_user_trap_and_odd_ranges() {
        let user = found(&[(0x90, 0x5600_0000_0000_1000), (0x98, 0x12_3450), (0x148, 0x7ff6_0000_1000)]);
        assert!(user.len() == 1 && user[0].is_user());
        let memory = SliceMemory { base: STACK.low, bytes: &[] };
        for (low, high) in [(0, 0), (5, 3), (u64::MAX, u64::MAX), (0, u64::MAX), (u64::MAX - 5, 0)] {
            let range = StackRange { low: VirtAddr(low), high: VirtAddr(high), kind: StackKind::Other };
            assert_eq!(Arm64TrapFrame::find_in(&memory, &range, &Image), []);
        }
    }
}
