//! Names, lines and inlined functions asked for one by one, against the whole table and other readers.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what failed and prints what it measured"
)]

use pdb2::{FallibleIterator, PDB, SymbolData};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use stopcode_symbols::{Checksum, How, Pdb, PdbFile};

fn pdbs(test: &str) -> Vec<PathBuf> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|ext| ext == "pdb") {
                found.push(path);
            }
        }
    }
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/pe"));
    let mut found = Vec::new();
    if folder.is_dir() {
        collect(folder, &mut found);
        found.sort();
    } else {
        eprintln!("SKIPPED: {test}: ../shared is not beside the checkout");
    }
    found
}

fn short(path: &Path) -> String {
    let parts: Vec<_> = path.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    format!("{}/{}", parts[1], parts[0])
}

/// Reading one module at a time finds the name that reading all of them does.
#[test]
fn a_name_is_the_same_however_it_is_asked_for() {
    for path in pdbs("a_name_is_the_same_however_it_is_asked_for") {
        let bytes = fs::read(&path).unwrap();
        let whole = Pdb::parse(&bytes).unwrap();
        let file = PdbFile::open(fs::File::open(&path).unwrap()).unwrap();
        assert_eq!((file.key, file.machine), (whole.key, whole.machine));
        let (mut same, mut all, mut labels) = (0, 0, 0);
        for found in whole.symbols.iter().filter(|found| found.how == How::Procedure && !found.cold) {
            let size = found.size.unwrap_or(1);
            for rva in [found.rva, found.rva + size / 2, found.rva + size - 1] {
                let (one, of_all) = (file.lookup(rva).unwrap(), whole.symbols.lookup(rva).unwrap());
                // A label inside a function has no record of its own.
                if of_all.how == How::Public {
                    labels += 1;
                    assert!(one.rva < of_all.rva, "{one:?} {of_all:?}");
                    continue;
                }
                all += 1;
                same += usize::from(one.name == of_all.name);
                // Folded functions have names in several modules, of which one is shown.
                assert!(whole.symbols.names_at(one.rva).any(|name| name == one.name), "{one:?}");
                assert!(one.name == of_all.name || of_all.names > 1, "{one:?} {of_all:?}");
                assert_eq!((one.rva, one.offset), (of_all.rva, of_all.offset), "{rva:#x} {one:?} {of_all:?}");
                let module = file.module_at(rva).unwrap();
                assert!(!module.object.is_empty() && !module.library.is_empty());
            }
        }
        println!("{}: {same} of {all} names are the same, {labels} labels", short(&path));
        assert!(all > 50 && labels * 50 < all && same * 100 >= all * 90, "{}: {same} of {all}", short(&path));
    }
}

/// Files and lines by address.
type Lines = BTreeMap<u32, BTreeSet<(String, u32)>>;

fn by_llvm(path: &Path, sections: &[u32]) -> Lines {
    let text = dump(path, "-l");
    let mut found = Lines::new();
    let (mut file, mut section) = (String::new(), None);
    let number = |word: &str| word.trim_end_matches('!').parse::<u32>().ok();
    // How it writes the two numbers that mean there is no line.
    let hidden = |word: &str| ["ASI", "NSI"].contains(&word.trim_end_matches('!'));
    for line in text.lines() {
        if let Some((place, _)) = line.split_once(", line/addr entries") {
            let number = place.trim().split(':').next().unwrap();
            // Code that the linker left out is in section 0.
            let number = usize::from_str_radix(number, 16).unwrap().checked_sub(1);
            section = number.map(|number| sections[number]);
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_row = line.starts_with(' ')
            && words.len() >= 2
            && words.chunks(2).all(|pair| pair.len() == 2 && (number(pair[0]).is_some() || hidden(pair[0])));
        if is_row {
            for pair in words.chunks(2) {
                let Some(section) = section else { continue };
                let at = section + u32::from_str_radix(pair[1], 16).unwrap();
                let Some(line) = number(pair[0]) else { continue };
                found.entry(at).or_default().insert((file.clone(), line));
            }
        } else if let Some((name, _)) = line.rsplit_once(" (").filter(|_| line.ends_with(')')) {
            name.trim().clone_into(&mut file);
        }
    }
    found
}

fn dump(path: &Path, what: &str) -> String {
    let output = Command::new("llvm-pdbutil").args(["dump", what]).arg(path).output().unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where sections lie, in their order.
fn sections(path: &Path) -> Vec<u32> {
    let text = dump(path, "--section-headers");
    let addresses = text.lines().filter_map(|line| line.trim().strip_suffix(" virtual address"));
    addresses.map(|hex| u32::from_str_radix(hex.trim(), 16).unwrap()).collect()
}

fn has_llvm(test: &str) -> bool {
    let there = Command::new("llvm-pdbutil").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: {test}: llvm-pdbutil is not installed");
    }
    there
}

#[test]
fn lines_are_those_llvm_pdbutil_lists() {
    const TEST: &str = "lines_are_those_llvm_pdbutil_lists";
    let pdbs = pdbs(TEST);
    if !has_llvm(TEST) {
        return;
    }
    let (mut all, mut asked) = (0, 0);
    for path in pdbs {
        let bytes = fs::read(&path).unwrap();
        let file = PdbFile::open(&*bytes).unwrap();
        let mut ours = Lines::new();
        for (rva, line) in file.all_lines() {
            assert!(!matches!(&line.checksum, Some(Checksum::Sha256(sum)) if sum.len() != 32));
            ours.entry(rva).or_default().insert((line.file, line.line));
        }
        let theirs = by_llvm(&path, &sections(&path));
        for (rva, lines) in &theirs {
            assert_eq!(ours.get(rva), Some(lines), "{} {rva:#x}", short(&path));
            // Of functions folded into one, the lines are those of the module that gave the code.
            asked += usize::from(file.line(*rva).is_some_and(|line| lines.contains(&(line.file, line.line))));
        }
        let more: Vec<_> = ours.iter().filter(|(rva, _)| !theirs.contains_key(rva)).collect();
        assert!(more.is_empty(), "{}: {:x?} and so on, {}", short(&path), more.first(), more.len());
        println!("{}: {} addresses begin a line", short(&path), theirs.len());
        all += theirs.len();
    }
    println!("{all} addresses, {asked} asked for");
    assert!(all == 0 || (all > 10_000 && asked * 100 > all * 98), "{asked} of {all}");
}

/// Each site of an inlined function is found at its first address, within those it is in.
#[test]
fn inlined_functions_are_those_another_reader_finds() {
    let (mut sites, mut deepest) = (0, 0);
    for path in pdbs("inlined_functions_are_those_another_reader_finds") {
        let bytes = fs::read(&path).unwrap();
        let file = PdbFile::open(&*bytes).unwrap();
        let mut pdb = PDB::open(Cursor::new(&bytes)).unwrap();
        let map = pdb.address_map().unwrap();
        let strings = pdb.string_table().unwrap();
        let ids = pdb.id_information().unwrap();
        let mut finder = ids.finder();
        let mut iterate = ids.iter();
        while iterate.next().unwrap().is_some() {
            finder.update(&iterate);
        }
        let debug = pdb.debug_information().unwrap();
        let mut modules = debug.modules().unwrap();
        let (mut here, mut foreign, mut outside) = (0, 0, 0);
        while let Some(module) = modules.next().unwrap() {
            let Some(info) = pdb.module_info(&module).unwrap() else { continue };
            let program = info.line_program().unwrap();
            let inlinees: BTreeMap<_, _> =
                info.inlinees().unwrap().map(|i| Ok((i.index(), i))).collect().unwrap();
            let mut folded: BTreeMap<u32, usize> = BTreeMap::new();
            let mut symbols = info.symbols().unwrap();
            while let Some(symbol) = symbols.next().unwrap() {
                if let Ok(SymbolData::Procedure(procedure)) = symbol.parse()
                    && let Some(rva) = procedure.offset.to_rva(&map)
                {
                    *folded.entry(rva.0).or_default() += 1;
                }
            }
            let mut symbols = info.symbols().unwrap();
            let mut within = None;
            while let Some(symbol) = symbols.next().unwrap() {
                match symbol.parse() {
                    Ok(SymbolData::Procedure(procedure)) => {
                        // Of functions folded into one, one is shown.
                        let alone = procedure.offset.to_rva(&map).is_some_and(|rva| folded[&rva.0] == 1);
                        within = alone.then_some((procedure.offset, procedure.len));
                    }
                    Ok(SymbolData::InlineSite(site)) => {
                        let (Some((start, size)), Some(inlinee)) = (within, inlinees.get(&site.inlinee))
                        else {
                            continue;
                        };
                        // Numbers of other modules' functions are not followed.
                        if site.inlinee.0 & 0x8000_0000 != 0 {
                            foreign += 1;
                            continue;
                        }
                        let name = match finder.find(site.inlinee).unwrap().parse().unwrap() {
                            pdb2::IdData::Function(function) => function.name.to_string().into_owned(),
                            pdb2::IdData::MemberFunction(function) => function.name.to_string().into_owned(),
                            other => panic!("{other:?}"),
                        };
                        let mut lines = inlinee.lines(start, &site);
                        while let Some(line) = lines.next().unwrap() {
                            let Some(rva) = line.offset.to_rva(&map) else { continue };
                            // Without a length it may be of no code.
                            let inside = line.offset.offset.wrapping_sub(start.offset) < size;
                            if line.length.unwrap_or(0) == 0 || !inside {
                                outside += usize::from(!inside);
                                continue;
                            }
                            let source = program.get_file_info(line.file_index).unwrap();
                            let source = strings.get(source.name).unwrap().to_string().into_owned();
                            let frames = file.frames(rva.0);
                            let fits = frames.iter().any(|frame| {
                                frame.inlined
                                    && frame.function.as_deref().is_some_and(|f| f.ends_with(&name))
                                    && frame
                                        .line
                                        .as_ref()
                                        .is_some_and(|l| (&l.file, l.line) == (&source, line.line_start))
                            });
                            assert!(
                                fits,
                                "{} {:#x} {name} {source}:{} {frames:?}",
                                short(&path),
                                rva.0,
                                line.line_start
                            );
                            deepest = deepest.max(frames.len());
                            assert!(!frames.last().unwrap().inlined);
                            here += 1;
                        }
                    }
                    _ => {}
                }
            }
        }
        println!(
            "{}: {here} pieces of inlined code, {foreign} sites of other modules' functions, {outside} behind the end",
            short(&path)
        );
        sites += here;
    }
    println!("{sites} pieces of inlined code, {deepest} frames at most");
    assert!(sites == 0 || (sites > 5000 && deepest > 4));
}

/// What `llvm-pdbutil` lists of publics and functions, with sizes, is in the table and nothing else is.
#[test]
fn publics_and_functions_are_those_llvm_pdbutil_lists() {
    const TEST: &str = "publics_and_functions_are_those_llvm_pdbutil_lists";
    let pdbs = pdbs(TEST);
    if !has_llvm(TEST) {
        return;
    }
    for path in pdbs {
        let pdb = Pdb::parse(&fs::read(&path).unwrap()).unwrap();
        let sections = sections(&path);
        // Section and offset are decimal here.
        let rva = |line: &str| {
            let place = line.split("addr = ").nth(1)?.split(',').next()?.split_whitespace().next()?;
            let (section, offset) = place.split_once(':')?;
            let section: usize = section.parse().ok()?;
            Some(sections.get(section.checked_sub(1)?)? + offset.parse::<u32>().ok()?)
        };
        let mut listed: BTreeSet<(u32, String)> = BTreeSet::new();
        let (mut publics, mut functions) = (0, 0);
        for (what, kinds) in [
            ("--publics", &["S_PUB32"][..]),
            ("--symbols", &["S_GPROC32", "S_LPROC32", "S_GPROC32_ID", "S_LPROC32_ID"][..]),
        ] {
            let text = dump(&path, what);
            let mut lines = text.lines().peekable();
            while let Some(line) = lines.next() {
                let Some((_, rest)) = line.split_once(" | ") else { continue };
                let kind = rest.split_whitespace().next().unwrap_or_default();
                if !kinds.contains(&kind) {
                    continue;
                }
                let name = rest.split_once('`').unwrap().1.trim_end().trim_end_matches('`').to_owned();
                let mut details = Vec::new();
                while let Some(next) = lines.next_if(|line| !line.contains(" | ")) {
                    details.push(next);
                }
                let Some(at) = details.iter().find_map(|line| rva(line)) else { continue };
                if kind == "S_PUB32" {
                    publics += 1;
                } else {
                    functions += 1;
                    let size = details.iter().find_map(|line| {
                        line.split("code size = ").nth(1)?.split(',').next()?.trim().parse::<u32>().ok()
                    });
                    let found = pdb.symbols.lookup(at).unwrap();
                    assert!(found.size >= size.filter(|size| *size > 0), "{} {name} {found:?}", short(&path));
                }
                listed.insert((at, name));
            }
        }
        let ours: BTreeSet<(u32, String)> = pdb
            .symbols
            .iter()
            .filter(|found| !found.cold)
            .map(|found| (found.rva, found.name.to_owned()))
            .collect();
        let missing: Vec<_> = listed.difference(&ours).filter(|(_, name)| !name.is_empty()).collect();
        assert!(missing.is_empty(), "{}: {:x?}", short(&path), missing.first());
        let more: Vec<_> = pdb
            .symbols
            .iter()
            .filter(|found| !found.cold && found.how == How::Public)
            .filter(|found| !listed.contains(&(found.rva, found.name.to_owned())))
            .collect();
        assert!(more.is_empty(), "{}: {:?}", short(&path), more.first());
        println!("{}: {publics} publics and {functions} functions are equal", short(&path));
        assert!(functions > 10);
    }
}

/// A file written for this, small enough to read by hand: one function with another inlined, of two files.
#[test]
fn a_small_file_tells_all_it_has() {
    let bytes = include_bytes!("../../../fuzz/seeds/pdb/small.pdb");
    let file = PdbFile::open(&bytes[..]).unwrap();
    let told = |rva: u32| {
        let frames = file.frames(rva).into_iter();
        let words = frames.map(|frame| {
            let line = frame.line.unwrap();
            format!("{} {}:{} {}", frame.function.unwrap(), line.file, line.line, frame.inlined)
        });
        words.collect::<Vec<_>>()
    };
    assert_eq!(told(0x1011), ["Outer a.c:10 false"]);
    assert_eq!(told(0x1012), ["Inner b.h:41 true", "Outer a.c:10 false"]);
    assert_eq!(told(0x1016), ["Outer a.c:10 false"]);
    assert_eq!(told(0x101c), ["Outer a.c:12 false"]);
    assert_eq!(told(0x1030), Vec::<String>::new());
    let found = file.lookup(0x1034).unwrap();
    assert_eq!((found.name, found.how, found.size), ("Other", How::Public, None));
    assert_eq!(file.lookup(0x1018).unwrap().size, Some(0x20));
    assert_eq!(file.module_at(0x10ff).unwrap().object, "a.obj");
    assert_eq!(file.module_at(0x1100), None);
    assert_eq!(file.line(0x1100), None);
}
