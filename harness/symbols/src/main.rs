//! One task of one reader, so that it can be timed and its instructions counted. See `README.md`.
//!
//! TOOL: `stopcode` (only what is asked for), `stopcode-whole` (all names at once), `pdb-addr2line`, `symbolic` (its cache of
//! functions), `symbolic-publics` (its map of publics), `nothing` (what the harness itself costs).
//! TASK: `first` (open the file, name one address), or `many` (100,000 names after that, twice).

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Addresses to name, spread over the code of the file's functions by a fixed rule.
fn addresses(path: &str) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap();
    let pdb = stopcode_symbols::Pdb::parse(&bytes).unwrap();
    let functions: Vec<(u32, u32)> = pdb
        .symbols
        .iter()
        .filter(|found| found.how == stopcode_symbols::How::Procedure && !found.cold)
        .filter_map(|found| Some((found.rva, found.size?)))
        .collect();
    let mut state = 1_u64;
    (0..100_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (rva, size) = functions[(state >> 33) as usize % functions.len()];
            rva + (state >> 20) as u32 % size.max(1)
        })
        .collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (tool, task, path, list) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["addresses", path] => {
            addresses(path).iter().for_each(|rva| println!("{rva:#x}"));
            return;
        }
        [tool, task, path, list] => (tool, task, path, list),
        _ => panic!("addresses PDB, or TOOL TASK PDB ADDRESSES"),
    };
    // Finding them is not the reader's work: they come out of a file that `addresses` wrote.
    let list = std::fs::read_to_string(list).unwrap();
    let list: Vec<u32> = list.lines().map(|line| u32::from_str_radix(&line[2..], 16).unwrap()).collect();
    let many = task == "many";
    let started = Instant::now();
    let mut opened = None;
    // What is read when it is first asked for is read in the first pass.
    let mut passes = [Duration::ZERO; 2];
    let mut named = 0_usize;
    let mut ran = |name_of: &mut dyn FnMut(u32) -> Option<usize>| {
        named += name_of(list[0]).unwrap();
        opened = Some(started.elapsed());
        for pass in passes.iter_mut().filter(|_| many) {
            let started = Instant::now();
            for rva in &list {
                named += usize::from(black_box(name_of(*rva)).is_some());
            }
            *pass = started.elapsed();
        }
    };
    match tool {
        "nothing" => ran(&mut |_| Some(1)),
        "stopcode" => {
            let pdb = stopcode_symbols::PdbFile::open(std::fs::File::open(path).unwrap()).unwrap();
            ran(&mut |rva| Some(pdb.lookup(rva)?.name.len()));
        }
        "stopcode-whole" => {
            let bytes = std::fs::read(path).unwrap();
            let pdb = stopcode_symbols::Pdb::parse(&bytes).unwrap();
            ran(&mut |rva| Some(pdb.symbols.lookup(rva)?.name.len()));
        }
        "pdb-addr2line" => {
            let file = std::fs::File::open(path).unwrap();
            let pdb = pdb_addr2line::pdb::PDB::open(file).unwrap();
            let data = pdb_addr2line::ContextPdbData::try_from_pdb(pdb).unwrap();
            let context = data.make_context().unwrap();
            ran(&mut |rva| Some(context.find_function(rva).unwrap()?.name?.len()));
        }
        "symbolic" => {
            // Its way to names of functions is a cache, which is written and then read.
            let bytes = symbolic::common::ByteView::open(path).unwrap();
            let object = symbolic::debuginfo::Object::parse(&bytes).unwrap();
            let mut converter = symbolic::symcache::SymCacheConverter::new();
            converter.process_object(&object).unwrap();
            let mut buffer = Vec::new();
            converter.serialize(&mut buffer).unwrap();
            let cache = symbolic::symcache::SymCache::parse(&buffer).unwrap();
            ran(&mut |rva| {
                let mut locations = cache.lookup(rva.into());
                Some(locations.next()?.function().name().len())
            });
        }
        "symbolic-publics" => {
            let bytes = symbolic::common::ByteView::open(path).unwrap();
            let object = symbolic::debuginfo::Object::parse(&bytes).unwrap();
            let map = object.symbol_map();
            ran(&mut |rva| Some(map.lookup(rva.into())?.name()?.len()));
        }
        other => panic!("no tool {other}"),
    }
    println!("{tool} {task}: first name {:?}, passes {passes:?}, {named} named", opened.unwrap());
}
