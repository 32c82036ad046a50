//! The interrupt table of an x64 or x86 processor, and the task state of x64. (Formats: Intel SDM, volume 3.)

use crate::core::Core;
use crate::processors::state::{ProcessorState, TableRegister};
use crate::reading::bytes::Bytes;
use crate::reading::object::Object;
use stopcode_base::{Arch, Fact, VirtAddr};

/// The size of a gate of 64 bits, and of one of 32.
const GATE: usize = 16;
const GATE_OF_32_BITS: usize = 8;
/// Type of a gate of 32 bits that leads to another task: x86 handles a double fault in one.
const TASK_GATE: u64 = 5;
/// Bytes of the 64-bit task state.
const TSS_SIZE: u16 = 0x68;
/// Where `KINTERRUPT` keeps its service routine, since Windows 7.
const SERVICE_ROUTINE: u64 = 0x18;

/// An entry of the interrupt table.
#[derive(Clone, PartialEq, Debug)]
pub struct IdtEntry {
    /// Its number.
    pub vector: u8,
    /// Where the processor goes; null if it changes to another task.
    pub handler: VirtAddr,
    /// Code segment, or the task it changes to.
    pub selector: u16,
    /// True if it changes to another task, on x86.
    pub task: bool,
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
    if core.arch == Arch::Arm64 {
        return Fact::missing(
            "arm64 has no interrupt table: exceptions go through the code that VBAR_EL1 points to",
        );
    }
    let size = if core.arch == Arch::X86 { GATE_OF_32_BITS } else { GATE };
    let TableRegister { base, limit } = match &processor.special {
        Fact::Known { value, .. } => value.idtr,
        Fact::Missing { reason } => return Fact::Missing { reason: reason.clone() },
    };
    let count = ((usize::from(limit) + 1) / size).min(256);
    let interrupts = Object::new(core, "_KPRCB", processor.prcb).address_of("InterruptObject").get();
    let interrupts = interrupts.filter(|_| core.arch == Arch::X64);
    let mut entries = Vec::new();
    for vector in 0..count {
        let mut raw = [0; GATE];
        let gate = raw.get_mut(..size).unwrap_or_default();
        if let Err(miss) = core.memory().read(base.plus((vector * size) as u64), gate) {
            if entries.is_empty() {
                let at = core.arch.windbg(base);
                return Fact::missing(format!("the interrupt table at {at}: {}", miss.reason));
            }
            break;
        }
        let interrupt = interrupts.and_then(|table| interrupt(core, table.plus(8 * vector as u64)));
        entries.push(IdtEntry { interrupt, ..gate_of(core.arch, vector as u8, &Bytes(&raw)) });
    }
    if !entries.iter().any(|entry| entry.present) {
        return Fact::missing(format!(
            "no entry of the interrupt table at {} is present",
            core.arch.windbg(base)
        ));
    }
    Fact::known(entries, format!("IDTR, which points to {}", core.arch.windbg(base)))
}

/// A gate out of its bytes; those of 32 bits are half as long, and what follows them is zero.
fn gate_of(arch: Arch, vector: u8, gate: &Bytes<'_>) -> IdtEntry {
    let word = |at| u64::from(gate.u16(at).unwrap_or(0));
    let kind = word(4);
    let task = arch == Arch::X86 && kind >> 8 & 0x1f == TASK_GATE;
    let handler = word(0) | word(6) << 16 | u64::from(gate.u32(8).unwrap_or(0)) << 32;
    IdtEntry {
        vector,
        handler: VirtAddr(if task { 0 } else { handler }),
        selector: word(2) as u16,
        task,
        ist: if arch == Arch::X64 { (kind & 7) as u8 } else { 0 },
        present: kind >> 15 & 1 == 1,
        interrupt: None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_as_the_manual_draws_them() {
        // Offset 0x8007_4b60 in two halves, selector 8, an interrupt gate of 32 bits for the kernel.
        let x86 = [0x60, 0x4b, 8, 0, 0, 0x8e, 0x07, 0x80];
        let gate = gate_of(Arch::X86, 3, &Bytes(&x86));
        assert_eq!((gate.handler, gate.selector, gate.task), (VirtAddr(0x8007_4b60), 8, false));
        assert!(gate.present && gate.ist == 0);
        let double_fault = gate_of(Arch::X86, 8, &Bytes(&[0, 0, 0x50, 0, 0, 0x85, 0, 0]));
        assert_eq!(
            (double_fault.task, double_fault.selector, double_fault.handler),
            (true, 0x50, VirtAddr(0))
        );
        let x64 = [0x80, 0x95, 0x10, 0, 1, 0x8e, 0x28, 0x03, 0x00, 0xf8, 0xff, 0xff, 0, 0, 0, 0];
        let gate = gate_of(Arch::X64, 8, &Bytes(&x64));
        assert_eq!((gate.handler, gate.ist, gate.task), (VirtAddr(0xffff_f800_0328_9580), 1, false));
        assert!(!gate_of(Arch::X64, 8, &Bytes(&[0; 16])).present);
    }
}
