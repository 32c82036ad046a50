//! Memory without a dump header: the kernel is found by scan, its debugger data decoded; and dumps whose header does not
//! tell, or tells wrongly, where page tables and debugger data are.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // Helpers of tests are tests.

mod common;

use common::{header, put16, put32, put64};
use stopcode_base::{Arch, Memory, MissReason, PhysAddr, VirtAddr};
use stopcode_dump::paging::{EntryKind, Paging};
use stopcode_dump::{Dump, Kind, Lookalike, OpenError};

const KERNEL: u64 = 0xffff_f800_1240_0000;
const SHARED: u64 = 0xffff_f780_0000_0000;
/// The block begins at the end of a page.
const KDBG: u64 = KERNEL + 0x2ff0;
const LIST: u64 = KERNEL + 0x3800;
const STOP: u64 = KERNEL + 0x3900;
const PRCBS: u64 = KERNEL + 0x3a00;
const SIZE: usize = 2 << 20;

/// How a running system encodes the block.
#[derive(Clone, Copy)]
struct Secret {
    never: u64,
    always: u64,
    address: u64,
}

impl Secret {
    fn encode(self, plain: u64) -> u64 {
        let word = (plain ^ self.always).swap_bytes() ^ self.address;
        word.rotate_right(self.never as u32 & 63) ^ self.never
    }
}

const SECRET: Secret =
    Secret { never: 0x9d3c_11f0_77ab_24e5, always: 0x0123_8899_feed_4711, address: KERNEL + 0x3c00 };

/// A machine's physical memory: tables at 0x1000 to 0x7000, shared data at 0x8000, the kernel from 0x10000 on.
fn memory(secret: Option<Secret>, machine: u16) -> Vec<u8> {
    let mut m = vec![0; SIZE];
    let entry = |frame: u64| if machine == 0xaa64 { frame | 0x703 } else { frame | 0x863 };
    let top = 0x1000;
    put64(&mut m, top + 8 * 0x1fb, entry(0x1000));
    put64(&mut m, top + 8 * 0x1ef, entry(0x3000));
    put64(&mut m, top + 8 * 0x1f0, entry(0x2000));
    put64(&mut m, 0x3000, entry(0x4000));
    put64(&mut m, 0x4000, entry(0x5000));
    put64(&mut m, 0x5000, entry(0x8000));
    put64(&mut m, 0x2000, entry(0x6000));
    put64(&mut m, 0x6000 + 8 * 0x92, entry(0x7000));
    for page in 0..5 {
        put64(&mut m, 0x7000 + 8 * page, entry(0x1_0000 + 0x1000 * page as u64));
    }
    // KUSER_SHARED_DATA.
    put64(&mut m, 0x8008, 37_470_697);
    put64(&mut m, 0x8014, 132_584_027_029_877_650);
    for (n, unit) in r"C:\Windows".encode_utf16().enumerate() {
        put16(&mut m, 0x8030 + 2 * n, unit);
    }
    put32(&mut m, 0x8260, 0xf000_4a61);
    put32(&mut m, 0x8264, 3);
    put32(&mut m, 0x826c, 10);
    // The image: its own name in the export directory, a section of code and one of data.
    let image = 0x1_0000;
    m[image..image + 2].copy_from_slice(b"MZ");
    put32(&mut m, image + 0x3c, 0x80);
    m[image + 0x80..image + 0x84].copy_from_slice(b"PE\0\0");
    put16(&mut m, image + 0x84, machine);
    put16(&mut m, image + 0x86, 2);
    put16(&mut m, image + 0x94, 0xf0);
    put16(&mut m, image + 0x98, 0x20b);
    put32(&mut m, image + 0x98 + 0x70, 0x1000);
    for (n, (name, rva, size, flags)) in
        [(b".text\0\0\0", 0x1000, 0x1000, 0x6000_0020_u32), (b".data\0\0\0", 0x2000, 0x3000, 0xc000_0040)]
            .into_iter()
            .enumerate()
    {
        let at = image + 0x188 + 0x28 * n;
        m[at..at + 8].copy_from_slice(name);
        put32(&mut m, at + 8, size);
        put32(&mut m, at + 0xc, rva);
        put32(&mut m, at + 0x24, flags);
    }
    put32(&mut m, image + 0x100c, 0x1100);
    m[image + 0x1100..image + 0x110d].copy_from_slice(b"ntoskrnl.exe\0");
    // The debugger data block.
    let mut block = vec![0; 0x380];
    put64(&mut block, 0, KERNEL + 0x3f00);
    put64(&mut block, 8, KERNEL + 0x3f00);
    block[0x10..0x14].copy_from_slice(b"KDBG");
    put32(&mut block, 0x14, 0x380);
    put64(&mut block, 0x18, KERNEL);
    put64(&mut block, 0x48, LIST);
    put64(&mut block, 0x88, STOP);
    put64(&mut block, 0x218, PRCBS);
    put64(&mut block, 0x360, 0xffff_fd80_0000_0000);
    let at = image + (KDBG - KERNEL) as usize;
    for (n, word) in block.chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes(word.try_into().unwrap());
        put64(&mut m, at + 8 * n, secret.map_or(word, |secret| secret.encode(word)));
    }
    // Variables: a list of one module, a stop, two processors.
    let at = |address: u64| image + (address - KERNEL) as usize;
    put64(&mut m, at(LIST), LIST + 0x20);
    put64(&mut m, at(LIST) + 0x20 + 0x30, KERNEL);
    for (n, word) in [0xd1, 0x11, 2, 1, 0x44].into_iter().enumerate() {
        put64(&mut m, at(STOP) + 8 * n, word);
    }
    put64(&mut m, at(PRCBS), 0xffff_f800_2000_0180);
    put64(&mut m, at(PRCBS) + 8, 0xffff_f800_2000_8180);
    m
}

/// A core as QEMU writes it: notes, then memory in two pieces.
fn elf(memory: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 0x200];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    put16(&mut file, 0x10, 4);
    put16(&mut file, 0x12, 62);
    put64(&mut file, 0x20, 0x40);
    put16(&mut file, 0x36, 0x38);
    put16(&mut file, 0x38, 3);
    put32(&mut file, 0x40, 4);
    let half = memory.len() / 2;
    // Stored in the other order.
    for (n, (at, offset)) in [(0, 0x200 + half), (half, 0x200)].into_iter().enumerate() {
        let header = 0x78 + 0x38 * n;
        put32(&mut file, header, 1);
        put64(&mut file, header + 8, offset as u64);
        put64(&mut file, header + 0x18, at as u64);
        put64(&mut file, header + 0x20, half as u64);
        put64(&mut file, header + 0x28, half as u64);
    }
    file.extend(&memory[half..]);
    file.extend(&memory[..half]);
    file
}

/// What firmware writes: a section of processors, then memory.
fn uefi(memory: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 0x38 + 2 * 0x40];
    file[..8].copy_from_slice(b"Raw_Dmp!");
    put16(&mut file, 8, 1);
    put32(&mut file, 0xc, 1);
    put32(&mut file, 0x34, 2);
    for (n, kind) in [2, 1].into_iter().enumerate() {
        let section = 0x38 + 0x40 * n;
        put32(&mut file, section + 8, kind);
        put64(&mut file, section + 0xc, 0x38 + 2 * 0x40);
        put64(&mut file, section + 0x14, memory.len() as u64);
        put64(&mut file, section + 0x1c, 0);
    }
    file.extend(memory);
    file
}

fn problem_with(dump: &Dump, text: &str) -> bool {
    dump.problems().iter().any(|problem| problem.what.contains(text))
}

fn check(dump: &Dump, kind: Kind) {
    assert_eq!(dump.kind(), kind);
    let header = dump.header();
    assert_eq!((header.arch, header.minor_version), (Some(Arch::X64), 19_041), "{kind}");
    assert_eq!((header.bug_check_code, header.bug_check_parameters), (0xd1, [0x11, 2, 1, 0x44]));
    assert_eq!((header.number_processors, header.product_type), (2, Some(3)));
    assert_eq!(header.system_uptime, Some(37_470_697));
    assert_eq!(header.ps_loaded_module_list, Some(VirtAddr(LIST)));
    assert_eq!(header.directory_table_base, Some(PhysAddr(0x1000)));
    assert_eq!(dump.kdbg().unwrap().kern_base(), Some(VirtAddr(KERNEL)));
    assert_eq!(dump.read_u32(VirtAddr(KERNEL)).unwrap() as u16, u16::from_le_bytes(*b"MZ"));
    assert!(problem_with(dump, "no dump header"), "{:?}", dump.problems());
}

#[test]
fn a_kernel_is_found_in_plain_memory() {
    for secret in [Some(SECRET), None] {
        let memory = memory(secret, 0x8664);
        for (bytes, kind) in
            [(memory.clone(), Kind::Plain), (elf(&memory), Kind::ElfCore), (uefi(&memory), Kind::UefiRaw)]
        {
            let dump = Dump::from_bytes(bytes).unwrap();
            check(&dump, kind);
            assert_eq!(dump.kdbg().unwrap().was_encoded(), secret.is_some());
            assert_eq!(dump.address_space().unwrap().paging(), Paging::X64FourLevel);
        }
    }
    let dump = Dump::from_bytes(memory(Some(SECRET), 0xaa64)).unwrap();
    assert_eq!(dump.header().arch, Some(Arch::Arm64));
    assert_eq!(dump.address_space().unwrap().paging(), Paging::Arm64);
}

#[test]
fn what_holds_no_kernel_is_refused_as_what_it_looks_like() {
    let mut without = memory(None, 0x8664);
    without[0x1_0080..0x1_0084].copy_from_slice(b"NE\0\0");
    let refused = |bytes: Vec<u8>| match Dump::from_bytes(bytes).unwrap_err() {
        OpenError::NotADump { what } => what,
        other => panic!("{other}"),
    };
    assert_eq!(refused(elf(&without)), Lookalike::Elf);
    assert_eq!(refused(uefi(&without)), Lookalike::UefiRaw);
    // Its first pages are empty, and not all of it.
    assert!(matches!(
        Dump::from_bytes(without.clone()),
        Err(OpenError::NotADump { .. } | OpenError::Zeros { .. })
    ));
    assert!(matches!(Dump::from_bytes(vec![0; SIZE]), Err(OpenError::Zeros { .. })));
    without[..4].copy_from_slice(b"\xeb\x3c\x90\0");
    assert_eq!(refused(without), Lookalike::Unknown);
}

#[test]
fn any_cut_of_an_image_is_survived() {
    let memory = memory(Some(SECRET), 0x8664);
    for whole in [memory.clone(), elf(&memory), uefi(&memory)] {
        let mut read = 0;
        for size in (0..whole.len()).step_by(0x4_0000).chain([0x1, 0x20, 0x39, 0x60, 0xb7, 0x1ff]) {
            if let Ok(dump) = Dump::from_bytes(whole[..size].to_vec()) {
                read += common::exercise(&dump);
                assert!(dump.kind() == Kind::Plain || problem_with(&dump, "past the end of the file"));
            }
        }
        assert!(read > 0 || whole.starts_with(b"\x7fELF"), "some part was enough");
    }
}

/// A complete dump of that memory, whose header tells what is given.
/// Found by fuzzing: what two such segments lack together is more than a number holds.
#[test]
fn segments_that_claim_all_memory_are_told() {
    let mut file = elf(&memory(None, 0x8664));
    for header in [0x78, 0xb0] {
        put64(&mut file, header + 0x20, u64::MAX);
        put64(&mut file, header + 0x28, u64::MAX);
    }
    if let Ok(dump) = Dump::from_bytes(file) {
        assert!(problem_with(&dump, "past the end of the file"), "{:?}", dump.problems());
    }
}

fn full(memory: &[u8], table: u64, kdbg: u64) -> Dump {
    let mut bytes = header(1);
    put64(&mut bytes, 0x10, table);
    put64(&mut bytes, 0x20, LIST);
    put64(&mut bytes, 0x80, kdbg);
    let pages = memory.len() as u64 / 0x1000;
    for (at, value) in [(0x90, pages), (0x98, 0), (0xa0, pages)] {
        put64(&mut bytes, at, value);
    }
    put32(&mut bytes, 0x88, 1);
    bytes.extend(memory);
    Dump::from_bytes(bytes).unwrap()
}

#[test]
fn an_encoded_block_of_a_dump_is_decoded() {
    let memory = memory(Some(SECRET), 0x8664);
    let dump = full(&memory, 0x1000, KDBG);
    assert!(dump.kdbg().unwrap().was_encoded());
    assert_eq!(dump.kdbg().unwrap().get("PteBase"), Some(0xffff_fd80_0000_0000));
    assert!(problem_with(&dump, "encoded, as a running system keeps it"), "{:?}", dump.problems());
    // Where the header points elsewhere, or nowhere.
    for kdbg in [KERNEL + 0x3000, 0x4547_4150_4547_4150] {
        let dump = full(&memory, 0x1000, kdbg);
        assert_eq!(dump.kdbg().unwrap().get("KernBase"), Some(KERNEL));
        assert!(problem_with(&dump, "found at 0xfffff80012402ff0"), "{:?}", dump.problems());
    }
}

#[test]
fn other_tables_are_used_where_the_headers_lead_nowhere() {
    let memory = memory(None, 0x8664);
    for table in [0x9000, 0x1ad000, 0xffff_ffff_f000, 0x4547_4150_4547_4150] {
        let dump = full(&memory, table, KDBG);
        assert!(problem_with(&dump, "which a search found at 0x1000"), "{:?}", dump.problems());
        assert_eq!(dump.kdbg().unwrap().kern_base(), Some(VirtAddr(KERNEL)));
    }
    assert!(!problem_with(&full(&memory, 0x1000, KDBG), "search"));
}

#[test]
fn a_walk_tells_what_pte_shows() {
    let dump = full(&memory(None, 0x8664), 0x1000, KDBG);
    let walk = dump.walk(None, VirtAddr(KERNEL + 0x1234)).unwrap();
    let shown: Vec<_> = walk
        .entries()
        .map(|e| (e.level, e.mapped_at.unwrap().0, e.value, e.pfn().unwrap(), e.flags.to_string()))
        .collect();
    let flags = || "---DA--KWEV".to_owned();
    assert_eq!(
        shown,
        [
            (4, 0xffff_fdfe_ff7f_bf80, 0x2863, 2, flags()),
            (3, 0xffff_fdfe_ff7f_0000, 0x6863, 6, flags()),
            (2, 0xffff_fdfe_fe00_0490, 0x7863, 7, flags()),
            (1, 0xffff_fdfc_0009_2008, 0x1_1863, 0x11, flags()),
        ]
    );
    assert_eq!(walk.physical(), Some(PhysAddr(0x1_1234)));
    // Another process' tables: here an empty page.
    let other = dump.walk(Some(PhysAddr(0x9000)), VirtAddr(KERNEL)).unwrap();
    assert_eq!(other.outcome, Err(MissReason::NotMapped { level: 4 }));
    assert_eq!(other.entries().map(|entry| entry.kind).collect::<Vec<_>>(), [EntryKind::Empty]);
}

#[test]
fn shared_data_is_read_through_the_same_tables() {
    let dump = full(&memory(None, 0x8664), 0x1000, KDBG);
    assert_eq!(dump.read_u32(VirtAddr(SHARED + 0x26c)), Ok(10));
}
