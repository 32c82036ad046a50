//! What a walk is asked with, and what it answers.

use crate::trap_frame::TrapFrame;
use crate::{Arm64Frame, Refusal, Stands, X64Frame};
use std::fmt;
use stopcode_base::{Miss, Registers, VirtAddr};

/// How a frame was found, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Trust {
    /// The registers the walk started with.
    Context,
    /// Registers out of a `KTRAP_FRAME`.
    TrapFrame,
    /// RIP and RSP out of a machine frame, as the processor pushed it.
    MachineFrame,
    /// The function's own unwind data led here, or on x86 the rest of its epilogue.
    Unwind,
    /// Frame sizes out of a PDB led here.
    PdbAssisted,
    /// The function's own unwind data led here, but from a frame that was searched for: if that one is stale, so is
    /// this.
    UnwindFromScan,
    /// Found by scanning or by the frame-pointer chain; the bytes before the return address are a call.
    ScanCall,
    /// Found by scanning or by the frame-pointer chain; the call could not be looked at.
    Scan,
}

impl Trust {
    /// The word that stands for it in text and JSON.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::TrapFrame => "trap_frame",
            Self::MachineFrame => "machine_frame",
            Self::Unwind => "unwind",
            Self::PdbAssisted => "pdb_assisted",
            Self::UnwindFromScan => "unwind_from_scan",
            Self::ScanCall => "scan_call",
            Self::Scan => "scan",
        }
    }

    /// True if the frame was computed, not searched for.
    #[must_use]
    pub const fn is_high(self) -> bool {
        !matches!(self, Self::UnwindFromScan | Self::ScanCall | Self::Scan)
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// One thing that speaks for a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It is the context the walk started with.
    ContextRecord,
    /// Its registers are those of the `KTRAP_FRAME` at this address.
    TrapFrameAt(VirtAddr),
    /// Its function's trap frame lies exactly at its stack pointer.
    HasTrapFrameAt(VirtAddr),
    /// The frame above stands on the first instruction of its function: the word at its stack pointer is the
    /// return address.
    CalleeAtEntry,
    /// The bytes before the return address are a call instruction.
    CallBytesMatch,
    /// That call goes to the function of the frame above.
    CallTargetIsCallee,
    /// The return address lies inside a function that is known.
    InsideKnownFunction,
    /// The frame-pointer chain led here.
    FramePointer,
    /// The unwind data of the function in the frame above led here; on x86 its frame data.
    UnwindData,
    /// What the instructions of its prologue did, or those of its epilogue are about to do, led here.
    Instructions,
    /// The processor pushed its registers at this address.
    MachineFrameAt(VirtAddr),
}

/// Registers that unwind data restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameRegisters {
    /// x64.
    X64(X64Frame),
    /// ARM64.
    Arm64(Arm64Frame),
}

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Frame 0, and a frame out of a trap frame: the instruction pointer itself. Else the return address.
    pub instruction: VirtAddr,
    /// The stack pointer while this function's callee runs, as WinDbg's `Child-SP`. On ARM64, from frame 1 on, it
    /// is the end of the callee's frame record, the lowest that the caller's stack pointer can be.
    pub stack_pointer: VirtAddr,
    /// How it was found.
    pub trust: Trust,
    /// Where the return address was read; none for registers.
    pub return_slot: Option<VirtAddr>,
    /// What speaks for it.
    pub why: Vec<Reason>,
    /// Frames may be missing between this one and the one before it. In a scan: some word between them is more
    /// likely a return address than not, but no single one is likely enough to be told as a frame. In an ARM64
    /// chain: the link register names a caller that the chain does not. After unwind data: it led no further, and
    /// this frame was searched for.
    pub gap_before: bool,
    /// Its registers, if unwind data led here.
    pub registers: Option<Box<FrameRegisters>>,
    /// What the stack is that `stack_pointer` lies in; `None` in user mode and outside all stacks.
    pub stack: Option<StackKind>,
}

impl Frame {
    pub(crate) fn of_context(
        instruction: VirtAddr,
        stack_pointer: VirtAddr,
        stack: Option<StackKind>,
    ) -> Self {
        Self {
            stack,
            instruction,
            stack_pointer,
            trust: Trust::Context,
            return_slot: None,
            why: vec![Reason::ContextRecord],
            gap_before: false,
            registers: None,
        }
    }
}

/// Why a stack pointer or frame pointer cannot be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum UnusableStack {
    /// It lies in none of the stacks the walk was given.
    OutOfStack,
    /// It is not a multiple of the pointer size (x64) or of 16 (ARM64).
    Unaligned,
    /// It does not lie above the one before it on the same stack.
    NotIncreasing,
}

/// Why a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum End {
    /// The frame-pointer chain ended with a null pointer, as the first function of a thread leaves it.
    ThreadStart,
    /// The stack was read to its end; above the last frame nothing looks like a return address.
    StackBase,
    /// A trap frame leads to user mode: the kernel's part of the stack ends here.
    UserMode,
    /// A stack pointer or frame pointer cannot be followed.
    Unusable {
        /// The pointer.
        pointer: VirtAddr,
        /// What is wrong with it.
        why: UnusableStack,
    },
    /// The stack's memory is not there.
    MemoryMissing(Miss),
    /// Nothing that looks like a return address between the last stack pointer and the end of its stack.
    NoCandidate,
    /// What the frame pointer holds is not known, and nothing else leads further.
    NoFramePointer,
    /// [`Options::max_frames`] or [`Options::max_scan_bytes`] was reached.
    Limit,
    /// This room cannot walk stacks of this architecture.
    UnsupportedArchitecture,
}

/// Where unwind data led no further, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Index of the frame whose caller it did not give; what follows it was searched for.
    pub frame: usize,
    /// Why.
    pub why: Refusal,
}

/// A walked stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stack {
    /// The frames, the innermost first; never empty.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub ended: End,
    /// The trap frames that were crossed, in the order of the frames.
    pub trap_frames: Vec<TrapFrame>,
    /// Where unwind data led no further, in the order of the frames.
    pub refused: Vec<Refused>,
}

impl Stack {
    pub(crate) fn starting(frame: Frame, ended: End) -> Self {
        Self { frames: vec![frame], ended, trap_frames: Vec::new(), refused: Vec::new() }
    }
}

/// What a stack is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum StackKind {
    /// A thread's kernel stack; of one that was expanded, an earlier segment.
    Thread,
    /// What `KeExpandKernelStackAndCallout` put in place of the thread's stack for a while.
    Expanded,
    /// A processor's stack for deferred procedure calls.
    Dpc,
    /// A processor's stack for device interrupts.
    Isr,
    /// The stack of this entry (1 to 7) of the interrupt stack table, to which the processor switches by itself:
    /// double fault, machine check, NMI.
    Ist(u8),
    /// The stack that newer kernels dispatch exceptions on.
    Exception,
    /// Not known; memory that a dump stored as a stack.
    Other,
}

/// Where a walk starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// The registers.
    pub registers: Registers,
    /// Bit n: general register n is known, in the processor's numbering. Instruction and stack pointer always are.
    pub known: u32,
    /// Whether the processor stands on the instruction, or a call returns to it: the latter in a thread that was
    /// switched out.
    pub stands: Stands,
}

impl From<&Registers> for Start {
    /// All registers known, standing on the instruction.
    fn from(registers: &Registers) -> Self {
        Self { registers: *registers, known: u32::MAX, stands: Stands::Interrupted }
    }
}

/// Where a stack pointer may lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct StackRange {
    /// The lowest address.
    pub low: VirtAddr,
    /// The first address above it.
    pub high: VirtAddr,
    /// What it is used for.
    pub kind: StackKind,
}

impl StackRange {
    /// What the first of `stacks` that holds `address` is used for.
    pub(crate) fn kind_at(stacks: &[Self], address: VirtAddr) -> Option<StackKind> {
        stacks.iter().find(|range| range.contains(address)).map(|range| range.kind)
    }

    /// True if `address` lies in the stack.
    #[must_use]
    pub fn contains(&self, address: VirtAddr) -> bool {
        self.low <= address && address < self.high
    }
}

/// Bounds of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// At most this many frames.
    pub max_frames: usize,
    /// At most this many bytes of stack are looked at, all stacks together.
    pub max_scan_bytes: usize,
}

impl Default for Options {
    /// 256 frames; 128 KiB, more than the largest kernel stack Windows makes (0x12000).
    fn default() -> Self {
        Self { max_frames: 256, max_scan_bytes: 0x2_0000 }
    }
}

/// What is known of an address as code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CodeAt {
    /// In no image.
    NotCode,
    /// In an image, and nothing more is known.
    Module,
    /// Inside a function.
    Function {
        /// Bytes from its first byte.
        offset: u64,
        /// Its size in bytes, if known.
        size: Option<u64>,
    },
    /// The first byte of something that has a name: a pointer to it, not a return address.
    Start,
    /// In an image, but not code: a variable, a string, the image's headers, a section that is not executable.
    Data,
    /// In an image whose symbols are known, but so far behind the nearest one that it hardly belongs to it.
    FarFromSymbol,
}

/// What the caller knows of the code that was running, out of the list of modules and what symbols there are.
pub trait Code {
    /// What lies at `address`.
    fn at(&self, address: VirtAddr) -> CodeAt;

    /// The first byte of the function that holds `address`, if known.
    fn function_start(&self, address: VirtAddr) -> Option<VirtAddr> {
        match self.at(address) {
            CodeAt::Function { offset, .. } => Some(address.minus(offset)),
            CodeAt::Start => Some(address),
            _ => None,
        }
    }

    /// The part of the kernel that `address` belongs to, as its functions' names begin (`Mi`, `Io`, `Pnp`), as a number
    /// that only needs to be the same for the same part. `None` where that is not known or the code is not the kernel's.
    fn family(&self, address: VirtAddr) -> Option<u16> {
        let _ = address;
        None
    }

    /// Whether `address` lies in one of the kernel's trap or interrupt entries, which keep a `KTRAP_FRAME` at their
    /// stack pointer; `None` if that is not known.
    fn is_trap_entry(&self, address: VirtAddr) -> Option<bool> {
        let _ = address;
        None
    }
}
