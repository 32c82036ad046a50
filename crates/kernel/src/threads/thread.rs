//! Any thread of the machine, by its address.

use crate::core::Core;
use crate::reading::list::{self, Listed};
use crate::reading::object::Object;
use stopcode_base::{Arch, Fact, FileTime, VirtAddr};

/// `DISPATCHER_HEADER.Type` of a thread. (Source: `KOBJECTS` of the public symbols.)
const THREAD_OBJECT: u8 = 6;
/// `KTHREAD.State` of a thread that waits.
const WAITING: u8 = 5;
/// `MAXIMUM_WAIT_OBJECTS` of the public headers.
const MOST_WAIT_BLOCKS: u64 = 64;
/// Bytes of `KWAIT_BLOCK`, in pointers: the same in every kernel.
const WAIT_BLOCK_POINTERS: u64 = 6;

/// A thread: `ETHREAD` and the `KTHREAD` it begins with.
#[derive(Clone, PartialEq, Debug)]
pub struct KernelThread {
    /// ETHREAD.
    pub address: VirtAddr,
    /// EPROCESS it is attached to: its own, unless it works for another (`ApcState.Process`).
    pub attached_process: Fact<VirtAddr>,
    /// EPROCESS it belongs to.
    pub process: Fact<VirtAddr>,
    /// Process id.
    pub process_id: Fact<u64>,
    /// Thread id.
    pub thread_id: Fact<u64>,
    /// `KTHREAD_STATE`; [`stopcode_knowledge::enums::thread_state`] has the words.
    pub state: Fact<u8>,
    /// `KWAIT_REASON`, of the last wait; says something of now only while the thread waits.
    pub wait_reason: Fact<u8>,
    /// 0 waits in kernel mode, 1 in user mode.
    pub wait_mode: Fact<u8>,
    /// What it waits for: dispatcher objects.
    pub wait_objects: Fact<Vec<WaitObject>>,
    /// Tick at which it began to wait.
    pub wait_time: Fact<u32>,
    /// Priority now.
    pub priority: Fact<i8>,
    /// Priority without boosts.
    pub base_priority: Fact<i8>,
    /// First address past the stack's part in use at the start of the thread.
    pub initial_stack: Fact<VirtAddr>,
    /// First address past the kernel stack.
    pub stack_base: Fact<VirtAddr>,
    /// Lowest valid address of the kernel stack.
    pub stack_limit: Fact<VirtAddr>,
    /// Stack pointer while the thread does not run.
    pub kernel_stack: Fact<VirtAddr>,
    /// Trap frame of its entry from user mode; null if it is not in a system call or trap.
    pub trap_frame: Fact<VirtAddr>,
    /// Thread environment block; null for a system thread.
    pub teb: Fact<VirtAddr>,
    /// Where the thread starts.
    pub start_address: Fact<VirtAddr>,
    /// Where it starts as its creator said.
    pub win32_start_address: Fact<VirtAddr>,
    /// When it was made.
    pub create_time: Fact<FileTime>,
    /// Ticks in kernel mode.
    pub kernel_ticks: Fact<u32>,
    /// Ticks in user mode.
    pub user_ticks: Fact<u32>,
    /// How often it was given a processor.
    pub context_switches: Fact<u32>,
    /// Its processor, where it is known.
    pub next_processor: Fact<u32>,
    /// Its I/O requests: `IRP`s.
    pub irps: Fact<Listed>,
}

/// Something a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitObject {
    /// The object.
    pub address: VirtAddr,
    /// `DISPATCHER_HEADER.Type`, if the object is in the dump.
    pub kind: Option<u8>,
}

/// The thread at `address`.
///
/// Missing if the dump does not hold what lies there, or if that is no thread.
pub(crate) fn thread(core: &Core, address: VirtAddr) -> Fact<KernelThread> {
    match core.memory().read_u8(address) {
        Err(miss) => Fact::missing(format!("the thread at {}: {}", core.arch.windbg(address), miss.reason)),
        // Bit 7 marks an object that is being debugged.
        Ok(kind) if kind & 0x7f != THREAD_OBJECT => Fact::missing(format!(
            "what lies at {} is no thread: its DISPATCHER_HEADER.Type is {kind}, a thread's is {THREAD_OBJECT}",
            core.arch.windbg(address)
        )),
        Ok(_) => Fact::known(fields(core, address), "DISPATCHER_HEADER.Type, which is a thread's"),
    }
}

fn fields(core: &Core, address: VirtAddr) -> KernelThread {
    let kernel = Object::new(core, "_KTHREAD", address);
    let executive = Object::new(core, "_ETHREAD", address);
    let state = kernel.u8("State");
    // Since Windows 7 the processor's number shares its word with a flag above it.
    let next_processor = if core.arch == Arch::X86 && core.has_short_processor_numbers() {
        kernel.u8("NextProcessor").map(u32::from)
    } else {
        kernel.u32("NextProcessor").map(|word| word & 0x7fff_ffff)
    };
    KernelThread {
        address,
        attached_process: attached_process(core, &kernel),
        process: kernel.pointer("Process"),
        process_id: client_id(core, &executive, 0),
        thread_id: client_id(core, &executive, core.arch.pointer_size()),
        wait_objects: match state.get() {
            Some(WAITING) => wait_objects(core, &kernel),
            Some(_) => Fact::missing("the thread does not wait"),
            None => Fact::missing(state.reason().unwrap_or_default().to_owned()),
        },
        state,
        wait_reason: kernel.u8("WaitReason"),
        wait_mode: kernel.u8("WaitMode"),
        wait_time: kernel.u32("WaitTime"),
        priority: kernel.u8("Priority").map(u8::cast_signed),
        base_priority: kernel.u8("BasePriority").map(u8::cast_signed),
        initial_stack: kernel.pointer("InitialStack"),
        stack_base: kernel.pointer("StackBase"),
        stack_limit: kernel.pointer("StackLimit"),
        kernel_stack: kernel.pointer("KernelStack"),
        trap_frame: kernel.pointer("TrapFrame"),
        teb: kernel.pointer("Teb"),
        start_address: executive.pointer("StartAddress"),
        win32_start_address: executive.pointer("Win32StartAddress"),
        // The lowest three bits are no part of the time on kernels before Windows 7; a tick of 0.8 µs.
        create_time: executive.u64("CreateTime").map(FileTime),
        kernel_ticks: kernel.u32("KernelTime"),
        user_ticks: kernel.u32("UserTime"),
        context_switches: kernel.u32("ContextSwitches"),
        next_processor,
        irps: irps(core, &executive),
    }
}

/// Windows XP's debugger data do not say where it lies.
fn attached_process(core: &Core, kernel: &Object<'_>) -> Fact<VirtAddr> {
    if let Some(stated) = kernel.stated_word("OffsetKThreadApcProcess", "ApcState.Process") {
        return stated.map(VirtAddr);
    }
    match kernel.address_of("ApcState") {
        Fact::Known { value, .. } => Object::new(core, "_KAPC_STATE", value).pointer("Process"),
        Fact::Missing { reason } => Fact::Missing { reason },
    }
}

/// One half of `ETHREAD.Cid`.
fn client_id(core: &Core, executive: &Object<'_>, half: u64) -> Fact<u64> {
    match executive.address_of("Cid") {
        Fact::Known { value, source } => match core.memory().read_word(core.arch, value.plus(half)) {
            Ok(id) => Fact::Known { value: id, source },
            Err(miss) => Fact::missing(format!("ETHREAD.Cid: {}", miss.reason)),
        },
        Fact::Missing { reason } => Fact::Missing { reason },
    }
}

/// The objects whose lists of waiters the thread's wait blocks stand in. A block that a list does not hold is left over
/// from an earlier wait; one whose object is not in the dump counts if it is the first.
fn wait_objects(core: &Core, kernel: &Object<'_>) -> Fact<Vec<WaitObject>> {
    let first = kernel.pointer("WaitBlockList");
    let (first, source) = match first {
        Fact::Known { value, source } if core.arch.is_kernel(value) => (value, source),
        Fact::Known { .. } => return Fact::missing("KTHREAD.WaitBlockList is null"),
        Fact::Missing { reason } => return Fact::Missing { reason },
    };
    let memory = core.memory();
    let mut objects = Vec::new();
    for index in 0..MOST_WAIT_BLOCKS {
        let at = first.plus(index * WAIT_BLOCK_POINTERS * core.arch.pointer_size());
        let block = Object::new(core, "_KWAIT_BLOCK", at);
        let (thread, object) = match (block.pointer("Thread"), block.pointer("Object")) {
            (Fact::Known { value: thread, .. }, Fact::Known { value: object, .. }) => (thread, object),
            (Fact::Missing { reason }, _) | (_, Fact::Missing { reason }) if index == 0 => {
                return Fact::Missing { reason };
            }
            _ => break,
        };
        if thread != kernel.address() || !core.arch.is_kernel(object) {
            break;
        }
        let next = core.pointer(at).ok();
        let linked = next.and_then(|next| core.pointer(next.plus(core.arch.pointer_size())).ok());
        if linked == Some(at) || (index == 0 && linked.is_none()) {
            objects.push(WaitObject {
                address: object,
                kind: memory.read_u8(object).ok().map(|kind| kind & 0x7f),
            });
        }
    }
    if objects.is_empty() {
        return Fact::missing("no wait block of this thread stands in the list of an object");
    }
    Fact::Known { value: objects, source }
}

fn irps(core: &Core, executive: &Object<'_>) -> Fact<Listed> {
    // IRP.ThreadListEntry, in every kernel of one width.
    let link = if core.arch.pointer_size() == 4 { 0x10 } else { 0x20 };
    match executive.address_of("IrpList") {
        Fact::Known { value, source } => match list::walk(core.memory(), core.arch, value, link) {
            Ok(listed) => Fact::Known { value: listed, source },
            Err(reason) => Fact::missing(reason),
        },
        Fact::Missing { reason } => Fact::Missing { reason },
    }
}
