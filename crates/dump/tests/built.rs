//! Dumps built by hand, whole and damaged in known ways.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // Helpers of tests are tests.

mod common;

use common::{HEAP, KDBG, KERNEL, PRCB, PROCESS, Plan, STACK, THREAD, header, header32, put16, put32, put64};
use stopcode_base::{Arch, Memory, MissReason, Severity, VirtAddr};
use stopcode_dump::{Attributes, Bits, Content, Dump, Kind, Lookalike, OpenError};

fn dump(bytes: Vec<u8>) -> Dump {
    Dump::from_bytes(bytes).unwrap()
}

fn problem_with(dump: &Dump, words: &str) -> bool {
    dump.problems().iter().any(|p| p.what.contains(words) || p.place.contains(words))
}

#[test]
fn a_whole_dump_gives_all_it_holds() {
    let d = dump(Plan::default().build());
    assert_eq!(d.problems(), []);
    assert_eq!((d.kind(), d.kind_id()), (Kind::Triage, "triage64"));
    let h = d.header();
    assert_eq!((h.arch, h.minor_version, h.number_processors), (Some(Arch::X64), 19041, 4));
    assert_eq!((h.bug_check_code, h.bug_check_parameters), (0xd1, [0x11, 0x22, 0x33, 0x44]));
    assert_eq!(h.system_uptime, Some(37_470_697));
    assert_eq!((&h.comment, h.attributes, h.boot_id, h.context), (&None, None, None, None));
    let t = d.triage().unwrap();
    assert!(t.valid);
    assert_eq!(t.drivers.len(), 2);
    assert_eq!(t.drivers[1].path, r"\Driver\b.sys");
    assert_eq!(t.drivers[1].base, VirtAddr(KERNEL + 0x200_0000));
    assert_eq!((t.drivers[1].size, t.drivers[1].checksum), (0x2000, 0x1234));
    assert_eq!(t.drivers[1].time_date_stamp, 0x5eed_0001);
    assert_eq!(t.strings().count(), 2);
    assert_eq!((t.unloaded[1].name.as_str(), t.unloaded[1].name_truncated), ("dump_storpor", true));
    assert_eq!(t.prcb_address, Some(VirtAddr(PRCB)));
    assert_eq!(t.thread_address, Some(VirtAddr(THREAD)));
    assert_eq!(t.process_address, Some(VirtAddr(PROCESS)));
    assert_eq!(d.kdbg().unwrap().kern_base(), Some(VirtAddr(KERNEL)));
    assert_eq!(d.secondary().len(), 2);
    assert_eq!(d.secondary()[0].name, Some("nt!PopBlackBoxBsdGuid"));
    assert_eq!(d.secondary()[0].content(), Some(Content::BootStatusSize(0xc0)));
    assert_eq!(d.secondary()[1].guid.to_string(), "11111111-2222-3333-4444-555566667777");
}

#[test]
fn memory_is_where_the_dump_says() {
    let d = dump(Plan::default().build());
    assert_eq!(d.read_u8(VirtAddr(HEAP + 0x42)), Ok(0x42));
    assert_eq!(d.read_u8(VirtAddr(HEAP + 0x83)), Ok(0xee), "the later block counts");
    assert_eq!(d.read_u8(VirtAddr(HEAP + 0x88)), Ok(0x88));
    assert_eq!(d.read_u64(VirtAddr(HEAP + 0x7c)), Ok(0xeeee_eeee_7f7e_7d7c));
    let miss = d.read_u64(VirtAddr(HEAP + 0xfc)).unwrap_err();
    assert_eq!((miss.at, miss.got, miss.reason), (VirtAddr(HEAP + 0x100), 4, MissReason::NotInDump));
    assert_eq!(d.read_u64(VirtAddr(PRCB + 8)), Ok(THREAD));
    assert_eq!(d.read_u64(VirtAddr(THREAD + 0xb8)), Ok(PROCESS));
    assert_eq!(d.read_u8(VirtAddr(PROCESS)), Ok(3));
    assert_eq!(d.read_u8(VirtAddr(STACK + 0xff)), Ok(0x5a));
    assert_eq!(d.read_u64(VirtAddr(KDBG + 0x18)), Ok(KERNEL));
    assert_eq!(d.read_u8(VirtAddr(1 << 63)).unwrap_err().reason, MissReason::NotCanonical);
}

#[test]
fn an_address_without_proof_is_not_invented() {
    let d = dump(Plan { lists: 0, ..Plan::default() }.build());
    let t = d.triage().unwrap();
    assert_eq!(t.prcb_address, None);
    assert_eq!(t.thread_address, Some(VirtAddr(THREAD)), "the PRCB names it");
    assert!(d.read_u8(VirtAddr(PRCB)).is_err());
    let mut bytes = Plan { lists: 0, ..Plan::default() }.build();
    let thread = u32::from_le_bytes(bytes[0x2024..0x2028].try_into().unwrap()) as usize;
    bytes[thread] = 0x99;
    assert_eq!(dump(bytes).triage().unwrap().thread_address, None);
}

#[test]
fn a_cut_file_keeps_what_it_has_and_names_the_rest() {
    let whole = Plan::default().build();
    let at = u32::from_le_bytes(whole[0x2078..0x207c].try_into().unwrap()) as usize;
    let d = dump(whole[..at + 3 * 16 + 0x10].to_vec());
    assert!(!d.triage().unwrap().valid);
    assert_eq!(d.triage().unwrap().drivers.len(), 2);
    assert_eq!(d.read_u8(VirtAddr(HEAP + 0xf)), Ok(0xf));
    assert_eq!(d.read_u8(VirtAddr(HEAP + 0x10)).unwrap_err().reason, MissReason::FileTruncated);
    assert!(problem_with(&d, "the dump in it was to have"));
    assert!(problem_with(&d, "3 of 3 blocks"));
}

#[test]
fn every_length_gives_an_answer() {
    let whole = Plan::default().build();
    let end = u32::from_le_bytes(whole[0x2004..0x2008].try_into().unwrap()) as usize;
    for length in 0..whole.len() {
        match Dump::from_bytes(whole[..length].to_vec()) {
            Err(OpenError::Empty) => assert_eq!(length, 0),
            Err(OpenError::TooShort { size }) => assert!(size as usize == length && length < 0x60),
            Err(other) => panic!("{length:#x}: {other}"),
            Ok(d) => {
                assert!(length >= 0x60);
                assert_eq!(d.header().bug_check_code, 0xd1);
                let said = d.problems().iter().any(|p| p.severity > Severity::Note);
                // At the end of the dump proper, and between two blobs, nothing shows that more was to come.
                let boundaries = [end, end + 0x10, end + 0x38];
                assert!(
                    said || boundaries.contains(&length),
                    "{length:#x} says nothing of the cut; the dump ends at {end:#x}"
                );
                common::exercise(&d);
            }
        }
    }
}

#[test]
fn counts_that_are_too_big_are_cut_to_the_room_there_is() {
    for field in [0x2034, 0x203c, 0x207c, 0x202c, 0x2074] {
        let mut bytes = Plan::default().build();
        put32(&mut bytes, field, u32::MAX);
        let d = dump(bytes);
        assert!(!d.problems().is_empty(), "{field:#x}");
        assert!(common::exercise(&d) < 1 << 20);
    }
    let mut bytes = Plan::default().build();
    put32(&mut bytes, 0x2034, 0x1000);
    let d = dump(bytes);
    assert_eq!(d.triage().unwrap().drivers.len(), 2);
    assert!(problem_with(&d, "there is room for"));
    let mut bytes = Plan::default().build();
    let table = u32::from_le_bytes(bytes[0x2018..0x201c].try_into().unwrap()) as usize;
    put64(&mut bytes, table, u64::MAX);
    assert_eq!(dump(bytes).triage().unwrap().unloaded.len(), 2);
}

#[test]
fn more_blocks_than_any_dump_has_are_not_all_read() {
    let mut bytes = header(4);
    bytes.resize(0x2080 + 16 * 200_000, 0x80);
    bytes[0x2000..0x2080].fill(0);
    put32(&mut bytes, 0x2078, 0x2080);
    put32(&mut bytes, 0x207c, 200_000);
    let d = dump(bytes);
    assert_eq!(d.triage().unwrap().data_blocks.len(), 1 << 17);
    assert!(problem_with(&d, "200000 blocks"));
}

#[test]
fn one_damaged_offset_costs_one_part() {
    for field in [0x2014, 0x2018, 0x201c, 0x2020, 0x2024, 0x2028, 0x2030, 0x2038, 0x2070, 0x2078] {
        let mut bytes = Plan::default().build();
        put32(&mut bytes, field, 0x7fff_0000);
        let d = dump(bytes);
        assert!(problem_with(&d, "left out"), "{field:#x}");
        let t = d.triage().unwrap();
        assert_eq!(t.drivers.is_empty(), field == 0x2030);
        assert_eq!(t.unloaded.is_empty(), field == 0x2018);
        assert_eq!(t.data_blocks.is_empty(), field == 0x2078);
        assert_eq!(d.kdbg().is_none(), field == 0x2070);
        assert_eq!(t.prcb_address.is_none(), field == 0x201c);
    }
}

#[test]
fn a_damaged_offset_into_a_table_does_not_cut_it() {
    let mut bytes = Plan::default().build();
    let drivers = u32::from_le_bytes(bytes[0x2030..0x2034].try_into().unwrap());
    put32(&mut bytes, 0x2014, drivers + 0x10);
    assert_eq!(dump(bytes).triage().unwrap().drivers.len(), 2);
}

#[test]
fn the_end_mark_outranks_a_damaged_size() {
    for field in [0x2004, 0x2008] {
        let mut bytes = Plan::default().build();
        put32(&mut bytes, field, 0x2100);
        let d = dump(bytes);
        assert!(d.triage().unwrap().valid && problem_with(&d, "the end mark is at"), "{field:#x}");
        assert_eq!(d.secondary().len(), 2);
    }
}

#[test]
fn what_follows_the_dump_is_never_read() {
    // What looks like one more blob, behind something that does not.
    let mut tail = vec![0xaa; 0x20];
    tail.extend(&Plan::default().build()[0x2080..0x2100]);
    let d = dump(Plan { tail: tail.clone(), ..Plan::default() }.build());
    assert_eq!(d.secondary().len(), 2);
    let [note] = d.problems() else { panic!("{:?}", d.problems()) };
    assert_eq!(note.severity, Severity::Note);
    assert!(note.what.contains(&format!("last {} bytes", tail.len())), "{}", note.what);
    let zeros = dump(Plan { tail: vec![0; 0x1000], ..Plan::default() }.build());
    assert_eq!(zeros.problems(), []);
}

#[test]
fn a_blob_that_runs_over_the_end_is_kept_and_named() {
    let whole = Plan { blobs: vec![(1, vec![9; 0x40])], ..Plan::default() }.build();
    let d = dump(whole[..whole.len() - 0x10].to_vec());
    assert_eq!(d.secondary()[0].data(), [9; 0x30]);
    assert!(problem_with(&d, "the file ends at"));
}

#[test]
fn a_type_that_was_lost_is_seen_in_the_body() {
    let mut bytes = Plan::default().build();
    put32(&mut bytes, 0xf98, 0x1234_5678);
    let d = dump(bytes);
    assert_eq!(d.kind(), Kind::Triage);
    assert_eq!(d.triage().unwrap().drivers.len(), 2);
    assert!(problem_with(&d, "DumpType does not say so"));
}

#[test]
fn other_kinds_are_recognised() {
    let kind = |dump_type, body: &[u8]| {
        let mut bytes = header(dump_type);
        bytes.extend(body);
        let d = dump(bytes);
        assert_eq!(d.header().bug_check_code, 0xd1);
        assert!(d.triage().is_none() && d.physical().is_none_or(|memory| memory.page_count() == 0));
        d.kind_id()
    };
    assert_eq!(kind(1, b"MZ"), "full64");
    assert_eq!(kind(1, b"FDMPDUMP"), "bitmap_full64");
    assert_eq!(kind(2, b"SDMPDUMP"), "summary64");
    assert_eq!(kind(3, b""), "header_only64");
    assert_eq!(kind(5, b"FDMPDUMP"), "bitmap_full64");
    assert_eq!(kind(6, b"SDMPDUMP"), "bitmap_kernel64");
    assert_eq!(kind(6, b"FDMPDUMP"), "bitmap_full64");
    assert_eq!(kind(7, b""), "automatic64");
    assert_eq!(kind(10, b"\x40\0\0\0RDMP"), "rdmp64");
    assert_eq!(kind(77, b""), "unknown64");
    let mut runs = header(0);
    put32(&mut runs, 0x88, 3);
    put64(&mut runs, 0x90, 0x1000);
    assert_eq!(dump(runs).kind(), Kind::Full);
}

#[test]
fn a_32_bit_header_is_read() {
    let d = dump(header32(4));
    assert_eq!((d.kind_id(), d.header().bits), ("triage32", Bits::B32));
    let h = d.header();
    assert_eq!((h.arch, h.minor_version, h.bug_check_code), (Some(Arch::X86), 7601, 0xa));
    assert_eq!((h.bug_check_parameters, h.number_processors), ([1, 2, 3, 4], 2));
    assert_eq!(h.system_time.unwrap().date(), (2021, 2, 21));
    assert!(problem_with(&d, "before the end of this header"));
}

#[test]
fn an_encrypted_dump_says_so() {
    let mut bytes = header(6);
    put32(&mut bytes, 0x1050, Attributes::ENCRYPTED.0 | Attributes::LIVE_DUMP.0);
    let d = dump(bytes);
    assert!(problem_with(&d, "encrypted"));
    let names: Vec<_> = d.header().attributes.unwrap().names().collect();
    assert_eq!(names, ["LiveDumpGeneratedDump", "EncryptedDumpData"]);
}

#[test]
fn what_is_no_dump_is_told_apart() {
    let what = |bytes: &[u8]| match Dump::from_bytes(bytes.to_vec()) {
        Err(error @ OpenError::NotADump { what }) if !error.hint().is_empty() => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(what(b"PK\x03\x04rest of it"), Lookalike::Zip);
    assert_eq!(what(b"MSCF\0\0\0\0"), Lookalike::Cab);
    assert_eq!(what(b"\x1f\x8b\x08\0"), Lookalike::Gzip);
    assert_eq!(what(b"MDMP\x93\xa7\0\0"), Lookalike::UserMinidump);
    assert_eq!(what(b"Raw_Dmp!\0"), Lookalike::UefiRaw);
    assert_eq!(what(b"\x7fELF\x02"), Lookalike::Elf);
    assert_eq!(what(b"Microsoft (R) Windows Debugger\r\n"), Lookalike::Text);
    assert_eq!(what(&[1, 2, 3, 4, 5, 6, 7, 8]), Lookalike::Unknown);
    assert!(matches!(Dump::from_bytes(Vec::new()), Err(OpenError::Empty)));
    assert!(matches!(Dump::from_bytes(vec![0; 100]), Err(OpenError::Zeros { zeros: 100, size: 100 })));
    let mut late = vec![0; 0x5000];
    late[0x4000] = 1;
    assert!(matches!(Dump::from_bytes(late), Err(OpenError::Zeros { zeros: 0x4000, size: 0x5000 })));
    assert!(matches!(Dump::from_bytes(b"PAGE".to_vec()), Err(OpenError::TooShort { size: 4 })));
}

#[test]
fn opening_a_file_reads_as_much_as_it_needs() {
    let folder = std::env::temp_dir().join(format!("stopcode-dump-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("a.dmp");
    let bytes = Plan::default().build();
    std::fs::write(&path, &bytes).unwrap();
    let d = Dump::open(&path).unwrap();
    assert_eq!((d.file_size(), d.triage().unwrap().drivers.len()), (bytes.len() as u64, 2));
    // 64 GiB that take no space on the disk, and no memory here.
    std::fs::write(&path, header(1)).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(64 << 30).unwrap();
    let d = Dump::open(&path).unwrap();
    assert_eq!((d.kind(), d.file_size()), (Kind::Full, 64 << 30));
    std::fs::write(&path, header(4)).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(64 << 30).unwrap();
    assert!(matches!(Dump::open(&path), Err(OpenError::TooLarge { .. })));
    std::fs::write(&path, []).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    assert!(
        matches!(Dump::open(&path), Err(OpenError::Zeros { zeros, size: 0x4000_0000 }) if zeros >= 16 << 20)
    );
    assert!(matches!(Dump::open(&folder), Err(OpenError::NotAFile)));
    assert!(matches!(Dump::open(&folder.join("none.dmp")), Err(OpenError::Io(_))));
    #[cfg(unix)]
    assert!(matches!(Dump::open("/dev/zero".as_ref()), Err(OpenError::NotAFile)));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_dump_may_be_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Dump>();
}

/// A 32-bit small dump: two drivers in entries of `size` bytes, one unloaded, a structure of each kind and a block.
fn narrow(size: usize) -> Vec<u8> {
    let mut f = header32(4);
    put32(&mut f, 0x60, 0x8060_0000);
    f.resize(0x1068, 0);
    let place = |f: &mut Vec<u8>, field: usize, part: &[u8]| {
        f.resize(f.len().next_multiple_of(8), 0);
        let at = f.len() as u32;
        put32(f, 0x1000 + field, at);
        f.extend(part);
    };
    put32(&mut f, 0x1048, 0x9000_2f00);
    let mut unloaded = vec![0; 4 + 0x28];
    put32(&mut unloaded, 0, 1);
    put16(&mut unloaded, 4, 14);
    for (n, unit) in "dam.sys".encode_utf16().enumerate() {
        put16(&mut unloaded, 12 + 2 * n, unit);
    }
    put32(&mut unloaded, 4 + 0x20, 0x8a00_0000);
    put32(&mut unloaded, 4 + 0x24, 0x8a00_8000);
    place(&mut f, 0x18, &unloaded);
    // Each with three empty lists, which tell where it lay.
    let structure = |base: u32, size: usize, kind: u8| {
        let mut bytes = vec![0; size];
        bytes[0] = kind;
        for at in [0x40, 0x48, 0x50_usize] {
            put32(&mut bytes, at, base + at as u32);
            put32(&mut bytes, at + 4, base + at as u32);
        }
        bytes
    };
    place(&mut f, 0x1c, &structure(0x8080_0120, 0x200, 0));
    place(&mut f, 0x20, &structure(0x8500_1000, 0x100, 3));
    place(&mut f, 0x24, &structure(0x8500_2000, 0x140, 6));
    place(&mut f, 0x28, &[0x5a; 0x100]);
    put32(&mut f, 0x102c, 0x100);
    let mut kdbg = vec![0; 0x340];
    kdbg[0x10..0x14].copy_from_slice(b"KDBG");
    put32(&mut kdbg, 0x14, 0x340);
    put64(&mut kdbg, 0x18, 0xffff_ffff_8040_0000);
    put16(&mut kdbg, 0x2a8, 0x100);
    put16(&mut kdbg, 0x2b0, 0x200);
    put16(&mut kdbg, 0x2c0, 0x140);
    place(&mut f, 0x58, &kdbg);
    put32(&mut f, 0x105c, 0x340);
    // The table and, right behind it, the names.
    f.resize(f.len().next_multiple_of(8), 0);
    let (start, count) = (f.len(), 2);
    let pool = start + (count * size).next_multiple_of(8);
    let (mut table, mut names) = (vec![0; pool - start], Vec::new());
    for (n, path) in ["ntoskrnl.exe", "hal.dll"].into_iter().enumerate() {
        let entry = n * size;
        put32(&mut table, entry, (pool + names.len()) as u32);
        put32(&mut table, entry + 0x1c, 0x8040_0000 + 0x100_0000 * n as u32);
        put32(&mut table, entry + 0x24, 0x21_0000);
        put32(&mut table, entry + 0x44, 0x1234);
        put32(&mut table, entry + 0x4c, 0x4a5b_c007);
        names.extend((path.len() as u32).to_le_bytes());
        names.extend(path.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        names.resize(names.len().next_multiple_of(8), 0);
    }
    place(&mut f, 0x30, &table);
    put32(&mut f, 0x1034, count as u32);
    place(&mut f, 0x38, &names);
    let size = names.len() as u32;
    put32(&mut f, 0x103c, size);
    let mut blocks = vec![0; 12];
    let at = (f.len().next_multiple_of(8) + 16) as u32;
    for (n, word) in [0xa000_0000, at, 4].into_iter().enumerate() {
        put32(&mut blocks, 4 * n, word);
    }
    place(&mut f, 0x60, &blocks);
    put32(&mut f, 0x1064, 1);
    f.resize(at as usize, 0);
    f.extend(b"data");
    let mark = f.len() as u32;
    put32(&mut f, 0x1008, mark);
    put32(&mut f, 0x1004, mark + 4);
    f.extend(b"TRGD");
    f
}

#[test]
fn a_32_bit_small_dump_is_read_like_any_other() {
    for size in [0x50, 0x54, 0x58] {
        let d = Dump::from_bytes(narrow(size)).unwrap();
        assert_eq!((d.kind_id(), d.problems()), ("triage32", &[][..]));
        let triage = d.triage().unwrap();
        let drivers: Vec<_> = triage.drivers.iter().map(|d| (d.path.as_str(), d.base.0, d.size)).collect();
        assert_eq!(drivers, [("ntoskrnl.exe", 0x8040_0000, 0x21_0000), ("hal.dll", 0x8140_0000, 0x21_0000)]);
        assert!(triage.drivers.iter().all(|d| (d.checksum, d.time_date_stamp) == (0x1234, 0x4a5b_c007)));
        assert_eq!(triage.unloaded[0].name, "dam.sys");
        assert_eq!(
            (triage.unloaded[0].start, triage.unloaded[0].end),
            (VirtAddr(0x8a00_0000), VirtAddr(0x8a00_8000))
        );
        assert_eq!(triage.prcb_address, Some(VirtAddr(0x8080_0120)));
        assert_eq!(triage.process_address, Some(VirtAddr(0x8500_1000)));
        assert_eq!(triage.thread_address, Some(VirtAddr(0x8500_2000)));
        assert_eq!(d.kdbg().unwrap().kern_base(), Some(VirtAddr(0x8040_0000)));
        // The stack, a block, and the debugger data; debuggers extend the sign.
        assert_eq!(d.read_u32(VirtAddr(0x9000_2ffc)), Ok(0x5a5a_5a5a));
        assert_eq!(d.read_u32(VirtAddr(0xffff_ffff_a000_0000)), Ok(u32::from_le_bytes(*b"data")));
        assert_eq!(d.read_u32(VirtAddr(0x8060_0010)), Ok(u32::from_le_bytes(*b"KDBG")));
        assert!(d.read_u8(VirtAddr(0xa000_0004)).is_err());
    }
}

#[test]
fn any_cut_of_a_32_bit_small_dump_is_survived() {
    let whole = narrow(0x54);
    for size in 0..whole.len() {
        if let Ok(d) = Dump::from_bytes(whole[..size].to_vec()) {
            common::exercise(&d);
            assert!(!d.problems().is_empty(), "{size:#x}");
        }
    }
}
