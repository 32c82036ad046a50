//! KPRCB, ETHREAD, EPROCESS and the verifier's data, as far as a crash report reads them.

use crate::layout::{self, Layout};
use crate::machine::{Machine, Process, Processor, Thread};
use crate::record::Record;
use crate::{Error, context};
use stopcode_base::FileTime;

const DISPATCHER_PROCESS: u8 = 3;
const DISPATCHER_THREAD: u8 = 6;

/// The KPRCB of one processor.
pub(crate) fn prcb(machine: &Machine, layout: &Layout, cpu: &Processor) -> Result<Vec<u8>, Error> {
    let at = &layout.prcb;
    let mut r = Record::zeroed(at.size);
    r.u32(0, 0x1f80).u8(4, cpu.number as u8);
    r.u64(layout::PRCB_CURRENT_THREAD, cpu.thread.0);
    r.u64(layout::PRCB_IDLE_THREAD, cpu.idle_thread.0);
    r.u32(layout::PRCB_NUMBER, cpu.number);
    let thread = machine.thread(cpu.thread)?;
    r.u64(layout::PRCB_RSP_BASE, thread.initial_stack.0);
    let tables = machine.process(thread.process)?.directory_table_base.0;
    special_registers(&mut r, at.processor_state, tables, cpu);
    if at.fills_inline_context {
        r.put(at.inline_context, &context::context(&cpu.registers, context::FLAGS_FROZEN));
    }
    let model = &machine.cpu;
    r.u8(at.cpu_type, model.family).u8(at.cpu_type + 1, 1).u8(at.cpu_type + 2, model.stepping);
    r.u8(at.cpu_type + 3, model.model).u32(at.mhz, model.mhz);
    r.u16(at.minor_version, 1).u16(at.minor_version + 2, 1);
    r.u8(at.cores, machine.processors.len() as u8).u8(at.cores + 1, 1);
    r.u64(at.group_member, 1u64.checked_shl(cpu.number).unwrap_or(0)).u8(at.group_index, cpu.number as u8);
    r.u32(at.target_count, 0).u32(at.ipi_frozen, cpu.ipi_frozen);
    r.u64(at.dpc_stack, cpu.dpc_stack.0).u8(at.dpc_routine_active, u8::from(cpu.dpc_active));
    r.u8(at.normal_dpc_state, u8::from(cpu.dpc_active));
    r.u8(at.debugger_saved_irql, cpu.saved_irql);
    let vendor: Vec<u8> = model.vendor.bytes().take(12).collect();
    r.put(at.vendor_string, &vendor);
    // The revision is the upper half of the microcode register, as the registry shows it too.
    r.u64(at.update_signature, model.microcode.0 << 32).u64(at.context, cpu.context_at.0);
    if let Some(offset) = at.isr_stack {
        r.u64(offset, cpu.isr_stack.0);
    }
    Ok(r.into_bytes())
}

/// `KSPECIAL_REGISTERS` at `base`; `tables` is what CR3 holds.
fn special_registers(r: &mut Record, base: usize, tables: u64, cpu: &Processor) {
    r.u64(base, cpu.cr0.0).u64(base + 8, cpu.cr2.0);
    r.u64(base + 0x10, tables).u64(base + 0x18, cpu.cr4.0);
    r.u16(base + 0x56, 0x57).u64(base + 0x58, cpu.gdt.0);
    r.u16(base + 0x66, 0xfff).u64(base + 0x68, cpu.idt.0);
    r.u16(base + 0x70, 0x40).u32(base + 0x74, 0x1f80).u64(base + 0xa0, cpu.cr8.0);
    r.u64(base + 0xa8, cpu.prcb.0.wrapping_sub(u64::from(layout::PCR_PRCB)));
}

/// An ETHREAD.
pub(crate) fn thread(machine: &Machine, layout: &Layout, thread: &Thread) -> Result<Vec<u8>, Error> {
    let at = &layout.thread;
    let process = machine.process(thread.process)?;
    let mut r = Record::zeroed(at.size);
    r.u8(0, DISPATCHER_THREAD);
    r.u64(layout::THREAD_INITIAL_STACK, thread.initial_stack.0);
    r.u64(layout::THREAD_STACK_LIMIT, thread.stack_limit.0).u64(at.stack_base, thread.stack_base.0);
    r.u64(at.kernel_stack, thread.kernel_stack.0);
    r.u64(at.apc_process, process.at.0).u64(at.process, process.at.0);
    r.u8(at.priority, thread.priority).u8(at.base_priority, thread.priority);
    r.u64(at.teb, thread.teb.0).u8(at.state, thread.state).u64(at.trap_frame, thread.trap_frame.0);
    r.u8(at.previous_mode, u8::from(thread.teb.0 != 0));
    let on = machine.processors.iter().find(|p| p.thread == thread.at).map_or(0, |p| p.number);
    r.u32(at.next_processor, on);
    r.u64(at.create_time, start_time(machine).0);
    r.u64(at.start_address, thread.start_address.0).u64(at.win32_start_address, thread.start_address.0);
    r.u64(at.client_id, process.id.0).u64(at.client_id + 8, thread.id.0);
    empty_list(&mut r, at.irp_list, thread.at.0);
    Ok(r.into_bytes())
}

/// An EPROCESS.
pub(crate) fn process(machine: &Machine, layout: &Layout, process: &Process) -> Result<Vec<u8>, Error> {
    let at = &layout.process;
    let mut r = Record::zeroed(at.size);
    r.u8(0, DISPATCHER_PROCESS);
    r.u64(layout::PROCESS_DIRECTORY_TABLE_BASE, process.directory_table_base.0);
    r.u64(at.create_time, start_time(machine).0).u64(at.id, process.id.0);
    let list = machine.global("PsActiveProcessHead")?;
    r.u64(at.active_links, list).u64(at.active_links + 8, list);
    r.u64(at.parent, process.parent.0).u64(at.peb, process.peb.0);
    let name: Vec<u8> = process.name.bytes().take(14).collect();
    r.put(at.image_file_name, &name);
    empty_list(&mut r, at.thread_list, process.at.0);
    r.u32(at.active_threads, machine.threads.iter().filter(|t| t.process == process.at).count() as u32);
    Ok(r.into_bytes())
}

/// `MM_DRIVER_VERIFIER_DATA`.
pub(crate) fn verifier(machine: &Machine, layout: &Layout) -> Vec<u8> {
    let v = &machine.verifier;
    let mut r = Record::zeroed(layout.verifier_size);
    r.u32(0, v.level.0 as u32).u32(4, v.raise_irqls).u32(8, v.acquire_spin_locks);
    r.u32(0x20, v.trim_requests).u32(0x24, v.trims).u32(0x30, v.loads);
    r.into_bytes()
}

/// When the machine started: what is described is taken to be as old as it.
fn start_time(machine: &Machine) -> FileTime {
    FileTime::from_unix(machine.crash_time.saturating_sub(machine.uptime_seconds))
}

/// A list head at `offset` of the structure at `base` that points to itself.
fn empty_list(r: &mut Record, offset: usize, base: u64) {
    let here = base.wrapping_add(offset as u64);
    r.u64(offset, here).u64(offset + 8, here);
}
