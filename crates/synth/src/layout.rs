//! Where a build keeps its fields.
//!
//! The offsets are facts of the public symbols: Windows 7 SP1 as released (before the page-table isolation of 2018
//! moved the KPRCB) out of Volatility 2's `win7_sp1_x64` types, 19041 out of the type data of kernel 10.0.19041.804.
//! Where a real 19041 dump was at hand, its sizes and values were compared.

use crate::Error;

/// Offsets in KPRCB.
pub(crate) struct Prcb {
    pub(crate) size: usize,
    pub(crate) processor_state: usize,
    /// Of the CONTEXT inside the processor state.
    pub(crate) inline_context: usize,
    pub(crate) cpu_type: usize,
    pub(crate) mhz: usize,
    pub(crate) minor_version: usize,
    pub(crate) cores: usize,
    pub(crate) group_member: usize,
    pub(crate) group_index: usize,
    pub(crate) target_count: usize,
    pub(crate) ipi_frozen: usize,
    pub(crate) dpc_stack: usize,
    pub(crate) dpc_routine_active: usize,
    pub(crate) normal_dpc_state: usize,
    pub(crate) debugger_saved_irql: usize,
    pub(crate) vendor_string: usize,
    pub(crate) update_signature: usize,
    pub(crate) context: usize,
    /// Absent before Windows 10.
    pub(crate) isr_stack: Option<usize>,
    /// Windows 7 still fills the context inside the processor state; later builds leave it zero.
    pub(crate) fills_inline_context: bool,
}

/// Offsets in KTHREAD and ETHREAD.
pub(crate) struct Thread {
    pub(crate) size: usize,
    pub(crate) stack_base: usize,
    pub(crate) kernel_stack: usize,
    pub(crate) apc_process: usize,
    pub(crate) priority: usize,
    pub(crate) teb: usize,
    pub(crate) state: usize,
    pub(crate) trap_frame: usize,
    pub(crate) base_priority: usize,
    pub(crate) previous_mode: usize,
    pub(crate) process: usize,
    pub(crate) wait_reason: usize,
    pub(crate) next_processor: usize,
    pub(crate) queue_list_entry: usize,
    pub(crate) create_time: usize,
    pub(crate) start_address: usize,
    pub(crate) client_id: usize,
    pub(crate) irp_list: usize,
    pub(crate) win32_start_address: usize,
}

/// Offsets in KPROCESS and EPROCESS.
pub(crate) struct Process {
    pub(crate) size: usize,
    pub(crate) create_time: usize,
    pub(crate) id: usize,
    pub(crate) active_links: usize,
    pub(crate) parent: usize,
    pub(crate) image_file_name: usize,
    pub(crate) thread_list: usize,
    pub(crate) active_threads: usize,
    pub(crate) peb: usize,
}

/// One build.
pub(crate) struct Layout {
    /// `Size` of KDDEBUGGER_DATA64: fields beyond it do not exist.
    pub(crate) kdbg_size: usize,
    /// Size of KPCR.
    pub(crate) pcr_size: u16,
    /// `ServicePackBuild` of the triage header.
    pub(crate) service_pack: u32,
    /// Windows 7 still fills the memory manager's part of the triage dump; later builds leave it zero.
    pub(crate) fills_mm: bool,
    /// Stored size of MmVerifierData.
    pub(crate) verifier_size: usize,
    pub(crate) prcb: Prcb,
    pub(crate) thread: Thread,
    pub(crate) process: Process,
}

// The same in every x64 build that is written here.
pub(crate) const PRCB_CURRENT_THREAD: usize = 0x8;
pub(crate) const PRCB_IDLE_THREAD: usize = 0x18;
pub(crate) const PRCB_NUMBER: usize = 0x24;
pub(crate) const PRCB_RSP_BASE: usize = 0x28;
pub(crate) const THREAD_INITIAL_STACK: usize = 0x28;
pub(crate) const THREAD_STACK_LIMIT: usize = 0x30;
pub(crate) const PROCESS_DIRECTORY_TABLE_BASE: usize = 0x28;
pub(crate) const PCR_PRCB: u16 = 0x180;

/// The layout of a build.
pub(crate) fn of(build: u32) -> Result<&'static Layout, Error> {
    match build {
        7601 => Ok(&WINDOWS_7_SP1),
        19041 => Ok(&WINDOWS_10_2004),
        other => Err(Error::UnknownBuild(other)),
    }
}

static WINDOWS_7_SP1: Layout = Layout {
    kdbg_size: 0x340,
    pcr_size: 0x4e80,
    service_pack: 0x100,
    fills_mm: true,
    verifier_size: 0xa0,
    prcb: Prcb {
        size: 0x4d00,
        processor_state: 0x40,
        inline_context: 0x120,
        cpu_type: 0x5f0,
        mhz: 0x5f4,
        minor_version: 0x638,
        cores: 0x63e,
        group_member: 0x660,
        group_index: 0x668,
        target_count: 0x2100,
        ipi_frozen: 0x2104,
        dpc_stack: 0x21c0,
        dpc_routine_active: 0x21da,
        normal_dpc_state: 0x21dc,
        debugger_saved_irql: 0x4718,
        vendor_string: 0x4bb8,
        update_signature: 0x4bd0,
        context: 0x4bd8,
        isr_stack: None,
        fills_inline_context: true,
    },
    thread: Thread {
        size: 0x498,
        stack_base: 0x278,
        kernel_stack: 0x38,
        apc_process: 0x70,
        priority: 0x7b,
        teb: 0xb8,
        state: 0x164,
        trap_frame: 0x1d8,
        base_priority: 0x1f1,
        previous_mode: 0x1f6,
        process: 0x210,
        wait_reason: 0x26b,
        next_processor: 0x7c,
        queue_list_entry: 0x1c8,
        create_time: 0x360,
        start_address: 0x388,
        client_id: 0x3b0,
        irp_list: 0x3e8,
        win32_start_address: 0x410,
    },
    process: Process {
        size: 0x4d0,
        create_time: 0x168,
        id: 0x180,
        active_links: 0x188,
        parent: 0x290,
        image_file_name: 0x2e0,
        thread_list: 0x308,
        active_threads: 0x328,
        peb: 0x338,
    },
};

static WINDOWS_10_2004: Layout = Layout {
    kdbg_size: 0x380,
    pcr_size: 0xb080,
    service_pack: 0,
    fills_mm: false,
    verifier_size: 0x9c,
    prcb: Prcb {
        size: 0xaf00,
        processor_state: 0x100,
        inline_context: 0x1f0,
        cpu_type: 0x40,
        mhz: 0x44,
        minor_version: 0x88,
        cores: 0x8e,
        group_member: 0xc8,
        group_index: 0xd1,
        target_count: 0x2d84,
        ipi_frozen: 0x2d88,
        dpc_stack: 0x3110,
        dpc_routine_active: 0x312a,
        normal_dpc_state: 0x312c,
        debugger_saved_irql: 0x7e98,
        vendor_string: 0x8590,
        update_signature: 0x85a8,
        context: 0x85c0,
        isr_stack: Some(0x85d8),
        fills_inline_context: false,
    },
    thread: Thread {
        size: 0x898,
        stack_base: 0x38,
        kernel_stack: 0x58,
        apc_process: 0xb8,
        priority: 0xc3,
        teb: 0xf0,
        state: 0x184,
        trap_frame: 0x90,
        base_priority: 0x233,
        previous_mode: 0x232,
        process: 0x220,
        wait_reason: 0x283,
        next_processor: 0x218,
        queue_list_entry: 0x208,
        create_time: 0x430,
        start_address: 0x450,
        client_id: 0x478,
        irp_list: 0x4b0,
        win32_start_address: 0x4d0,
    },
    process: Process {
        size: 0xa40,
        create_time: 0x468,
        id: 0x440,
        active_links: 0x448,
        parent: 0x540,
        image_file_name: 0x5a8,
        thread_list: 0x5e0,
        active_threads: 0x5f0,
        peb: 0x550,
    },
};
