//! What only the kernel's own symbols lead to: a table of symbols and types is written for the kernel of a sample, and what it
//! tells of is put into the dump.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use stopcode_commands::{Answer, Session, Status, run_one};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::{Bytes, Code, Hex};

const KERNEL: u64 = 0xffff_f802_14e0_0000;
/// Some of the kernel's data, and some pool, that the sample does not use.
const DATA: u64 = 0x50_0000;
const POOL: u64 = 0xffff_c40b_0b00_0000;

/// A record of the table of types: its fields by name and offset.
fn record(size: u64, fields: &[(&str, u64)]) -> Value {
    let fields = fields.iter().map(|(name, offset)| {
        let field = json!({"offset": offset, "type": {"kind": "base", "name": "unsigned long"}});
        ((*name).to_owned(), field)
    });
    json!({"kind": "struct", "size": size, "fields": fields.collect::<serde_json::Map<_, _>>()})
}

/// The table of symbols; its places of fields are no real kernel's, so that none can be known otherwise.
fn symbols() -> Value {
    json!({
        "metadata": {"format": "6.1.0", "windows": {"pdb": {
            "GUID": "5278AFF86C341677D7D7835C85B7B844", "age": 1, "database": "ntkrnlmp.pdb", "machine_type": 34404
        }}},
        "base_types": {"unsigned long": {"size": 4, "signed": false, "kind": "int", "endian": "little"}},
        "enums": {},
        "symbols": {
            "WheapErrorSourceTable": {"address": DATA}, "VfSuspectDriversList": {"address": DATA + 0x100},
            "ViVerifyAllDrivers": {"address": DATA + 0x180},
        },
        "user_types": {
            "_WHEAP_ERROR_SOURCE_TABLE": record(0x40, &[("Count", 8), ("Items", 0x18)]),
            "_WHEAP_ERROR_SOURCE": record(0x100, &[
                ("ErrorCount", 0), ("ListEntry", 8), ("RecordCount", 4), ("RecordLength", 0x18), ("Records", 0x20),
                ("Type", 0x28), ("Descriptor", 0x30),
            ]),
            "_WHEA_ERROR_SOURCE_DESCRIPTOR": record(0x20, &[
                ("State", 0), ("ErrorSourceId", 4), ("MaxRawDataLength", 8), ("MaxSectionsPerRecord", 0xc), ("Flags", 0x10),
            ]),
            "_VF_SUSPECT_DRIVER_ENTRY": record(0x40, &[("BaseName", 0), ("Links", 0x10), ("Loads", 0x20), ("Unloads", 0x24)]),
        },
    })
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// What `line` answers of the sample with `memory` in it, with and without the table of symbols.
fn answers(line: &str, memory: &[(u64, Vec<u8>)]) -> [Answer; 2] {
    let path = format!("{}/../../samples/driver-null-write.json", env!("CARGO_MANIFEST_DIR"));
    let mut machine = stopcode_synth::Machine::read(path.as_ref()).unwrap();
    machine.memory.extend(memory.iter().map(|(at, bytes)| Code {
        at: Hex(*at),
        bytes: Bytes::from(bytes.clone()),
        about: String::new(),
    }));
    let bytes = container::write(&machine, Kind::Full).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("ntkrnlmp.json");
    std::fs::write(&table, symbols().to_string()).unwrap();
    [Some(table), None].map(|table| {
        let dump = Dump::from_bytes(bytes.clone()).unwrap();
        let source = SymbolSource::new(table);
        run_one(&mut Session::new(Machine::new(dump, &source), ""), line)
    })
}

#[test]
fn whea_shows_the_sources_of_errors() {
    let (head, first, second) = (KERNEL + DATA + 0x18, POOL, POOL + 0x200);
    // ErrorCount and RecordCount, the links, RecordLength, Records, Type, then the descriptor.
    let source = |next: u64, last: u64, kind: u64, id: u64| {
        words(&[2 | 0x28 << 32, next, last, 0xc70, POOL + 0x1000, kind, 2 | id << 32, 0x398 | 4 << 32, 0])
    };
    let memory = [
        (KERNEL + DATA, words(&[0, 2, 0, first + 8, second + 8])),
        (first, source(second + 8, head, 0, 0)),
        (second, source(head, first + 8, 99, 7)),
    ];
    let [told, untold] = answers("!whea", &memory);
    assert_eq!((told.status, told.reason.as_deref()), (Status::Answer, None), "{}", told.text);
    insta::assert_snapshot!(told.text);
    assert_eq!(told.data["record"], Value::Null);
    assert_eq!(told.data["table"]["sources"][1]["type"], 99);
    assert_eq!(untold.status, Status::Unknown);
    assert!(untold.reason.unwrap().contains("nt!WheapErrorSourceTable"));

    // One that the list does not lead to any more.
    let lost = [(KERNEL + DATA, words(&[0, 2, 0, first + 8, first + 8])), (first, source(head, head, 0, 0))];
    let [told, _] = answers("!whea", &lost);
    assert_eq!(told.reason.unwrap(), "the table counts 2 sources, and its list has 1");
}

#[test]
fn verifier_names_the_drivers_that_were_chosen() {
    let (head, first, second) = (KERNEL + DATA + 0x100, POOL + 0x10, POOL + 0x110);
    let name = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let memory = [
        (KERNEL + DATA + 0x100, words(&[first, second])),
        (KERNEL + DATA + 0x180, words(&[0])),
        (POOL, words(&[20, POOL + 0x300, second, head, 1])),
        (POOL + 0x100, words(&[16, POOL + 0x340, head, first, 2 | 2 << 32])),
        (POOL + 0x300, name("iaStor.sys")),
        (POOL + 0x340, name("ev\u{1b}l.sys")),
    ];
    let [told, untold] = answers("!verifier", &memory);
    assert_eq!(told.status, Status::Answer);
    let list = told.text.split_once("Driver Verification List").unwrap().1;
    insta::assert_snapshot!(list);
    assert_eq!(told.data["drivers"][0]["name"], "iaStor.sys");
    assert_eq!(told.data["every_driver"], false);
    assert!(!untold.text.contains("Driver Verification List"));
}
