//! What lies in symbol stores and on symbol paths: cabinets, packs of names, paths, pointers, file names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use stopcode_symbols::{Fetch, Head, Limits, NamePack, Next, PdbKey, StoreFile, SymbolPath, unpack_cab};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(unpacked) = unpack_cab(bytes, 1 << 20) {
        assert!(unpacked.len() <= 1 << 20);
    }
    if let Ok(pack) = NamePack::parse(bytes.to_vec()) {
        for build in pack.builds().iter().take(4) {
            _ = pack.table(build);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let path = SymbolPath::parse(&text, Path::new("/store"), |_| None);
    assert!(path.servers().all(|(server, _)| server.contains("://")));
    let key = PdbKey { guid: 1, age: 1 };
    if let Some(file) = StoreFile::pdb(&text, key) {
        assert!(file.relative(true).is_relative());
        assert!(!file.url_path(file.name()).contains([' ', '\\', '?', '#']));
    }
    // The same bytes as what a server says where it should have the file, or a text that names another place.
    let Some(file) = StoreFile::pdb("a.pdb", key) else { return };
    let mut fetch = Fetch::new(file, &["https://server.example".to_owned()], Limits::default());
    for asked in 0..1000 {
        match fetch.step() {
            Next::Ask(_) => {
                let status = if asked == 2 { 200 } else { 404 };
                fetch.head(&Head { status, location: Some(text.to_string()), ..Head::default() });
                if status == 200 && fetch.chunk(bytes) {
                    fetch.end();
                }
            }
            Next::Wait(_) => {}
            Next::Have(..) | Next::Absent | Next::Failed(_) => return,
        }
    }
    panic!("a fetch does not end");
});
