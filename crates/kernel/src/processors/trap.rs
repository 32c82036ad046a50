//! Trap frames: what the kernel saves on the stack when an exception or an interrupt stops code.

use crate::core::Core;
use crate::reading::bytes::Bytes;
use stopcode_base::{Arch, Fact, Miss, Registers, VirtAddr, X86Registers};
use stopcode_unwind::trap_frame::{self, TrapFrame};
use stopcode_unwind::{Arm64TrapFrame, Code, CodeAt, StackKind, StackRange};

/// General registers that an x64 trap frame does not hold: rbx, rsi, rdi and r12 to r15.
const NOT_IN_X64: u32 = 1 << 3 | 1 << 6 | 1 << 7 | 0xf000;
/// eax, ecx and edx, which a system call does not save.
const X86_VOLATILE: u32 = 0b111;
/// Bytes in a `KTRAP_FRAME` of x86 that every trap writes: the processor pushes ESP and SS only where it leaves user mode.
const X86_KERNEL_SIZE: u64 = 0x74;
/// With ESP and SS.
const X86_USER_SIZE: usize = 0x7c;
/// `DbgArgMark`, by which debuggers know a trap frame of x86.
const X86_MARK: u32 = 0xbadb_0d00;
/// The kernel's stack selector.
const KERNEL_DATA: u16 = 0x10;
/// Bit 1 of the flags always reads as one.
const FLAGS_ONE: u32 = 2;
/// Of a stack no more is searched, and no more are found.
const MOST_SEARCHED: u64 = 0x2_0000;
const MOST_FOUND: usize = 64;

/// What a trap frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trapped {
    /// Where the frame lies.
    pub address: VirtAddr,
    /// What the processor was doing.
    pub registers: Registers,
    /// A bit for each general register, in their order, that the frame holds.
    pub known: u32,
    /// The address a page fault was about, where the frame tells.
    pub fault_address: Option<VirtAddr>,
}

/// Bytes that a trap frame of an architecture takes at most.
pub(crate) fn size(arch: Arch) -> u64 {
    match arch {
        Arch::X86 => X86_USER_SIZE as u64,
        Arch::Arm64 => Arm64TrapFrame::SIZE,
        _ => trap_frame::SIZE,
    }
}

/// The trap frame at an address, plausible or not.
pub(crate) fn read(core: &Core, at: VirtAddr) -> Fact<Trapped> {
    let read = match core.arch {
        Arch::X64 => TrapFrame::read(core.memory(), at).map(|frame| of_x64(&frame)),
        Arch::X86 => read_x86(core, at).map(|(trapped, _)| trapped),
        Arch::Arm64 => Arm64TrapFrame::read(core.memory(), at).map(|frame| of_arm64(&frame)),
        arch => return Fact::missing(format!("the trap frames of {arch} are not known")),
    };
    match read {
        Ok(trapped) => Fact::known(trapped, "KTRAP_FRAME"),
        Err(miss) => Fact::missing(format!("the trap frame at {}: {}", core.arch.windbg(at), miss.reason)),
    }
}

/// The trap frame at an address, if what lies there can be one.
pub(crate) fn plausible_at(core: &Core, at: VirtAddr) -> Option<Trapped> {
    if !core.arch.is_kernel(at) {
        return None;
    }
    match core.arch {
        Arch::X64 => {
            let frame = TrapFrame::read(core.memory(), at).ok()?;
            let around = StackRange { low: at, high: at.plus(trap_frame::SIZE), kind: StackKind::Other };
            frame.is_plausible(&core.code, &around).then(|| of_x64(&frame))
        }
        Arch::X86 => {
            let (trapped, mark) = read_x86(core, at).ok()?;
            (mark == X86_MARK && is_plausible_x86(core, &trapped.registers)).then_some(trapped)
        }
        Arch::Arm64 => {
            let around = StackRange { low: at, high: at.plus(Arm64TrapFrame::SIZE), kind: StackKind::Other };
            Arm64TrapFrame::plausible_at(core.memory(), at, &core.code, &around).map(|frame| of_arm64(&frame))
        }
        _ => None,
    }
}

/// Those in a stack, in address order: of live calls and of calls long over.
pub(crate) fn find_in(core: &Core, stack: &StackRange) -> Vec<Trapped> {
    match core.arch {
        Arch::X64 => trap_frame::find_in(core.memory(), stack, &core.code).iter().map(of_x64).collect(),
        Arch::X86 => {
            let size = stack.high.offset_from(stack.low).unwrap_or(0).min(MOST_SEARCHED);
            let places = (0..size / 4).map(|index| stack.low.plus(4 * index));
            let marked = places.filter(|at| core.memory().read_u32(at.plus(8)) == Ok(X86_MARK));
            marked.filter_map(|at| plausible_at(core, at)).take(MOST_FOUND).collect()
        }
        Arch::Arm64 => {
            Arm64TrapFrame::find_in(core.memory(), stack, &core.code).iter().map(of_arm64).collect()
        }
        _ => Vec::new(),
    }
}

fn of_arm64(frame: &Arm64TrapFrame) -> Trapped {
    Trapped {
        address: frame.address,
        registers: Registers::Arm64(frame.registers),
        known: Arm64TrapFrame::KNOWN,
        fault_address: (frame.fault_address.0 != 0).then_some(frame.fault_address),
    }
}

fn of_x64(frame: &TrapFrame) -> Trapped {
    Trapped {
        address: frame.address,
        registers: Registers::X64(frame.registers),
        known: !NOT_IN_X64,
        fault_address: (frame.fault_address.0 != 0).then_some(frame.fault_address),
    }
}

/// The frame and its `DbgArgMark`. Where eax, ecx, edx and the data segments lie depends on the kernel; all else is the same
/// from Windows XP to 10. (Source: public symbols.)
fn read_x86(core: &Core, at: VirtAddr) -> Result<(Trapped, u32), Miss> {
    let mut bytes = [0; X86_USER_SIZE];
    let (kernel, user) = bytes.split_at_mut(X86_KERNEL_SIZE as usize);
    core.memory().read(at, kernel)?;
    let interrupted_user = Bytes(kernel).u16(0x6c).is_some_and(|selector| selector & 3 == 3);
    if interrupted_user {
        core.memory().read(at.plus(X86_KERNEL_SIZE), user)?;
    }
    let fields = Bytes(&bytes);
    let word = |at: usize| fields.u32(at).unwrap_or(0);
    let selector = |at: usize| fields.u16(at).unwrap_or(0);
    let by_layout = |name| {
        let place = usize::try_from(core.field("_KTRAP_FRAME", name)?).ok()?;
        fields.u32(place)
    };
    let volatile = ["Eax", "Ecx", "Edx"].map(by_layout);
    let segments = ["SegDs", "SegEs", "SegFs", "SegGs"];
    let [eax, ecx, edx] = volatile.map(Option::unwrap_or_default);
    let holds_all = !interrupted_user && volatile.iter().all(Option::is_some);
    let (esp, ss) = if interrupted_user {
        (word(0x74), selector(0x78))
    } else {
        (at.plus(X86_KERNEL_SIZE).0 as u32, KERNEL_DATA)
    };
    let registers = X86Registers {
        gpr: [eax, ecx, edx, word(0x5c), esp, word(0x60), word(0x58), word(0x54)],
        eip: word(0x68),
        eflags: word(0x70),
        cs: selector(0x6c),
        ss,
        data_segments: segments.map(|name| by_layout(name).map_or(0, |selector| selector as u16)),
    };
    let known = if holds_all { u32::MAX } else { !X86_VOLATILE };
    Ok((Trapped { address: at, registers: Registers::X86(registers), known, fault_address: None }, word(8)))
}

/// Selectors and flags as Windows has them, and EIP in code or in user space.
fn is_plausible_x86(core: &Core, registers: &Registers) -> bool {
    let Registers::X86(registers) = registers else { return false };
    let instruction = VirtAddr(registers.eip.into());
    let runs = match registers.cs {
        0x08 => !matches!(core.code.at(instruction), CodeAt::NotCode | CodeAt::Data),
        0x1b => core.arch.is_user(instruction),
        _ => false,
    };
    runs && registers.eflags & FLAGS_ONE != 0
}
