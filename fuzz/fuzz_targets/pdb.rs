//! A program database: names at once and one by one, lines, inlined functions, types.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_symbols::{Dt, Pdb, PdbFile, PdbTypes, Types};

fuzz_target!(|bytes: &[u8]| {
    let whole = Pdb::parse(bytes);
    if let Ok(pdb) = &whole {
        let _ = pdb.symbols.lookup(0x1000);
        let _ = pdb.symbols.address_of("main");
    }
    if let Ok(file) = PdbFile::open(bytes) {
        let _ = file.all_lines().count();
        let starts = whole.iter().flat_map(|pdb| pdb.symbols.iter()).map(|found| found.rva).take(100);
        for rva in starts.chain([0x1000, u32::MAX]) {
            let _ = (file.lookup(rva), file.frames(rva), file.module_at(rva));
        }
    }
    if let Ok(types) = PdbTypes::parse(bytes) {
        for id in types.ids().take(200) {
            let listing = Dt { depth: 2, limit: 100, ..Dt::new(&types) }.list(id, &[]);
            let _ = listing.to_string();
        }
        let _ = types.matching("_K*");
    }
});
