//! What ran on the processor that crashed: its KPRCB, its thread, its process, as bytes.
//!
//! A small dump holds copies of all three. In any other they are where the kernel keeps them, and which processor it
//! was has to be worked out.

use crate::core::Core;
use crate::processors::all;
use crate::reading::bytes::word;
use stopcode_base::VirtAddr;

/// Read of a structure whose size the debugger data does not tell.
const UNKNOWN_SIZE: u64 = 0x1000;
/// Largest structure that is read.
const LARGEST: u64 = 0x2_0000;

/// The bytes of each; empty where the dump does not hold it.
#[derive(Default)]
pub(crate) struct Current {
    /// Where the KPRCB is: for a small dump only where its own contents prove it.
    pub(crate) prcb_address: Option<VirtAddr>,
    pub(crate) prcb: Vec<u8>,
    pub(crate) thread: Vec<u8>,
    pub(crate) process: Vec<u8>,
}

pub(crate) fn current(core: &Core) -> Current {
    if let Some(triage) = core.dump.triage() {
        return Current {
            prcb_address: triage.prcb_address,
            prcb: triage.prcb_bytes().to_vec(),
            thread: triage.thread_bytes().to_vec(),
            process: triage.process_bytes().to_vec(),
        };
    }
    let Some(prcb_address) = all::crashed_prcb(core) else { return Current::default() };
    let read = |at: VirtAddr, size: &str| {
        let size = core.kdbg_offset(size).unwrap_or(UNKNOWN_SIZE).min(LARGEST);
        core.memory().read_available(at, size as usize)
    };
    let follow = |bytes: &[u8], offset: Option<u64>, size: &str| {
        let at = word(core.arch, bytes, offset?).map(VirtAddr).filter(|at| core.arch.is_kernel(*at))?;
        Some(read(at, size))
    };
    let prcb = read(prcb_address, "SizePrcb");
    let thread = follow(&prcb, Some(core.current_thread_offset()), "SizeEThread");
    let thread = thread.unwrap_or_default();
    let process = follow(&thread, attached_process(core), "SizeEProcess");
    Current { prcb_address: Some(prcb_address), prcb, thread, process: process.unwrap_or_default() }
}

/// Where a thread keeps the process it is attached to. Windows XP's debugger data do not say.
fn attached_process(core: &Core) -> Option<u64> {
    let by_layout = || Some(core.field("_KTHREAD", "ApcState")? + core.field("_KAPC_STATE", "Process")?);
    core.kdbg_offset("OffsetKThreadApcProcess").or_else(by_layout)
}
