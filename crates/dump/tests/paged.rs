//! Dumps that hold pages: every container whole, damaged and hostile.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // Helpers of tests are tests.

mod common;

use common::{header, header32, put32, put64};
use proptest::prelude::*;
use std::sync::LazyLock;
use stopcode_base::{Memory, MissReason, PhysAddr, VirtAddr};
use stopcode_dump::paging::Paging;
use stopcode_dump::{Dump, Kind, OpenError, PhysicalMemory};
use stopcode_synth::container;

const PAGE: usize = 0x1000;
/// Containers that hold pages behind a dump header.
const PAGED: [container::Kind; 5] = [
    container::Kind::Full,
    container::Kind::BitmapFull,
    container::Kind::BitmapKernel,
    container::Kind::RdmpKernel,
    container::Kind::RdmpFull,
];
const BODY: usize = 0x2000;

fn dump(bytes: Vec<u8>) -> Dump {
    Dump::from_bytes(bytes).unwrap()
}

fn problem_with(dump: &Dump, text: &str) -> bool {
    dump.problems().iter().any(|problem| problem.what.contains(text))
}

/// A page that tells its frame.
fn page(pfn: u64) -> Vec<u8> {
    pfn.to_le_bytes().repeat(PAGE / 8)
}

fn frame(memory: &dyn PhysicalMemory, pfn: u64) -> Result<u64, MissReason> {
    let mut bytes = [0; 8];
    match memory.read_physical(PhysAddr(pfn * PAGE as u64 + 16), &mut bytes)? {
        8 => Ok(u64::from_le_bytes(bytes)),
        // Within a page only the end of a file that was cut can make a read short.
        got => {
            assert!(got > 0);
            Err(MissReason::FileTruncated)
        }
    }
}

/// Every page that the dump says it holds, up to some thousand.
fn frames(memory: &dyn PhysicalMemory) -> Vec<u64> {
    let mut frames = Vec::new();
    let mut from = 0;
    while let Some((first, count)) = memory.next_run(from).filter(|_| frames.len() < 4000) {
        assert!(first >= from && count > 0);
        frames.extend((first..first + count).take(4000));
        from = first + count;
    }
    frames
}

/// A complete dump with these runs.
fn full(runs: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = header(1);
    put32(&mut bytes, 0x88, runs.len() as u32);
    put64(&mut bytes, 0x90, runs.iter().map(|run| run.1).sum());
    for (n, (first, count)) in runs.iter().enumerate() {
        put64(&mut bytes, 0x98 + 16 * n, *first);
        put64(&mut bytes, 0xa0 + 16 * n, *count);
    }
    for (first, count) in runs {
        bytes.extend((*first..first + count).flat_map(page));
    }
    bytes
}

/// A bitmap dump with these pages.
fn bitmap(dump_type: u32, signature: [u8; 4], bits: u64, pages: &[u64]) -> Vec<u8> {
    let mut body = vec![0; (0x38 + bits.div_ceil(8) as usize).next_multiple_of(PAGE)];
    body[..4].copy_from_slice(&signature);
    body[4..8].copy_from_slice(b"DUMP");
    let first_page = (BODY + body.len()) as u64;
    put64(&mut body, 0x20, first_page);
    put64(&mut body, 0x28, pages.len() as u64);
    put64(&mut body, 0x30, bits);
    for pfn in pages {
        body[0x38 + *pfn as usize / 8] |= 1 << (pfn % 8);
    }
    let mut bytes = header(dump_type);
    bytes.extend(body);
    bytes.extend(pages.iter().flat_map(|pfn| page(*pfn)));
    bytes
}

#[test]
fn pages_of_every_container() {
    let pages = [1, 2, 3, 63, 64, 700, 0x1234];
    let runs = [(1, 3), (63, 2), (700, 1), (0x1234, 1)];
    let check = |bytes: Vec<u8>, kind: Kind| {
        let dump = dump(bytes);
        assert_eq!(dump.kind(), kind);
        let memory = dump.physical().unwrap();
        assert_eq!((frames(memory), memory.page_count()), (pages.to_vec(), 7), "{kind}");
        for pfn in pages {
            assert_eq!(frame(memory, pfn), Ok(pfn), "{kind}");
        }
        for pfn in [0, 4, 62, 65, 699, 701, 0x1233, 0x1235, u64::MAX >> 12] {
            assert_eq!(frame(memory, pfn), Err(MissReason::NotInDump), "{kind}");
        }
    };
    check(full(&runs), Kind::Full);
    check(bitmap(5, *b"FDMP", 0x1235, &pages), Kind::BitmapFull);
    check(bitmap(6, *b"SDMP", 0x1235, &pages), Kind::BitmapKernel);
    check(bitmap(7, *b"SDMP", 0x2000, &pages), Kind::BitmapKernel);
    // A number that means nothing, over a descriptor of runs.
    let mut bytes = full(&runs);
    put32(&mut bytes, 0xf98, 0);
    check(bytes, Kind::Full);
    // The signature decides, not the number.
    check(bitmap(1, *b"FDMP", 0x1235, &pages), Kind::BitmapFull);
    // Automatic, and no bitmap behind the header but runs in it.
    let mut bytes = full(&runs);
    put32(&mut bytes, 0xf98, 7);
    check(bytes, Kind::Automatic);
    for (number, end) in [(8, true), (9, true), (10, false)] {
        let mut bytes = header(number);
        let ranges: Vec<(u64, u64)> = runs.iter().copied().chain(end.then_some((0, 0))).collect();
        let mut body = vec![0; 0x30 + 16 * ranges.len()];
        put32(&mut body, 0, 0x40);
        body[4..12].copy_from_slice(b"RDMPDUMP");
        put64(&mut body, 0x10, 0x10 + 16 * ranges.len() as u64);
        let first_page = (BODY + body.len()) as u64;
        put64(&mut body, 0x18, first_page);
        put64(&mut body, 0x28, if number == 10 { 7 } else { 0 });
        for (n, (first, count)) in ranges.iter().enumerate() {
            put64(&mut body, 0x30 + 16 * n, *first);
            put64(&mut body, 0x38 + 16 * n, *count);
        }
        bytes.extend(body);
        bytes.extend(pages.iter().flat_map(|pfn| page(*pfn)));
        check(bytes, Kind::Rdmp(number));
    }
}

/// The kernel dump of Windows 7 and before, with the bits at `start` of its header.
fn summary(wide: bool, start: usize, pages: &[u64]) -> Vec<u8> {
    let bits = 0x300_u32;
    let mut bytes = if wide { header(2) } else { header32(2) };
    let mut body = vec![0; PAGE];
    body[..8].copy_from_slice(b"SDMPDUMP");
    put32(&mut body, 0xc, (bytes.len() + PAGE) as u32);
    put32(&mut body, 0x10, bits);
    put32(&mut body, 0x14, pages.len() as u32);
    put32(&mut body, 0x18, bits);
    // The bitmap's own pointer to its bits.
    put32(&mut body, start - 4, 0xffff_fa80);
    for pfn in pages {
        body[start + *pfn as usize / 8] |= 1 << (pfn % 8);
    }
    bytes.extend(body);
    bytes.extend(pages.iter().flat_map(|pfn| page(*pfn)));
    bytes
}

#[test]
fn the_summary_dump_of_before_windows_8() {
    let pages = [1, 2, 40, 0x2ff];
    for bytes in [summary(true, 0x28, &pages), summary(true, 0x24, &pages), summary(false, 0x20, &pages)] {
        let dump = dump(bytes);
        assert_eq!(dump.kind(), Kind::Summary);
        let memory = dump.physical().unwrap();
        assert_eq!(frames(memory), pages);
        assert!(pages.iter().all(|pfn| frame(memory, *pfn) == Ok(*pfn)));
        assert!(!problem_with(&dump, "bits set"), "{:?}", dump.problems());
    }
    let mut bytes = summary(true, 0x28, &pages);
    put32(&mut bytes, BODY + 0x14, 5);
    assert!(problem_with(&dump(bytes), "0x5 pages are stated, the bitmap has 0x4"));
}

#[test]
fn a_32_bit_complete_dump_with_and_without_pae() {
    for pae in [true, false] {
        let mut bytes = header32(1);
        let text = 0x1122_3344_5566_7788_u64;
        bytes[0x5c] = u8::from(pae);
        put32(&mut bytes, 0x10, if pae { 0x1020 } else { 0x1000 });
        put32(&mut bytes, 0x60, 0x8060_4100);
        // Two runs: frames 1 to 2 and 0x10.
        for (at, word) in [(0x64, 2), (0x68, 3), (0x6c, 1), (0x70, 2), (0x74, 0x10), (0x78, 1)] {
            put32(&mut bytes, at, word);
        }
        let (mut one, mut two, mut data) = (vec![0; PAGE], vec![0; PAGE], vec![0; PAGE]);
        // Virtual 0x80604000: the second of four gigabytes, the fourth 2 MiB, the fifth page.
        if pae {
            put64(&mut one, 0x30, 0x1001);
            put64(&mut one, 0x18, 0x2063);
            put64(&mut two, 0x20, 0x1_0063);
        } else {
            put32(&mut one, 0x201 * 4, 0x2063);
            put32(&mut two, 0x204 * 4, 0x1_0063);
        }
        put64(&mut data, 0x100, text);
        bytes.extend([one, two, data].concat());
        let dump = dump(bytes);
        assert_eq!(dump.kind_id(), "full32");
        let space = dump.address_space().unwrap();
        assert_eq!(space.paging(), if pae { Paging::X86Pae } else { Paging::X86 });
        assert_eq!(dump.read_u64(VirtAddr(0x8060_4100)), Ok(text), "pae {pae}: {:?}", dump.problems());
        assert!(dump.read_u64(VirtAddr(0x8060_5000)).is_err());
    }
}

#[test]
fn what_is_wrong_with_runs_is_named() {
    let mut bytes = full(&[(1, 3), (2, 2), (9, 1)]);
    assert!(problem_with(&dump(bytes.clone()), "1 runs overlap"));
    put64(&mut bytes, 0x90, 77);
    assert!(problem_with(&dump(bytes.clone()), "NumberOfPages is 0x4d, the runs have 0x6"));
    let memory = dump(bytes.clone());
    assert_eq!(frames(memory.physical().unwrap()), [1, 2, 3, 9]);
    // A count that is too large runs into the filler.
    put32(&mut bytes, 0x88, 41);
    assert!(problem_with(&dump(bytes.clone()), "41 runs are stated, only 3"));
    put32(&mut bytes, 0x88, 4000);
    let over = dump(bytes.clone());
    assert!(problem_with(&over, "of which 42 at most fit"));
    assert_eq!(frame(over.physical().unwrap(), 9), Ok(9));
    put64(&mut bytes, 0xa0, u64::MAX);
    assert!(problem_with(&dump(bytes), "past the end of the physical address space"));
    // Filler where the descriptor would be.
    let none = dump(header(1));
    assert!(none.physical().is_none() && problem_with(&none, "no runs of pages"));
}

#[test]
fn what_is_wrong_with_a_bitmap_is_named() {
    let whole = bitmap(6, *b"SDMP", 0x800, &[1, 2, 0x7ff]);
    let changed = |field: usize, value: u64| {
        let mut bytes = whole.clone();
        put64(&mut bytes, BODY + field, value);
        dump(bytes)
    };
    assert!(problem_with(&changed(0x28, 9), "TotalPresentPages is 0x9, the bitmap has 0x3 bits set"));
    // A bitmap that would reach into the pages, and beyond the file.
    for bits in [0x10_0000, u64::MAX, 1 << 52] {
        let long = changed(0x30, bits);
        assert!(
            problem_with(&long, "there is room for 0xfc8 before the first page"),
            "{:?}",
            long.problems()
        );
        assert_eq!(frame(long.physical().unwrap(), 0x7ff), Ok(0x7ff));
    }
    let far = changed(0x20, u64::MAX - 0xfff);
    assert_eq!(frame(far.physical().unwrap(), 1), Err(MissReason::FileTruncated));
    let none = changed(0x20, 0);
    assert_eq!(none.physical().unwrap().page_count(), 0);
    let cut = dump(whole[..BODY + 0x30].to_vec());
    assert!(cut.physical().is_none() && problem_with(&cut, "the file ends inside it"));
}

#[test]
fn opening_64_gib_reads_the_bitmap_and_no_page() {
    let path = std::env::temp_dir().join(format!("stopcode-paged-{}.dmp", std::process::id()));
    let bits = 1 << 24;
    let mut bytes = bitmap(5, *b"FDMP", bits, &[]);
    bytes[BODY + 0x38..BODY + 0x38 + (bits / 8) as usize].fill(0xff);
    put64(&mut bytes, BODY + 0x28, bits);
    std::fs::write(&path, &bytes).unwrap();
    // Pages that take no space on the disk.
    let size = bytes.len() as u64 + bits * PAGE as u64;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
    let dump = Dump::open(&path);
    std::fs::remove_file(&path).unwrap();
    let dump = dump.unwrap();
    let memory = dump.physical().unwrap();
    assert_eq!((memory.page_count(), memory.next_run(0)), (bits, Some((0, bits))));
    assert_eq!(frame(memory, bits - 1), Ok(0));
    assert_eq!(frame(memory, bits), Err(MissReason::NotInDump));
    assert!(!problem_with(&dump, "the file ends"), "{:?}", dump.problems());
}

static DUMPS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/driver-null-write.json");
    let machine = stopcode_synth::Machine::from_json(&std::fs::read_to_string(path).unwrap()).unwrap();
    PAGED.into_iter().map(|kind| container::write(&machine, kind).unwrap()).collect()
});

/// Reads all that a dump offers.
fn exercise(dump: &Dump) -> usize {
    let mut given = common::exercise(dump);
    let Some(memory) = dump.physical() else { return given };
    for pfn in frames(memory).into_iter().take(1000) {
        given += usize::from(frame(memory, pfn).is_ok());
    }
    let header = dump.header();
    let places = [header.ps_loaded_module_list, header.kd_debugger_data_block, header.pfn_database];
    for at in places.into_iter().flatten() {
        given += dump.read_available(at, 0x3000).len();
        let walk = dump.address_space().map(|space| format!("{:?}", space.walk(at)).len());
        given += walk.unwrap_or(0).min(4096);
    }
    given
}

#[test]
fn a_dump_cut_at_any_page_gives_what_is_left() {
    for whole in DUMPS.iter() {
        let all = dump(whole.clone());
        let count = all.physical().unwrap().page_count();
        for length in (0..whole.len()).step_by(PAGE) {
            let bytes = whole[..length].to_vec();
            if length < BODY {
                assert!(!matches!(Dump::from_bytes(bytes), Err(OpenError::NotADump { .. })));
                continue;
            }
            let cut = dump(bytes);
            assert_eq!(cut.header(), all.header());
            exercise(&cut);
            let Some(memory) = cut.physical() else {
                assert!(!cut.problems().is_empty());
                continue;
            };
            let whole_pages = frames(memory).into_iter().filter(|pfn| {
                let mut page = [0; PAGE];
                memory.read_physical(PhysAddr(pfn * PAGE as u64), &mut page) == Ok(PAGE)
            });
            if (whole_pages.count() as u64) < count {
                assert!(!cut.problems().is_empty(), "cut at {length:#x}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damage_is_survived(
        which in 0..5_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u64>()), 1..20),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = DUMPS[which].clone();
        for (place, what, value) in changes {
            // Half in what describes the pages, half anywhere.
            let room = if value & 1 == 0 { 0x2400 } else { bytes.len() - 8 };
            let at = place.index(room) & !7;
            match what {
                0 => bytes[at] ^= 1 << (value >> 1 & 7),
                1 => put64(&mut bytes, at, value),
                _ => put64(&mut bytes, at, value >> (value & 63)),
            }
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        if let Ok(dump) = Dump::from_bytes(bytes) {
            exercise(&dump);
            prop_assert!(dump.problems().len() < 100);
        }
    }
}

/// The machine of a sample as a dump of a kernel, which Windows writes most.
fn kernel_dump() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/driver-null-write.json");
    let machine = stopcode_synth::Machine::from_json(&std::fs::read_to_string(path).unwrap()).unwrap();
    container::write(&machine, container::Kind::BitmapKernel).unwrap()
}

#[test]
fn a_dump_that_is_cut_tells_what_it_can() {
    let whole = kernel_dump();
    let facts = dump(whole.clone()).header().clone();
    let pages = dump(whole.clone()).physical().unwrap().page_count();
    let cuts = (0..whole.len()).step_by(PAGE).chain([1, 7, 8, 0x37, 0x1fff, 0x2037, 0x2038, whole.len() - 1]);
    for size in cuts {
        let cut = match Dump::from_bytes(whole[..size].to_vec()) {
            Ok(cut) => cut,
            Err(error) => {
                assert!(size < 0x1000, "{error} at {size:#x}");
                continue;
            }
        };
        if size >= BODY {
            assert_eq!(*cut.header(), facts, "the header is whole at {size:#x}");
        }
        exercise(&cut);
        let Some(memory) = cut.physical() else { continue };
        // Each page is there if the file reaches past it, and nothing else is taken for it.
        let there = frames(memory).into_iter().filter(|pfn| frame(memory, *pfn).is_ok()).count() as u64;
        let first = first_page_of(&whole);
        let expected = (size as u64).saturating_sub(first + 16 + 7).div_ceil(PAGE as u64).min(pages);
        if memory.page_count() == pages {
            assert_eq!(there, expected, "at {size:#x}");
        }
        assert!(
            size as u64 >= first + pages * PAGE as u64 || problem_with(&cut, "the file ends"),
            "{size:#x}"
        );
    }
}

/// Where the first page of a bitmap dump lies.
fn first_page_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[BODY + 0x20..BODY + 0x28].try_into().unwrap())
}

#[test]
fn a_dump_whose_file_shrinks_is_read_on() {
    let whole = kernel_dump();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, &whole).unwrap();
    let dump = Dump::open(file.path()).unwrap();
    let memory = dump.physical().unwrap();
    let frames = frames(memory);
    assert!(frames.iter().all(|pfn| frame(memory, *pfn).is_ok()));
    let first = first_page_of(&whole);
    file.as_file().set_len(first + 5 * PAGE as u64).unwrap();
    for (n, pfn) in frames.iter().enumerate() {
        assert_eq!(frame(memory, *pfn).is_ok(), n < 5, "page {n}");
    }
    assert_eq!(dump.header().bug_check_code, 0xd1);
}
