//! Sessions with the samples and with real dumps.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use stopcode_commands::Session;
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Real dumps; not part of the checkout.
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");

/// A sample by its name.
pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(ROOT).join("samples").join(format!("{name}.dmp"))
}

/// All samples.
pub(crate) fn samples() -> Vec<PathBuf> {
    let files = std::fs::read_dir(Path::new(ROOT).join("samples")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "dmp")).collect();
    found.sort();
    assert!(found.len() >= 3);
    found
}

/// A session without symbols.
pub(crate) fn session(path: &Path) -> Session {
    session_with(path, None).unwrap()
}

/// A session with the symbols of a folder; `None` if the dump cannot be opened. Whatever path it is told, it keeps those.
pub(crate) fn session_with(path: &Path, symbols: Option<&Path>) -> Option<Session> {
    let (path, symbols) = (path.to_owned(), symbols.map(Path::to_owned));
    let open = move || -> Option<Machine> {
        Some(Machine::new(Dump::open(&path).ok()?, &SymbolSource::new(symbols.clone())))
    };
    let session = Session::new(open()?, "");
    Some(session.opened_by(Box::new(move |_| Ok((open().ok_or("the dump is gone")?, Vec::new())))))
}

/// Where real dumps and symbols are; says so where they are not.
pub(crate) fn shared(test: &str) -> Option<PathBuf> {
    let folder = Path::new(SHARED).join("data");
    if folder.join("dumps").is_dir() {
        return Some(folder);
    }
    // Past the harness, which hides what passing tests print.
    let line = format!("SKIPPED: {test}: no real dumps beside the checkout\n");
    std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
    None
}

/// Every real dump that opens.
pub(crate) fn real_dumps(test: &str) -> Vec<PathBuf> {
    let Some(data) = shared(test) else { return Vec::new() };
    let mut folders = vec![data.join("dumps")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if Dump::open(&path).is_ok() {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 30, "{found:?}");
    found
}
