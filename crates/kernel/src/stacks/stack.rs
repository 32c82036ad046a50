//! Stacks with names: what a debugger's `k` shows, as data.

use std::fmt;
use stopcode_base::VirtAddr;
pub use stopcode_unwind::{StackKind as StackArea, Trust};

/// What an address belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Lower-case image file name: `ntoskrnl.exe`.
    pub image: Option<String>,
    /// WinDbg's module name: `nt`.
    pub display: Option<String>,
    /// Function or variable, where a symbol names it.
    pub symbol: Option<String>,
    /// Offset from the symbol, or from the module's base where there is none, or 0 outside all modules.
    pub offset: u64,
    /// True if the symbol is only the nearest one below: the address may belong to something else.
    pub uncertain: bool,
    /// True if the address lies in a driver that was unloaded.
    pub unloaded: bool,
    /// The name WinDbg has for a part that lies apart from its function (`` ?? ::FNODOBFM::`string' ``), and the bytes from
    /// there to where [`Self::offset`] counts from.
    pub literal: Option<(String, u64)>,
}

impl Place {
    /// What WinDbg calls a place in a part that lies apart from its function: the nearest public name, which is that of a
    /// string literal (`` nt! ?? ::FNODOBFM::`string'+0x204ce ``).
    pub fn windbg_label(&self) -> Option<String> {
        let (literal, before) = self.literal.as_ref()?;
        let offset = before.saturating_add(self.offset);
        Some(format!("{}! {literal}+{offset:#x}", self.display.as_deref()?))
    }

    /// `nt!KeBugCheckEx`, `iaStor+0x253f5`, or nothing outside all modules.
    pub fn label(&self) -> Option<String> {
        let module = self.display.as_deref()?;
        let prefix = if self.unloaded { "Unloaded_" } else { "" };
        let name = match &self.symbol {
            Some(symbol) => format!("{prefix}{module}!{symbol}"),
            None => format!("{prefix}{module}"),
        };
        Some(if self.offset == 0 && self.symbol.is_some() {
            name
        } else {
            format!("{name}+{:#x}", self.offset)
        })
    }
}

/// One frame of a stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Frame 0: the instruction pointer; others: the return address, as WinDbg shows it.
    pub instruction: VirtAddr,
    /// Child-SP.
    pub stack_pointer: VirtAddr,
    /// What the instruction belongs to.
    pub place: Place,
    /// Where the return address was read; none for registers.
    pub return_slot: Option<VirtAddr>,
    /// How the frame was found.
    pub trust: Trust,
    /// Frames may be missing between this one and the one above (the callee).
    pub gap_before: bool,
    /// What the stack is that it stands on; `None` in user mode and where it is not known.
    pub area: Option<StackArea>,
    /// The turn of the kernel's between this frame and the one above, if it is no plain call.
    pub crossing: Option<Crossing>,
    /// The `KTRAP_FRAME` that lies exactly at its stack pointer.
    pub trap_frame: Option<VirtAddr>,
}

impl Frame {
    /// A frame of which only this is known, as a pasted text tells it.
    pub fn told(instruction: VirtAddr, stack_pointer: VirtAddr, place: Place, trust: Trust) -> Self {
        Self {
            instruction,
            stack_pointer,
            place,
            return_slot: None,
            trust,
            gap_before: false,
            area: None,
            crossing: None,
            trap_frame: None,
        }
    }
}

/// How a frame is connected with the one above it, where that is no plain call; of frame 0, that its thread does not
/// run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crossing {
    /// What happened here.
    pub turn: Turn,
    /// The stack of the frame above.
    pub from: Option<StackArea>,
    /// The stack of this frame.
    pub to: Option<StackArea>,
    /// The `KTRAP_FRAME` that holds this frame's registers.
    pub trap_frame: Option<VirtAddr>,
}

impl Crossing {
    /// The stacks, if they are known and two.
    pub fn switch(&self) -> Option<(StackArea, StackArea)> {
        self.from.zip(self.to).filter(|(from, to)| from != to)
    }
}

/// A turn of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Turn {
    /// Code was interrupted; by what is not known.
    Trap,
    /// Code was interrupted by an exception: a fault or a trap instruction.
    Exception,
    /// Code was interrupted by a device, the clock, another processor or a software interrupt.
    Interrupt,
    /// Code was interrupted by an exception that could not be delivered on its own stack.
    DoubleFault,
    /// Code was interrupted by a non-maskable interrupt.
    NonMaskableInterrupt,
    /// Code was interrupted by a machine check.
    MachineCheck,
    /// User mode called the kernel.
    SystemCall,
    /// The kernel was entered from user mode; how is not known.
    UserMode,
    /// A call went on on another stack.
    StackSwitch,
    /// The thread was switched out here and waits to run.
    SwitchedOut,
}

impl Turn {
    /// The word that stands for it in JSON.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Exception => "exception",
            Self::Interrupt => "interrupt",
            Self::DoubleFault => "double_fault",
            Self::NonMaskableInterrupt => "nmi",
            Self::MachineCheck => "machine_check",
            Self::SystemCall => "system_call",
            Self::UserMode => "user_mode",
            Self::StackSwitch => "stack_switch",
            Self::SwitchedOut => "switched_out",
        }
    }

    /// By the interrupt vector.
    pub(crate) const fn of_vector(vector: u8) -> Self {
        match vector {
            2 => Self::NonMaskableInterrupt,
            8 => Self::DoubleFault,
            0x12 => Self::MachineCheck,
            0..=0x1f => Self::Exception,
            _ => Self::Interrupt,
        }
    }

    /// By the function that the processor entered, as the kernel's symbols call it.
    pub(crate) fn of_entry(name: &str) -> Self {
        // Each entry has a twin for processors on which user mode has page tables of its own.
        let name = name.strip_suffix("Shadow").unwrap_or(name);
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if name.starts_with("KiDoubleFault") {
            Self::DoubleFault
        } else if name.starts_with("KiNmiInterrupt") {
            Self::NonMaskableInterrupt
        } else if name.starts_with("KiMcheck") {
            Self::MachineCheck
        } else if name.starts_with("KiSystemCall") || name.starts_with("KiSystemService") {
            Self::SystemCall
        } else if ends(&[
            "Interrupt",
            "InterruptDispatch",
            "InterruptDispatchNoLock",
            "InterruptDispatchNoEOI",
        ]) {
            Self::Interrupt
        } else if name.starts_with("Ki")
            && ends(&["Fault", "Abort", "Trap", "Exception", "Assertion", "Failure"])
        {
            Self::Exception
        } else {
            Self::Trap
        }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "interrupted here",
            Self::Exception => "exception here",
            Self::Interrupt => "interrupt here",
            Self::DoubleFault => "double fault here",
            Self::NonMaskableInterrupt => "non-maskable interrupt here",
            Self::MachineCheck => "machine check here",
            Self::SystemCall => "system call from here",
            Self::UserMode => "user mode up to here",
            Self::StackSwitch => "stack switched here",
            Self::SwitchedOut => "not running: switched out here",
        })
    }
}

/// What a stack is used for, in words: `thread stack`.
pub fn area_words(area: StackArea) -> String {
    match area {
        StackArea::Thread => "thread stack".to_owned(),
        StackArea::Expanded => "expanded stack".to_owned(),
        StackArea::Dpc => "DPC stack".to_owned(),
        StackArea::Isr => "interrupt stack".to_owned(),
        StackArea::Ist(entry) => format!("IST stack {entry}"),
        StackArea::Exception => "exception stack".to_owned(),
        StackArea::Other => "unknown stack".to_owned(),
    }
}

/// Which stack of the crashed machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum StackKind {
    /// From the exception's context: what ran when it happened.
    Exception,
    /// From the processor that called KeBugCheckEx.
    BugCheck,
    /// What another processor was doing.
    Processor,
    /// A thread.
    Thread,
}

/// A walked stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stack {
    /// Which.
    pub kind: StackKind,
    /// The thread's ETHREAD, if known.
    pub thread: Option<VirtAddr>,
    /// The processor it ran on, if known.
    pub processor: Option<u32>,
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Why the walk ended, in words.
    pub ended: String,
    /// Where unwind data led no further: index of the frame whose caller had to be searched for, and why, in words.
    pub refused: Vec<(usize, String)>,
}

/// What the frames of one module take of a stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleUse {
    /// WinDbg's module name, or nothing for code outside all modules.
    pub module: Option<String>,
    /// How many frames.
    pub frames: usize,
    /// Bytes of those frames whose size is known.
    pub bytes: u64,
}

/// A sequence of calls that a stack repeats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recursion {
    /// Index of its first frame.
    pub first: usize,
    /// Frames in one round.
    pub period: usize,
    /// How many rounds there are, one behind the other; at least 2.
    pub rounds: usize,
    /// Bytes of stack that all rounds take, where known.
    pub bytes: u64,
}

/// Longer cycles than this are not looked for.
const LONGEST_CYCLE: usize = 32;

impl Stack {
    /// What a frame takes of the stack, as `kf` shows it: up to the next frame's stack pointer. Unknown for the last
    /// frame, across a gap, and where the stack is switched.
    pub fn bytes(&self, index: usize) -> Option<u64> {
        let (frame, caller) = (self.frames.get(index)?, self.frames.get(index.checked_add(1)?)?);
        let switched = caller.crossing.is_some_and(|crossing| crossing.from != crossing.to);
        if switched || caller.gap_before || frame.area != caller.area {
            return None;
        }
        caller.stack_pointer.offset_from(frame.stack_pointer)
    }

    /// What each module takes of the stack, most first.
    pub fn module_use(&self) -> Vec<ModuleUse> {
        let mut all: Vec<ModuleUse> = Vec::new();
        for (index, frame) in self.frames.iter().enumerate() {
            let bytes = self.bytes(index).unwrap_or(0);
            let module = &frame.place.display;
            match all.iter_mut().find(|other| other.module == *module) {
                Some(other) => {
                    other.frames += 1;
                    other.bytes = other.bytes.saturating_add(bytes);
                }
                None => all.push(ModuleUse { module: module.clone(), frames: 1, bytes }),
            }
        }
        all.sort_by_key(|module| std::cmp::Reverse((module.bytes, module.frames)));
        all
    }

    /// Calls that repeat: the same return addresses in the same order, round after round. In the order of the frames;
    /// of cycles that overlap the one with the most frames is given, and of those the shortest round.
    pub fn recursions(&self) -> Vec<Recursion> {
        let mut found = Vec::new();
        let mut first = 0;
        while first < self.frames.len() {
            let rounds = (1..=LONGEST_CYCLE).map(|period| (period, self.rounds(first, period)));
            let best = rounds
                .filter(|(_, rounds)| *rounds >= 2)
                .max_by_key(|(period, rounds)| (period * rounds, std::cmp::Reverse(*period)));
            let Some((period, rounds)) = best else {
                first += 1;
                continue;
            };
            let end = first + period * rounds;
            let bytes = (first..end).filter_map(|index| self.bytes(index)).fold(0, u64::saturating_add);
            found.push(Recursion { first, period, rounds, bytes });
            first = end;
        }
        found
    }

    /// How often the `period` frames from `first` on come one behind the other.
    fn rounds(&self, first: usize, period: usize) -> usize {
        let at = |index: usize| self.frames.get(index).map(|frame| frame.instruction);
        let mut same = 0;
        while at(first + same + period).is_some_and(|later| Some(later) == at(first + same)) {
            same += 1;
        }
        1 + same / period
    }
}

/// What a word of a stack is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WordMark {
    /// The return address of this frame (its index).
    Return(usize),
    /// Like a return address, and of no frame: left over from an earlier call, or a pointer.
    Stale,
    /// Part of the `KTRAP_FRAME` at this address.
    TrapFrame(VirtAddr),
    /// Part of what looks like a `CONTEXT` record at this address.
    Context(VirtAddr),
    /// Nothing that is known.
    Plain,
}

/// A word of a stack, as `dps` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StackWord {
    /// Where it lies.
    pub address: VirtAddr,
    /// Its value.
    pub value: VirtAddr,
    /// What the value points to, if it points into a module.
    pub place: Place,
    /// What it is.
    pub mark: WordMark,
}
