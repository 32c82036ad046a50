//! One machine in every container: our reader and an independent one find the same memory in each.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

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
    stopcode_synth::Machine::read(path.as_ref()).unwrap()
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
        // Of a machine with images only whole memory holds what its frames are unwound by.
        let has_images = described(sample).modules.iter().any(|module| !module.file.is_empty());
        let frames = returns(&machine(sample, if has_images { Kind::Full } else { Kind::Triage }));
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
            assert!(returns(&full) == frames, "{sample} {kind:?}: other frames");
            let at = small.context().value().map_or(VirtAddr(0), |context| context.registers.stack_pointer());
            assert_eq!(full.page_table_entries(at), small.page_table_entries(at), "{sample} {kind:?}");
        }
    }
}
