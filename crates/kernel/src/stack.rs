//! Stacks with names: what a debugger's `k` shows, as data.

use stopcode_base::VirtAddr;
pub use stopcode_unwind::Trust;

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
}

impl Place {
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
    /// How the frame was found.
    pub trust: Trust,
    /// Frames may be missing between this one and the one above (the callee).
    pub gap_before: bool,
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
}
