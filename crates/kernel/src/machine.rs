//! The machine: everything a dump tells, worked out when asked for and remembered.

use crate::core::Core;
use crate::facts::{Context, Exception, Processor, Pte, StopCode, System, Thread, Verifier};
use crate::hardware::blackbox::{BootStatus, NtfsBlackBox};
use crate::hardware::mca::{McaStatus, McaVendor};
use crate::hardware::sources::ErrorSources;
use crate::hardware::system::Hardware;
use crate::hardware::whea::ErrorRecord;
use crate::hardware::{blackbox, sources, system, whea};
use crate::identity::Build;
use crate::irp::Irp;
use crate::modules::compare::{self, ImageCheck};
use crate::modules::images::CodeMemory;
use crate::modules::lines::Lines;
use crate::modules::module::{Module, UnloadedModule};
use crate::processors::descriptors::{IdtEntry, TaskState};
use crate::processors::state::ProcessorState;
use crate::processors::trap::{self, Trapped};
use crate::processors::watchdog::{self, DpcHistory};
use crate::processors::{all as processors, context, descriptors, state as processor_state};
use crate::reading::list::Listed;
use crate::reading::types;
use crate::region::Region;
use crate::stacks::stack::{Place, Stack, StackWord};
use crate::stacks::walk as stacks;
use crate::stacks::words;
use crate::threads::crashing;
use crate::threads::process::KernelProcess;
use crate::threads::thread::KernelThread;
use crate::threads::{process as kernel_process, thread as kernel_thread};
use crate::verifier::VerifierState;
use crate::{irp, paging, region, verifier};
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use stopcode_base::{Arch, Fact, Memory, Problem, Registers, VirtAddr};
use stopcode_dump::{Dump, PnpActivity};
use stopcode_symbols::{Layout, SourceLine, SymbolSource, SymbolTable, Types};

/// A module's types, or why there are none.
type KnownTypes = Result<Rc<dyn Types>, String>;

/// A crashed machine over its dump.
///
/// Not shared between threads: each dump is worked on by one, many dumps by many.
pub struct Machine {
    core: Core,
    system: OnceCell<System>,
    context: OnceCell<Fact<Context>>,
    exception: OnceCell<Fact<Exception>>,
    processors: OnceCell<Vec<Processor>>,
    stacks: OnceCell<Vec<Stack>>,
    types: RefCell<Vec<(VirtAddr, KnownTypes)>>,
    lines: Lines,
}

impl Machine {
    /// The machine in `dump`; names come from `symbols` for those images they provably belong to.
    pub fn new(dump: Dump, symbols: &SymbolSource) -> Self {
        Self {
            core: Core::new(dump, symbols),
            system: OnceCell::new(),
            context: OnceCell::new(),
            exception: OnceCell::new(),
            processors: OnceCell::new(),
            stacks: OnceCell::new(),
            types: RefCell::default(),
            lines: Lines::default(),
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

    /// Memory to read code from: where it is not there, the file of the image, if one was given that is provably it.
    pub fn code(&self) -> CodeMemory<'_> {
        CodeMemory::new(self.core.images())
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

    /// A module's code in memory beside the file it was loaded from; missing where no such file is at hand.
    pub fn check_image(&self, module: &Module) -> Fact<ImageCheck> {
        compare::compare(&self.core, module)
    }

    /// What an address belongs to.
    pub fn place(&self, address: VirtAddr) -> Place {
        self.core.place(address)
    }

    /// The structure layouts of this kernel, or of the nearest one known, marked as such.
    pub fn layout(&self) -> Option<&Layout> {
        self.core.layout().ok()
    }

    /// The names of a module's image; `None` where none are known to be its own.
    pub fn symbols(&self, module: &Module) -> Option<&SymbolTable> {
        self.core.code.symbols_at(module.base)
    }

    /// The line that the code at an address was written in, where a PDB that is provably its module's tells. Of a return
    /// address, the byte before it tells the line of the call.
    pub fn source_line(&self, address: VirtAddr) -> Option<SourceLine> {
        self.lines.at(&self.core, address)
    }

    /// The types of a module, or why there are none; read when first asked for. [`Types::provenance`] says whose they are.
    pub fn types(&self, module: &Module) -> Result<Rc<dyn Types>, String> {
        if let Some((_, known)) = self.types.borrow().iter().find(|(base, _)| *base == module.base) {
            return known.clone();
        }
        let found = types::types(&self.core, module);
        self.types.borrow_mut().push((module.base, found.clone()));
        found
    }

    /// The stack that registers stand on: `from` them and which general ones of them are known (bit n: register n; the
    /// instruction and the stack pointer always are), of the thread and the processor of `owner` where these are known.
    pub fn walk(&self, from: (&Registers, u32), owner: (Option<VirtAddr>, Option<u32>)) -> Stack {
        stacks::of_registers(&self.core, self.processors(), from, owner)
    }

    /// Registers of frame `number` of the stack that [`Self::walk`] finds, and which general registers of them are known (bit
    /// n: register n); `None` where no unwind data led to the frame.
    pub fn frame_registers(
        &self,
        from: (&Registers, u32),
        owner: (Option<VirtAddr>, Option<u32>),
        number: usize,
    ) -> Option<(Registers, u32)> {
        stacks::frame_registers(&self.core, self.processors(), from, owner, number)
    }

    /// Registers at the call of KeBugCheckEx, where the dump holds them.
    pub fn bug_check_registers(&self) -> Option<Registers> {
        let crashed = self.processors().iter().find(|processor| processor.crashed);
        stacks::bug_check_registers(&self.core, crashed)
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
        crashing::thread(&self.core)
    }

    /// Processors.
    pub fn processors(&self) -> &[Processor] {
        self.processors.get_or_init(|| processors::processors(&self.core, self.thread().address.get()))
    }

    /// Every processor in depth: control registers, interrupts between processors, deferred procedure calls.
    pub fn processor_states(&self) -> Vec<ProcessorState> {
        processor_state::states(&self.core)
    }

    /// What the trap frame at `address` holds, plausible or not; missing if the dump does not hold it.
    pub fn trap_frame_at(&self, address: VirtAddr) -> Fact<Trapped> {
        trap::read(&self.core, address)
    }

    /// The thread at `address`; missing if that is none, or not in this dump.
    pub fn thread_at(&self, address: VirtAddr) -> Fact<KernelThread> {
        kernel_thread::thread(&self.core, address)
    }

    /// The process at `address`; missing if that is none, or not in this dump.
    pub fn process_at(&self, address: VirtAddr) -> Fact<KernelProcess> {
        kernel_process::process(&self.core, address)
    }

    /// Addresses of all processes, as `PsActiveProcessHead` lists them.
    pub fn process_list(&self) -> Fact<Listed> {
        kernel_process::processes(&self.core)
    }

    /// Addresses of the threads of the process at `process`.
    pub fn threads_of(&self, process: VirtAddr) -> Fact<Listed> {
        kernel_process::threads(&self.core, process)
    }

    /// The error record that a WHEA_UNCORRECTABLE_ERROR points to.
    pub fn error_record(&self) -> Fact<ErrorRecord> {
        whea::of_bug_check(&self.core)
    }

    /// `MCi_STATUS` of the machine check that stopped the system.
    pub fn machine_check(&self) -> Fact<McaStatus> {
        let states = self.processor_states();
        let vendor = states.iter().find_map(|state| state.vendor.value());
        let vendor = vendor.map_or(McaVendor::Unknown, |name| McaVendor::of_name(name));
        whea::machine_check(&self.core, vendor)
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

    /// The part of the address space that an address is in.
    pub fn region(&self, address: VirtAddr) -> Fact<Region> {
        region::region(&self.core, self.processors(), address)
    }

    /// Every part of the address space that is known, by address.
    pub fn regions(&self) -> Vec<Fact<Region>> {
        region::regions(&self.core, self.processors())
    }

    /// The IRP at `address`; missing if that is none, or not in this dump.
    pub fn irp_at(&self, address: VirtAddr) -> Fact<Irp> {
        irp::irp(&self.core, address)
    }

    /// The name of the driver of the device object at `address`: `\Driver\disk`.
    pub fn device_driver(&self, address: VirtAddr) -> Fact<String> {
        irp::driver_of_device(&self.core, address)
    }

    /// What the DPC watchdog wrote down, processor by processor.
    pub fn dpc_histories(&self) -> Fact<Vec<DpcHistory>> {
        watchdog::histories(&self.core)
    }

    /// The interrupt table of a processor.
    pub fn interrupt_table(&self, processor: &ProcessorState) -> Fact<Vec<IdtEntry>> {
        descriptors::idt(&self.core, processor)
    }

    /// The task state of a processor: the stacks that interrupts switch to.
    pub fn task_state(&self, processor: &ProcessorState) -> Fact<TaskState> {
        descriptors::tss(&self.core, processor)
    }

    /// What Driver Verifier was told to check, and what it counted.
    pub fn verifier_state(&self) -> Fact<VerifierState> {
        verifier::verifier(&self.core)
    }

    /// The sources of hardware errors that Windows knows of.
    pub fn error_sources(&self) -> Fact<ErrorSources> {
        sources::sources(&self.core)
    }

    /// What the secondary data tell of processor, firmware and memory modules.
    pub fn hardware(&self) -> Hardware {
        Hardware::of(self.dump())
    }

    /// The boot status data: whether the system ran, booted well, was going to sleep.
    pub fn boot_status(&self) -> Fact<BootStatus> {
        blackbox::boot_status(self.dump())
    }

    /// The head of NTFS' black box.
    pub fn ntfs_black_box(&self) -> Fact<NtfsBlackBox> {
        blackbox::ntfs(self.dump())
    }

    /// What plug and play was working on.
    pub fn pnp_black_box(&self) -> Fact<PnpActivity> {
        blackbox::pnp(self.dump())
    }

    /// How far the logon had come.
    pub fn winlogon_black_box(&self) -> Fact<String> {
        blackbox::winlogon(self.dump())
    }

    /// What Windows had in progress, as its black boxes tell, in words.
    pub fn black_box(&self) -> Vec<String> {
        blackbox::in_progress(self.dump())
    }
}
