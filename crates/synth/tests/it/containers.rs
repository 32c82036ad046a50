//! Every container against offsets written out by hand: each finds the same pages at the same frames.

use crate::reader::{Dump, SAMPLES, sample};
use std::collections::BTreeMap;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::{Encoding, Error, Hex, Installed, Machine};

type Pages = BTreeMap<u64, Vec<u8>>;

fn u16(file: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(file[at..at + 2].try_into().unwrap()))
}

fn u32(file: &[u8], at: usize) -> usize {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize
}

fn u64(file: &[u8], at: usize) -> usize {
    u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize
}

/// The pages of a run that starts at `at` in the file.
fn run(file: &[u8], at: usize, first: usize, count: usize) -> Pages {
    (0..count).map(|n| ((first + n) as u64, file[at + n * 0x1000..][..0x1000].to_vec())).collect()
}

fn runs(file: &[u8], table: usize, count: usize, mut at: usize) -> Pages {
    let mut pages = Pages::new();
    for entry in (0..count).map(|n| table + 16 * n) {
        let (first, count) = (u64(file, entry), u64(file, entry + 8));
        pages.extend(run(file, at, first, count));
        at += count * 0x1000;
    }
    pages
}

fn bits(file: &[u8], start: usize, count: usize, mut at: usize) -> Pages {
    let mut pages = Pages::new();
    for pfn in (0..count).filter(|pfn| file[start + pfn / 8] >> (pfn % 8) & 1 == 1) {
        pages.extend(run(file, at, pfn, 1));
        at += 0x1000;
    }
    pages
}

/// The pages of a container, by the public descriptions of it.
fn pages(file: &[u8], kind: Kind) -> Pages {
    match kind {
        Kind::Full => runs(file, 0x98, u32(file, 0x88), 0x2000),
        Kind::Summary => {
            assert_eq!((&file[0x2000..0x2008], u32(file, 0x2010)), (&b"SDMPDUMP"[..], u32(file, 0x2018)));
            let pages = bits(file, 0x2028, u32(file, 0x2010), u32(file, 0x200c));
            assert_eq!(pages.len(), u32(file, 0x2014));
            pages
        }
        Kind::BitmapFull | Kind::BitmapKernel | Kind::Automatic | Kind::Live => {
            let signature = if kind == Kind::BitmapFull { b"FDMPDUMP" } else { b"SDMPDUMP" };
            assert_eq!(&file[0x2000..0x2008], signature);
            // kdmp-parser's Python package and LeechCore read whole bytes of bits only.
            assert_eq!(u64(file, 0x2030) % 8, 0);
            let pages = bits(file, 0x2038, u64(file, 0x2030), u64(file, 0x2020));
            assert_eq!(pages.len(), u64(file, 0x2028));
            pages
        }
        Kind::RdmpKernel | Kind::RdmpUser | Kind::RdmpFull => {
            assert_eq!((u32(file, 0x2000), &file[0x2004..0x200c]), (0x40, &b"RDMPDUMP"[..]));
            let first = u64(file, 0x2018);
            assert_eq!(u64(file, 0x2010) - 0x20, first - 0x2040);
            let table = (first - 0x2030) / 16;
            let ranges = (0..table).take_while(|n| u64(file, 0x2038 + 16 * n) != 0).count();
            runs(file, 0x2030, ranges, first)
        }
        Kind::QemuElf => {
            assert_eq!((&file[..5], u16(file, 0x10), u16(file, 0x12)), (&b"\x7fELF\x02"[..], 4, 62));
            let loads = (1..u16(file, 0x38)).map(|n| 0x40 + 0x38 * n);
            loads
                .flat_map(|at| {
                    run(file, u64(file, at + 8), u64(file, at + 0x18) / 0x1000, u64(file, at + 0x20) / 0x1000)
                })
                .collect()
        }
        Kind::Uefi => {
            assert_eq!((&file[..8], u64(file, 0x24)), (&b"Raw_Dmp!"[..], file.len()));
            let sections = (0..u32(file, 0x34)).map(|n| 0x38 + 0x40 * n).filter(|at| u32(file, at + 8) == 1);
            sections
                .flat_map(|at| {
                    run(
                        file,
                        u64(file, at + 0xc),
                        u64(file, at + 0x1c) / 0x1000,
                        u64(file, at + 0x14) / 0x1000,
                    )
                })
                .collect()
        }
        Kind::Header | Kind::Triage | Kind::Raw => Pages::new(),
    }
}

#[test]
fn every_container_holds_the_same_pages() {
    for name in SAMPLES {
        let machine = sample(name);
        let expected = pages(&container::write(&machine, Kind::BitmapFull).unwrap(), Kind::BitmapFull);
        assert!(expected.len() > 100);
        // An image of memory from address 0 on is long, and has a test of its own.
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Raw) {
            let file = container::write(&machine, kind).unwrap();
            match kind {
                Kind::Triage => Dump::new(file.clone()).check(),
                Kind::Header => assert_eq!((file.len(), u32(&file, 0xf98)), (0x2000, 3)),
                _ => assert!(pages(&file, kind) == expected, "{name} {kind:?}"),
            }
            assert!(Kind::named(kind.name()) == Some(kind));
            if kind.dump_type() != 0 {
                assert_eq!(u32(&file, 0xf98) as u32, kind.dump_type());
            }
        }
    }
}

/// A file for as long as a test runs.
struct Scratch(std::path::PathBuf, std::fs::File);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stopcode-{}-{name}", std::process::id()));
        let mut options = std::fs::File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        Self(path, file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn an_image_of_memory_has_every_page_at_its_address() {
    use std::io::{Read, Seek, SeekFrom};
    let machine = sample("driver-null-write");
    let mut scratch = Scratch::new("raw");
    container::write_to(&machine, Kind::Raw, &mut scratch.1).unwrap();
    let expected = pages(&container::write(&machine, Kind::BitmapFull).unwrap(), Kind::BitmapFull);
    for (pfn, page) in &expected {
        let mut there = vec![0; 0x1000];
        scratch.1.seek(SeekFrom::Start(pfn * 0x1000)).unwrap();
        scratch.1.read_exact(&mut there).unwrap();
        assert!(there == *page, "page {pfn:#x}");
    }
    let end = (expected.keys().max().unwrap() + 1) * 0x1000;
    assert_eq!(scratch.1.metadata().unwrap().len(), end);
}

fn with_memory(bytes: u64, half: bool) -> Machine {
    Machine { installed: Installed { bytes: Hex(bytes), half }, ..sample("driver-null-write") }
}

#[test]
fn installed_memory_is_held_whole_or_half() {
    let described =
        pages(&container::write(&sample("driver-null-write"), Kind::BitmapFull).unwrap(), Kind::BitmapFull);
    let total = 0x4000_usize;
    for half in [false, true] {
        let machine = with_memory(total as u64 * 0x1000, half);
        let held = pages(&container::write(&machine, Kind::BitmapFull).unwrap(), Kind::BitmapFull);
        assert!(described.iter().all(|(pfn, page)| held.get(pfn) == Some(page)));
        let low = held.keys().filter(|pfn| **pfn < total as u64).count();
        assert!(if half { (total * 2 / 5..total * 3 / 5).contains(&low) } else { low == total }, "{low}");
        assert!(pages(&container::write(&machine, Kind::RdmpFull).unwrap(), Kind::RdmpFull) == held);
    }
    let refused = container::write(&with_memory(total as u64 * 0x1000, true), Kind::Full);
    assert!(matches!(refused, Err(Error::TooLarge(_))), "42 runs is all a header holds");
}

/// A dump of a terabyte is written without a terabyte of anything.
#[test]
fn a_terabyte_is_sparse() {
    let mut scratch = Scratch::new("terabyte");
    container::write_to(&with_memory(1 << 40, true), Kind::BitmapFull, &mut scratch.1).unwrap();
    let size = scratch.1.metadata().unwrap().len();
    assert!((1 << 39..1 << 40).contains(&size), "{size:#x}");
}

/// An image of memory holds the debugger data as the running kernel keeps it; decoded by its own rule it is the dump's.
#[test]
fn an_image_keeps_the_debugger_data_encoded() {
    let mut machine = sample("driver-null-write");
    let (never, always) = (0x0123_4567_89ab_cdef_u64, 0xfedc_ba98_7654_3210_u64);
    machine.kernel.encoding = Some(Encoding {
        flag_at: Hex(0xd0_0000),
        never_at: Hex(0xd0_0100),
        never: Hex(never),
        always_at: Hex(0xd0_0200),
        always: Hex(always),
    });
    let plain = pages(&container::write(&machine, Kind::BitmapFull).unwrap(), Kind::BitmapFull);
    let image = pages(&container::write(&machine, Kind::Uefi).unwrap(), Kind::Uefi);
    let differing: Vec<u64> = plain.keys().filter(|pfn| plain[pfn] != image[pfn]).copied().collect();
    let block = |pages: &Pages| {
        let offset = machine.kernel.debugger_data.0 as usize % 0x1000;
        let page = differing.iter().find(|pfn| &plain[pfn][offset + 0x10..offset + 0x14] == b"KDBG").unwrap();
        pages[page][offset..offset + 0x380].to_vec()
    };
    let flag = machine.modules[0].base.0 + 0xd0_0000;
    let decoded: Vec<u8> = block(&image)
        .chunks(8)
        .flat_map(|word| {
            let word = u64::from_le_bytes(word.try_into().unwrap()) ^ never;
            let word = word.rotate_left((never & 0xff) as u32 % 64) ^ flag;
            (word.swap_bytes() ^ always).to_le_bytes()
        })
        .collect();
    assert!(decoded == block(&plain));
    assert_eq!(differing.len(), 2, "the block's page and the flag's");
}
