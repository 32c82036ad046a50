//! Facts about the crashed machine, as plain data that a dump or a pasted text can fill.

use stopcode_base::{Arch, Fact, FileTime, Registers, VirtAddr};

/// The stop code as the machine gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StopCode {
    /// As recorded: `0x1000007e`.
    pub code: u32,
    /// The four arguments.
    pub arguments: [u64; 4],
}

/// The system that crashed.
#[derive(Clone, PartialEq, Debug)]
pub struct System {
    /// `10.0.19041.804`; where the kernel is not in the list of builds, only as far as known: `6.3.9600`.
    pub os_version: Fact<String>,
    /// What the places of the kernel's globals tell of its build, in words.
    pub fingerprint: Option<String>,
    /// Windows' own name for the version: `Windows 10, version 2004 to 22H2`.
    pub product: Option<String>,
    /// Build number.
    pub build: Option<u32>,
    /// Architecture.
    pub arch: Option<Arch>,
    /// Number of processors.
    pub processors: Option<u32>,
    /// Seconds since start.
    pub uptime_seconds: Fact<f64>,
    /// When it crashed.
    pub crash_time: Fact<FileTime>,
    /// `AMD Ryzen 7 3700X 8-Core Processor`.
    pub processor_name: Option<String>,
    /// Microcode revision loaded.
    pub microcode: Option<u64>,
    /// Maker and model of the machine, from SMBIOS.
    pub machine: Option<String>,
    /// Firmware vendor, version and date, from SMBIOS.
    pub firmware: Option<String>,
    /// ECX of CPUID leaf 1, as the processor itself answers: which instructions it has.
    pub features: Option<u32>,
    /// Whether a hypervisor ran below Windows.
    pub hypervisor: Fact<Hypervisor>,
    /// True for a live dump: Windows wrote it and went on.
    pub live: Fact<bool>,
}

/// What runs below Windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hypervisor {
    /// Nothing: CPUID says that no hypervisor is present.
    Absent,
    /// A hypervisor; whether Windows is its root partition or a guest is not known.
    Present,
    /// Hyper-V, with this Windows as its root partition.
    Root,
}

/// An exception that led to the stop.
#[derive(Clone, PartialEq, Debug)]
pub struct Exception {
    /// NTSTATUS code.
    pub code: u32,
    /// Where it was raised.
    pub address: VirtAddr,
    /// `ExceptionInformation`.
    pub parameters: Vec<u64>,
}

/// The context a verdict is built on, and how it was chosen.
#[derive(Clone, PartialEq, Debug)]
pub struct Context {
    /// The registers.
    pub registers: Registers,
    /// Bit n set: general register n is known. A trap frame holds the volatile ones only.
    pub known: u32,
    /// Where they come from: `context record at Arg4`, `trap frame at …`, `dump header`.
    pub origin: String,
    /// The debugger command that selects them: `.cxr 0xffff…`, `.trap 0xffff…`, `.ecxr`.
    pub command: String,
    /// The trap frame, where one was found.
    pub trap_frame: Option<VirtAddr>,
    /// The address a page fault was about (CR2, or the exception's second parameter).
    pub fault_address: Option<VirtAddr>,
}

/// The thread that was running.
#[derive(Clone, PartialEq, Debug)]
pub struct Thread {
    /// ETHREAD.
    pub address: Fact<VirtAddr>,
    /// Lowest valid address of the kernel stack.
    pub stack_limit: Fact<VirtAddr>,
    /// First address past the kernel stack.
    pub stack_base: Fact<VirtAddr>,
    /// Image name of its process: who happened to run.
    pub process: Fact<String>,
    /// Process id.
    pub process_id: Fact<u64>,
}

/// One processor.
#[derive(Clone, PartialEq, Debug)]
pub struct Processor {
    /// Its number.
    pub number: u32,
    /// KPRCB.
    pub prcb: Option<VirtAddr>,
    /// The thread it ran.
    pub thread: Option<VirtAddr>,
    /// Its idle thread.
    pub idle_thread: Option<VirtAddr>,
    /// `IpiFrozen`: 0 running, 2 frozen by the freeze that every bug check sends, 5 did not answer.
    pub ipi_frozen: Option<u32>,
    /// Registers saved when it was stopped.
    pub registers: Option<Registers>,
    /// This one called KeBugCheckEx.
    pub crashed: bool,
    /// IRQL recorded by the debugger's entry, where known.
    pub irql: Option<u8>,
}

/// Driver Verifier's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verifier {
    /// Option flags as `verifier /flags` takes them; 0 means off.
    pub flags: u32,
}

/// A page-table entry recorded in the dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte {
    /// 1 page table, 2 directory, 3 directory pointer, 4 top.
    pub level: u8,
    /// Where the entry lies (self-map address).
    pub address: VirtAddr,
    /// Its value.
    pub value: u64,
}

impl Pte {
    /// The hardware would use it.
    pub const fn valid(self) -> bool {
        self.value & 1 != 0
    }
}
