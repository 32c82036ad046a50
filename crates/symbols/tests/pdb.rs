//! Real pairs of images and PDBs: identities, names and sizes, against the images' own tables and the crate `pdb2`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what failed and prints what it measured"
)]

use pdb2::{FallibleIterator, PDB, SymbolData};
use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use stopcode_image::{Image, MACHINE_X64};
use stopcode_symbols::{How, Pdb, PdbKey, Reach, SymbolKind, SymbolSource, WantedImage};

fn folder(test: &str) -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/pe"));
    if folder.is_dir() {
        return Some(folder.to_owned());
    }
    eprintln!("SKIPPED: {test}: ../shared is not beside the checkout");
    None
}

/// Images that have their PDB beside them.
fn pairs(folder: &Path) -> Vec<(PathBuf, Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(pairs(&entry));
        } else if entry.extension().is_some_and(|ext| ext != "pdb")
            && let Ok(pdb) = fs::read(entry.with_extension("pdb"))
        {
            let image = fs::read(&entry).unwrap();
            found.push((entry, image, pdb));
        }
    }
    found
}

#[test]
fn every_image_finds_its_pdb_by_key_and_no_other() {
    let Some(folder) = folder("every_image_finds_its_pdb_by_key_and_no_other") else { return };
    let pairs = pairs(&folder);
    assert!(pairs.len() >= 15, "{}", pairs.len());
    let keys: Vec<PdbKey> = pairs.iter().map(|(.., pdb)| Pdb::identity(pdb).unwrap()).collect();
    for (index, (path, image, _)) in pairs.iter().enumerate() {
        let codeview = Image::of_file(image).unwrap().codeview().unwrap();
        let key = PdbKey { guid: codeview.guid, age: codeview.age };
        let fits: Vec<usize> = (0..keys.len()).filter(|other| keys[*other] == key).collect();
        assert_eq!(fits, [index], "{}", path.display());
    }
}

/// Place, size and name.
type Functions = BTreeSet<(u32, u32, String)>;

/// Names and places of publics, variables and functions with sizes, as another reader gives them.
fn by_pdb2(bytes: &[u8]) -> (Functions, BTreeSet<(u32, String)>) {
    let mut pdb = PDB::open(Cursor::new(bytes)).unwrap();
    let map = pdb.address_map().unwrap();
    let (mut procedures, mut others) = (BTreeSet::new(), BTreeSet::new());
    let mut take = |data: SymbolData<'_>| match data {
        SymbolData::Public(public) => {
            public
                .offset
                .to_rva(&map)
                .map(|rva| others.insert((rva.0, public.name.to_string().into_owned())));
        }
        SymbolData::Data(data) => {
            data.offset.to_rva(&map).map(|rva| others.insert((rva.0, data.name.to_string().into_owned())));
        }
        SymbolData::Procedure(procedure) => {
            let name = procedure.name.to_string().into_owned();
            procedure.offset.to_rva(&map).map(|rva| procedures.insert((rva.0, procedure.len, name)));
        }
        _ => {}
    };
    let globals = pdb.global_symbols().unwrap();
    let mut symbols = globals.iter();
    while let Some(symbol) = symbols.next().unwrap() {
        if let Ok(data) = symbol.parse() {
            take(data);
        }
    }
    let debug = pdb.debug_information().unwrap();
    let mut modules = debug.modules().unwrap();
    while let Some(module) = modules.next().unwrap() {
        let Some(info) = pdb.module_info(&module).unwrap() else { continue };
        let mut symbols = info.symbols().unwrap();
        while let Some(symbol) = symbols.next().unwrap() {
            if let Ok(data) = symbol.parse() {
                take(data);
            }
        }
    }
    (procedures, others)
}

#[test]
fn names_and_sizes_are_those_another_reader_finds() {
    let Some(folder) = folder("names_and_sizes_are_those_another_reader_finds") else { return };
    for (path, _, bytes) in pairs(&folder) {
        let pdb = Pdb::parse(&bytes).unwrap();
        assert_eq!(pdb.damage, None);
        let (procedures, others) = by_pdb2(&bytes);
        let ours: BTreeSet<(u32, String)> =
            pdb.symbols.iter().map(|found| (found.rva, found.name.to_owned())).collect();
        // What has no name is not kept.
        for (rva, size, name) in procedures.iter().filter(|(.., name)| !name.is_empty()) {
            assert!(ours.contains(&(*rva, name.clone())), "{}: {name} {rva:#x}", path.display());
            assert!(pdb.symbols.lookup(*rva).unwrap().size >= Some(*size).filter(|size| *size > 0), "{name}");
        }
        for (rva, name) in others.iter().filter(|(_, name)| !name.is_empty()) {
            assert!(ours.contains(&(*rva, name.clone())), "{}: {name} {rva:#x}", path.display());
        }
        let procedure_names = procedures.iter().map(|(rva, _, name)| (*rva, name.clone()));
        let theirs: BTreeSet<(u32, String)> = procedure_names.chain(others.iter().cloned()).collect();
        let more: Vec<_> = pdb
            .symbols
            .iter()
            .filter(|found| !found.cold && !theirs.contains(&(found.rva, found.name.to_owned())))
            .filter(|found| found.how != How::Procedure) // thunks
            .collect();
        assert!(more.is_empty(), "{}: {:?}", path.display(), more.first());
        println!(
            "{}: {} functions, {} others, {} symbols kept, {} parts",
            path.strip_prefix(&folder).unwrap().display(),
            procedures.len(),
            others.len(),
            pdb.symbols.len(),
            pdb.symbols.iter().filter(|found| found.cold).count(),
        );
    }
}

/// The image's own function table and the PDB agree on where functions begin, and on where they end unless they are in
/// parts.
#[test]
fn sizes_are_those_of_the_images_function_table() {
    let Some(folder) = folder("sizes_are_those_of_the_images_function_table") else { return };
    let (mut all, mut starts, mut same, mut inside) = (0, 0, 0, 0);
    for (path, image, bytes) in pairs(&folder) {
        let image = Image::of_file(&image).unwrap();
        let pdb = Pdb::parse(&bytes).unwrap();
        let mut here = (0, 0, 0, 0);
        for function in image.functions() {
            here.0 += 1;
            let found = pdb.symbols.lookup(function.start).unwrap();
            assert_ne!(found.kind, SymbolKind::Data, "{}: {}", path.display(), found.name);
            match found.reach {
                Reach::Start => here.1 += 1,
                Reach::Within => here.3 += 1,
                _ => {
                    println!(
                        "{}: {:#x} is behind {} ({:?})",
                        path.display(),
                        function.start,
                        found.name,
                        found.reach
                    );
                }
            }
            here.2 += usize::from(found.reach == Reach::Start && found.size == function.size);
            if image.headers().machine == MACHINE_X64 {
                let whole = image.whole(function).unwrap();
                let whole = pdb.symbols.lookup(whole.start).unwrap();
                assert!(whole.reach.names_the_place(), "{}: {function:?} {whole:?}", path.display());
            }
        }
        println!("{}: {here:?} (all, starts, same size, inside)", path.display());
        (all, starts, same, inside) = (all + here.0, starts + here.1, same + here.2, inside + here.3);
    }
    println!("{all} entries: {starts} start a symbol, {same} of its size, {inside} lie in one");
    assert!(all > 2500 && starts + inside > all * 98 / 100 && same > starts * 9 / 10);
}

/// Cut or changed anywhere, a PDB is read in part or refused.
#[test]
fn damage_does_no_harm() {
    let Some(folder) = folder("damage_does_no_harm") else { return };
    let bytes = fs::read(folder.join("systeminformer/amd64/ksi.pdb")).unwrap();
    let whole = Pdb::parse(&bytes).unwrap();
    for end in (0..bytes.len()).step_by(7919) {
        if let Ok(pdb) = Pdb::parse(&bytes[..end]) {
            assert!(pdb.symbols.len() <= whole.symbols.len());
            assert!(pdb.damage.is_some() || pdb.symbols.len() == whole.symbols.len(), "cut at {end}");
        }
    }
    // A linear congruence spreads the changes over the file; every fourth hits the headers.
    let mut state = 12345_u64;
    let mut damaged = bytes.clone();
    for round in 0..400 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (state >> 33) as usize % if round % 4 == 0 { 0x60 } else { bytes.len() };
        let right = damaged[at];
        damaged[at] = (state >> 20) as u8;
        if let Ok(pdb) = Pdb::parse(&damaged) {
            _ = pdb.symbols.lookup(0x1234);
        }
        damaged[at] = right;
    }
    assert!(Pdb::parse(b"").is_err() && Pdb::parse(&bytes[..32]).is_err());
}

/// Exports lie where the PDB has functions of the same name, give or take decoration.
#[test]
fn exports_are_the_pdbs_functions() {
    let Some(folder) = folder("exports_are_the_pdbs_functions") else { return };
    let (mut seen, mut sized) = (0, 0);
    for (path, image, bytes) in pairs(&folder) {
        let image = Image::of_file(&image).unwrap();
        let pdb = Pdb::parse(&bytes).unwrap();
        for export in stopcode_symbols::exports(&image).iter() {
            assert_eq!(export.how, How::Export);
            let mut names = pdb.symbols.names_at(export.rva);
            assert!(names.any(|name| name == export.name), "{}: {}", path.display(), export.name);
            let size = pdb.symbols.lookup(export.rva).unwrap().size;
            // Export thunks of a few bytes are not in a function table.
            // On ARM64 the function table leaves out the constants behind a function's code.
            let fits = if image.headers().machine == MACHINE_X64 {
                export.size == size
            } else {
                export.size <= size
            };
            assert!(export.size.is_none() || fits, "{}: {}", path.display(), export.name);
            sized += usize::from(export.size.is_some());
            seen += 1;
        }
    }
    assert!(seen >= 70 && sized > seen / 2, "{sized} of {seen}");
}

/// By time stamp and size the image is found, by its record the PDB; and nothing where one of them does not fit.
#[test]
fn names_come_from_provably_the_images_own_pdb() {
    let Some(folder) = folder("names_come_from_provably_the_images_own_pdb") else { return };
    let mut found = 0;
    for (path, bytes, _) in pairs(&folder) {
        let image = Image::of_file(&bytes).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let names = [name];
        let wanted = |stamp: u32| WantedImage {
            names: &names,
            time_date_stamp: stamp,
            size_of_image: image.headers().size_of_image,
            codeview: None,
        };
        let wanted = [wanted(image.headers().time_date_stamp), wanted(1)];
        let pdb = path.with_extension("pdb");
        let key = image.codeview().map(|codeview| PdbKey { guid: codeview.guid, age: codeview.age });
        for source in [
            SymbolSource::new([path.parent().unwrap().to_owned()]),
            SymbolSource::new([pdb.clone(), path.clone()]),
            SymbolSource::new([
                format!("srv*{}", path.parent().unwrap().display()).into(),
                pdb.clone(),
                path.clone(),
            ]),
        ] {
            // Some were renamed after they were linked: only the first source looks for names.
            let Some(names) = source.names_of(&wanted[0]) else {
                let linked = image.codeview().unwrap().path.to_ascii_lowercase();
                assert!(!linked.ends_with(&*pdb.file_name().unwrap().to_str().unwrap().to_ascii_lowercase()));
                continue;
            };
            found += 1;
            assert_eq!((names.key, &names.path), (key, &pdb), "{}", path.display());
            assert!(source.names_of(&wanted[1]).is_none(), "{}", path.display());
        }
        // The PDB alone proves nothing unless the dump holds the image's record.
        let alone = SymbolSource::new([pdb.clone()]);
        assert!(alone.names_of(&wanted[0]).is_none());
        let [wanted, _] = wanted;
        let recorded = WantedImage { codeview: image.codeview(), ..wanted };
        assert_eq!(alone.names_of(&recorded).unwrap().key, key);
    }
    assert!(found >= 40, "{found}");
}
