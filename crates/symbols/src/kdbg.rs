//! Which symbols and structure fields the pointers and offsets of KDDEBUGGER_DATA64 ("KDBG") stand for.
//!
//! Checked on a 10.0.19041.804 dump with its own symbols: 31 pointers carry the name of the symbol they point at; the
//! table below lists the others, and every offset equalled the field named here.

/// The symbols a pointer may point at, given its name in KDBG or in the dump header. Several where builds differ.
pub fn symbol_names(pointer: &str) -> [&str; 2] {
    match pointer {
        "BreakpointWithStatus" => ["DbgBreakPointWithStatus"; 2],
        "KiBugcheckData" => ["KiBugCheckData"; 2],
        "KdPrintCircularBuffer" => ["KdPrintDefaultCircularBuffer"; 2],
        "KdPrintCircularBufferPtr" => ["KdPrintCircularBuffer"; 2],
        "NtBuildLab" => ["NtBuildLabEx", "NtBuildLab"],
        "MmTriageActionTaken" => ["VerifierTriageActionTaken"; 2],
        "KeLoaderBlock" => ["KdpLoaderDebuggerBlock"; 2],
        "RetpolineStubFunctionTable" => ["RtlRetpolineStubsFunctionTable"; 2],
        // The dump header's own spelling.
        "PfnDataBase" => ["MmPfnDatabase"; 2],
        other => [other; 2],
    }
}

/// A field of KDBG that holds the offset of a structure field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KdbgOffset {
    /// Where in KDBG.
    pub at: u32,
    /// Bytes wide there: 2 or 4.
    pub width: u32,
    /// The structure.
    pub ty: &'static str,
    /// Its field.
    pub field: &'static str,
}

const fn entry(at: u32, width: u32, ty: &'static str, field: &'static str) -> KdbgOffset {
    KdbgOffset { at, width, ty, field }
}

/// Offsets in KDBG that equal one field's offset. Zero there means that the kernel does not say. (Source: wdbgexts.h
/// for the places; what they equal, measured.) Those that reach into a nested structure are left out.
pub const OFFSETS: [KdbgOffset; 21] = [
    entry(0x298, 2, "_KTHREAD", "NextProcessor"),
    entry(0x29a, 2, "_KTHREAD", "Teb"),
    entry(0x29c, 2, "_KTHREAD", "KernelStack"),
    entry(0x29e, 2, "_KTHREAD", "InitialStack"),
    entry(0x2a2, 2, "_KTHREAD", "State"),
    entry(0x2aa, 2, "_EPROCESS", "Peb"),
    entry(0x2ac, 2, "_EPROCESS", "InheritedFromUniqueProcessId"),
    entry(0x2b2, 2, "_KPRCB", "DpcRoutineActive"),
    entry(0x2b6, 2, "_KPRCB", "MHz"),
    entry(0x2b8, 2, "_KPRCB", "CpuType"),
    entry(0x2ba, 2, "_KPRCB", "VendorString"),
    entry(0x2be, 2, "_KPRCB", "Number"),
    entry(0x338, 2, "_KPRCB", "Context"),
    entry(0x340, 4, "_KTHREAD", "StackLimit"),
    entry(0x344, 4, "_KTHREAD", "StackBase"),
    entry(0x348, 4, "_KTHREAD", "QueueListEntry"),
    entry(0x34c, 4, "_ETHREAD", "IrpList"),
    entry(0x350, 2, "_KPRCB", "IdleThread"),
    entry(0x354, 2, "_KPRCB", "DpcStack"),
    entry(0x356, 2, "_KPRCB", "IsrStack"),
    entry(0x35c, 2, "_KTHREAD", "WaitReason"),
];
