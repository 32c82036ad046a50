//! What a crashed machine is, as plain data: the form of `samples/*.json`.

use crate::{Bytes, Error, Hex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A crashed x64 machine. All addresses are virtual unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What this machine is modelled on, and what of it is invented.
    pub about: String,
    /// Windows build: 7601 or 19041.
    pub build: u32,
    /// When it crashed, in seconds since 1970, UTC.
    pub crash_time: u32,
    /// How long it had run, in seconds.
    pub uptime_seconds: u32,
    /// `NtProductType`: 1 workstation, 2 domain controller, 3 server.
    pub product_type: u32,
    /// Suite mask: 0x110 on an ordinary workstation.
    pub suite_mask: Hex,
    /// The stop code.
    pub bug_check: BugCheck,
    /// Address at which the page tables map themselves.
    pub pte_base: Hex,
    /// The kernel.
    pub kernel: Kernel,
    /// The processor model all processors share.
    pub cpu: Cpu,
    /// Number of the processor that crashed.
    pub crash_processor: u32,
    /// The exception the header's context is of; absent where the header holds the context of `KeBugCheckEx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<Exception>,
    /// The processors.
    pub processors: Vec<Processor>,
    /// Processes that threads belong to.
    pub processes: Vec<Process>,
    /// Threads; every processor's current one must be among them.
    pub threads: Vec<Thread>,
    /// Stacks: of threads, of DPCs, of interrupts.
    pub stacks: Vec<Stack>,
    /// Trap frames that lie on them.
    #[serde(default)]
    pub traps: Vec<Trap>,
    /// Loaded modules in load order; the kernel first.
    pub modules: Vec<Module>,
    /// Drivers unloaded before the crash, newest first.
    #[serde(default)]
    pub unloaded: Vec<Unloaded>,
    /// Driver Verifier's state.
    #[serde(default)]
    pub verifier: Verifier,
    /// Windows of code that the dump holds.
    #[serde(default)]
    pub code: Vec<Code>,
    /// Call sites that the dump holds as small windows of their own.
    #[serde(default)]
    pub calls: Vec<Call>,
    /// Addresses for which the dump holds the page-table entries.
    #[serde(default)]
    pub pages: Vec<Page>,
    /// Other memory.
    #[serde(default)]
    pub memory: Vec<Code>,
}

/// A stop code and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BugCheck {
    /// The code: 0x7f.
    pub code: Hex,
    /// Its four arguments.
    pub arguments: [Hex; 4],
}

/// What the dump says of the kernel image beyond its place in the module list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// `KdDebuggerDataBlock`, relative to the kernel's base.
    pub debugger_data: Hex,
    /// Where the list of debugger data blocks starts, relative to the kernel's base.
    pub debugger_data_list: Hex,
    /// Fields of `KDDEBUGGER_DATA64` that hold an address in the kernel, by the field's name, relative to its base.
    pub globals: BTreeMap<String, Hex>,
}

/// A model of processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// Twelve letters: `GenuineIntel`, `AuthenticAMD`.
    pub vendor: String,
    /// The name it gives itself.
    pub name: String,
    /// Family as Windows counts it.
    pub family: u8,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
    /// Megahertz.
    pub mhz: u32,
    /// Microcode revision.
    pub microcode: Hex,
    /// What `cpuid` answers: leaf, eax, ebx, ecx, edx.
    #[serde(default)]
    pub cpuid: Vec<[Hex; 5]>,
}

/// Registers of an x64 processor; those left out are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names are the processor's own")]
pub struct Registers {
    pub rip: Hex,
    pub rsp: Hex,
    pub rax: Hex,
    pub rcx: Hex,
    pub rdx: Hex,
    pub rbx: Hex,
    pub rbp: Hex,
    pub rsi: Hex,
    pub rdi: Hex,
    pub r8: Hex,
    pub r9: Hex,
    pub r10: Hex,
    pub r11: Hex,
    pub r12: Hex,
    pub r13: Hex,
    pub r14: Hex,
    pub r15: Hex,
    pub eflags: Hex,
}

impl Registers {
    /// General registers in the processor's own numbering: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub(crate) fn general(&self) -> [u64; 16] {
        [
            self.rax, self.rcx, self.rdx, self.rbx, self.rsp, self.rbp, self.rsi, self.rdi, self.r8, self.r9,
            self.r10, self.r11, self.r12, self.r13, self.r14, self.r15,
        ]
        .map(|r| r.0)
    }
}

/// An exception that the stop code reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// `0xc0000005`.
    pub code: Hex,
    /// `EXCEPTION_RECORD.ExceptionInformation`; at most 15.
    pub information: Vec<Hex>,
    /// Where its `EXCEPTION_RECORD` lies: inside a described stack.
    pub record_at: Hex,
    /// Where its `CONTEXT` lies: inside a described stack.
    pub context_at: Hex,
    /// Registers at the exception.
    pub registers: Registers,
}

/// One processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// Number in its group.
    pub number: u32,
    /// Where its KPRCB lies.
    pub prcb: Hex,
    /// Where its saved `CONTEXT` lies.
    pub context_at: Hex,
    /// `KPRCB.IpiFrozen`: 2 frozen, 0 running.
    pub ipi_frozen: u32,
    /// Thread it runs.
    pub thread: Hex,
    /// Its idle thread.
    pub idle_thread: Hex,
    /// What it was doing when it was stopped.
    pub registers: Registers,
    /// Control register 0.
    pub cr0: Hex,
    /// Control register 2: address of the last page fault.
    #[serde(default)]
    pub cr2: Hex,
    /// Control register 4.
    pub cr4: Hex,
    /// Control register 8: the interrupt level; 15 on a frozen processor.
    pub cr8: Hex,
    /// Interrupt level before the kernel raised it to write the dump.
    #[serde(default)]
    pub saved_irql: u8,
    /// Top of its DPC stack.
    pub dpc_stack: Hex,
    /// Top of its interrupt stack; Windows 7 has none.
    #[serde(default)]
    pub isr_stack: Hex,
    /// True while it runs a DPC.
    #[serde(default)]
    pub dpc_active: bool,
    /// Base of its interrupt descriptor table.
    pub idt: Hex,
    /// Base of its segment descriptor table.
    pub gdt: Hex,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Where its EPROCESS lies.
    pub at: Hex,
    /// Process id.
    pub id: Hex,
    /// Id of the process that started it.
    pub parent: Hex,
    /// `ImageFileName`: at most 15 letters, ASCII.
    pub name: String,
    /// Process environment block; zero for a kernel process.
    #[serde(default)]
    pub peb: Hex,
    /// Physical address of its top page table.
    pub directory_table_base: Hex,
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thread {
    /// Where its ETHREAD lies.
    pub at: Hex,
    /// Process it belongs to: address of an EPROCESS.
    pub process: Hex,
    /// Thread id.
    pub id: Hex,
    /// Lowest usable address of its kernel stack.
    pub stack_limit: Hex,
    /// First address above its kernel stack.
    pub stack_base: Hex,
    /// Where the kernel starts when it enters the stack afresh.
    pub initial_stack: Hex,
    /// Stack pointer saved when the thread last left a processor.
    pub kernel_stack: Hex,
    /// `KTHREAD.State`: 2 running.
    pub state: u8,
    /// Priority.
    pub priority: u8,
    /// Where the thread started.
    pub start_address: Hex,
    /// Thread environment block; zero for a kernel thread.
    #[serde(default)]
    pub teb: Hex,
    /// Trap frame of its entry into the kernel, if it has one.
    #[serde(default)]
    pub trap_frame: Hex,
}

/// A stretch of stack and what lies on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Whose it is, for the reader.
    pub about: String,
    /// Lowest address that exists; what a processor has not reached yet is not stored.
    pub low: Hex,
    /// First address above it.
    pub high: Hex,
    /// Frames, innermost first, as a debugger's `k` lists them.
    pub frames: Vec<Frame>,
    /// Other words on it: saved registers, locals, what earlier calls left.
    #[serde(default)]
    pub words: Vec<Word>,
}

/// One line of `k`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// `Child-SP`: the stack pointer inside this frame.
    pub sp: Hex,
    /// `RetAddr`: where it returns to; lies just below the next frame's `sp`. Zero ends the stack.
    pub ret: Hex,
    /// True where `ret` comes from a trap frame: then [`Machine::traps`] holds it, and no word is written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trap: bool,
    /// Its name, for the reader of the description only.
    #[serde(default)]
    pub name: String,
}

/// A 64-bit word at an address.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Where.
    pub at: Hex,
    /// The word.
    pub value: Hex,
}

/// A `KTRAP_FRAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trap {
    /// Where it lies: inside a described stack.
    pub at: Hex,
    /// Registers at the trap.
    pub registers: Registers,
    /// Error code that the processor pushed.
    #[serde(default)]
    pub error_code: Hex,
    /// Address of the page fault.
    #[serde(default)]
    pub fault_address: Hex,
    /// Interrupt level before the trap.
    #[serde(default)]
    pub previous_irql: u8,
    /// True for a trap out of user mode.
    #[serde(default)]
    pub user: bool,
}

/// A loaded module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Full path as the loader knows it.
    pub path: String,
    /// First address.
    pub base: Hex,
    /// `SizeOfImage`.
    pub size: Hex,
    /// `TimeDateStamp`.
    pub time_stamp: Hex,
    /// `CheckSum`.
    #[serde(default)]
    pub checksum: Hex,
}

/// A driver that is no longer there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unloaded {
    /// Its file name; the dump holds the first twelve letters.
    pub name: String,
    /// First address it had.
    pub start: Hex,
    /// First address above it.
    pub end: Hex,
}

/// Driver Verifier's counters, `MM_DRIVER_VERIFIER_DATA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verifier {
    /// What is checked: 2 forces IRQL checking, 0x209bb is the standard set.
    pub level: Hex,
    /// How often a driver raised the interrupt level.
    pub raise_irqls: u32,
    /// How often one took a spin lock.
    pub acquire_spin_locks: u32,
    /// How often pageable memory was to be trimmed.
    pub trim_requests: u32,
    /// How often it was.
    pub trims: u32,
    /// Drivers loaded under the verifier.
    pub loads: u32,
}

/// Bytes at an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Where.
    pub at: Hex,
    /// The bytes.
    pub bytes: Bytes,
    /// What they are, for the reader of the description only.
    #[serde(default)]
    pub about: String,
}

/// A call instruction; the dump holds sixteen bytes on either side of where it returns to, no-ops but for the call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Address the call returns to.
    pub returns_to: Hex,
    /// Function it calls; with [`Self::import`], the pointer through which it calls.
    pub target: Hex,
    /// True for a call through an import pointer (`FF 15`), false for a direct one (`E8`).
    #[serde(default)]
    pub import: bool,
}

/// The page-table entries of one address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// The address.
    pub of: Hex,
    /// Entries from the top table downwards; fewer than four end in a large page or an empty entry.
    pub entries: Vec<Hex>,
}

impl Machine {
    /// Reads a description.
    ///
    /// # Errors
    /// [`Error::Json`] if the text is not JSON, or names a field that a description does not have.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        Ok(serde_json::from_str(text)?)
    }

    /// The kernel's base: that of the first module.
    pub(crate) fn kernel_base(&self) -> Result<u64, Error> {
        self.modules.first().map(|m| m.base.0).ok_or_else(|| Error::Missing("modules".to_owned()))
    }

    /// Where a kernel variable lies, by the name of its field in `KDDEBUGGER_DATA64`.
    pub(crate) fn global(&self, name: &str) -> Result<u64, Error> {
        let rva =
            self.kernel.globals.get(name).ok_or_else(|| Error::Missing(format!("kernel variable {name}")))?;
        Ok(self.kernel_base()?.wrapping_add(rva.0))
    }

    /// The processor that crashed.
    pub(crate) fn crashed(&self) -> Result<&Processor, Error> {
        let number = self.crash_processor;
        let found = self.processors.iter().find(|p| p.number == number);
        found.ok_or_else(|| Error::Missing(format!("processor {number}")))
    }

    /// The thread at `at`.
    pub(crate) fn thread(&self, at: Hex) -> Result<&Thread, Error> {
        let found = self.threads.iter().find(|t| t.at == at);
        found.ok_or_else(|| Error::Missing(format!("thread {at:?}")))
    }

    /// The process at `at`.
    pub(crate) fn process(&self, at: Hex) -> Result<&Process, Error> {
        let found = self.processes.iter().find(|p| p.at == at);
        found.ok_or_else(|| Error::Missing(format!("process {at:?}")))
    }
}
