//! The committed samples are what their descriptions say, and tell what their README says.

use crate::reader::{Dump, SAMPLES, sample, sample_path};
use std::fs;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::triage;

/// The sample of 32 bits, whose parts the reader here does not know.
const X86: &str = "driver-null-write-x86";
/// The seed's machine with all its memory.
const KERNEL_DUMP: &str = "seed-double-fault-kernel";

fn written(name: &str) -> Dump {
    Dump::new(triage::write(&sample(name)).unwrap())
}

#[test]
fn committed_dumps_are_up_to_date() {
    let small = SAMPLES.into_iter().chain([X86]);
    let small = small.map(|name| (name.to_owned(), 300_000, triage::write(&sample(name)).unwrap()));
    let whole = container::write(&sample("seed-double-fault"), Kind::BitmapKernel).unwrap();
    for (name, limit, again) in small.chain([(KERNEL_DUMP.to_owned(), 1_500_000, whole)]) {
        let committed = fs::read(sample_path(&format!("{name}.dmp"))).unwrap();
        assert!(committed.len() < limit, "{name} is too large");
        assert!(
            committed == again,
            "{name}.dmp is stale: run `cargo run -p stopcode-synth --example samples`"
        );
    }
    let readme = fs::read_to_string(sample_path("README.md")).unwrap();
    assert!(
        SAMPLES.iter().chain([&X86, &KERNEL_DUMP]).all(|name| readme.contains(name)),
        "README.md names every sample"
    );
}

#[test]
fn every_sample_is_a_sound_small_dump() {
    for name in SAMPLES {
        written(name).check();
    }
}

#[test]
fn no_two_blocks_disagree() {
    for name in SAMPLES {
        let dump = written(name);
        let mut blocks = dump.blocks.clone();
        blocks.sort_unstable();
        for pair in blocks.windows(2) {
            let ((a, _, size), (b, ..)) = (pair[0], pair[1]);
            assert!(a + size as u64 <= b, "{name}: {a:#x} and {b:#x} overlap");
        }
    }
}

#[test]
fn every_described_call_is_a_call() {
    for name in SAMPLES {
        let (machine, dump) = (sample(name), written(name));
        for call in &machine.calls {
            let back = if call.import { 6 } else { 5 };
            let at = dump.place(call.returns_to.0 - back, back as usize).unwrap();
            let opcode = if call.import { &[0xff, 0x15][..] } else { &[0xe8] };
            assert!(dump.file[at..].starts_with(opcode), "{name}: call before {:?}", call.returns_to);
            let distance = i64::from(dump.u32(at + opcode.len()) as i32);
            assert_eq!(call.returns_to.0.wrapping_add_signed(distance), call.target.0);
        }
    }
}

/// The post's listing: `k`'s Child-SP and RetAddr, as printed there.
const LISTING: [(u64, u64); 13] = [
    (0xfffff880_009b9de8, 0xfffff800_0328b169),
    (0xfffff880_009b9df0, 0xfffff800_03289632),
    (0xfffff880_009b9f30, 0xfffff800_032aa875),
    (0xfffff880_03dccfd0, 0xfffff800_032909ba),
    (0xfffff880_03dcd090, 0xfffff800_032ec198),
    (0xfffff880_03dcd160, 0xfffff800_033935ea),
    (0xfffff880_03dcd350, 0xfffff800_03394be7),
    (0xfffff880_03dcd400, 0xfffff800_0372f371),
    (0xfffff880_03dcd460, 0xfffff800_0372f4cf),
    (0xfffff880_03dcd490, 0xfffff800_0372fc24),
    (0xfffff880_03dcd4d0, 0xfffff880_018443f5),
    (0xfffff880_03dcd530, 0xfffff880_018222a2),
    (0xfffff880_03dcd560, 0xfffff880_01871489),
];

#[test]
fn seed_double_fault_is_the_posts_crash() {
    let dump = written("seed-double-fault");
    let arguments = [0x40, 0x48, 0x50, 0x58].map(|at| dump.u64(at));
    assert_eq!((dump.u32(0x38), arguments), (0x7f, [8, 0x80050033, 0x406f8, 0xfffff800_032aa875]));
    assert_eq!((dump.u32(0xc), dump.u32(0x34), dump.u32(0x2074)), (7601, 8, 0x340));
    // The header's context stands in KeBugCheckEx on the double fault's stack.
    assert_eq!((dump.u64(0x348 + 0x98), dump.u64(0x2048)), (LISTING[0].0, LISTING[0].0));
    for (n, pair) in LISTING.windows(2).enumerate().filter(|(n, _)| *n != 2) {
        assert_eq!(dump.word(pair[1].0 - 8), Some(pair[0].1), "return address of frame {n}");
    }
    // The frame that crosses to the thread's stack is the machine's own.
    let trap = LISTING[2].0;
    assert_eq!(dump.word(trap + 0x168), Some(LISTING[2].1));
    assert_eq!(dump.word(trap + 0x180), Some(LISTING[3].0));
    // ub: the bytes up to the instruction.
    let bytes = [
        0x5e, 0x5d, 0xc3, 0x8b, 0xc6, 0xe9, 0xe2, 0xfe, 0xff, 0xff, 0x0f, 0xb7, 0x0d, 0xb4, 0x89, 0x21, 0,
        0x0f, 0xb7, 0x05, 0xaf, 0x89, 0x21, 0, 0x8b, 0xfa,
    ];
    let at = dump.place(0xfffff800_032aa85b, 26).unwrap();
    assert_eq!(dump.file[at..at + 26], bytes);
    // lmvm iaStor.
    let modules = dump.modules();
    let module = modules.iter().find(|m| m.3.ends_with("iaStor.sys")).unwrap();
    assert_eq!((module.0, module.1, module.2), (0xfffff880_0181f000, 0x3a4000, 0x4f298f4c));
    assert_eq!(module.3, r"\SystemRoot\system32\DRIVERS\iaStor.sys");
    // !ipi.
    let frozen: Vec<u32> = dump.processors().into_iter().map(|prcb| dump.u32(prcb + 0x2104)).collect();
    assert_eq!(frozen, [2, 2, 2, 2, 0, 2, 2, 2]);
}

#[test]
fn seed_double_fault_shows_the_guard_page() {
    let dump = written("seed-double-fault");
    // Windows 7 keeps StackBase away from StackLimit: 278 and 30.
    let thread = dump.u32(0x2024) as usize;
    let (limit, base) = (dump.u64(thread + 0x30), dump.u64(thread + 0x278));
    assert_eq!((limit, base), (0xfffff880_03dcd000, 0xfffff880_03dd3000));
    let self_map = 0xfffff680_00000000;
    assert_eq!(dump.tables(self_map, limit - 8)[0], Some(0));
    assert_eq!(dump.tables(self_map, limit)[0].unwrap() & 1, 1);
    assert!(dump.tables(self_map, limit).iter().all(Option::is_some));
    assert_eq!(dump.word(limit - 8), None, "nothing is stored below the limit");
    assert!(dump.word(limit).is_some() && dump.word(base - 8).is_some(), "the whole stack is stored");
    // MmVerifierData.Level forces IRQL checking.
    let level = dump.word(dump.u64(dump.kdbg() + 0x248)).unwrap() as u32;
    assert_eq!(level & 2, 2);
}

#[test]
fn driver_null_write_faults_where_it_says() {
    let dump = written("driver-null-write");
    let ip = dump.u64(0x58);
    assert_eq!((dump.u32(0x38), dump.u64(0x40), dump.u64(0x48), dump.u64(0x50)), (0xd1, 0x18, 2, 1));
    let at = dump.place(ip, 3).unwrap();
    assert_eq!(dump.file[at..at + 3], [0x89, 0x48, 0x18], "mov [rax+18h],ecx");
    let driver = dump.modules().into_iter().find(|m| (m.0..m.0 + u64::from(m.1)).contains(&ip)).unwrap();
    assert!(driver.3.ends_with(r"\exnetflt.sys"));
    // The trap frame above the context: rip, rax = 0, the address, the level.
    let rsp = dump.u64(0x348 + 0x98);
    let trap = rsp + 0x148;
    assert_eq!((dump.word(trap + 0x168), dump.word(trap + 0x30)), (Some(ip), Some(0)));
    assert_eq!((dump.word(trap + 0xd0), dump.word(trap + 0x28).unwrap() >> 8 & 0xff), (Some(0x18), 2));
    let prcbs = dump.processors();
    let state = |at: usize| (dump.u32(at + 0x24), dump.u32(at + 0x2d88), dump.file[at + 0x312a]);
    assert_eq!(
        prcbs.into_iter().map(state).collect::<Vec<_>>(),
        [(0, 2, 0), (1, 2, 0), (2, 0, 1), (3, 2, 0)]
    );
}

#[test]
fn memory_bit_flip_differs_by_one_bit() {
    let dump = written("memory-bit-flip");
    let [subcode, entry, contents] = [0x40, 0x48, 0x50].map(|at| dump.u64(at));
    assert_eq!((dump.u32(0x38), subcode, contents.count_ones()), (0x1a, 0x41792, 1));
    assert_eq!(dump.word(entry), Some(contents), "the dump holds the entry itself");
    // The entry lies in the page tables' region, which KDBG names.
    let self_map = dump.u64(dump.kdbg() + 0x360);
    assert_eq!(entry >> 39, self_map >> 39);
    // KPRCB.Context of each processor, at 85c0.
    for prcb in dump.processors() {
        let context = dump.place(dump.u64(prcb + 0x85c0), 0x4d0).unwrap();
        assert!(dump.word(dump.u64(context + 0x98)).is_some(), "its stack is stored");
    }
}

/// Identity by which a kernel is looked up.
#[test]
fn windows_10_samples_name_a_real_kernel() {
    for name in ["driver-null-write", "memory-bit-flip"] {
        let (base, size, stamp, path) = written(name).modules().remove(0);
        assert_eq!((size, stamp), (0x1046000, 0x0d8333e6), "10.0.19041.804");
        assert!(path.ends_with("ntoskrnl.exe"));
        let dump = written(name);
        assert_eq!((dump.u64(0x80) - base, dump.u64(0x20) - base), (0xc00b20, 0xc2a390));
    }
}
