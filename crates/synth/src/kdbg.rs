//! `KDDEBUGGER_DATA64` (wdbgexts.h; the tail after `OffsetPrcbContext` from public copies of it), decoded as in a dump.

use crate::Error;
use crate::layout::Layout;
use crate::machine::{Arch, Machine};
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

/// Names of the fields that hold an address inside the kernel image.
pub(crate) fn pointer_names() -> impl Iterator<Item = &'static str> {
    POINTERS.iter().map(|(name, _)| *name)
}

/// The block of the machine's build, cut to its size there. x86 keeps it in the same form, with the sign of its addresses
/// extended.
pub(crate) fn block(machine: &Machine, layout: &Layout) -> Result<Vec<u8>, Error> {
    let address = |at: u64| if machine.arch == Arch::X86 { i64::from(at as i32) as u64 } else { at };
    let told = |ty: &str, field: &str| match layout.field(ty, field) {
        Err(_) if layout.is_partial() => Ok(0),
        other => other.map(|offset| offset as u64),
    };
    let base = address(machine.kernel_base()?);
    let mut r = Record::zeroed(0x3a0);
    let list = address(base.wrapping_add(machine.kernel.debugger_data_list.0));
    r.u64(0, list).u64(8, list).put(0x10, b"KDBG").u32(0x14, layout.kdbg_size as u32).u64(0x18, base);
    let paging = match machine.arch {
        Arch::X64 => 1,
        Arch::Arm64 => 0x10,
        Arch::X86 => u16::from(machine.pae),
    };
    r.u16(0x36, paging).u64(0x138, 0x1000);
    for (name, rva) in &machine.kernel.globals {
        let field = POINTERS.iter().find(|(known, _)| known == name);
        let (_, offset) = field.ok_or_else(|| Error::UnknownGlobal(name.clone()))?;
        r.u64(*offset, address(base.wrapping_add(rva.0)));
    }
    for (offset, ty, field) in OFFSETS {
        r.u16(offset, told(ty, field)? as u16);
    }
    let state = layout.field("_KPRCB", "ProcessorState")?;
    let frame = state + layout.field("_KPROCESSOR_STATE", "ContextFrame")?;
    let special = match machine.arch {
        Arch::X86 => state + layout.field("_KPROCESSOR_STATE", "SpecialRegisters")?,
        Arch::X64 | Arch::Arm64 => state,
    };
    let apc = layout.field("_KTHREAD", "ApcState")? + layout.field("_KAPC_STATE", "Process")?;
    r.u16(0x2a0, apc as u16).u16(0x2bc, frame as u16).u16(0x2f2, special as u16);
    let sizes = [(0x2a8, "_EPROCESS"), (0x2b0, "_KPRCB"), (0x2c0, "_ETHREAD"), (0x2e0, "_KPCR")];
    for (offset, ty) in sizes {
        r.u16(offset, layout.size(ty)? as u16);
    }
    r.u16(0x2e2, if machine.arch == Arch::X86 { 0x1c } else { 0x18 }).u16(0x2e6, layout.pcr_prcb());
    if machine.arch != Arch::Arm64 {
        r.u16(0x2e4, 0x20);
    }
    match machine.arch {
        Arch::X64 => put_all(&mut r, &selectors(machine.build)),
        Arch::X86 => put_all(&mut r, &SELECTORS_X86),
        Arch::Arm64 => {}
    }
    // Fields added after Windows 7, whose block ends before them.
    for (offset, ty, field) in LATER_OFFSETS {
        r.u32(offset, told(ty, field)? as u32);
    }
    r.u16(0x350, told("_KPRCB", "IdleThread")? as u16);
    r.u16(0x352, told("_KPRCB", "NormalDpcState")? as u16);
    r.u16(0x354, told("_KPRCB", "DpcStack")? as u16);
    r.u16(0x356, layout.at("_KPRCB", "IsrStack").unwrap_or(0) as u16);
    r.u16(0x358, if machine.arch == Arch::X64 { 0x50 } else { 0x10 })
        .u16(0x35a, 0x2a0)
        .u16(0x35c, told("_KTHREAD", "WaitReason")? as u16);
    r.u64(0x360, address(machine.pte_base.0));
    let mut bytes = r.into_bytes();
    bytes.truncate(layout.kdbg_size);
    Ok(bytes)
}

/// The block as the running kernel keeps it, each word turned by the two keys and the address of the flag.
pub(crate) fn encode(machine: &Machine, block: Vec<u8>) -> Result<Vec<u8>, Error> {
    let Some(keys) = machine.kernel.encoding else { return Ok(block) };
    let flag = machine.kernel_base()?.wrapping_add(keys.flag_at.0);
    let words = block.chunks(8).map(|word| word.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b)));
    let encoded = words.map(|word| {
        let turned = (word ^ keys.always.0).swap_bytes() ^ flag;
        turned.rotate_right(keys.never.0 as u32 & 0x3f) ^ keys.never.0
    });
    Ok(encoded.flat_map(u64::to_le_bytes).collect())
}

/// 16-bit offsets of fields that the block tells.
const OFFSETS: [(usize, &str, &str); 15] = [
    (0x298, "_KTHREAD", "NextProcessor"),
    (0x29a, "_KTHREAD", "Teb"),
    (0x29c, "_KTHREAD", "KernelStack"),
    (0x29e, "_KTHREAD", "InitialStack"),
    (0x2a2, "_KTHREAD", "State"),
    (0x2aa, "_EPROCESS", "Peb"),
    (0x2ac, "_EPROCESS", "InheritedFromUniqueProcessId"),
    (0x2ae, "_KPROCESS", "DirectoryTableBase"),
    (0x2b2, "_KPRCB", "DpcRoutineActive"),
    (0x2b4, "_KPRCB", "CurrentThread"),
    (0x2b6, "_KPRCB", "MHz"),
    (0x2b8, "_KPRCB", "CpuType"),
    (0x2ba, "_KPRCB", "VendorString"),
    (0x2be, "_KPRCB", "Number"),
    (0x338, "_KPRCB", "Context"),
];
/// 32-bit ones of Windows 8 and later.
const LATER_OFFSETS: [(usize, &str, &str); 4] = [
    (0x340, "_KTHREAD", "StackLimit"),
    (0x344, "_KTHREAD", "StackBase"),
    (0x348, "_KTHREAD", "QueueListEntry"),
    (0x34c, "_ETHREAD", "IrpList"),
];

fn put_all(r: &mut Record, fields: &[(usize, u16)]) {
    for (offset, value) in fields {
        r.u16(*offset, *value);
    }
}

/// Segment selectors of x86 Windows: code and data of the kernel, its KPCR, the user's code, data and TEB, the local
/// descriptors, the task state.
const SELECTORS_X86: [(usize, u16); 8] = [
    (0x2f4, 0x8),
    (0x2f6, 0x10),
    (0x2f8, 0x30),
    (0x2fa, 0x1b),
    (0x2fc, 0x23),
    (0x2fe, 0x3b),
    (0x300, 0x48),
    (0x302, 0x28),
];

/// Segment selectors of x64 Windows: since 26100 without the two bits of the requested privilege.
fn selectors(build: u32) -> [(usize, u16); 7] {
    let user = if build >= 26100 { 0 } else { 3 };
    [
        (0x2f4, 0x10),
        (0x2f6, 0x18),
        (0x2fa, 0x30 | user),
        (0x2fc, 0x28 | user),
        (0x302, 0x40),
        (0x304, 0x20 | user),
        (0x306, 0x50 | user),
    ]
}
