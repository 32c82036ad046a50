//! Driver Verifier: what it was told to check, and what it counted.

use crate::core::Core;
use crate::reading::object::{Object, listed};
use stopcode_base::{Fact, VirtAddr};

/// What `MmVerifierData` holds.
#[derive(Clone, PartialEq, Debug)]
pub struct VerifierState {
    /// Option flags as `verifier /flags` takes them; [`stopcode_knowledge::verifier`] has the words.
    pub flags: Fact<u32>,
    /// What was counted, in the order `!verifier` tells it.
    pub counters: Vec<Counter>,
    /// The drivers that were chosen by name. Only the kernel's own symbols lead to them.
    pub drivers: Fact<VerifiedDrivers>,
}

/// The list that Driver Verifier keeps of drivers it was told to verify.
#[derive(Clone, PartialEq, Debug)]
pub struct VerifiedDrivers {
    /// True if every driver is verified, whatever the list holds; `None` where the dump does not say.
    pub every: Option<bool>,
    /// In the list's order.
    pub drivers: Vec<VerifiedDriver>,
    /// Why there may be more of them; `None` if the list was walked to its end.
    pub broken: Option<String>,
}

/// A driver that was chosen to be verified.
#[derive(Clone, PartialEq, Debug)]
pub struct VerifiedDriver {
    /// `VF_SUSPECT_DRIVER_ENTRY`.
    pub address: VirtAddr,
    /// Its file's name; not made visible.
    pub name: Fact<String>,
    /// How often it was loaded since it was chosen.
    pub loads: Fact<u32>,
    /// How often it was unloaded.
    pub unloads: Fact<u32>,
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
    let state = VerifierState { flags, counters: counters.into(), drivers: drivers(core) };
    Fact::known(state, "MmVerifierData")
}

/// `VfSuspectDriversList`. (Source: the public symbols and types of 31 kernels of Windows 10 and 11 and their servers.)
fn drivers(core: &Core) -> Fact<VerifiedDrivers> {
    const ENTRY: &str = "_VF_SUSPECT_DRIVER_ENTRY";
    let head = match core.variable("VfSuspectDriversList") {
        Ok(head) => head,
        Err(reason) => return Fact::missing(reason),
    };
    let driver = |address| {
        let object = Object::new(core, ENTRY, address);
        VerifiedDriver {
            address,
            name: object.text("BaseName"),
            loads: object.u32("Loads"),
            unloads: object.u32("Unloads"),
        }
    };
    let every = core.variable("ViVerifyAllDrivers").ok().and_then(|at| core.memory().read_u8(at).ok());
    listed(core, head, ENTRY, "Links", "VfSuspectDriversList").map(|list| VerifiedDrivers {
        every: every.map(|flag| flag != 0),
        drivers: list.entries.into_iter().map(driver).collect(),
        broken: list.broken,
    })
}
