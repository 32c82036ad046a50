//! What registers and stacks are shown of: a context that was selected.

use std::cell::OnceCell;
use std::rc::Rc;
use stopcode_base::{Arch, Arm64Registers, Registers, VirtAddr, X64Registers};
use stopcode_kernel::{Machine, Stack};

/// A selected context.
#[derive(Clone)]
pub struct Scope {
    /// The registers.
    pub registers: Registers,
    /// Bit n set: general register n is known. A trap frame holds the volatile ones only.
    pub known: u32,
    /// Where they come from, in words.
    pub origin: String,
    /// The thread, if known.
    pub thread: Option<VirtAddr>,
    /// The processor, if known.
    pub processor: Option<u32>,
    stack: OnceCell<Rc<Stack>>,
}

impl Scope {
    /// A context whose registers are all known.
    pub fn new(registers: Registers, origin: impl Into<String>) -> Self {
        Self {
            registers,
            known: u32::MAX,
            origin: origin.into(),
            thread: None,
            processor: None,
            stack: OnceCell::new(),
        }
    }

    /// The same with only the registers of `known`.
    #[must_use]
    pub fn knowing(mut self, known: u32) -> Self {
        self.known = known;
        self
    }

    /// The same as of a thread and a processor.
    #[must_use]
    pub fn of(mut self, thread: Option<VirtAddr>, processor: Option<u32>) -> Self {
        self.thread = thread;
        self.processor = processor;
        self
    }

    /// A thread that does not run: of its registers only where it goes on and its stack pointer are known.
    pub fn waiting(machine: &Machine, stack: Stack) -> Option<Self> {
        let first = stack.frames.first()?;
        let (registers, known) = match machine.arch() {
            Arch::X64 => {
                let mut registers = X64Registers { rip: first.instruction.0, ..X64Registers::default() };
                *registers.gpr.get_mut(X64Registers::RSP)? = first.stack_pointer.0;
                (Registers::X64(registers), 1 << X64Registers::RSP)
            }
            Arch::Arm64 => {
                let (pc, sp) = (first.instruction.0, first.stack_pointer.0);
                (Registers::Arm64(Arm64Registers { pc, sp, ..Arm64Registers::default() }), 0)
            }
            _ => return None,
        };
        let scope = Self::new(registers, "a thread that was switched out").knowing(known);
        let scope = scope.of(stack.thread, stack.processor);
        Some(Self { stack: OnceCell::from(Rc::new(stack)), ..scope })
    }

    /// The stack that begins here.
    pub fn stack(&self, machine: &Machine) -> Rc<Stack> {
        let walk = || Rc::new(machine.walk((&self.registers, self.known), (self.thread, self.processor)));
        Rc::clone(self.stack.get_or_init(walk))
    }
}
