//! KPRCB, ETHREAD, EPROCESS and the verifier's data, as far as a crash report reads them.

use crate::layout::Layout;
use crate::machine::{Arch, Machine, Process, Processor, Thread};
use crate::record::{Record, Structure, neighbours};
use crate::{Error, context, work};
use stopcode_base::FileTime;

const DISPATCHER_PROCESS: u8 = 3;
const DISPATCHER_THREAD: u8 = 6;

/// The KPRCB of one processor.
pub(crate) fn prcb(machine: &Machine, layout: &Layout, cpu: &Processor) -> Result<Vec<u8>, Error> {
    let thread = machine.thread(cpu.thread)?;
    let tables = machine.process(thread.process)?.directory_table_base.0;
    let mut s = Structure::new(layout, "_KPRCB")?;
    s.pointer("CurrentThread", cpu.thread.0).pointer("IdleThread", cpu.idle_thread.0);
    s.put("Number", cpu.number.to_le_bytes().get(..layout.processor_number()).unwrap_or_default());
    let state = layout.field("_KPRCB", "ProcessorState")?;
    match machine.arch {
        Arch::X64 => {
            s.u32("MxCsr", 0x1f80).record().u8(4, cpu.number as u8);
            s.u64("RspBase", thread.initial_stack.0);
            special_registers(s.record(), state, tables, cpu);
        }
        Arch::X86 => {
            s.u8("LegacyNumber", cpu.number as u8);
            let special = state + layout.field("_KPROCESSOR_STATE", "SpecialRegisters")?;
            special_registers_x86(s.record(), special, tables, cpu);
        }
        Arch::Arm64 => {}
    }
    if layout.is_windows_7() || machine.arch == Arch::Arm64 {
        let inline = state + layout.field("_KPROCESSOR_STATE", "ContextFrame")?;
        s.record().put(inline, &context::of(machine.arch, &cpu.registers, context::FLAGS_FROZEN));
    }
    let model = &machine.cpu;
    s.put("CpuType", &[model.family, 1, model.stepping, model.model]).u32("MHz", model.mhz);
    s.put("MinorVersion", &[1, 0, 1, 0]);
    s.u8("CoresPerPhysicalProcessor", machine.processors.len() as u8).u8("LogicalProcessorsPerCore", 1);
    s.pointer("GroupSetMember", 1u64.checked_shl(cpu.number).unwrap_or(0)).u8("GroupIndex", cpu.number as u8);
    s.put_if_known("TargetCount", &[0; 4]).put_if_known("IpiFrozen", &cpu.ipi_frozen.to_le_bytes());
    s.pointer("DpcStack", cpu.dpc_stack.0).u8("DpcRoutineActive", u8::from(cpu.dpc_active));
    s.u8("NormalDpcState", u8::from(cpu.dpc_active));
    s.put_if_known("DebuggerSavedIRQL", &[cpu.saved_irql]);
    let vendor: Vec<u8> = model.vendor.bytes().take(12).collect();
    s.put("VendorString", &vendor).pointer("Context", cpu.context_at.0);
    // The revision is the upper half of the microcode register, as the registry shows it too.
    s.put_if_known("UpdateSignature", &(model.microcode.0 << 32).to_le_bytes());
    for (field, value) in [("IsrStack", cpu.isr_stack.0), ("KernelDirectoryTableBase", tables)] {
        s.put_if_known(field, &machine.arch.word(value).collect::<Vec<u8>>());
    }
    work::fill_queue(s.record(), machine, layout, cpu)?;
    s.into_bytes()
}

/// `KSPECIAL_REGISTERS` at `base`; `tables` is what CR3 holds.
fn special_registers(r: &mut Record, base: usize, tables: u64, cpu: &Processor) {
    r.u64(base, cpu.cr0.0).u64(base + 8, cpu.cr2.0);
    r.u64(base + 0x10, tables).u64(base + 0x18, cpu.cr4.0);
    r.u16(base + 0x56, 0x57).u64(base + 0x58, cpu.gdt.0);
    r.u16(base + 0x66, 0xfff).u64(base + 0x68, cpu.idt.0);
    r.u16(base + 0x70, 0x40).u32(base + 0x74, 0x1f80).u64(base + 0xa0, cpu.cr8.0);
    r.u64(base + 0xa8, cpu.prcb.0.wrapping_sub(0x180));
}

/// The same of x86.
fn special_registers_x86(r: &mut Record, base: usize, tables: u64, cpu: &Processor) {
    let control = [cpu.cr0.0, cpu.cr2.0, tables, cpu.cr4.0];
    for (n, value) in control.into_iter().enumerate() {
        r.u32(base + 4 * n, value as u32);
    }
    // Selectors and limits are those of every x86 Windows: 128 segments, 256 interrupts.
    r.u16(base + 0x2a, 0x3ff).u32(base + 0x2c, cpu.gdt.0 as u32);
    r.u16(base + 0x32, 0x7ff).u32(base + 0x34, cpu.idt.0 as u32).u16(base + 0x38, 0x28);
}

/// An ETHREAD.
pub(crate) fn thread(machine: &Machine, layout: &Layout, thread: &Thread) -> Result<Vec<u8>, Error> {
    let process = machine.process(thread.process)?;
    let mut s = Structure::new(layout, "_ETHREAD")?;
    s.of("_KTHREAD").u8("Header", DISPATCHER_THREAD);
    s.pointer("InitialStack", thread.initial_stack.0).pointer("StackLimit", thread.stack_limit.0);
    s.pointer("StackBase", thread.stack_base.0).pointer("KernelStack", thread.kernel_stack.0);
    let apc_process = layout.field("_KTHREAD", "ApcState")? + layout.field("_KAPC_STATE", "Process")?;
    s.record().pointer(machine.arch, apc_process, process.at.0);
    s.pointer("Process", process.at.0).u8("Priority", thread.priority).u8("BasePriority", thread.priority);
    s.pointer("Teb", thread.teb.0).u8("State", thread.state).pointer("TrapFrame", thread.trap_frame.0);
    s.u8("PreviousMode", u8::from(thread.teb.0 != 0)).u8("WaitReason", thread.wait_reason);
    let on = machine.processors.iter().find(|p| p.thread == thread.at).map_or(0, |p| p.number);
    s.put("NextProcessor", on.to_le_bytes().get(..layout.processor_number()).unwrap_or_default());
    s.links("ThreadListEntry", thread_links(machine, layout, thread, "_KTHREAD", "_KPROCESS"));
    s.of("_ETHREAD").u64("CreateTime", start_time(machine).0);
    s.pointer("StartAddress", thread.start_address.0).pointer("Win32StartAddress", thread.start_address.0);
    s.links("Cid", (process.id.0, thread.id.0));
    s.links("IrpList", work::list_of(machine, layout, thread.at.0, None)?);
    s.links("ThreadListEntry", thread_links(machine, layout, thread, "_ETHREAD", "_EPROCESS"));
    s.into_bytes()
}

/// The neighbours of a thread in the list of its process; kernel and executive keep one each.
fn thread_links(machine: &Machine, layout: &Layout, thread: &Thread, of: &str, owner: &str) -> (u64, u64) {
    let Some((entry, head)) = layout.at(of, "ThreadListEntry").zip(layout.at(owner, "ThreadListHead")) else {
        return (0, 0);
    };
    let threads = machine.threads.iter().filter(|other| other.process == thread.process);
    let entries: Vec<u64> = threads.map(|other| other.at.0.wrapping_add(entry as u64)).collect();
    let here = thread.at.0.wrapping_add(entry as u64);
    neighbours(&entries, thread.process.0.wrapping_add(head as u64), here)
}

/// The links of every process, and of `PsActiveProcessHead` itself: its address and its two words.
pub(crate) fn process_head(machine: &Machine, layout: &Layout) -> Result<(u64, Vec<u8>), Error> {
    let head = machine.global("PsActiveProcessHead")?;
    let (next, previous) = neighbours(&process_entries(machine, layout)?, head, head);
    Ok((head, [next, previous].into_iter().flat_map(|word| machine.arch.word(word)).collect()))
}

fn process_entries(machine: &Machine, layout: &Layout) -> Result<Vec<u64>, Error> {
    let links = layout.field("_EPROCESS", "ActiveProcessLinks")? as u64;
    // The idle process is in no list.
    let listed = machine.processes.iter().filter(|process| process.id.0 != 0);
    Ok(listed.map(|process| process.at.0.wrapping_add(links)).collect())
}

/// An EPROCESS.
pub(crate) fn process(machine: &Machine, layout: &Layout, process: &Process) -> Result<Vec<u8>, Error> {
    let mut s = Structure::new(layout, "_EPROCESS")?;
    s.of("_KPROCESS").u8("Header", DISPATCHER_PROCESS);
    s.pointer("DirectoryTableBase", process.directory_table_base.0);
    s.links("ThreadListHead", thread_list(machine, layout, process, "_KTHREAD", "_KPROCESS"));
    s.of("_EPROCESS").u64("CreateTime", start_time(machine).0).pointer("UniqueProcessId", process.id.0);
    let head = machine.global("PsActiveProcessHead")?;
    let here = process.at.0.wrapping_add(layout.field("_EPROCESS", "ActiveProcessLinks")? as u64);
    s.links("ActiveProcessLinks", neighbours(&process_entries(machine, layout)?, head, here));
    s.pointer("InheritedFromUniqueProcessId", process.parent.0).pointer("Peb", process.peb.0);
    let name: Vec<u8> = process.name.bytes().take(14).collect();
    s.put("ImageFileName", &name);
    s.links("ThreadListHead", thread_list(machine, layout, process, "_ETHREAD", "_EPROCESS"));
    s.u32("ActiveThreads", machine.threads.iter().filter(|t| t.process == process.at).count() as u32);
    s.into_bytes()
}

/// The first and last thread of a process, as the head of its list names them.
fn thread_list(machine: &Machine, layout: &Layout, process: &Process, of: &str, owner: &str) -> (u64, u64) {
    let Some((entry, head)) = layout.at(of, "ThreadListEntry").zip(layout.at(owner, "ThreadListHead")) else {
        return (0, 0);
    };
    let threads = machine.threads.iter().filter(|thread| thread.process == process.at);
    let entries: Vec<u64> = threads.map(|thread| thread.at.0.wrapping_add(entry as u64)).collect();
    let head = process.at.0.wrapping_add(head as u64);
    neighbours(&entries, head, head)
}

/// Where the kernel maps `KUSER_SHARED_DATA`.
pub(crate) const fn shared_data_at(arch: Arch) -> u64 {
    match arch {
        Arch::X64 | Arch::Arm64 => 0xffff_f780_0000_0000,
        Arch::X86 => 0xffdf_0000,
    }
}

/// `KUSER_SHARED_DATA`, as far as builds agree on it.
pub(crate) fn shared_data(machine: &Machine) -> Vec<u8> {
    let mut r = Record::zeroed(0x330);
    let since_start = u64::from(machine.uptime_seconds) * 10_000_000;
    let (major, minor) = match machine.build {
        ..3000 => (5, 1),
        3000..6000 => (5, 2),
        6000..9200 => (6, 1),
        9200..10240 => (6, 3),
        _ => (10, 0),
    };
    r.u64(8, since_start).u32(0x10, (since_start >> 32) as u32);
    let now = FileTime::from_unix(machine.crash_time).0;
    r.u64(0x14, now).u32(0x1c, (now >> 32) as u32);
    let root: Vec<u8> = r"C:\Windows".encode_utf16().flat_map(u16::to_le_bytes).collect();
    r.put(0x30, &root).u32(0x260, machine.build).u32(0x264, machine.product_type).u8(0x268, 1);
    r.u32(0x26c, major).u32(0x270, minor).u32(0x2d0, machine.suite_mask.0 as u32);
    r.into_bytes()
}

/// `MM_DRIVER_VERIFIER_DATA`.
pub(crate) fn verifier(machine: &Machine, layout: &Layout) -> Result<Vec<u8>, Error> {
    let v = &machine.verifier;
    let mut s = Structure::new(layout, "_MM_DRIVER_VERIFIER_DATA")?;
    s.u32("Level", v.level.0 as u32).u32("RaiseIrqls", v.raise_irqls);
    s.u32("AcquireSpinLocks", v.acquire_spin_locks);
    s.u32("TrimRequests", v.trim_requests).u32("Trims", v.trims).u32("Loads", v.loads);
    s.into_bytes()
}

/// When the machine started: what is described is taken to be as old as it.
fn start_time(machine: &Machine) -> FileTime {
    FileTime::from_unix(machine.crash_time.saturating_sub(machine.uptime_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_ring() {
        assert_eq!(neighbours(&[], 1, 1), (1, 1));
        assert_eq!(neighbours(&[2, 3], 1, 1), (2, 3));
        assert_eq!(neighbours(&[2, 3], 1, 2), (3, 1));
        assert_eq!(neighbours(&[2, 3], 1, 3), (1, 2));
    }
}
