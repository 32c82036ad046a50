//! One machine in every container: our reader and an independent one find the same memory in each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

use kdmp_parser::gxa::{Gpa, Gva};
use kdmp_parser::parse::KernelDumpParser;
use kdmp_parser::phys::Reader as PhysicalReader;
use kdmp_parser::virt::Reader as VirtualReader;
use std::io::Cursor;
use stopcode_base::{Memory, PhysAddr, VirtAddr};
use stopcode_dump::{Dump, PhysicalMemory};
use stopcode_kernel::{Machine, Stack, StackKind, UnloadedModule};
use stopcode_symbols::SymbolSource;
use stopcode_synth::container::{self, Kind};

const SAMPLES: [&str; 3] = ["seed-double-fault", "driver-null-write", "memory-bit-flip"];
const PAGED: [Kind; 9] = [
    Kind::Full,
    Kind::Summary,
    Kind::BitmapFull,
    Kind::BitmapKernel,
    Kind::Automatic,
    Kind::RdmpKernel,
    Kind::RdmpUser,
    Kind::RdmpFull,
    Kind::Live,
];
/// What the other reader does not know: the kernel dump of Windows XP to 7, and the number 7.
const OURS_ALONE: [Kind; 2] = [Kind::Summary, Kind::Automatic];

fn described(sample: &str) -> stopcode_synth::Machine {
    let path = format!("{}/../../samples/{sample}.json", env!("CARGO_MANIFEST_DIR"));
    stopcode_synth::Machine::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn written(sample: &str, kind: Kind) -> Vec<u8> {
    container::write(&described(sample), kind).unwrap()
}

/// Every page that the dump holds.
fn frames(memory: &dyn PhysicalMemory) -> Vec<u64> {
    let mut frames = Vec::new();
    let mut from = 0;
    while let Some((first, count)) = memory.next_run(from) {
        frames.extend(first..first + count);
        from = first + count;
    }
    frames
}

/// Which stack, of which processor, and the instruction and stack pointer of each frame.
type Walked = (StackKind, Option<u32>, Vec<(VirtAddr, VirtAddr)>);

/// Every stack, and where its frames are. How far each is trusted is not compared: whole pages of code prove more
/// calls than the windows of a small dump.
fn returns(machine: &Machine) -> Vec<Walked> {
    let frames = |stack: &Stack| stack.frames.iter().map(|f| (f.instruction, f.stack_pointer)).collect();
    machine.stacks().iter().map(|stack| (stack.kind, stack.processor, frames(stack))).collect()
}

#[test]
fn every_container_holds_what_the_small_dump_holds() {
    for sample in SAMPLES {
        let small = Dump::from_bytes(written(sample, Kind::Triage)).unwrap();
        for kind in PAGED {
            let dump = Dump::from_bytes(written(sample, kind)).unwrap();
            assert_eq!(dump.header().dump_type, Some(kind.dump_type()));
            assert_eq!(dump.problems(), [], "{sample} {kind:?}");
            assert_eq!(dump.kdbg(), small.kdbg(), "{sample} {kind:?}");
            assert_eq!(dump.secondary().len(), small.secondary().len(), "{sample} {kind:?}");
            let mut compared = 0;
            for (at, size) in small.memory_runs() {
                let mut expected = vec![0; size as usize];
                small.read(at, &mut expected).unwrap();
                let mut bytes = vec![0; size as usize];
                dump.read(at, &mut bytes).unwrap_or_else(|miss| panic!("{sample} {kind:?}: {miss}"));
                assert_eq!(bytes, expected, "{sample} {kind:?} at {at}");
                compared += size;
            }
            assert!(compared > 0x1_0000, "{sample}: {compared:#x} bytes compared");
        }
    }
}

#[test]
fn an_independent_reader_finds_the_same_memory() {
    for sample in SAMPLES {
        for kind in PAGED.into_iter().filter(|kind| !OURS_ALONE.contains(kind)) {
            let bytes = written(sample, kind);
            let ours = Dump::from_bytes(bytes.clone()).unwrap();
            let theirs = KernelDumpParser::with_reader(Cursor::new(bytes)).unwrap();
            let memory = ours.physical().unwrap();
            let pages: Vec<u64> = theirs.physmem().map(|(at, _)| u64::from(at) >> 12).collect();
            assert_eq!(frames(memory), pages, "{sample} {kind:?}");
            let physical = PhysicalReader::new(&theirs);
            for pfn in pages {
                let (mut here, mut there) = ([0; 0x1000], [0; 0x1000]);
                assert_eq!(memory.read_physical(PhysAddr(pfn << 12), &mut here), Ok(0x1000));
                physical.read_exact(Gpa::new(pfn << 12), &mut there).unwrap();
                assert_eq!(here, there, "{sample} {kind:?} page {pfn:#x}");
            }
        }
    }
}

#[test]
fn an_independent_reader_walks_to_the_same_bytes() {
    for sample in SAMPLES {
        let bytes = written(sample, Kind::BitmapKernel);
        let small = Dump::from_bytes(written(sample, Kind::Triage)).unwrap();
        let ours = Dump::from_bytes(bytes.clone()).unwrap();
        let theirs = KernelDumpParser::with_reader(Cursor::new(bytes)).unwrap();
        let virt = VirtualReader::new(&theirs);
        let mut hits = 0;
        for (start, size) in small.memory_runs() {
            for at in [start, start.plus(size), start.plus(0x1_0000), start.minus(0x1000)] {
                let mut there = [0; 8];
                let theirs =
                    virt.read_exact(Gva::new(at.0), &mut there).is_ok().then(|| u64::from_le_bytes(there));
                let ours = ours.read_u64(at).ok();
                assert_eq!(ours, theirs, "{sample} at {at}");
                hits += usize::from(ours.is_some());
            }
        }
        assert!(hits > 50, "{hits} words compared");
    }
}

#[test]
fn the_machine_is_the_same_in_every_container() {
    let machine =
        |sample, kind| Machine::new(Dump::from_bytes(written(sample, kind)).unwrap(), &SymbolSource::new([]));
    for sample in SAMPLES {
        let small = machine(sample, Kind::Triage);
        for kind in PAGED {
            let full = machine(sample, kind);
            assert_eq!(full.stop(), small.stop(), "{sample} {kind:?}");
            // A small dump keeps twelve letters of a name.
            let unloaded = |machine: &Machine| -> Vec<_> {
                let name = |u: &UnloadedModule| u.name.chars().take(12).collect::<String>();
                machine.unloaded().iter().map(|u| (name(u), u.start, u.end)).collect()
            };
            assert_eq!(unloaded(&full), unloaded(&small), "{sample} {kind:?}");
            assert_eq!(full.modules(), small.modules(), "{sample} {kind:?}");
            assert_eq!(full.build().version.value(), small.build().version.value(), "{sample} {kind:?}");
            assert_eq!(full.thread(), small.thread(), "{sample} {kind:?}");
            assert_eq!(full.processors(), small.processors(), "{sample} {kind:?}");
            assert_eq!(full.context().value(), small.context().value(), "{sample} {kind:?}");
            assert_eq!(full.exception(), small.exception(), "{sample} {kind:?}");
            assert_eq!(full.verifier(), small.verifier(), "{sample} {kind:?}");
            assert_eq!(returns(&full), returns(&small), "{sample} {kind:?}");
            let at = small.context().value().map_or(VirtAddr(0), |context| context.registers.stack_pointer());
            assert_eq!(full.page_table_entries(at), small.page_table_entries(at), "{sample} {kind:?}");
        }
    }
}

/// Addresses worth reading: in and around what the page tables map, across the ends of pages, and anywhere.
fn drawn(runs: &[(u64, u64)], seed: u64, count: u64) -> Vec<u64> {
    let mut state = seed;
    let mut word = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 11 ^ state << 40
    };
    (0..count)
        .map(|n| {
            let (at, size) = runs[word() as usize % runs.len()];
            match n % 8 {
                0..5 => at + word() % size,
                5 => (at + size).wrapping_sub(1 + word() % 7),
                6 => (at + size).wrapping_add(word() % (1 << 32)),
                _ => word(),
            }
        })
        .collect()
}

/// Planted machines of every build: the other reader's virtual reads, hit for hit and miss for miss, and each miss of
/// ours with its reason.
#[test]
fn reads_of_planted_machines_agree_and_misses_have_reasons() {
    let mut builds = std::collections::BTreeSet::new();
    let mut reasons = std::collections::BTreeMap::new();
    let (mut hits, mut misses) = (0, 0);
    for (seed, class) in (0..24).zip(stopcode_synth::plant::Class::ALL.into_iter().cycle()) {
        let (machine, truth) = stopcode_synth::plant::plant(seed, class).unwrap();
        builds.insert(truth.build);
        let bytes = container::write(&machine, Kind::BitmapKernel).unwrap();
        let ours = Dump::from_bytes(bytes.clone()).unwrap();
        let theirs = KernelDumpParser::with_reader(Cursor::new(bytes)).unwrap();
        let virt = VirtualReader::new(&theirs);
        let mut runs: Vec<(u64, u64)> =
            machine.memory.iter().map(|m| (m.at.0, m.bytes.0.len() as u64)).collect();
        runs.extend(machine.stacks.iter().map(|stack| (stack.low.0, stack.high.0 - stack.low.0)));
        runs.extend(machine.modules.iter().map(|module| (module.base.0, 0x1000)));
        for at in drawn(&runs, seed, 1000) {
            let (mut here, mut there) = ([0; 8], [0; 8]);
            let mine = ours.read(VirtAddr(at), &mut here);
            match virt.read_exact(Gva::new(at), &mut there) {
                Ok(()) => {
                    assert_eq!((mine, here), (Ok(()), there), "{class:?} at {at:#x}");
                    hits += 1;
                }
                Err(error) => {
                    let reason = mine.expect_err(&format!("{class:?} at {at:#x}: {error}")).to_string();
                    *reasons
                        .entry(reason.split(|c: char| c.is_ascii_digit()).next().unwrap().to_owned())
                        .or_insert(0) += 1;
                    misses += 1;
                }
            }
        }
    }
    assert!(hits > 10_000 && misses > 3_000, "{hits} hits, {misses} misses");
    assert!(builds.len() >= 5, "{builds:?}");
    assert!(reasons.len() >= 2, "{reasons:?}");
}

/// An ARM64 machine of build 22000: the same description, in another processor's words.
fn arm64() -> stopcode_synth::Machine {
    let mut machine = described("driver-null-write");
    (machine.arch, machine.build) = (stopcode_synth::Arch::Arm64, 22000);
    (machine.bug_check.code.0, machine.exception) = (0x1c8, None);
    machine.traps.clear();
    machine.pages.clear();
    for processor in &mut machine.processors {
        processor.registers.lr = processor.registers.rip;
        processor.registers.x[19] = stopcode_synth::Hex(0x1919);
    }
    machine
}

/// An ARM64 machine is read back from every container, by its own page tables.
#[test]
fn an_arm64_machine_is_read_by_its_own_tables() {
    let machine = arm64();
    for kind in PAGED.into_iter().chain([Kind::Triage]) {
        let read = Machine::new(
            Dump::from_bytes(container::write(&machine, kind).unwrap()).unwrap(),
            &SymbolSource::new([]),
        );
        assert_eq!(read.arch(), stopcode_base::Arch::Arm64, "{kind:?}");
        assert_eq!(read.modules().len(), machine.modules.len(), "{kind:?}");
        assert_eq!(read.processors().len(), machine.processors.len(), "{kind:?}");
        let described = machine.processors.iter().find(|cpu| cpu.number == machine.crash_processor).unwrap();
        let context = read.context().value().unwrap();
        assert_eq!(context.registers.stack_pointer().0, described.registers.rsp.0, "{kind:?}");
        assert_eq!(context.registers.instruction().0, described.registers.rip.0, "{kind:?}");
        let stack = &machine.stacks[0];
        assert!(read.dump().read_u64(VirtAddr(stack.high.0 - 8)).is_ok() || kind == Kind::Triage);
        if kind != Kind::Triage {
            let head = read.dump().read_u64(VirtAddr(machine.modules[0].base.0)).unwrap();
            assert_eq!(head as u16, u16::from_le_bytes(*b"MZ"), "{kind:?}");
            assert!(read.dump().read_u64(VirtAddr(machine.modules[0].base.0 - 0x10_0000)).is_err());
        }
    }
}

/// A module that is a real file lies in memory as its loader would have it, and a stack holds the bytes that were
/// recorded.
#[test]
fn a_module_from_a_file_is_loaded_and_relocated() {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let folder = std::path::Path::new(shared).join("data/pe");
    let Some(driver) = drivers(&folder).into_iter().min_by_key(|path| path.as_os_str().len()) else {
        eprintln!(
            "SKIPPED: a_module_from_a_file_is_loaded_and_relocated: ../shared is not beside the checkout"
        );
        return;
    };
    let base = 0xfffff802_50000000;
    let mut machine = described("driver-null-write");
    machine.modules.push(stopcode_synth::Module {
        path: r"\SystemRoot\System32\drivers\real.sys".to_owned(),
        base: stopcode_synth::Hex(base),
        file: driver.file_name().unwrap().to_str().unwrap().to_owned(),
        ..stopcode_synth::Module::default()
    });
    let recorded = machine.stacks[0].low;
    machine.stacks[0].bytes.push(stopcode_synth::Code {
        at: recorded,
        bytes: vec![0xab; 64].into(),
        about: String::new(),
    });
    machine.read_files(driver.parent().unwrap()).unwrap();
    let dump = Dump::from_bytes(container::write(&machine, Kind::BitmapKernel).unwrap()).unwrap();
    assert_eq!(dump.read_u64(VirtAddr(recorded.0)), Ok(0xabab_abab_abab_abab));
    let file = std::fs::read(&driver).unwrap();
    let u32 = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let pe = u32(0x3c);
    let module = machine.modules.last().unwrap();
    assert_eq!((module.time_stamp.0, module.size.0), (u32(pe + 8) as u64, u32(pe + 0x50) as u64));
    assert_eq!(dump.read_u64(VirtAddr(base + pe as u64 + 0x30)), Ok(base), "ImageBase");
    // Code of x64 needs no relocation: the first section lies in memory as in the file.
    let section = pe + 0x18 + (u32(pe + 0x14) & 0xffff);
    let (rva, raw, size) =
        (u32(section + 0xc), u32(section + 0x14), u32(section + 8).min(u32(section + 0x10)));
    let mut code = vec![0; size];
    dump.read(VirtAddr(base + rva as u64), &mut code).unwrap();
    assert!(code == file[raw..raw + size]);
    let read = Machine::new(dump, &SymbolSource::new([]));
    let listed = read.modules().iter().find(|module| module.base.0 == base).unwrap();
    assert_eq!(listed.time_date_stamp, Some(module.time_stamp.0 as u32));
}

/// x64 drivers anywhere below a folder.
fn drivers(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            found.extend(drivers(&path));
        } else if path.extension().is_some_and(|extension| extension == "sys")
            && std::fs::read(&path).is_ok_and(|file| file.windows(6).any(|at| at == b"PE\0\0\x64\x86"))
        {
            found.push(path);
        }
    }
    found
}

/// Pages that are not valid and yet in memory: what was described at their address is read at it.
#[test]
fn pages_in_transition_and_behind_prototypes_are_read() {
    use stopcode_synth::{Code, Hex, Page};
    let mut machine = described("driver-null-write");
    let table = |n: u64| Hex((0x5_0000 + n) << 12 | 0x63);
    // Two pages under the same tables, away from all else; the prototype of the second lies in a page of its own.
    let (first, prototype) = (0xffffd000_00000000_u64, 0xffffd080_00000040_u64);
    let entries = |last: u64| vec![table(0), table(1), table(2), Hex(last)];
    machine.pages.push(Page { of: Hex(first), entries: entries(0x6_0000 << 12 | 0x880) });
    machine.pages.push(Page { of: Hex(first + 0x1000), entries: entries(prototype << 16 | 0x400) });
    machine.pages.push(Page { of: Hex(first + 0x2000), entries: entries(7 << 32 | 0x80) });
    let code = |at: u64, bytes: Vec<u8>| Code { at: Hex(at), bytes: bytes.into(), about: String::new() };
    let real = 0x6_0001_u64 << 12 | 0x63;
    machine.memory.push(code(prototype, real.to_le_bytes().to_vec()));
    machine.memory.push(code(first, vec![0x11; 16]));
    machine.memory.push(code(first + 0x1000, vec![0x22; 16]));
    let dump = Dump::from_bytes(container::write(&machine, Kind::BitmapFull).unwrap()).unwrap();
    assert_eq!(dump.read_u64(VirtAddr(first)), Ok(0x1111_1111_1111_1111));
    assert_eq!(dump.read_u64(VirtAddr(first + 0x1000)), Ok(0x2222_2222_2222_2222));
    assert!(dump.read_u64(VirtAddr(first + 0x2000)).is_err());
    // What is in the page file cannot hold described bytes.
    machine.memory.push(code(first + 0x2000, vec![0x33; 16]));
    assert!(container::write(&machine, Kind::BitmapFull).is_err());
}
