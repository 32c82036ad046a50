//! The machine: everything a dump tells, worked out when asked for and remembered.

use crate::core::Core;
use crate::facts::{Context, Exception, Processor, Pte, StopCode, System, Thread, Verifier};
use crate::identity::Build;
use crate::module::{Module, UnloadedModule};
use crate::stack::{Place, Stack, StackWord};
use crate::{blackbox, context, paging, processors, stacks, system, thread, words};
use std::cell::OnceCell;
use stopcode_base::{Arch, Fact, Memory, Problem, VirtAddr};
use stopcode_dump::Dump;
use stopcode_symbols::{Layout, SymbolSource};

/// A crashed machine over its dump.
///
/// Not shared between threads: each dump is worked on by one, many dumps by many.
pub struct Machine {
    core: Core,
    system: OnceCell<System>,
    context: OnceCell<Fact<Context>>,
    exception: OnceCell<Fact<Exception>>,
    thread: OnceCell<Thread>,
    processors: OnceCell<Vec<Processor>>,
    stacks: OnceCell<Vec<Stack>>,
}

impl Machine {
    /// The machine in `dump`; names come from `symbols` for those images they provably belong to.
    pub fn new(dump: Dump, symbols: &SymbolSource) -> Self {
        Self {
            core: Core::new(dump, symbols),
            system: OnceCell::new(),
            context: OnceCell::new(),
            exception: OnceCell::new(),
            thread: OnceCell::new(),
            processors: OnceCell::new(),
            stacks: OnceCell::new(),
        }
    }

    /// The dump.
    pub fn dump(&self) -> &Dump {
        &self.core.dump
    }

    /// Memory, as the processor saw it.
    pub fn memory(&self) -> &dyn Memory {
        self.core.memory()
    }

    /// Architecture.
    pub fn arch(&self) -> Arch {
        self.core.arch
    }

    /// Which kernel it is.
    pub fn build(&self) -> &Build {
        &self.core.build
    }

    /// What was wrong with the dump.
    pub fn problems(&self) -> &[Problem] {
        self.core.dump.problems()
    }

    /// The stop code.
    pub fn stop(&self) -> StopCode {
        self.core.stop()
    }

    /// Loaded modules, the kernel first.
    pub fn modules(&self) -> &[Module] {
        &self.core.modules
    }

    /// Unloaded drivers, newest first.
    pub fn unloaded(&self) -> &[UnloadedModule] {
        &self.core.unloaded
    }

    /// What an address belongs to.
    pub fn place(&self, address: VirtAddr) -> Place {
        self.core.place(address)
    }

    /// The structure layouts of this kernel, or of the nearest one known, marked as such.
    pub fn layout(&self) -> Option<&Layout> {
        self.core.layout()
    }

    /// The system.
    pub fn system(&self) -> &System {
        self.system.get_or_init(|| system::system(&self.core))
    }

    /// The context to judge.
    pub fn context(&self) -> &Fact<Context> {
        let own = || self.processors().iter().find(|processor| processor.crashed)?.registers;
        self.context.get_or_init(|| context::context(&self.core, own))
    }

    /// The exception that led to the stop.
    pub fn exception(&self) -> &Fact<Exception> {
        self.exception.get_or_init(|| context::exception(&self.core))
    }

    /// The thread that ran on the crashing processor.
    pub fn thread(&self) -> &Thread {
        self.thread.get_or_init(|| thread::thread(&self.core))
    }

    /// Processors.
    pub fn processors(&self) -> &[Processor] {
        self.processors.get_or_init(|| processors::processors(&self.core, self.thread().address.get()))
    }

    /// Stacks: the exception's, the bug check's, then the other processors'.
    pub fn stacks(&self) -> &[Stack] {
        let walk = || {
            let context = self.context().value();
            stacks::stacks(&self.core, self.thread(), self.processors(), context)
        };
        self.stacks.get_or_init(walk)
    }

    /// The stack of a thread, by its ETHREAD; why it cannot be told where that is so. Small dumps hold one thread.
    pub fn stack_of(&self, thread: VirtAddr) -> Fact<Stack> {
        stacks::of_thread(&self.core, self.processors(), thread)
    }

    /// The words of a stack from an address on, each with what it is on `stack`: at most 0x4000, fewer where memory
    /// ends.
    pub fn stack_words(&self, stack: &Stack, from: VirtAddr, count: usize) -> Vec<StackWord> {
        words::words(&self.core, stack, from, count)
    }

    /// Driver Verifier's flags: the first word of `MmVerifierData`, which a minidump holds.
    pub fn verifier(&self) -> Fact<Verifier> {
        let Some(address) =
            self.dump().kdbg().and_then(|kdbg| kdbg.get("MmVerifierData")).filter(|a| *a != 0)
        else {
            return Fact::missing("the kernel's debugger data is not in this dump");
        };
        match self.memory().read_u32(VirtAddr(address)) {
            Ok(flags) => Fact::known(Verifier { flags }, "MmVerifierData.Level"),
            Err(miss) => Fact::missing(format!("MmVerifierData: {miss}")),
        }
    }

    /// The page-table entries that the dump holds for an address, lowest level first.
    pub fn page_table_entries(&self, address: VirtAddr) -> Vec<Pte> {
        paging::entries(&self.core, address)
    }

    /// What Windows had in progress, as its black boxes tell, in words.
    pub fn black_box(&self) -> Vec<String> {
        blackbox::in_progress(self.dump())
    }
}
