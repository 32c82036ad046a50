//! Objects of the machine in dumps of every kind, told by what was written into them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

use stopcode_base::{Fact, VirtAddr};
use stopcode_dump::Dump;
use stopcode_kernel::{Machine, RegionKind, SectionContent};
use stopcode_symbols::SymbolSource;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::{Bytes, Code, Hex};

const KINDS: [Kind; 4] = [Kind::Triage, Kind::Full, Kind::BitmapKernel, Kind::RdmpKernel];

/// The double fault of the samples: Windows 7 x64, crashed on processor 4.
const THREAD: VirtAddr = VirtAddr(0xfffffa80_09f3cb50);
const PROCESS: VirtAddr = VirtAddr(0xfffffa80_09e41060);
const KERNEL: u64 = 0xfffff800_03216000;
/// Some pool that the sample does not use.
const POOL: u64 = 0xfffffa80_0b000000;

fn described() -> stopcode_synth::Machine {
    let path = format!("{}/../../samples/seed-double-fault.json", env!("CARGO_MANIFEST_DIR"));
    stopcode_synth::Machine::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The sample with more memory and what `change` makes of it, as each kind of dump.
fn machines(more: &[(u64, Vec<u8>)], change: impl Fn(&mut stopcode_synth::Machine)) -> Vec<(Kind, Machine)> {
    let mut machine = described();
    machine.memory.extend(more.iter().map(|(at, bytes)| Code {
        at: Hex(*at),
        bytes: Bytes::from(bytes.clone()),
        about: String::new(),
    }));
    change(&mut machine);
    let written = |kind| Dump::from_bytes(container::write(&machine, kind).unwrap()).unwrap();
    KINDS.into_iter().map(|kind| (kind, Machine::new(written(kind), &SymbolSource::new([])))).collect()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn reason<T: std::fmt::Debug>(fact: &Fact<T>) -> &str {
    fact.reason().unwrap_or_else(|| panic!("known: {fact:?}"))
}

#[test]
fn a_thread_and_its_process_are_as_described() {
    for (kind, machine) in machines(&[], |_| {}) {
        let thread = machine.thread_at(THREAD);
        let thread = thread.value().unwrap_or_else(|| panic!("{kind:?}: {}", reason(&thread)));
        assert_eq!((thread.process_id.get(), thread.thread_id.get()), (Some(0x8ac), Some(0x9d4)), "{kind:?}");
        assert_eq!((thread.state.get(), thread.priority.get()), (Some(2), Some(9)));
        let limits = (thread.stack_limit.get().unwrap(), thread.stack_base.get().unwrap());
        assert_eq!(limits, (VirtAddr(0xfffff880_03dcd000), VirtAddr(0xfffff880_03dd3000)));
        assert_eq!(thread.win32_start_address.get(), Some(VirtAddr(0x77a6c500)));
        assert_eq!(thread.trap_frame.get(), Some(VirtAddr(0xfffff880_03dd2c20)));
        assert_eq!(reason(&thread.wait_objects), "the thread does not wait");
        assert_eq!(thread.attached_process.get(), Some(PROCESS));
        let (_, source) = thread.state.known_with_source().unwrap();
        assert_eq!(source.as_str(), "KTHREAD.State (offset from the debugger data)");

        let process = machine.process_at(PROCESS);
        let process = process.value().unwrap();
        assert_eq!(process.image.value().map(String::as_str), Some("svchost.exe"));
        assert_eq!((process.id.get(), process.parent_id.get()), (Some(0x8ac), Some(0x248)));
        assert_eq!(process.directory_table_base.get().map(|base| base.0), Some(0x1_e2c4_0000));

        assert!(reason(&machine.thread_at(PROCESS)).contains("is no thread"), "{kind:?}");
        assert!(reason(&machine.process_at(THREAD)).contains("is no process"));
        assert!(machine.thread_at(VirtAddr(POOL)).value().is_none());
    }
}

#[test]
fn what_a_thread_waits_for_is_what_lists_its_wait_block() {
    const BLOCKS: u64 = POOL;
    const EVENT: u64 = POOL + 0x100;
    // KWAIT_BLOCK of Windows 7: the list entry, the thread at 0x10, the object at 0x18. The second is left over: its object
    // does not list it.
    let blocks = words(&[EVENT + 8, EVENT + 8, THREAD.0, EVENT, 0, 0, EVENT, EVENT, THREAD.0, EVENT, 0, 0]);
    // DISPATCHER_HEADER: type 1, a synchronization event; its list of waiters at 8.
    let event = words(&[1, BLOCKS, BLOCKS]);
    let more = [(BLOCKS, blocks), (EVENT, event)];
    for (kind, machine) in machines(&more, |machine| machine.threads[0].state = 5) {
        let thread = machine.thread_at(THREAD);
        let thread = thread.value().unwrap();
        // The sample's thread has no list of wait blocks: null is not followed.
        assert_eq!(reason(&thread.wait_objects), "KTHREAD.WaitBlockList is null", "{kind:?}");
    }
    // KTHREAD.WaitBlockList of 7601, by the public symbols.
    let pointer = (THREAD.0 + 0x98, words(&[BLOCKS]));
    let more = [more[0].clone(), more[1].clone(), pointer];
    for (kind, machine) in machines(&more, |machine| machine.threads[0].state = 5) {
        let thread = machine.thread_at(THREAD);
        let Some(objects) = thread.value().unwrap().wait_objects.value() else {
            // Small dumps hold the thread apart from other memory, where nothing can be written over.
            assert_eq!(kind, Kind::Triage);
            continue;
        };
        let found: Vec<_> = objects.iter().map(|object| (object.address.0, object.kind)).collect();
        assert_eq!(found, [(EVENT, Some(1))], "{kind:?}");
    }
}

#[test]
fn processes_are_listed_and_a_broken_list_says_so() {
    // PsActiveProcessHead by the sample's kernel, EPROCESS.ActiveProcessLinks of 7601 by the public symbols.
    const HEAD: u64 = KERNEL + 0x226b90;
    const LINK: u64 = PROCESS.0 + 0x188;
    for (kind, machine) in machines(&[(HEAD, words(&[LINK, LINK]))], |_| {}) {
        let list = machine.process_list();
        let list = list.value().unwrap_or_else(|| panic!("{kind:?}: {}", reason(&list)));
        assert_eq!((list.entries.as_slice(), &list.broken), (&[PROCESS][..], &None), "{kind:?}");
    }
    for (kind, machine) in machines(&[(HEAD, words(&[POOL, LINK]))], |_| {}) {
        let list = machine.process_list();
        let list = list.value().unwrap();
        assert_eq!(list.entries, [PROCESS], "{kind:?}: found backwards");
        assert!(list.broken.as_ref().unwrap().contains("fffffa80`0b000000"), "{list:?}");
    }
    // As the sample is written: every process but the idle one in dumps that hold pages, no list in a small one.
    for (kind, machine) in machines(&[], |_| {}) {
        match machine.process_list() {
            Fact::Known { value, .. } => {
                assert_eq!((value.entries, value.broken), (vec![PROCESS], None), "{kind:?}");
            }
            Fact::Missing { reason } => {
                assert_eq!(kind, Kind::Triage);
                assert!(reason.starts_with("PsActiveProcessHead: the list's head"));
            }
        }
    }
}

#[test]
fn the_double_faults_stack_is_found_through_idt_and_task_state() {
    const IDT: u64 = 0xfffff880_009ba540;
    const GDT: u64 = 0xfffff880_009ba4c0;
    const TSS: u64 = POOL;
    let handler = KERNEL + 0x73580;
    let mut gate = handler.to_le_bytes();
    gate.copy_within(2..8, 2);
    let mut entry = vec![gate[0], gate[1], 0x10, 0, 1, 0x8e, gate[2], gate[3]];
    entry.extend(&gate[4..8]);
    entry.extend([0; 4]);
    let mut table = vec![0; 0x80];
    table.extend(entry);
    // A 64-bit descriptor of a busy task state: limit 0x67, base in bytes 2 to 4, 7 and 8 to 11.
    let base = TSS.to_le_bytes();
    let mut descriptor = vec![0x67, 0, base[0], base[1], base[2], 0x8b, 0, base[3]];
    descriptor.extend(&base[4..8]);
    descriptor.extend([0; 4]);
    let mut task = vec![0; 0x68];
    task[4..12].copy_from_slice(&0xfffff880_03dd2db0_u64.to_le_bytes());
    task[0x24..0x2c].copy_from_slice(&0xfffff880_009ba000_u64.to_le_bytes());
    for (kind, machine) in machines(&[(IDT, table), (GDT + 0x40, descriptor), (TSS, task)], |_| {}) {
        let states = machine.processor_states();
        let crashed = states.iter().find(|state| state.number == 4).unwrap();
        let idt = machine.interrupt_table(crashed);
        let idt = idt.value().unwrap_or_else(|| panic!("{kind:?}: {}", reason(&idt)));
        let double_fault = idt.iter().find(|entry| entry.vector == 8).unwrap();
        assert_eq!(
            (double_fault.handler.0, double_fault.ist, double_fault.present),
            (handler, 1, true),
            "{kind:?}"
        );
        // And the page fault's, which the sample has of its own where its pages are in the dump.
        let present: Vec<_> = idt.iter().filter(|entry| entry.present).map(|entry| entry.vector).collect();
        assert_eq!(present, if kind == Kind::Triage { vec![8] } else { vec![8, 14] }, "{kind:?}");
        let task = machine.task_state(crashed);
        let task = task.value().unwrap_or_else(|| panic!("{kind:?}: {}", reason(&task)));
        assert_eq!(
            (task.address.0, task.rsp0.0, task.ist[0].0),
            (TSS, 0xfffff880_03dd2db0, 0xfffff880_009ba000)
        );
    }
    // A page of zeros is no table.
    for (_, machine) in machines(&[(IDT, vec![0; 0xa00])], |_| {}) {
        let states = machine.processor_states();
        assert!(machine.interrupt_table(&states[4]).value().is_none());
    }
}

#[test]
fn an_error_record_explains_bug_check_124() {
    let status: u64 = 0xbe00_0000_0080_0400;
    let mut record = vec![0; 0x80 + 0x48];
    record[..4].copy_from_slice(b"CPER");
    record[6..10].fill(0xff);
    (record[0xa], record[0xc]) = (1, 1);
    record[0x14..0x18].copy_from_slice(&(0x80_u32 + 0x48 + 0x124).to_le_bytes());
    record[0x80..0x84].copy_from_slice(&0xc8_u32.to_le_bytes());
    record[0x84..0x88].copy_from_slice(&0x124_u32.to_le_bytes());
    let mca =
        [0x01, 0x1d, 0x1e, 0x8a, 0xf9, 0x42, 0x57, 0x45, 0x9c, 0x33, 0x56, 0x5e, 0x5c, 0xc3, 0xf7, 0xe8];
    record[0x90..0xa0].copy_from_slice(&mca);
    let mut section = vec![0; 0x124];
    section[4] = 1;
    section[0x24] = 5;
    section[0x28..0x30].copy_from_slice(&status.to_le_bytes());
    record.extend(section);
    let stop = |machine: &mut stopcode_synth::Machine| {
        machine.bug_check.code = Hex(0x124);
        machine.bug_check.arguments = [Hex(0), Hex(POOL), Hex(status >> 32), Hex(status & 0xffff_ffff)];
    };
    for (kind, machine) in machines(&[(POOL, record)], stop) {
        let found = machine.error_record();
        let found = found.value().unwrap_or_else(|| panic!("{kind:?}: {}", reason(&found)));
        let SectionContent::Mca(mca) = &found.sections[0].content else { panic!("{found:?}") };
        assert_eq!((mca.bank, mca.status.raw), (5, status), "{kind:?}");
        let check = machine.machine_check();
        assert_eq!(check.known_with_source().unwrap().1.as_str(), "MCA section of the error record at Arg2");
    }
    // Without the record the arguments still hold the status.
    for (kind, machine) in machines(&[], stop) {
        assert!(machine.error_record().value().is_none(), "{kind:?}");
        assert_eq!(machine.machine_check().value().unwrap().raw, status);
    }
    for (_, machine) in machines(&[], |_| {}) {
        assert!(reason(&machine.error_record()).contains("passes no error record"));
        assert_eq!(reason(&machine.machine_check()), "this bug check was no machine check");
    }
}

#[test]
fn an_irp_names_the_driver_that_has_it() {
    const DEVICE: u64 = POOL + 0x400;
    const DRIVER: u64 = POOL + 0x600;
    const NAME: u64 = POOL + 0x800;
    let mut irp = vec![0; 0xd0 + 2 * 0x48];
    (irp[0], irp[2], irp[3]) = (6, 0x60, 1);
    (irp[0x42], irp[0x43]) = (2, 2);
    irp[0x98..0xa0].copy_from_slice(&THREAD.0.to_le_bytes());
    let current = 0xd0 + 0x48;
    (irp[current], irp[current + 3]) = (3, 0xe1);
    irp[current + 0x28..current + 0x30].copy_from_slice(&DEVICE.to_le_bytes());
    let name: Vec<u8> = "\\Driver\\disk".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut device = words(&[3, DRIVER]);
    device.resize(0x150, 0);
    let mut driver = words(&[4]);
    driver.resize(0x38, 0);
    driver.extend(words(&[name.len() as u64, NAME]));
    for (kind, machine) in machines(&[(POOL, irp), (DEVICE, device), (DRIVER, driver), (NAME, name)], |_| {})
    {
        let irp = machine.irp_at(VirtAddr(POOL));
        let irp = irp.value().unwrap_or_else(|| panic!("{kind:?}: {}", reason(&irp)));
        assert_eq!((irp.thread, irp.stack_count, irp.current_location), (THREAD, 2, 2));
        assert_eq!(irp.locations[1].driver.value().map(String::as_str), Some("\\Driver\\disk"), "{kind:?}");
        assert_eq!((irp.locations[1].major, irp.locations[1].control), (3, 0xe1));
        assert_eq!(reason(&irp.locations[0].driver), "no device: not an address of the kernel's half");
        assert!(reason(&machine.irp_at(VirtAddr(DEVICE))).contains("is no IRP"));
    }
}

#[test]
fn addresses_belong_to_what_holds_them() {
    for (kind, machine) in machines(&[], |_| {}) {
        let kind_of = |at: u64| machine.region(VirtAddr(at)).value().map(|region| region.kind);
        assert_eq!(kind_of(KERNEL + 0x1000), Some(RegionKind::Image), "{kind:?}");
        assert_eq!(kind_of(0xfffff880_03dcd000), Some(RegionKind::Stack));
        assert_eq!(kind_of(0xfffff880_03dccfff), Some(RegionKind::SystemPtes), "below the limit is no stack");
        assert_eq!(kind_of(0xfffff880_009b0180), Some(RegionKind::Processor));
        assert_eq!(kind_of(0xfffff680_00000000), Some(RegionKind::PageTables));
        assert_eq!(kind_of(0x77a6c500), Some(RegionKind::User));
        assert_eq!(kind_of(0x8000_0000_0000_0000), Some(RegionKind::NotCanonical));
        assert_eq!(kind_of(0xffffffff_ffff0000), None, "nothing is known there");
    }
}

#[test]
fn a_translation_is_the_same_by_page_tables_and_by_self_map() {
    let all = machines(&[], |_| {});
    let (_, small) = &all[0];
    for at in [0xfffff880_03dcd000, 0xfffff880_03dccfc8, 0xfffff880_009b9de8] {
        let here = small.dump().walk(None, VirtAddr(at)).unwrap();
        assert_eq!(here.entries().count(), 4, "{here:?}");
        for (kind, machine) in &all[1..] {
            let there = machine.dump().walk(None, VirtAddr(at)).unwrap();
            let values = |walk: &stopcode_dump::paging::Walk| -> Vec<_> {
                walk.entries().map(|entry| (entry.level, entry.value)).collect()
            };
            assert_eq!(values(&here), values(&there), "{kind:?} {at:#x}");
            assert_eq!(here.physical(), there.physical(), "{kind:?} {at:#x}");
        }
    }
}

#[test]
fn the_map_of_the_address_space_is_what_single_addresses_say() {
    for (kind, machine) in machines(&[], |_| {}) {
        let regions = machine.regions();
        let kinds: Vec<RegionKind> = regions.iter().filter_map(|region| Some(region.value()?.kind)).collect();
        for wanted in [RegionKind::User, RegionKind::Image, RegionKind::Stack, RegionKind::SharedUserData] {
            assert!(kinds.contains(&wanted), "{kind:?}: {wanted:?}");
        }
        assert_eq!(kinds.iter().filter(|kind| **kind == RegionKind::Image).count(), machine.modules().len());
        let mut before = None;
        for found in &regions {
            let region = found.value().unwrap();
            assert!(before < Some((region.start, region.end)) && region.start < region.end, "{region:?}");
            before = Some((region.start, region.end));
            // A narrower part may lie at its start.
            let at_start = machine.region(region.start);
            let within = at_start.value().unwrap();
            assert!(within.start <= region.start && region.start < within.end, "{region:?}: {within:?}");
        }
    }
}
