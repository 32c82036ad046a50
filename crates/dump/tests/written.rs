//! Every kind of dump of every architecture that Windows writes it for, as `stopcode-synth` writes it: header facts, all
//! pages, modules and virtual reads are those of the described machine, and each miss has its reason.
//!
//! The oracle shares no code with the reader: pages out of the bitmap container by the public description of it, and a
//! walk of the page tables by the processors' manuals.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // Helpers of tests are tests.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use stopcode_base::{Arch, FileTime, Memory, MissReason, PhysAddr, VirtAddr};
use stopcode_dump::Dump;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::{Arch as Processor, Code, Hex, Installed, Machine};

/// A described machine of the samples, with the page tables that the writer makes, at low addresses.
fn sample(name: &str) -> Machine {
    let path = format!("{}/../../samples/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut machine = Machine::read(path.as_ref()).unwrap();
    machine.pages.clear();
    machine
}

fn x64() -> Machine {
    sample("driver-null-write")
}

/// The x64 machine in another processor's words.
fn arm64() -> Machine {
    let mut machine = x64();
    (machine.arch, machine.build, machine.exception) = (Processor::Arm64, 22000, None);
    machine.traps.clear();
    machine
}

fn x86(build: u32, pae: bool) -> Machine {
    Machine { build, pae, ..sample("driver-null-write-x86") }
}

/// Every architecture, x86 with both forms of page tables and every build that is written.
fn machines() -> Vec<(String, Machine)> {
    let x86 =
        [(2600, false), (2600, true), (3790, true), (7601, false), (7601, true), (9600, true), (19041, true)]
            .map(|(build, pae)| (format!("x86 {build}, PAE {pae}"), x86(build, pae)));
    [("x64".to_owned(), x64()), ("ARM64".to_owned(), arm64())].into_iter().chain(x86).collect()
}

/// The kinds that exist for the machine, each as a file that was opened.
fn written(machine: &Machine) -> impl Iterator<Item = (Kind, Dump)> {
    Kind::ALL.into_iter().filter(|kind| kind.is_of(machine.arch)).map(|kind| (kind, opened(machine, kind)))
}

fn opened(machine: &Machine, kind: Kind) -> Dump {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.dmp");
    container::write_to(machine, kind, &mut File::create(&path).unwrap()).unwrap();
    Dump::open(&path).unwrap()
}

/// Physical memory, and the top of the page tables of the process that crashed.
struct Oracle {
    pages: BTreeMap<u64, Vec<u8>>,
    arch: Processor,
    pae: bool,
    top: u64,
}

impl Oracle {
    fn of(machine: &Machine) -> Self {
        let file = container::write(machine, Kind::BitmapFull).unwrap();
        let header = if machine.arch == Processor::X86 { 0x1000 } else { 0x2000 };
        let long = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
        let (mut at, count) = (long(header + 0x20), long(header + 0x30));
        let mut pages = BTreeMap::new();
        for pfn in (0..count).filter(|pfn| file[header + 0x38 + pfn / 8] >> (pfn % 8) & 1 == 1) {
            pages.insert(pfn as u64, file[at..at + 0x1000].to_vec());
            at += 0x1000;
        }
        let crashed = machine.processors.iter().find(|cpu| cpu.number == machine.crash_processor).unwrap();
        let thread = machine.threads.iter().find(|thread| thread.at == crashed.thread).unwrap();
        let process = machine.processes.iter().find(|process| process.at == thread.process).unwrap();
        Self { pages, arch: machine.arch, pae: machine.pae, top: process.directory_table_base.0 }
    }

    fn entry(&self, at: u64, size: usize) -> u64 {
        let mut bytes = [0; 8];
        let offset = at as usize % 0x1000;
        bytes[..size].copy_from_slice(&self.pages[&(at >> 12)][offset..offset + size]);
        u64::from_le_bytes(bytes)
    }

    /// The byte at an address, or the level whose entry is empty.
    fn byte(&self, at: u64) -> Result<u8, MissReason> {
        // Bytes of an entry; by level from the top, how far an address is shifted to be an index, and how many bits that has.
        let (size, levels): (u64, &[(u32, u32)]) = match (self.arch, self.pae) {
            (Processor::X86, false) => (4, &[(22, 10), (12, 10)]),
            (Processor::X86, true) => (8, &[(30, 2), (21, 9), (12, 9)]),
            _ => (8, &[(39, 9), (30, 9), (21, 9), (12, 9)]),
        };
        let sign = at >> 47;
        if self.arch != Processor::X86 && sign != 0 && sign != 0x1_ffff {
            return Err(MissReason::NotCanonical);
        }
        let mut table = self.top;
        for (n, (shift, bits)) in levels.iter().enumerate() {
            let level = (levels.len() - n) as u8;
            let entry = self.entry(table + (at >> shift & ((1 << bits) - 1)) * size, size as usize);
            if entry == 0 {
                return Err(MissReason::NotMapped { level });
            }
            assert_eq!(entry & 1, 1, "the writer makes valid entries only");
            table = entry & 0x000f_ffff_ffff_f000;
        }
        Ok(self.pages[&(table >> 12)][at as usize % 0x1000])
    }

    fn word(&self, at: u64) -> Result<u32, MissReason> {
        let mut bytes = [0; 4];
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = self.byte(at.wrapping_add(n as u64))?;
        }
        Ok(u32::from_le_bytes(bytes))
    }
}

/// All that the description says is in memory.
fn described(machine: &Machine) -> Vec<(u64, Vec<u8>)> {
    let blocks = machine.memory.iter().chain(&machine.code).map(|code| (code.at.0, code.bytes.0.clone()));
    let width = if machine.arch == Processor::X86 { 4 } else { 8 };
    let words = machine.stacks.iter().flat_map(|stack| &stack.words);
    blocks.chain(words.map(|word| (word.at.0, word.value.0.to_le_bytes()[..width].to_vec()))).collect()
}

/// Addresses in and around what is described, and anywhere.
fn drawn(machine: &Machine, count: u64) -> Vec<u64> {
    let places: Vec<u64> = described(machine)
        .into_iter()
        .map(|(at, _)| at)
        .chain(machine.modules.iter().map(|module| module.base.0))
        .chain(machine.stacks.iter().map(|stack| stack.low.0))
        .chain(machine.processors.iter().map(|cpu| cpu.prcb.0))
        .chain(machine.processes.iter().map(|process| process.at.0))
        .collect();
    let space = if machine.arch == Processor::X86 { u64::from(u32::MAX) } else { u64::MAX };
    let mut state = 1_u64;
    let mut word = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 13 ^ state << 40
    };
    (0..count)
        .map(|n| {
            let place = places[word() as usize % places.len()];
            let at = match n % 4 {
                0 => place.wrapping_add(word() % 0x40),
                1 => (place | 0xfff).wrapping_sub(word() % 3),
                2 => place.wrapping_add(word() % 0x100_0000),
                _ => word(),
            };
            at & space
        })
        .collect()
}

/// The reader's word at an address, or its reason.
fn read(dump: &Dump, at: u64) -> Result<u32, MissReason> {
    dump.read_u32(VirtAddr(at)).map_err(|miss| miss.reason)
}

#[test]
fn header_facts_are_the_machines() {
    for (name, machine) in machines() {
        for (kind, dump) in written(&machine) {
            let what = format!("{name}, {kind:?}");
            let header = dump.header();
            let arch = match machine.arch {
                Processor::X64 => Arch::X64,
                Processor::Arm64 => Arch::Arm64,
                Processor::X86 => Arch::X86,
            };
            assert_eq!(header.arch, Some(arch), "{what}");
            assert_eq!(header.minor_version, machine.build, "{what}");
            if kind.dump_type() == 0 {
                continue;
            }
            assert_eq!(
                dump.problems().len(),
                usize::from(kind == Kind::Header),
                "{what}: {:?}",
                dump.problems()
            );
            assert_eq!(header.dump_type, Some(kind.dump_type()), "{what}");
            assert_eq!(u64::from(header.bug_check_code), machine.bug_check.code.0, "{what}");
            assert_eq!(header.bug_check_parameters, machine.bug_check.arguments.map(|a| a.0), "{what}");
            assert_eq!(header.number_processors as usize, machine.processors.len(), "{what}");
            assert_eq!(header.system_uptime, Some(u64::from(machine.uptime_seconds) * 10_000_000), "{what}");
            assert_eq!(
                header.system_time.map(FileTime::unix_seconds),
                Some(i64::from(machine.crash_time)),
                "{what}"
            );
            let x86 = machine.arch == Processor::X86;
            assert_eq!(header.pae_enabled, x86.then_some(machine.pae), "{what}");
            let crashed =
                machine.processors.iter().find(|cpu| cpu.number == machine.crash_processor).unwrap();
            let context = header.context.unwrap();
            let expected = (crashed.registers.rip.0, crashed.registers.rsp.0);
            assert_eq!((context.instruction().0, context.stack_pointer().0), expected, "{what}");
            let live = header.attributes.is_some();
            assert_eq!(live, kind == Kind::Live, "{what}");
        }
    }
}

#[test]
fn all_pages_are_there_and_no_others() {
    for (name, machine) in machines() {
        let oracle = Oracle::of(&machine);
        for (kind, dump) in written(&machine) {
            let what = format!("{name}, {kind:?}");
            let Some(memory) = dump.physical() else {
                assert!(matches!(kind, Kind::Header | Kind::Triage), "{what}");
                continue;
            };
            let mut found = BTreeMap::new();
            let mut from = 0;
            while let Some((first, count)) = memory.next_run(from) {
                for pfn in first..first + count {
                    let mut page = vec![0; 0x1000];
                    assert_eq!(memory.read_physical(PhysAddr(pfn << 12), &mut page), Ok(0x1000), "{what}");
                    found.insert(pfn, page);
                }
                from = first + count;
            }
            if kind == Kind::Raw {
                // It has the pages between as well, of zeros, and what firmware left in the first.
                found
                    .retain(|pfn, page| oracle.pages.contains_key(pfn) || page.iter().any(|byte| *byte != 0));
                found.remove(&0);
            }
            assert!(found == oracle.pages, "{what}: {} pages, not {}", found.len(), oracle.pages.len());
        }
    }
}

#[test]
fn what_is_described_is_read_and_what_is_not_misses_for_the_right_reason() {
    for (name, machine) in machines() {
        let oracle = Oracle::of(&machine);
        let addresses = drawn(&machine, 2000);
        for (kind, dump) in written(&machine).filter(|(kind, _)| *kind != Kind::Header) {
            let what = format!("{name}, {kind:?}");
            for (at, bytes) in described(&machine) {
                let mut read = vec![0; bytes.len()];
                match dump.read(VirtAddr(at), &mut read) {
                    Ok(()) => assert_eq!(read, bytes, "{what} at {at:#x}"),
                    Err(miss) => panic!("{what}: {miss}"),
                }
            }
            let mut hits = 0;
            for at in &addresses {
                let (ours, theirs) = (read(&dump, *at), oracle.word(*at));
                hits += usize::from(ours.is_ok());
                match ours {
                    // A small dump holds a part of it.
                    Err(MissReason::NotInDump) if kind == Kind::Triage => {}
                    _ => assert_eq!(ours, theirs, "{what} at {at:#x}"),
                }
            }
            assert!(hits > 100, "{what}: {hits} hits");
        }
    }
}

#[test]
fn the_debugger_data_lead_to_what_is_described() {
    for (name, machine) in machines() {
        for (kind, dump) in written(&machine).filter(|(kind, _)| *kind != Kind::Header) {
            let what = format!("{name}, {kind:?}");
            let kdbg = dump.kdbg().unwrap_or_else(|| panic!("{what}: no debugger data"));
            let base = machine.modules[0].base.0;
            assert_eq!(kdbg.kern_base(), Some(VirtAddr(base)), "{what}");
            let array = kdbg.get("KiProcessorBlock").unwrap();
            let mut prcbs = machine.processors.iter().map(|cpu| (cpu.number, cpu.prcb.0)).collect::<Vec<_>>();
            prcbs.sort_unstable();
            let width = if machine.arch == Processor::X86 { 4 } else { 8 };
            for (n, (_, prcb)) in (0..).zip(prcbs) {
                assert_eq!(read(&dump, array + width * n), Ok(prcb as u32), "{what}");
            }
            if let Some(triage) = dump.triage() {
                let described = machine
                    .modules
                    .iter()
                    .map(|m| (m.path.clone(), m.base.0, m.size.0, m.time_stamp.0, m.checksum.0));
                let found = triage.drivers.iter().map(|d| {
                    (
                        d.path.clone(),
                        d.base.0,
                        u64::from(d.size),
                        u64::from(d.time_date_stamp),
                        u64::from(d.checksum),
                    )
                });
                assert!(found.eq(described), "{what}: {:?}", triage.drivers);
                let described =
                    machine.unloaded.iter().map(|u| (u.name.chars().take(12).collect(), u.start.0, u.end.0));
                let found = triage.unloaded.iter().map(|u| (u.name.clone(), u.start.0, u.end.0));
                assert!(found.eq(described), "{what}: {:?}", triage.unloaded);
                assert!(triage.valid, "{what}");
            }
        }
    }
}

/// A kind that does not exist for a processor is refused, not invented.
#[test]
fn what_windows_does_not_write_is_refused() {
    for (name, machine) in machines() {
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_of(machine.arch)) {
            assert!(container::write(&machine, kind).is_err(), "{name}, {kind:?}");
        }
    }
}

/// Where random blocks may lie: the kernel's half, away from page tables and shared data.
fn place(machine: &Machine, word: u32) -> u64 {
    match machine.arch {
        Processor::X86 => 0xa000_0000 + u64::from(word % 0x1000_0000),
        _ => 0xffff_d000_0000_0000 + (u64::from(word) << 9),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Small machines with memory anywhere, of which some is installed: every paged kind holds the same, and a small
    /// dump what is described.
    #[test]
    fn small_machines_are_read_as_they_are_written(
        form in 0_usize..4,
        blocks in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 1..300)), 0..6),
        installed in 0_u64..0x800,
        half in any::<bool>(),
        kind in 0_usize..Kind::ALL.len(),
    ) {
        let mut machine = [x64, arm64, || x86(7601, true), || x86(2600, false)][form]();
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for (word, bytes) in blocks {
            let (at, end) = (place(&machine, word), place(&machine, word) + bytes.len() as u64);
            if taken.iter().all(|(low, high)| end <= *low || *high <= at) {
                taken.push((at, end));
                machine.memory.push(Code { at: Hex(at), bytes: bytes.into(), about: String::new() });
            }
        }
        machine.installed = Installed { bytes: Hex(installed << 12), half };
        let kind = Kind::ALL[kind];
        // The runs of half of memory are more than a header has room for; a range from page 0 on ends a list of them.
        let refused = match kind {
            Kind::Header => true,
            Kind::Full => half,
            Kind::RdmpKernel | Kind::RdmpUser => installed > 0,
            _ => !kind.is_of(machine.arch),
        };
        if refused {
            return Ok(());
        }
        let oracle = Oracle::of(&machine);
        let dump = opened(&machine, kind);
        for (at, bytes) in described(&machine) {
            prop_assert_eq!(dump.read_available(VirtAddr(at), bytes.len()), bytes, "{:?} at {:#x}", kind, at);
        }
        for at in drawn(&machine, 200) {
            let ours = read(&dump, at);
            if kind != Kind::Triage || ours.is_ok() {
                prop_assert_eq!(ours, oracle.word(at), "{:?} at {:#x}", kind, at);
            }
        }
        if let Some(memory) = dump.physical() {
            // In the first page of plain memory firmware's vectors lie.
            let told = oracle.pages.iter().filter(|(pfn, _)| kind != Kind::Raw || **pfn > 0);
            for (pfn, page) in told {
                let mut found = vec![0; 0x1000];
                prop_assert_eq!(memory.read_physical(PhysAddr(pfn << 12), &mut found), Ok(0x1000));
                prop_assert!(&found == page, "{:?} page {:#x}", kind, pfn);
            }
        }
    }
}
