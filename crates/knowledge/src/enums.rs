//! Small fixed tables of Windows and the processors.
//!
//! Sources: enumerations out of the symbols of 19041.804 (thread states, wait reasons, dispatcher objects; the same
//! numbers since Windows 7 but for the end of the list); levels from the public `wdm.h`; vectors from the processor
//! manuals, with Windows' names out of its symbols.

use crate::bug_check::base_code;

/// KTHREAD.State.
const THREAD_STATES: [&str; 10] = [
    "Initialized",
    "Ready",
    "Running",
    "Standby",
    "Terminated",
    "Waiting",
    "Transition",
    "DeferredReady",
    "GateWaitObsolete",
    "WaitingForProcessInSwap",
];

/// KTHREAD.WaitReason.
const WAIT_REASONS: [&str; 41] = [
    "Executive",
    "FreePage",
    "PageIn",
    "PoolAllocation",
    "DelayExecution",
    "Suspended",
    "UserRequest",
    "WrExecutive",
    "WrFreePage",
    "WrPageIn",
    "WrPoolAllocation",
    "WrDelayExecution",
    "WrSuspended",
    "WrUserRequest",
    "WrSpare0",
    "WrQueue",
    "WrLpcReceive",
    "WrLpcReply",
    "WrVirtualMemory",
    "WrPageOut",
    "WrRendezvous",
    "WrKeyedEvent",
    "WrTerminated",
    "WrProcessInSwap",
    "WrCpuRateControl",
    "WrCalloutStack",
    "WrKernel",
    "WrResource",
    "WrPushLock",
    "WrMutex",
    "WrQuantumEnd",
    "WrDispatchInt",
    "WrPreempted",
    "WrYieldExecution",
    "WrFastMutex",
    "WrGuardedMutex",
    "WrRundown",
    "WrAlertByThreadId",
    "WrDeferredPreempt",
    "WrPhysicalFault",
    "WrIoRing",
];

/// The name of a KTHREAD.State.
pub fn thread_state(state: u8) -> Option<&'static str> {
    THREAD_STATES.get(usize::from(state)).copied()
}

/// The name of a KTHREAD.WaitReason.
pub fn wait_reason(reason: u8) -> Option<&'static str> {
    WAIT_REASONS.get(usize::from(reason)).copied()
}

/// The name of a DISPATCHER_HEADER.Type, for those objects threads wait on and those the kernel queues.
pub fn dispatcher_object(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0 => "NotificationEvent",
        1 => "SynchronizationEvent",
        2 => "Mutant",
        3 => "Process",
        4 => "Queue",
        5 => "Semaphore",
        6 => "Thread",
        7 => "Gate",
        8 => "NotificationTimer",
        9 => "SynchronizationTimer",
        18 => "Apc",
        19 => "Dpc",
        20 => "DeviceQueue",
        21 => "PriQueue",
        22 => "Interrupt",
        23 => "Profile",
        24 => "Timer2Notification",
        25 => "Timer2Synchronization",
        26 => "ThreadedDpc",
        _ => return None,
    })
}

/// KPRCB.IpiFrozen: whether a processor was stopped for the crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpiFrozen {
    /// The state, as `!ipi` prints it: "Running", "Frozen", "Target Freeze" …
    pub state: &'static str,
    /// Whether this processor was the one talking to the debugger.
    pub active: bool,
}

/// Reads KPRCB.IpiFrozen. In a crash dump "Frozen" on every processor but the crashing one is the healthy picture;
/// "Target Freeze" means that the processor was asked and never answered.
pub fn ipi_frozen(value: u32) -> IpiFrozen {
    let state = match value & 0xf {
        0 => "Running",
        2 => "Frozen",
        3 => "Thaw",
        4 => "Freeze Owner",
        5 => "Target Freeze",
        _ => "Unknown",
    };
    IpiFrozen { state, active: value & 0x20 != 0 }
}

/// An exception or software interrupt of x86 and x64 processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vector {
    /// What the processor manuals call it.
    pub name: &'static str,
    /// Whether the processor pushes an error code.
    pub error_code: bool,
    /// Where Windows takes it.
    pub entry: &'static str,
}

/// The meaning of an x86/x64 vector under Windows.
pub fn exception_vector(vector: u8) -> Option<Vector> {
    let (name, error_code, entry) = match vector {
        0x00 => ("divide error", false, "KiDivideErrorFault"),
        0x01 => ("debug", false, "KiDebugTrapOrFault"),
        0x02 => ("non-maskable interrupt", false, "KiNmiInterrupt"),
        0x03 => ("breakpoint", false, "KiBreakpointTrap"),
        0x04 => ("overflow", false, "KiOverflowTrap"),
        0x05 => ("bound range", false, "KiBoundFault"),
        0x06 => ("invalid opcode", false, "KiInvalidOpcodeFault"),
        0x07 => ("coprocessor not available", false, "KiNpxNotAvailableFault"),
        0x08 => ("double fault", true, "KiDoubleFaultAbort"),
        0x09 => ("coprocessor segment overrun", false, "KiNpxSegmentOverrunAbort"),
        0x0a => ("invalid task state segment", true, "KiInvalidTssFault"),
        0x0b => ("segment not present", true, "KiSegmentNotPresentFault"),
        0x0c => ("stack segment fault", true, "KiStackFault"),
        0x0d => ("general protection", true, "KiGeneralProtectionFault"),
        0x0e => ("page fault", true, "KiPageFault"),
        0x10 => ("x87 floating point", false, "KiFloatingErrorFault"),
        0x11 => ("alignment check", true, "KiAlignmentFault"),
        0x12 => ("machine check", false, "KiMcheckAbort"),
        0x13 => ("SIMD floating point", false, "KiXmmException"),
        0x14 => ("virtualization", false, "KiVirtualizationException"),
        0x15 => ("control protection", true, "KiControlProtectionFault"),
        0x1f => ("APC software interrupt", false, "KiApcInterrupt"),
        0x20 => ("software interrupt", false, "KiSwInterrupt"),
        0x29 => ("fast fail", false, "KiRaiseSecurityCheckFailure"),
        0x2c => ("assertion", false, "KiRaiseAssertion"),
        0x2d => ("debugger service", false, "KiDebugServiceTrap"),
        0x2f => ("DPC interrupt", false, "KiDpcInterrupt"),
        0x30 => ("hypervisor interrupt", false, "KiHvInterrupt"),
        0x31 => ("machine bus interrupt", false, "KiVmbusInterrupt0"),
        0x32 => ("machine bus interrupt", false, "KiVmbusInterrupt1"),
        0x33 => ("machine bus interrupt", false, "KiVmbusInterrupt2"),
        0x34 => ("machine bus interrupt", false, "KiVmbusInterrupt3"),
        0xe1 => ("inter-processor interrupt", false, "KiIpiInterrupt"),
        _ => return None,
    };
    Some(Vector { name, error_code, entry })
}

/// The name of an interrupt request level on `arch` ("x86", "x64", "arm64"). 0xFF is no level: bug checks 0xA and
/// 0xD1 say by it that interrupts were disabled.
pub fn irql(level: u8, arch: &str) -> Option<&'static str> {
    Some(match (level, arch == "x86") {
        (0, _) => "PASSIVE_LEVEL",
        (1, _) => "APC_LEVEL",
        (2, _) => "DISPATCH_LEVEL",
        (0xff, _) => "interrupts disabled",
        (5, false) => "CMCI_LEVEL",
        (3..=11, false) | (3..=26, true) => "device level",
        (12, false) => "SYNCH_LEVEL",
        (13, false) | (28, true) => "CLOCK_LEVEL",
        (14, false) | (29, true) => "IPI_LEVEL",
        (15, false) | (31, true) => "HIGH_LEVEL",
        (27, true) => "PROFILE_LEVEL",
        (30, true) => "POWER_LEVEL",
        _ => return None,
    })
}

words! {
    /// How memory was touched.
    Access {
        /// Read.
        Read = "read",
        /// Written.
        Write = "write",
        /// Executed.
        Execute = "execute",
    }
}

/// The first build (Windows 10 version 1507) whose 0x50 gives the access as bits of the page fault's error code.
const FAULT_BITS_SINCE: u32 = 10240;

/// The kind of access in the access parameter of bug check `code`, which each encodes in its own way; 0x50 also by
/// build. `None` for a value, or a bug check, that is not known to have this meaning.
///
/// Beyond Microsoft's pages, real dumps and posts show 8 in 0x50 on x64 before 1507 (execute), 3 in 0x50 (write to a
/// page that is present: bit 0 of the error code) and 0x10 in 0xCE (execute).
pub fn access(code: u32, value: u64, build: Option<u32>) -> Option<Access> {
    let code = base_code(code).base;
    let fault_bits = build.is_none_or(|build| build >= FAULT_BITS_SINCE);
    match (code, value) {
        (0x50, 2 | 3) if fault_bits => return Some(Access::Write),
        (0x50 | 0xce, 0x10 | 0x11) if fault_bits => return Some(Access::Execute),
        (0x0a | 0x50 | 0xd1, 8) | (0xd1, 2) => return Some(Access::Execute),
        _ => {}
    }
    // ARM64 never changed to fault bits, so that 1 is a write on every build.
    match (code, value) {
        (0x0a | 0x50 | 0xc5 | 0xc6 | 0xcc..=0xd1 | 0xd3..=0xd6 | 0xdb, 0) => Some(Access::Read),
        (0x0a | 0x50 | 0xc5 | 0xc6 | 0xcc..=0xd1 | 0xd3..=0xd6 | 0xdb, 1) => Some(Access::Write),
        _ => None,
    }
}

/// The kind of access in `ExceptionInformation[0]` of an access violation or an in-page error.
pub fn exception_access(value: u64) -> Option<Access> {
    match value {
        0 => Some(Access::Read),
        1 => Some(Access::Write),
        8 => Some(Access::Execute),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stand_at_their_numbers() {
        assert_eq!(thread_state(5), Some("Waiting"));
        assert_eq!(thread_state(9), Some("WaitingForProcessInSwap"));
        assert_eq!(thread_state(10), None);
        for (reason, name) in [(0, "Executive"), (13, "WrUserRequest"), (15, "WrQueue"), (27, "WrResource")] {
            assert_eq!(wait_reason(reason), Some(name));
        }
        assert_eq!((wait_reason(39), wait_reason(41)), (Some("WrPhysicalFault"), None));
        assert_eq!((dispatcher_object(6), dispatcher_object(10)), (Some("Thread"), None));
    }

    #[test]
    fn frozen_processors_are_told_from_those_that_never_answered() {
        assert_eq!(ipi_frozen(2), IpiFrozen { state: "Frozen", active: false });
        assert_eq!(ipi_frozen(0x24), IpiFrozen { state: "Freeze Owner", active: true });
        assert_eq!(ipi_frozen(5).state, "Target Freeze");
        assert_eq!(ipi_frozen(u32::MAX).state, "Unknown");
    }

    #[test]
    fn vectors_and_levels_are_named() {
        assert_eq!(exception_vector(8).unwrap().entry, "KiDoubleFaultAbort");
        assert!(exception_vector(0xe).unwrap().error_code);
        assert_eq!(exception_vector(0xf), None);
        assert_eq!((irql(13, "x64"), irql(13, "x86")), (Some("CLOCK_LEVEL"), Some("device level")));
        assert_eq!((irql(31, "x86"), irql(31, "arm64")), (Some("HIGH_LEVEL"), None));
    }

    #[test]
    fn each_bug_check_encodes_the_access_in_its_own_way() {
        assert_eq!(access(0x50, 2, Some(19041)), Some(Access::Write));
        assert_eq!(access(0xd1, 2, Some(19041)), Some(Access::Execute));
        assert_eq!(access(0x50, 0x10, None), Some(Access::Execute));
        assert_eq!(access(0x50, 3, None), Some(Access::Write));
        assert_eq!(access(0xce, 0x10, None), Some(Access::Execute));
        assert_eq!(access(0x50, 2, Some(9600)), None);
        // A real 9600 dump: the address that was touched is the instruction itself.
        assert_eq!(access(0x50, 8, Some(9600)), Some(Access::Execute));
        assert_eq!(access(0x1000_00d6, 1, None), Some(Access::Write));
        assert_eq!(access(0x7e, 0, None), None);
        assert_eq!(exception_access(8), Some(Access::Execute));
    }
}
