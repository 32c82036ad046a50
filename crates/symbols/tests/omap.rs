//! Images that a tool rearranged after linking: PDBs with OMAP streams are rare, so that they are written here, and the
//! places of their symbols compared with a walk over the map and with the crate `pdb2`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod written;

use pdb2::{FallibleIterator, PDB, SymbolData};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io::Cursor;
use stopcode_symbols::Pdb;
use written::{DATA, DATA_SIZE, MOVED_SIZE, TEXT, TEXT_SIZE, record, words};

/// A PDB with these symbol records, whose image was rearranged by this map; not at all without one.
fn pdb(records: &[u8], map: Option<&[(u32, u32)]>) -> Vec<u8> {
    written::pdb(records, &[], map)
}

fn public(name: &str, code: bool, section: u16, offset: u32) -> Vec<u8> {
    let mut body = words(&[if code { 2 } else { 0 }, offset]);
    body.extend(section.to_le_bytes());
    body.extend(name.as_bytes());
    body.push(0);
    record(0x110e, &body)
}

/// A function of this size in `.text`, as a module has it.
fn procedure(name: &str, offset: u32, size: u32) -> Vec<u8> {
    let mut body = words(&[0, 0, 0, size, 0, 0, 0, offset]);
    body.extend(1_u16.to_le_bytes());
    body.push(0);
    body.extend(name.as_bytes());
    body.push(0);
    record(0x1110, &body)
}

/// Where the map takes an address: the last pair that is not above it counts; what goes to 0 was left out.
fn taken(map: &[(u32, u32)], rva: u32) -> Option<u32> {
    let mut found = None;
    for (from, to) in map {
        if *from <= rva {
            found = Some((*from, *to));
        }
    }
    let (from, to) = found?;
    (to != 0).then(|| to + (rva - from))
}

fn named(bytes: &[u8]) -> BTreeSet<(u32, String)> {
    let pdb = Pdb::parse(bytes).unwrap();
    assert!(pdb.rearranged && pdb.damage.is_none(), "{:?}", pdb.damage);
    pdb.symbols.iter().map(|found| (found.rva, found.name.to_owned())).collect()
}

/// The same by another reader.
fn named_by_pdb2(bytes: &[u8]) -> BTreeSet<(u32, String)> {
    let mut pdb = PDB::open(Cursor::new(bytes)).unwrap();
    let map = pdb.address_map().unwrap();
    let table = pdb.global_symbols().unwrap();
    let mut records = table.iter();
    let mut found = BTreeSet::new();
    while let Some(record) = records.next().unwrap() {
        if let Ok(SymbolData::Public(public)) = record.parse()
            && let Some(rva) = public.offset.to_rva(&map)
        {
            found.insert((rva.0, public.name.to_string().into_owned()));
        }
    }
    found
}

/// Blocks of the code, cut at these places: each goes somewhere else, or nowhere.
fn maps() -> impl Strategy<Value = Vec<(u32, u32)>> {
    let cuts = prop::collection::btree_set(1..TEXT_SIZE, 0..20);
    let places = prop::collection::vec(prop_oneof![1 => Just(0), 6 => TEXT..TEXT + MOVED_SIZE], 21);
    (cuts, places).prop_map(|(cuts, places)| {
        let starts = std::iter::once(TEXT).chain(cuts.into_iter().map(|cut| TEXT + cut));
        let mut map: Vec<(u32, u32)> = starts.zip(places).collect();
        map.push((DATA, 0x2_0000));
        map
    })
}

proptest! {
    #[test]
    fn symbols_are_where_the_map_takes_them(
        map in maps(),
        code in prop::collection::btree_set(0..TEXT_SIZE, 1..30),
        data in prop::collection::btree_set(0..DATA_SIZE, 0..10),
    ) {
        let mut records = Vec::new();
        let mut expected = BTreeSet::new();
        let places = code.iter().map(|offset| (true, *offset)).chain(data.iter().map(|offset| (false, *offset)));
        for (is_code, offset) in places {
            let (section, start) = if is_code { (1, TEXT) } else { (2, DATA) };
            let name = format!("Symbol{section}_{offset:x}");
            records.extend(public(&name, is_code, section, offset));
            expected.extend(taken(&map, start + offset).map(|rva| (rva, name)));
        }
        let bytes = pdb(&records, Some(&map));
        prop_assert_eq!(&named(&bytes), &expected);
        prop_assert_eq!(named_by_pdb2(&bytes), expected);
    }
}

/// The length of a function holds for the layout before: it may go on anywhere.
#[test]
fn of_what_was_moved_no_size_is_told() {
    let records = [procedure("Function", 0x10, 0x40), public("Other", true, 1, 0x80)].concat();
    let whole = Pdb::parse(&pdb(&records, None)).unwrap();
    assert!(!whole.rearranged);
    assert_eq!((whole.procedures, whole.symbols.lookup(0x1014).unwrap().size), (1, Some(0x40)));
    let moved = Pdb::parse(&pdb(&records, Some(&[(TEXT, 0x3000), (TEXT + 0x20, 0x5000)]))).unwrap();
    let found = moved.symbols.lookup(0x3014).unwrap();
    assert_eq!((moved.procedures, found.name, found.size), (0, "Function", None));
    assert_eq!(moved.symbols.lookup(0x5060).unwrap().name, "Other");
}

/// Pairs out of order are put in order; one that leads past the end of all addresses leads nowhere.
#[test]
fn a_map_that_is_not_in_order() {
    let records = [public("First", true, 1, 0), public("Second", true, 1, 0x100)].concat();
    let bytes = pdb(&records, Some(&[(TEXT + 0x80, u32::MAX - 0x10), (TEXT, 0x4000)]));
    let pdb = Pdb::parse(&bytes).unwrap();
    let names: Vec<_> = pdb.symbols.iter().map(|found| (found.rva, found.name.to_owned())).collect();
    assert_eq!(names, [(0x4000, "First".to_owned())]);
    assert_eq!(pdb.symbols.skipped(), 1);
}
