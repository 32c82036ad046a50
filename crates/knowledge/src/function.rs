//! Functions that stand on many kernel stacks, and what they do there.

use serde::Deserialize;

use crate::table::{Table, compare_ignoring_case, leading_text, table};

pub(crate) const FUNCTIONS: Table = table!("functions.jsonl");

words! {
    /// The part of the system a function works for.
    FunctionRole {
        /// The way into a bug check.
        BugcheckPath = "bugcheck_path",
        /// The file cache.
        CacheManager = "cache_manager",
        /// Debugger support.
        Debugger = "debugger",
        /// Deferred procedure calls.
        Dpc = "dpc",
        /// Finding a handler for an exception.
        ExceptionDispatch = "exception_dispatch",
        /// Other executive services.
        ExecutiveOther = "executive_other",
        /// File systems.
        Filesystem = "filesystem",
        /// File system filters.
        Filter = "filter",
        /// Graphics.
        Graphics = "graphics",
        /// Input devices.
        Hid = "hid",
        /// The hypervisor and its interrupts.
        Hypervisor = "hypervisor",
        /// Device interrupts.
        Interrupt = "interrupt",
        /// Passing I/O requests along.
        IoDispatch = "io_dispatch",
        /// Inter-processor interrupts.
        Ipi = "ipi",
        /// Locks.
        Lock = "lock",
        /// Memory management.
        MemoryManager = "memory_manager",
        /// Network.
        Network = "network",
        /// The object manager.
        ObjectManager = "object_manager",
        /// Plug and play, power.
        PnpPower = "pnp_power",
        /// Pool memory.
        Pool = "pool",
        /// Processes and threads.
        ProcessThread = "process_thread",
        /// The registry.
        Registry = "registry",
        /// Choosing and switching threads.
        Scheduler = "scheduler",
        /// Security checks.
        Security = "security",
        /// Storage.
        Storage = "storage",
        /// System calls.
        Syscall = "syscall",
        /// Timers and the clock.
        Timer = "timer",
        /// Address translation caches.
        Tlb = "tlb",
        /// First code after a processor trap.
        TrapHandler = "trap_handler",
        /// USB.
        Usb = "usb",
        /// Driver Verifier.
        Verifier = "verifier",
    }
}

/// What a function does on a stack.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Its name as a debugger shows it, `module!name`.
    pub symbol: String,
    /// What it does, in a few words.
    pub what: String,
    /// The part of the system it works for.
    pub role: FunctionRole,
    /// Whether to look further down the stack for whom to blame.
    pub blame_skip: bool,
    /// What to keep in mind where one should not.
    #[serde(default)]
    pub note: Option<String>,
    /// Where the name was seen, for names found in symbol files or public stacks.
    #[serde(default)]
    pub verified: Option<String>,
}

/// What `name` in `module` does; the module as WinDbg names it ("nt", not "ntoskrnl.exe").
pub fn function(module: &str, name: &str) -> Option<Function> {
    let wanted = format!("{module}!{name}");
    FUNCTIONS.record(|line| compare_ignoring_case(leading_text(line, 0), &wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_module_and_name() {
        let start = function("nt", "KeBugCheckEx").unwrap();
        assert_eq!((start.role, start.blame_skip), (FunctionRole::BugcheckPath, true));
        assert!(function("fltmgr", "FltpDispatch").is_some(), "modules are named in any case");
        assert_eq!(function("nt", "NoSuchFunction"), None);
        assert_eq!(function("", ""), None);
    }

    #[test]
    fn hardware_reports_are_not_skipped() {
        let report = function("nt", "WheaReportHwError").unwrap();
        assert!(!report.blame_skip);
        assert!(report.note.unwrap().contains("hardware"));
    }
}
