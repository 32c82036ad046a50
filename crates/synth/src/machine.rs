//! What a crashed machine is, as plain data: the form of `samples/*.json`.

mod firmware;
mod memory;
mod module;
mod processor;
mod work;

pub use firmware::{Firmware, Slot};
pub use memory::{Call, Code, Frame, Page, Stack, Word};
pub use module::{Module, Pdb, Unloaded, Verifier};
pub use processor::{Cpu, Exception, Gate, Processor, Registers, Trap};
pub use work::{Dpc, Driver, Irp, Location};

use crate::{Bytes, Error, Hex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A crashed machine. All addresses are virtual unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What this machine is modelled on, and what of it is invented.
    pub about: String,
    /// What its processors are.
    #[serde(default, skip_serializing_if = "Arch::is_x64")]
    pub arch: Arch,
    /// Windows build: 7601, 9600, 14393, 17763, 19041, 20348, 22000 or 26100 on x64, 22000 on ARM64, 2600, 3790, 7601,
    /// 9600 or 19041 on x86.
    pub build: u32,
    /// Of x86: true where its page tables have the form of the physical address extension, which every Windows since 8
    /// has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pae: bool,
    /// The update of the build whose structures are taken; absent for one that is known well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
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
    /// Driver objects, with their devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<Driver>,
    /// Requests to drivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub irps: Vec<Irp>,
    /// Deferred procedure calls that wait or run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dpcs: Vec<Dpc>,
    /// What the firmware tells of the machine; a dump of a machine without it has no such table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
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
    /// Physical memory beyond what is described: pages of zeros that the dump holds.
    #[serde(default, skip_serializing_if = "Installed::is_none")]
    pub installed: Installed,
}

/// A processor architecture that can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// AMD64.
    #[default]
    X64,
    /// ARM64 with pages of 4 KiB; build 22000. Of its structures those fields are written whose places a real dump
    /// tells; descriptor tables are not.
    Arm64,
    /// x86 of 32 bits. Addresses are written as they are, without their sign extended. Descriptor tables are not
    /// written; a frame's [`Frame::sp`] is its EBP, as `ChildEBP` of a debugger's `k` is.
    X86,
}

impl Arch {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    fn is_x64(&self) -> bool {
        *self == Self::X64
    }

    /// `IMAGE_FILE_MACHINE_*`.
    pub(crate) const fn machine(self) -> u16 {
        match self {
            Self::X64 => 0x8664,
            Self::Arm64 => 0xaa64,
            Self::X86 => 0x14c,
        }
    }

    /// Bytes of a pointer.
    pub(crate) const fn pointer(self) -> usize {
        match self {
            Self::X64 | Self::Arm64 => 8,
            Self::X86 => 4,
        }
    }

    /// An address or another word as wide as one, as it lies in memory.
    pub(crate) fn word(self, value: u64) -> impl Iterator<Item = u8> {
        value.to_le_bytes().into_iter().take(self.pointer())
    }

    /// True in the kernel's part of the address space.
    pub(crate) const fn is_kernel(self, address: u64) -> bool {
        match self {
            Self::X64 | Self::Arm64 => address >> 47 == 0x1_ffff,
            Self::X86 => address >> 31 == 1,
        }
    }
}

/// How much physical memory the machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Bytes from address 0 on; zero where the dump is to hold described pages only.
    pub bytes: Hex,
    /// True where the dump holds a random half of them.
    #[serde(default)]
    pub half: bool,
}

impl Installed {
    fn is_none(&self) -> bool {
        self.bytes.is_zero()
    }
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
    /// How the running kernel keeps the block encoded; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
}

/// What the running kernel encodes its debugger data with. The places are relative to the kernel's base.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// Where `KdpDataBlockEncoded` lies, the flag that says so.
    pub flag_at: Hex,
    /// Where `KiWaitNever` lies.
    pub never_at: Hex,
    /// Its value.
    pub never: Hex,
    /// Where `KiWaitAlways` lies.
    pub always_at: Hex,
    /// Its value.
    pub always: Hex,
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
    /// `KTHREAD.State`: 2 running, 5 waiting.
    pub state: u8,
    /// `KTHREAD.WaitReason`: 0 executive, 15 queue.
    #[serde(default)]
    pub wait_reason: u8,
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

impl Machine {
    /// Reads a description.
    ///
    /// # Errors
    /// [`Error::Json`] if the text is not JSON, or names a field that a description does not have.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        Ok(serde_json::from_str(text)?)
    }

    /// Reads the description in a file, and the files that it names beside it.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be read or is no PE file, [`Error::Json`] as [`Self::from_json`],
    /// [`Error::Contradiction`] if a module says another size or time stamp than its file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(&file(path)?).into_owned();
        let mut machine = Self::from_json(&text)?;
        machine.read_files(path.parent().unwrap_or_else(|| Path::new("")))?;
        Ok(machine)
    }

    /// Reads the files that the description names, seen from `folder`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_files(&mut self, folder: &Path) -> Result<(), Error> {
        for module in self.modules.iter_mut().filter(|module| !module.file.is_empty()) {
            module.contents = file(&folder.join(&module.file))?;
            module.take_headers()?;
        }
        let stacks = self.stacks.iter_mut().flat_map(|stack| &mut stack.bytes);
        for code in stacks.chain(&mut self.code).chain(&mut self.memory) {
            if let Bytes(bytes, Some(name)) = &mut code.bytes {
                *bytes = file(&folder.join(name))?;
            }
        }
        Ok(())
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

fn file(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::File { path: path.display().to_string(), reason: error.to_string() })
}
