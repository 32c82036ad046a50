//! The interrupt table and the task state of an x64 processor. (Formats: Intel SDM, volume 3.)

use crate::core::Core;
use crate::processors::state::{ProcessorState, TableRegister};
use crate::reading::bytes::Bytes;
use crate::reading::object::Object;
use stopcode_base::{Arch, Fact, VirtAddr};

const ENTRY_SIZE: u64 = 16;
/// Bytes of the 64-bit task state.
const TSS_SIZE: u16 = 0x68;
/// Where `KINTERRUPT` keeps its service routine, since Windows 7.
const SERVICE_ROUTINE: u64 = 0x18;

/// An entry of the interrupt table.
#[derive(Clone, PartialEq, Debug)]
pub struct IdtEntry {
    /// Its number.
    pub vector: u8,
    /// Where the processor goes.
    pub handler: VirtAddr,
    /// Code segment.
    pub selector: u16,
    /// Stack of the task state it switches to; 0 for none.
    pub ist: u8,
    /// Present.
    pub present: bool,
    /// `KINTERRUPT` of a device's interrupt, and its service routine, where this kernel's place for it is known.
    pub interrupt: Option<(VirtAddr, VirtAddr)>,
}

/// The task state: the stacks that the processor switches to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskState {
    /// Where it is.
    pub address: VirtAddr,
    /// Stack of entries from user mode.
    pub rsp0: VirtAddr,
    /// Interrupt stacks 1 to 7.
    pub ist: [VirtAddr; 7],
}

/// The interrupt table of a processor.
pub(crate) fn idt(core: &Core, processor: &ProcessorState) -> Fact<Vec<IdtEntry>> {
    if core.arch != Arch::X64 {
        return Fact::missing(format!("the interrupt table of {} is not read", core.arch));
    }
    let TableRegister { base, limit } = match &processor.special {
        Fact::Known { value, .. } => value.idtr,
        Fact::Missing { reason } => return Fact::Missing { reason: reason.clone() },
    };
    let count = ((u64::from(limit) + 1) / ENTRY_SIZE).min(256);
    let interrupts = Object::new(core, "_KPRCB", processor.prcb).address_of("InterruptObject").get();
    let mut entries = Vec::new();
    for vector in 0..count {
        let mut raw = [0; ENTRY_SIZE as usize];
        if let Err(miss) = core.memory().read(base.plus(vector * ENTRY_SIZE), &mut raw) {
            if entries.is_empty() {
                return Fact::missing(format!("the interrupt table at {}: {}", base.windbg(), miss.reason));
            }
            break;
        }
        let fields = Bytes(&raw);
        let word = |at| u64::from(fields.u16(at).unwrap_or(0));
        let kind = word(4);
        let handler = word(0) | word(6) << 16 | u64::from(fields.u32(8).unwrap_or(0)) << 32;
        entries.push(IdtEntry {
            vector: vector as u8,
            handler: VirtAddr(handler),
            selector: word(2) as u16,
            ist: (kind & 7) as u8,
            present: kind >> 15 & 1 == 1,
            interrupt: interrupts.and_then(|table| interrupt(core, table.plus(8 * vector))),
        });
    }
    if !entries.iter().any(|entry| entry.present) {
        return Fact::missing(format!("no entry of the interrupt table at {} is present", base.windbg()));
    }
    Fact::known(entries, format!("IDTR, which points to {}", base.windbg()))
}

/// The `KINTERRUPT` that `at` points to, and its service routine.
fn interrupt(core: &Core, at: VirtAddr) -> Option<(VirtAddr, VirtAddr)> {
    let object = VirtAddr(core.memory().read_u64(at).ok()?);
    if !object.is_kernel() {
        return None;
    }
    let routine = VirtAddr(core.memory().read_u64(object.plus(SERVICE_ROUTINE)).ok()?);
    core.place(routine).image.is_some().then_some((object, routine))
}

/// The task state that a processor's task register selects.
pub(crate) fn tss(core: &Core, processor: &ProcessorState) -> Fact<TaskState> {
    if core.arch != Arch::X64 {
        return Fact::missing(format!("the task state of {} is not read", core.arch));
    }
    let special = match &processor.special {
        Fact::Known { value, .. } => value,
        Fact::Missing { reason } => return Fact::Missing { reason: reason.clone() },
    };
    let memory = core.memory();
    let mut descriptor = [0; 16];
    let at = special.gdtr.base.plus(u64::from(special.tr & !7));
    let by_gdt = memory.read(at, &mut descriptor).map(|()| {
        let fields = Bytes(&descriptor);
        let byte = |at| u64::from(fields.u8(at).unwrap_or(0));
        let low = u64::from(fields.u16(2).unwrap_or(0)) | byte(4) << 16 | byte(7) << 24;
        VirtAddr(low | u64::from(fields.u32(8).unwrap_or(0)) << 32)
    });
    let base = by_gdt.ok().filter(|base| base.is_kernel()).or_else(|| {
        // KPCR.TssBase.
        memory.read_u64(processor.pcr.get()?.plus(8)).ok().map(VirtAddr).filter(|base| base.is_kernel())
    });
    let Some(address) = base else {
        return Fact::missing(
            "neither the processor's GDT nor its KPCR, which lead to the task state, are in this dump",
        );
    };
    let mut raw = [0; TSS_SIZE as usize];
    if let Err(miss) = memory.read(address, &mut raw) {
        return Fact::missing(format!("the task state at {}: {}", address.windbg(), miss.reason));
    }
    let fields = Bytes(&raw);
    let stack = |at| VirtAddr(fields.u64(at).unwrap_or(0));
    let ist = [0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54].map(stack);
    Fact::known(TaskState { address, rsp0: stack(4), ist }, "task register")
}
