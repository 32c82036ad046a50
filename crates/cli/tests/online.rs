//! `symbols fetch` and `analyze --online` against a server on this machine that may misbehave.

#![cfg(feature = "online")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use common::server::{Manner, Server};
use common::*;
use std::collections::BTreeMap;
use std::path::Path;

/// The smallest image that says which one it is and which PDB it has.
fn image(stamp: u32, size: u32, pdb: &str, guid: [u8; 16]) -> Vec<u8> {
    let mut file = vec![0u8; 0x400];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40u32.to_le_bytes());
    put(0x40, b"PE\0\0\x64\x86\x01\0");
    put(0x48, &stamp.to_le_bytes());
    put(0x54, &[0xf0, 0, 0x22, 0]);
    put(0x58, &0x20bu16.to_le_bytes());
    put(0x58 + 32, &[0, 0x10, 0, 0, 0, 2, 0, 0]);
    put(0x58 + 56, &size.to_le_bytes());
    put(0x58 + 60, &0x200u32.to_le_bytes());
    put(0x58 + 108, &16u32.to_le_bytes());
    // The seventh directory: debug, one entry.
    put(0x58 + 112 + 48, &0x1000u32.to_le_bytes());
    put(0x58 + 112 + 52, &28u32.to_le_bytes());
    put(0x148, b".rdata\0\0");
    for (at, value) in [(8, 0x200u32), (12, 0x1000), (16, 0x200), (20, 0x200), (36, 0x4000_0040)] {
        put(0x148 + at, &value.to_le_bytes());
    }
    let record = [b"RSDS".as_slice(), &guid, &1u32.to_le_bytes(), pdb.as_bytes(), b"\0"].concat();
    for (at, value) in [(12, 2u32), (16, record.len() as u32), (20, 0x1040), (24, 0x240)] {
        put(0x200 + at, &value.to_le_bytes());
    }
    put(0x240, &record);
    file
}

/// The smallest PDB that says which one it is.
fn pdb(guid: [u8; 16]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut blocks = vec![vec![0u8; 512]; 7];
    let mut put =
        |block: usize, at: usize, bytes: &[u8]| blocks[block][at..at + bytes.len()].copy_from_slice(bytes);
    put(0, 0, b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0");
    put(0, 0x20, &words(&[512, 1, 7, 28, 0, 3]));
    put(3, 0, &words(&[4]));
    put(4, 0, &words(&[4, 0, 28, 0, 64, 5, 6]));
    put(5, 0, &words(&[20_000_404, 0, 1]));
    put(5, 12, &guid);
    put(6, 0, &words(&[u32::MAX, 19_990_903, 1]));
    blocks.concat()
}

/// What a server would have for a sample: for each image that is asked for, the image and its PDB.
fn content(dump: &Path) -> Vec<(String, Vec<u8>)> {
    let listed = run(["symbols".as_ref(), "fetch".as_ref(), "--list".as_ref(), dump.as_os_str()]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let mut files = Vec::new();
    for (index, path) in listed.stdout.lines().enumerate() {
        let mut parts = path.split('/');
        let (name, key) = (parts.next().unwrap(), parts.next().unwrap());
        // Of the kernel's two names a server has one.
        if name == "ntkrnlmp.exe" {
            continue;
        }
        let (stamp, size) = key.split_at(8);
        let number = |hex: &str| u32::from_str_radix(hex, 16).unwrap();
        let guid = [index as u8 + 1; 16];
        let pdb_name = format!("{}.pdb", name.split('.').next().unwrap());
        files.push((path.to_owned(), image(number(stamp), number(size), &pdb_name, guid)));
        let key = format!("{:032X}", u128::from_be_bytes(guid));
        files.push((format!("{pdb_name}/{key}1/{pdb_name}"), pdb(guid)));
    }
    assert!(files.len() > 10, "{}", listed.stdout);
    files
}

/// The files of a store, without this program's own notes.
fn stored(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().unwrap() != ".stopcode" {
                walk(root, &path, found);
            } else if path.is_file() {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

fn fetch(store: &Path, server: &Server, dump: &Path) -> Run {
    let path = format!("srv*{}*{}", store.display(), server.address);
    let mut command = stopcode();
    // A proxy of this machine's surroundings has nothing to do with a server on it.
    command.env("NO_PROXY", "127.0.0.1").args(["symbols", "fetch", "--timeout", "1", "--symbols", &path]);
    finish(command.arg(dump))
}

/// Whatever a server does: what is in the store is whole, and only what was asked for.
#[test]
fn the_store_is_whole_whatever_the_server_does() {
    let dump = sample("seed-double-fault.dmp");
    let files = content(&dump);
    let whole: BTreeMap<String, Vec<u8>> = files.iter().cloned().collect();
    // A file of which the server has only errors is given up after four tries and seconds of back-off: two are enough.
    let few: Vec<_> = files.iter().take(2).cloned().collect();
    for (manner, files, has, code) in [
        (Manner::Plain, &files, true, 0),
        (Manner::Packed, &files, true, 0),
        (Manner::Redirect, &files, true, 0),
        (Manner::CutOnce, &few, true, 0),
        (Manner::Stalls, &few, true, 0),
        (Manner::Busy, &few, true, 0),
        (Manner::CutAlways, &few, false, 2),
        (Manner::Error, &few, false, 2),
        (Manner::Loop, &few, false, 2),
        (Manner::Wrong, &few, false, 2),
        (Manner::Absent, &files, false, 0),
    ] {
        let store = Folder::new("online");
        let server = Server::start(files, manner);
        let ran = fetch(store.path(), &server, &dump);
        let told = format!("{manner:?}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.code, Some(code), "{told}");
        let stored = stored(store.path());
        assert_eq!(stored.len(), if has { files.len() } else { 0 }, "{told} {:?}", stored.keys());
        assert!(stored.iter().all(|(name, bytes)| whole.get(name) == Some(bytes)), "{told}");
        if matches!(manner, Manner::CutOnce | Manner::Stalls) {
            assert!(
                server.asked().iter().any(|asked| asked.contains(" from ")),
                "resumed: {:?}",
                server.asked()
            );
        }
        // What is there is not asked for again, nor what is known to be absent.
        if code == 0 {
            let before = server.asked().len();
            let again = fetch(store.path(), &server, &dump);
            assert_eq!(server.asked().len(), before, "{manner:?}: {:?}", &server.asked()[before..]);
            assert!(!again.stdout.contains("fetched"), "{}", again.stdout);
        }
    }
}

/// Several processes that want the same files bring each once.
#[test]
fn a_file_is_fetched_by_one_process() {
    let dump = sample("seed-double-fault.dmp");
    let files = content(&dump);
    let store = Folder::new("together");
    let server = Server::start(&files, Manner::Plain);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(fetch(store.path(), &server, &dump).code, Some(0)));
        }
    });
    assert_eq!(stored(store.path()).len(), files.len());
    for (path, _) in &files {
        assert_eq!(server.asked().iter().filter(|asked| *asked == path).count(), 1, "{path}");
    }
}

/// The analysis fetches what it needs by itself, and only with `--online`.
#[test]
fn analyze_asks_servers_only_where_it_may() {
    let dump = sample("seed-double-fault.dmp");
    let files = content(&dump);
    let store = Folder::new("analyze");
    let server = Server::start(&files, Manner::Plain);
    let path = format!("srv*{}*{}", store.path().display(), server.address);
    let analyze = |online: &[&str], variable: bool| {
        let mut command = stopcode();
        command.env("NO_PROXY", "127.0.0.1").args(["analyze", "--format", "json"]).args(online);
        if variable {
            command.env("_NT_SYMBOL_PATH", &path);
        } else {
            command.args(["--symbols", &path]);
        }
        finish(command.arg(&dump))
    };
    assert_eq!(analyze(&[], false).code, Some(0));
    assert_eq!(server.asked(), [""; 0]);
    let ran = analyze(&["--online"], true);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(server.asked().iter().any(|asked| asked.starts_with("ntoskrnl.exe/")), "{:?}", server.asked());
    assert!(stored(store.path()).keys().any(|name| name.starts_with("ntoskrnl.pdb/")));
}

/// A server that is not there costs a note, not the analysis.
#[test]
fn a_server_that_is_not_there_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = Folder::new("nobody");
    let path = format!("srv*{}*{address}", store.path().display());
    let mut command = stopcode();
    command.env("NO_PROXY", "127.0.0.1");
    command.args(["analyze", "--format", "json", "--online", "--timeout", "1", "--symbols", &path]);
    let ran = finish(command.arg(sample("seed-double-fault.dmp")));
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("could not be fetched"), "{}", ran.stderr);
    assert_eq!(ran.json()["input"]["kind"], "triage64");
}
