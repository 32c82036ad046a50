//! `KDDEBUGGER_DATA64` (wdbgexts.h; the tail after `OffsetPrcbContext` from public copies of it), decoded as in a dump.

use crate::Error;
use crate::layout::{self, Layout};
use crate::machine::Machine;
use crate::record::Record;

/// Fields that hold an address inside the kernel image, with their offsets.
const POINTERS: [(&str, usize); 41] = [
    ("BreakpointWithStatus", 0x20),
    ("KiCallUserMode", 0x38),
    ("PsLoadedModuleList", 0x48),
    ("PsActiveProcessHead", 0x50),
    ("PspCidTable", 0x58),
    ("ExpSystemResourcesList", 0x60),
    ("ExpPagedPoolDescriptor", 0x68),
    ("ExpNumberOfPagedPools", 0x70),
    ("KeTimeIncrement", 0x78),
    ("KeBugCheckCallbackListHead", 0x80),
    ("KiBugcheckData", 0x88),
    ("IopErrorLogListHead", 0x90),
    ("ObpRootDirectoryObject", 0x98),
    ("ObpTypeObjectType", 0xa0),
    ("MmPfnDatabase", 0xc0),
    ("MmSizeOfPagedPoolInBytes", 0x140),
    ("MmPagedPoolCommit", 0x170),
    ("PoolTrackTable", 0x1b8),
    ("MmHighestUserAddress", 0x1c8),
    ("MmSystemRangeStart", 0x1d0),
    ("MmUserProbeAddress", 0x1d8),
    ("KdPrintCircularBuffer", 0x1e0),
    ("KdPrintCircularBufferEnd", 0x1e8),
    ("KdPrintWritePointer", 0x1f0),
    ("KdPrintRolloverCount", 0x1f8),
    ("NtBuildLab", 0x208),
    ("KiProcessorBlock", 0x218),
    ("MmUnloadedDrivers", 0x220),
    ("MmLastUnloadedDriver", 0x228),
    ("MmTriageActionTaken", 0x230),
    ("MmSpecialPoolTag", 0x238),
    ("KernelVerifier", 0x240),
    ("MmVerifierData", 0x248),
    ("CmNtCSDVersion", 0x268),
    ("MmPhysicalMemoryBlock", 0x270),
    ("KdPrintCircularBufferPtr", 0x2c8),
    ("KdPrintBufferSize", 0x2d0),
    ("KeLoaderBlock", 0x2d8),
    ("IopNumTriageDumpDataBlocks", 0x308),
    ("IopTriageDumpDataBlocks", 0x310),
    ("EtwpDebuggerData", 0x330),
];

/// The block of the machine's build, cut to its size there.
pub(crate) fn block(machine: &Machine, layout: &Layout) -> Result<Vec<u8>, Error> {
    let base = machine.kernel_base()?;
    let mut r = Record::zeroed(0x380);
    let list = base.wrapping_add(machine.kernel.debugger_data_list.0);
    r.u64(0, list).u64(8, list).put(0x10, b"KDBG").u32(0x14, layout.kdbg_size as u32).u64(0x18, base);
    r.u16(0x36, 1).u64(0x138, 0x1000);
    for (name, rva) in &machine.kernel.globals {
        let field = POINTERS.iter().find(|(known, _)| known == name);
        let (_, offset) = field.ok_or_else(|| Error::UnknownGlobal(name.clone()))?;
        r.u64(*offset, base.wrapping_add(rva.0));
    }
    for (offset, value) in offsets(layout) {
        r.u16(offset, value);
    }
    for (offset, value) in selectors() {
        r.u16(offset, value);
    }
    // Fields added after Windows 7, whose block ends before them.
    r.u32(0x340, layout::THREAD_STACK_LIMIT as u32).u32(0x344, layout.thread.stack_base as u32);
    r.u32(0x348, layout.thread.queue_list_entry as u32).u32(0x34c, layout.thread.irp_list as u32);
    r.u16(0x350, layout::PRCB_IDLE_THREAD as u16).u16(0x352, layout.prcb.normal_dpc_state as u16);
    r.u16(0x354, layout.prcb.dpc_stack as u16).u16(0x356, layout.prcb.isr_stack.unwrap_or(0) as u16);
    r.u16(0x358, 0x50).u16(0x35a, 0x2a0).u16(0x35c, layout.thread.wait_reason as u16);
    r.u64(0x360, machine.pte_base.0);
    let mut bytes = r.into_bytes();
    bytes.truncate(layout.kdbg_size);
    Ok(bytes)
}

/// Structure offsets and sizes that the block tells.
fn offsets(layout: &Layout) -> [(usize, u16); 28] {
    let (thread, process, prcb) = (&layout.thread, &layout.process, &layout.prcb);
    [
        (0x298, thread.next_processor),
        (0x29a, thread.teb),
        (0x29c, thread.kernel_stack),
        (0x29e, layout::THREAD_INITIAL_STACK),
        (0x2a0, thread.apc_process),
        (0x2a2, thread.state),
        (0x2a8, process.size),
        (0x2aa, process.peb),
        (0x2ac, process.parent),
        (0x2ae, layout::PROCESS_DIRECTORY_TABLE_BASE),
        (0x2b0, prcb.size),
        (0x2b2, prcb.dpc_routine_active),
        (0x2b4, layout::PRCB_CURRENT_THREAD),
        (0x2b6, prcb.mhz),
        (0x2b8, prcb.cpu_type),
        (0x2ba, prcb.vendor_string),
        (0x2bc, prcb.inline_context),
        (0x2be, layout::PRCB_NUMBER),
        (0x2c0, thread.size),
        (0x2e0, layout.pcr_size as usize),
        (0x2e2, 0x18),
        (0x2e4, 0x20),
        (0x2e6, layout::PCR_PRCB as usize),
        (0x2f2, prcb.processor_state),
        (0x338, prcb.context),
        (0x2f0, 0),
        (0x33a, 0),
        (0x33c, 0),
    ]
    .map(|(offset, value)| (offset, value as u16))
}

/// Segment selectors of x64 Windows.
fn selectors() -> [(usize, u16); 7] {
    [(0x2f4, 0x10), (0x2f6, 0x18), (0x2fa, 0x33), (0x2fc, 0x2b), (0x302, 0x40), (0x304, 0x23), (0x306, 0x53)]
}
