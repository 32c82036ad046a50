//! `!chkimg` on a machine whose kernel's file is at hand: nothing differs, until something is changed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use common::sample;
use proptest::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use stopcode_commands::{Answer, Session, Status, run_one};
use stopcode_dump::Dump;
use stopcode_image::Image;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;

fn symbols() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/symbols")
}

fn chkimg(dump: Vec<u8>, line: &str) -> Answer {
    let dump = Dump::from_bytes(dump).unwrap();
    let machine = Machine::new(dump, &SymbolSource::new([symbols()]));
    run_one(&mut Session::new(machine, ""), line)
}

/// The sample, an RVA of the kernel's code and the place in the file of the dump that holds it.
fn code() -> &'static (Vec<u8>, u32, usize, usize) {
    static CODE: OnceLock<(Vec<u8>, u32, usize, usize)> = OnceLock::new();
    CODE.get_or_init(|| {
        let dump = std::fs::read(sample("seed-double-fault-kernel")).unwrap();
        let file = std::fs::read(symbols().join("ntoskrnl.exe/521EA0355e6000/ntoskrnl.exe")).unwrap();
        let image = Image::of_file(&file).unwrap();
        let text = image.headers().sections.iter().find(|section| section.is_code()).unwrap();
        // Part of a page of code, as it lies in the dump.
        let length = (text.virtual_size as usize).min(0x200);
        let wanted = image.bytes(text.rva, length);
        let place = dump.windows(length).position(|window| window == wanted).unwrap();
        (dump, text.rva, place, length)
    })
}

#[test]
fn a_sound_kernel_has_no_errors() {
    let answer = chkimg(code().0.clone(), "!chkimg -v nt");
    assert_eq!(answer.status, Status::Answer, "{answer:?}");
    assert!(answer.text.ends_with("0 errors : nt\n"), "{}", answer.text);
    assert!(answer.data["compared"].as_u64().unwrap() >= code().3 as u64);
}

#[test]
fn what_differs_is_shown_as_windbg_shows_it() {
    let (mut dump, rva, place, _) = code().clone();
    dump[place + 0x10] ^= 4;
    dump[place + 0x20] = !dump[place + 0x20];
    dump[place + 0x21] = !dump[place + 0x21];
    let answer = chkimg(dump, "!chkimg -lo 50 -d !nt");
    assert_eq!(answer.data["errors"], 3);
    let all = answer.data["differences"].as_array().unwrap();
    assert_eq!((all[0]["single_bit"].clone(), all[1]["single_bit"].clone()), (Value::from(2), Value::Null));
    let lines: Vec<&str> = answer.text.lines().collect();
    assert_eq!(lines.len(), 5, "{}", answer.text);
    assert!(lines[1].trim().starts_with("[ ") && lines[1].ends_with(" ]  one bit: 2"), "{}", answer.text);
    assert!(lines[2].contains("  2 bytes - nt") && lines[2].ends_with(" (+0x10)"), "{}", answer.text);
    let base = Dump::from_bytes(code().0.clone()).unwrap().kdbg().unwrap().kern_base().unwrap();
    let (start, end) = (base.0 + u64::from(rva) + 0x10, base.0 + u64::from(rva) + 0x21);
    assert_eq!(lines[4], format!("3 errors : !nt ({start:x}-{end:x})"));
}

#[test]
fn without_the_file_it_says_what_is_missing() {
    let machine = Machine::new(Dump::from_bytes(code().0.clone()).unwrap(), &SymbolSource::new([]));
    let answer = run_one(&mut Session::new(machine, ""), "!chkimg nt");
    assert_eq!(answer.status, Status::Unknown);
    assert!(answer.reason.unwrap().contains("--symbols"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever bytes change, these are found, no others.
    #[test]
    fn changed_bytes_are_found(changes in prop::collection::btree_map(0_usize..0x200, 1_u8.., 0..12)) {
        let (mut dump, rva, place, length) = code().clone();
        let changes: Vec<_> = changes.into_iter().filter(|(at, _)| *at < length).collect();
        for (at, mask) in &changes {
            dump[place + at] ^= mask;
        }
        let answer = chkimg(dump, "!chkimg nt");
        let differences = answer.data["differences"].as_array().unwrap();
        let mut found = Vec::new();
        for difference in differences {
            let start = u64::from_str_radix(&difference["address"].as_str().unwrap()[2..], 16).unwrap();
            let start = (start & 0xff_ffff) as usize - (rva & 0xff_ffff) as usize;
            found.extend(start..start + difference["bytes"].as_u64().unwrap() as usize);
        }
        let expected: Vec<usize> = changes.iter().map(|(at, _)| *at).collect();
        let base = found.first().zip(expected.first()).map_or(0, |(found, expected)| found - expected);
        prop_assert_eq!(found.iter().map(|at| at - base).collect::<Vec<_>>(), expected);
    }
}
