//! Driver Verifier: what it was told to check, and what it counted.

use crate::core::Core;
use crate::reading::object::Object;
use stopcode_base::{Fact, VirtAddr};

/// What `MmVerifierData` holds.
#[derive(Clone, PartialEq, Debug)]
pub struct VerifierState {
    /// Option flags as `verifier /flags` takes them; [`stopcode_knowledge::verifier`] has the words.
    pub flags: Fact<u32>,
    /// What was counted, in the order `!verifier` tells it.
    pub counters: Vec<Counter>,
}

/// One of Driver Verifier's counts.
#[derive(Clone, PartialEq, Debug)]
pub struct Counter {
    /// The field of `MM_DRIVER_VERIFIER_DATA`.
    pub field: &'static str,
    /// What it counts, in words.
    pub words: &'static str,
    /// Its value.
    pub value: Fact<u64>,
}

/// Fields that hold a count, their width in bytes on a 64-bit processor, and what it counts. Eight bytes are a pointer's.
const COUNTERS: [(&str, u8, &str); 20] = [
    ("RaiseIrqls", 4, "raises of IRQL"),
    ("AcquireSpinLocks", 4, "spin locks acquired"),
    ("SynchronizeExecutions", 4, "synchronized executions"),
    ("Trims", 4, "trims of memory"),
    ("AllocationsAttempted", 4, "pool allocations attempted"),
    ("AllocationsSucceeded", 4, "pool allocations succeeded"),
    ("AllocationsSucceededSpecialPool", 4, "pool allocations from special pool"),
    ("AllocationsWithNoTag", 4, "pool allocations without tag"),
    ("AllocationsFailed", 4, "pool allocations failed"),
    ("AllocationsFailedDeliberately", 4, "pool allocations failed on purpose"),
    ("Loads", 4, "verified drivers loaded"),
    ("Unloads", 4, "verified drivers unloaded"),
    ("CurrentPagedPoolAllocations", 4, "paged pool allocations now"),
    ("PeakPagedPoolAllocations", 4, "paged pool allocations at most"),
    ("PagedBytes", 8, "bytes of paged pool now"),
    ("PeakPagedBytes", 8, "bytes of paged pool at most"),
    ("CurrentNonPagedPoolAllocations", 4, "nonpaged pool allocations now"),
    ("PeakNonPagedPoolAllocations", 4, "nonpaged pool allocations at most"),
    ("NonPagedBytes", 8, "bytes of nonpaged pool now"),
    ("PeakNonPagedBytes", 8, "bytes of nonpaged pool at most"),
];

pub(crate) fn verifier(core: &Core) -> Fact<VerifierState> {
    let pointer = core.dump.kdbg().and_then(|kdbg| kdbg.get("MmVerifierData"));
    let Some(address) = pointer.filter(|address| *address != 0).map(VirtAddr) else {
        return Fact::missing(
            "the kernel's debugger data, which lead to MmVerifierData, are not in this dump",
        );
    };
    let flags = match core.memory().read_u32(address) {
        // The first word in every kernel.
        Ok(flags) => Fact::known(flags, "MmVerifierData.Level"),
        Err(miss) => Fact::missing(format!("MmVerifierData: {miss}")),
    };
    let object = Object::new(core, "_MM_DRIVER_VERIFIER_DATA", address);
    let value = |field, width| match width {
        8 => object.word(field),
        _ => object.u32(field).map(u64::from),
    };
    let counters = COUNTERS.map(|(field, width, words)| Counter { field, words, value: value(field, width) });
    Fact::known(VerifierState { flags, counters: counters.into() }, "MmVerifierData")
}
