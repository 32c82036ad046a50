//! Real dumps, read once by the crate and once by the few lines at the end of this file, which share nothing with it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stderr)] // Helpers of tests are tests.

mod common;

use std::path::{Path, PathBuf};
use stopcode_base::{Arch, Memory, VirtAddr};
use stopcode_dump::{Content, Dump, OpenError, context};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");

/// The dumps beside the checkout, by path; `None`, loudly, if there are none.
fn dumps(test: &str) -> Option<Vec<PathBuf>> {
    fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                collect(&entry.path(), into);
            } else if entry.path().extension().is_some_and(|e| e == "dmp") {
                into.push(entry.path());
            }
        }
    }
    let root = Path::new(SHARED).join("data/dumps");
    if !root.is_dir() {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED: {test}: ../shared is not beside the checkout\n").as_bytes(),
        );
        return None;
    }
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    assert!(paths.len() >= 40, "only {} dumps", paths.len());
    Some(paths)
}

fn named(test: &str, name: &str) -> Option<Vec<u8>> {
    dumps(test)?.iter().find(|path| path.ends_with(name)).map(|path| std::fs::read(path).unwrap())
}

/// The dumps that hold anything, with their bytes.
fn readable(test: &str) -> Option<impl Iterator<Item = (String, Vec<u8>)>> {
    let files =
        dumps(test)?.into_iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap()));
    Some(files.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)))
}

#[test]
fn agrees_with_an_independent_reader() {
    let Some(files) = readable("agrees_with_an_independent_reader") else { return };
    let mut count = 0;
    for (name, bytes) in files {
        let plain = Plain(&bytes);
        let dump = Dump::from_bytes(bytes.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (header, triage) = (dump.header(), dump.triage().unwrap_or_else(|| panic!("{name}: no body")));
        assert_eq!(header.minor_version, plain.u32(0xc), "{name}");
        assert_eq!(header.number_processors, plain.u32(0x34), "{name}");
        assert_eq!(header.bug_check_code, plain.u32(0x38), "{name}");
        assert_eq!(header.bug_check_parameters, [0, 1, 2, 3].map(|n| plain.u64(0x40 + 8 * n)), "{name}");
        assert_eq!(header.system_time.unwrap().0, plain.u64(0xfa8), "{name}");
        assert_eq!(header.system_uptime, Some(plain.u64(0x1030)), "{name}");
        let drivers = plain.drivers();
        let ours: Vec<_> = triage.drivers.iter().map(|d| (d.path.clone(), d.base.0, d.size)).collect();
        assert_eq!(ours, drivers, "{name}");
        assert_eq!(drivers[0].1, dump.kdbg().unwrap().kern_base().unwrap().0, "{name}");
        assert!(triage.drivers.iter().all(|d| d.base.page() == d.base && d.size > 0), "{name}");
        let names: Vec<_> = triage.unloaded.iter().map(|u| u.name.clone()).collect();
        assert_eq!(names, plain.unloaded(), "{name}");
        assert_eq!(triage.data_blocks.len(), plain.u32(0x207c) as usize, "{name}");
        assert_eq!(dump.secondary().len(), plain.blobs(), "{name}");
        assert!(triage.strings().count() >= drivers.len(), "{name}");
        assert!(triage.valid && header.context.is_some() && header.exception.is_some(), "{name}");
        count += 1;
    }
    eprintln!("{count} dumps compared");
    assert!(count >= 34);
}

#[test]
fn unfinished_files_are_named() {
    let Some(paths) = dumps("unfinished_files_are_named") else { return };
    let (mut empty, mut zeros, mut good) = (0, 0, 0);
    for path in paths {
        match Dump::open(&path) {
            Ok(dump) => {
                assert_eq!(dump.kind_id(), "triage64");
                let notes = dump.problems().iter().all(|p| p.what.contains("old contents of the disk"));
                assert!(notes, "{}: {:?}", path.display(), dump.problems());
                good += 1;
            }
            Err(OpenError::Empty) => empty += 1,
            Err(OpenError::Zeros { zeros: found, size }) => {
                assert_eq!(found, size);
                zeros += 1;
            }
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    eprintln!("{good} good, {empty} empty, {zeros} zero-filled");
    assert!(good >= 34 && empty >= 1 && zeros >= 1);
}

#[test]
fn every_block_is_found_at_its_address() {
    let Some(files) = readable("every_block_is_found_at_its_address") else { return };
    for (name, bytes) in files {
        let dump = Dump::from_bytes(bytes.clone()).unwrap();
        for block in &dump.triage().unwrap().data_blocks {
            let mut found = vec![0; block.size as usize];
            dump.read(block.address, &mut found).unwrap_or_else(|miss| panic!("{name}: {miss}"));
            let start = block.offset as usize;
            assert_eq!(found, bytes[start..start + found.len()], "{name}: block {:#}", block.address);
        }
    }
}

/// The lists inside the copies say where these were; the kernel's own tables, where the dump holds them, must agree.
#[test]
fn copied_structures_are_where_the_kernel_says() {
    let Some(files) = readable("copied_structures_are_where_the_kernel_says") else { return };
    let (mut all, mut checked) = (0, 0);
    for (name, bytes) in files {
        let dump = Dump::from_bytes(bytes).unwrap();
        let (triage, kdbg) = (dump.triage().unwrap(), dump.kdbg().unwrap());
        let prcb = triage.prcb_address.unwrap_or_else(|| panic!("{name}: no PRCB address"));
        let thread = dump.read_u64(prcb.plus(kdbg.get("OffsetPrcbCurrentThread").unwrap())).unwrap();
        assert_eq!(triage.thread_address, Some(VirtAddr(thread)), "{name}");
        let owner =
            dump.read_u64(VirtAddr(thread).plus(kdbg.get("OffsetKThreadApcProcess").unwrap())).unwrap();
        assert_eq!(triage.process_address, Some(VirtAddr(owner)), "{name}");
        assert_eq!((triage.thread_bytes()[0], triage.process_bytes()[0]), (6, 3), "{name}");
        all += 1;
        let number = dump.read_u32(prcb.plus(kdbg.get("OffsetPrcbNumber").unwrap())).unwrap();
        let table = VirtAddr(kdbg.get("KiProcessorBlock").unwrap());
        if let Ok(listed) = dump.read_u64(table.plus(8 * u64::from(number))) {
            assert_eq!(listed, prcb.0, "{name}");
            checked += 1;
        }
    }
    eprintln!("{checked} of {all} checked against KiProcessorBlock");
    assert!(checked >= 12);
}

#[test]
fn the_x64_sample_holds_what_is_published_of_it() {
    let Some(bytes) = named("the_x64_sample_holds_what_is_published_of_it", "triage_x64.dmp") else { return };
    let dump = Dump::from_bytes(bytes).unwrap();
    let header = dump.header();
    assert_eq!((header.bug_check_code, header.arch), (0x1000_007e, Some(Arch::X64)));
    // Argument 2 is the faulting instruction, argument 4 the context that the header repeats.
    let registers = header.context.unwrap();
    assert_eq!(registers.instruction().0, header.bug_check_parameters[1]);
    let at = VirtAddr(header.bug_check_parameters[3]);
    assert_eq!(context::read(&dump, Arch::X64, at).unwrap().unwrap().0, registers);
    let exception =
        stopcode_dump::ExceptionRecord::read(&dump, VirtAddr(header.bug_check_parameters[2])).unwrap();
    assert_eq!((exception.code, exception.address), (0xc000_0005, registers.instruction()));
    // The PTE of the faulting instruction's page, at its place in the self-map.
    assert_eq!(dump.read_u64(VirtAddr(0xffff_fdfc_0245_ac18)), Ok(0x0900_0001_21e1_4121));
    assert_eq!(dump.triage().unwrap().data_blocks.len(), 1831);
    assert_eq!(dump.triage().unwrap().drivers.len(), 151);
    let unloaded: Vec<_> = dump.triage().unwrap().unloaded.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(unloaded, ["dam.sys", "WdBoot.sys", "hwpolicy.sys", "mcupdate.dll"]);
    assert_eq!(dump.secondary().len(), 20);
    let content: Vec<_> = dump.secondary().iter().filter_map(stopcode_dump::Blob::content).collect();
    let processor =
        content.iter().find_map(|c| if let Content::Processor(p) = c { Some(p) } else { None }).unwrap();
    assert_eq!(processor.name(), Some("AMD Ryzen 7 3700X 8-Core Processor"));
    let groups =
        content.iter().find_map(|c| if let Content::TriageData(g) = c { Some(g) } else { None }).unwrap();
    assert_eq!((groups.len(), groups[0].name.as_str(), groups[0].blocks.len()), (1, "IoTriageDumpData", 31));
    // All but one: an address in the page tables that Windows asked for and did not save.
    let saved = |(at, size): &&(VirtAddr, u32)| dump.read(*at, &mut vec![0; *size as usize]).is_ok();
    assert_eq!(groups[0].blocks.iter().filter(saved).count(), 30);
}

#[test]
fn known_blobs_decode() {
    let Some(files) = readable("known_blobs_decode") else { return };
    let (mut smbios, mut processors, mut cpuid, mut recorders) = (0, 0, 0, 0);
    for (name, bytes) in files {
        let dump = Dump::from_bytes(bytes).unwrap();
        for blob in dump.secondary() {
            match blob.content() {
                Some(Content::Smbios(s)) => {
                    assert!(s.bios_vendor.is_some() && s.bios_version.is_some(), "{name}: {s:?}");
                    assert!(
                        s.memory.iter().all(|m| m.size_mib.is_some_and(|mib| mib >= 512)),
                        "{name}: {s:?}"
                    );
                    smbios += 1;
                }
                Some(Content::Processor(p)) => {
                    assert!(p.name().is_some() && p.mhz().is_some_and(|mhz| mhz > 500), "{name}: {p:?}");
                    processors += 1;
                }
                Some(Content::Cpuid(records)) => {
                    assert_eq!(records.len() * 40, blob.data().len(), "{name}");
                    cpuid += 1;
                }
                Some(Content::BootStatusSize(size)) => assert_eq!(size as usize, blob.data().len(), "{name}"),
                Some(Content::Recorder(_)) => recorders += 1,
                _ => {}
            }
        }
    }
    eprintln!("{smbios} SMBIOS, {processors} processors, {cpuid} CPUID, {recorders} recorders");
    assert!(smbios >= 30 && processors >= 34 && cpuid >= 30 && recorders >= 30);
}

#[test]
fn cut_anywhere_near_the_start() {
    let Some(bytes) = named("cut_anywhere_near_the_start", "triage_x64.dmp") else { return };
    for length in 0..0x3000 {
        check_damaged(bytes[..length].to_vec());
    }
}

#[test]
fn cut_at_every_edge_of_a_part() {
    let Some(bytes) = named("cut_at_every_edge_of_a_part", "triage_arm64.dmp") else { return };
    let plain = Plain(&bytes);
    let fields =
        [0x2004, 0x2008, 0x2014, 0x2018, 0x201c, 0x2020, 0x2024, 0x2028, 0x2030, 0x2038, 0x2070, 0x2078];
    for edge in fields.map(|field| plain.u32(field) as usize) {
        for length in [edge - 1, edge, edge + 1, edge + 8] {
            let dump = check_damaged(bytes[..length].to_vec()).unwrap();
            assert_eq!(dump.header().bug_check_code, 0x1c8);
            // What lies wholly before the cut is still there.
            let pool_end = (plain.u32(0x2038) + plain.u32(0x203c)) as usize;
            let whole = dump.triage().unwrap().drivers.iter().filter(|d| !d.path.is_empty()).count();
            assert!(length < pool_end || whole == 245, "{length:#x}: {whole} drivers");
            assert!(
                dump.problems().iter().any(|p| !p.what.is_empty()) || length >= plain.u32(0x2004) as usize
            );
        }
    }
}

#[test]
fn flipped_bits() {
    let Some(bytes) = named("flipped_bits", "triage_arm64.dmp") else { return };
    // A fixed sequence (an LCG with Knuth's constants), half of it in the headers, where it hurts most.
    let mut state = 0x5eed_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..500 {
        let at = if round % 2 == 0 { 8 + next(0x2078) } else { 8 + next(bytes.len() - 8) };
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << next(8);
        check_damaged(damaged);
    }
}

/// Opens a damaged dump and uses all of it; it must not panic, and may only fail where the stop code is lost.
fn check_damaged(bytes: Vec<u8>) -> Option<Dump> {
    let size = bytes.len();
    match Dump::from_bytes(bytes) {
        Ok(dump) => {
            assert!(common::exercise(&dump) < 64 * size + 0x10_0000);
            Some(dump)
        }
        Err(OpenError::Empty | OpenError::TooShort { .. }) if size < 0x60 => None,
        Err(error) => panic!("{size:#x} bytes: {error}"),
    }
}

/// The independent reader: offsets and nothing else.
struct Plain<'a>(&'a [u8]);

impl Plain<'_> {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.0[at..at + 2].try_into().unwrap())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    fn text(&self, at: usize, characters: usize) -> String {
        (0..characters).map(|n| char::from_u32(u32::from(self.u16(at + 2 * n))).unwrap()).collect()
    }

    fn drivers(&self) -> Vec<(String, u64, u32)> {
        let table = self.u32(0x2030) as usize;
        (0..self.u32(0x2034) as usize)
            .map(|n| table + n * 0x90)
            .map(|entry| {
                let name = self.u32(entry) as usize;
                (self.text(name + 4, self.u32(name) as usize), self.u64(entry + 0x38), self.u32(entry + 0x48))
            })
            .collect()
    }

    fn unloaded(&self) -> Vec<String> {
        let table = self.u32(0x2018) as usize;
        (0..self.u64(table) as usize)
            .map(|n| table + 8 + n * 0x38)
            .map(|entry| self.text(entry + 16, usize::from(self.u16(entry)).min(24) / 2))
            .collect()
    }

    fn blobs(&self) -> usize {
        let (mut at, mut count) = (self.u32(0x2004) as usize + 16, 0);
        while at + 32 <= self.0.len() && self.u32(at) == 32 {
            at += 32 + (self.u32(at + 20) + self.u32(at + 24) + self.u32(at + 28)) as usize;
            count += 1;
        }
        count
    }
}
