//! Processes: any by its address, and the list of all of them.

use crate::core::Core;
use crate::reading::list::Listed;
use crate::reading::object::{Object, listed};
use crate::threads::crashing::image_file_name;
use stopcode_base::{Fact, FileTime, PhysAddr, VirtAddr};

/// `DISPATCHER_HEADER.Type` of a process. (Source: `KOBJECTS` of the public symbols.)
const PROCESS_OBJECT: u8 = 3;

/// A process: `EPROCESS` and the `KPROCESS` it begins with.
#[derive(Clone, PartialEq, Debug)]
pub struct KernelProcess {
    /// EPROCESS.
    pub address: VirtAddr,
    /// Process id.
    pub id: Fact<u64>,
    /// Process id of the one that made it, which may have ended.
    pub parent_id: Fact<u64>,
    /// Image name, cut to 15 letters.
    pub image: Fact<String>,
    /// What CR3 holds while it runs.
    pub directory_table_base: Fact<PhysAddr>,
    /// Process environment block; null for a system process.
    pub peb: Fact<VirtAddr>,
    /// Handle table.
    pub object_table: Fact<VirtAddr>,
    /// Threads that have not ended.
    pub active_threads: Fact<u32>,
    /// When it was made.
    pub create_time: Fact<FileTime>,
    /// When it ended; zero while it runs.
    pub exit_time: Fact<FileTime>,
    /// NTSTATUS it ended with; 0x103 while it runs.
    pub exit_status: Fact<u32>,
    /// Ticks in kernel mode of its threads that have ended.
    pub kernel_ticks: Fact<u32>,
    /// The same in user mode.
    pub user_ticks: Fact<u32>,
}

/// The process at `address`.
///
/// Missing if the dump does not hold what lies there, or if that is no process.
pub(crate) fn process(core: &Core, address: VirtAddr) -> Fact<KernelProcess> {
    match core.memory().read_u8(address) {
        Err(miss) => Fact::missing(format!("the process at {}: {}", core.arch.windbg(address), miss.reason)),
        Ok(kind) if kind & 0x7f != PROCESS_OBJECT => Fact::missing(format!(
            "what lies at {} is no process: its DISPATCHER_HEADER.Type is {kind}, a process's is {PROCESS_OBJECT}",
            core.arch.windbg(address)
        )),
        Ok(_) => Fact::known(fields(core, address), "DISPATCHER_HEADER.Type, which is a process's"),
    }
}

fn fields(core: &Core, address: VirtAddr) -> KernelProcess {
    let kernel = Object::new(core, "_KPROCESS", address);
    let executive = Object::new(core, "_EPROCESS", address);
    KernelProcess {
        address,
        id: executive.word("UniqueProcessId"),
        parent_id: executive.word("InheritedFromUniqueProcessId"),
        image: image(executive.bytes("ImageFileName")),
        directory_table_base: kernel
            .stated_word("OffsetEprocessDirectoryTableBase", "DirectoryTableBase")
            .unwrap_or_else(|| kernel.word("DirectoryTableBase"))
            .map(PhysAddr),
        peb: executive.pointer("Peb"),
        object_table: executive.pointer("ObjectTable"),
        active_threads: executive.u32("ActiveThreads"),
        create_time: executive.u64("CreateTime").map(FileTime),
        exit_time: executive.u64("ExitTime").map(FileTime),
        exit_status: executive.u32("ExitStatus"),
        kernel_ticks: kernel.u32("KernelTime"),
        user_ticks: kernel.u32("UserTime"),
    }
}

fn image(bytes: Fact<[u8; 15]>) -> Fact<String> {
    match bytes {
        Fact::Known { value, source } => match image_file_name(&value, 0) {
            Some(name) => Fact::Known { value: name, source },
            None => Fact::missing("EPROCESS.ImageFileName is no name in this dump"),
        },
        Fact::Missing { reason } => Fact::Missing { reason },
    }
}

/// The processes that `PsActiveProcessHead` leads to, in the order they were made.
pub(crate) fn processes(core: &Core) -> Fact<Listed> {
    let Some(head) = core.dump.header().ps_active_process_head.filter(|head| core.arch.is_kernel(*head))
    else {
        return Fact::missing("the dump header does not say where PsActiveProcessHead is");
    };
    listed(core, head, "_EPROCESS", "ActiveProcessLinks", "PsActiveProcessHead")
}

/// The threads of the process at `process`.
pub(crate) fn threads(core: &Core, process: VirtAddr) -> Fact<Listed> {
    match Object::new(core, "_EPROCESS", process).address_of("ThreadListHead") {
        Fact::Known { value, .. } => {
            listed(core, value, "_ETHREAD", "ThreadListEntry", "EPROCESS.ThreadListHead")
        }
        Fact::Missing { reason } => Fact::Missing { reason },
    }
}
