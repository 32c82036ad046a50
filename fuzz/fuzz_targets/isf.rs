//! A symbol file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_symbols::Isf;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(isf) = Isf::parse(bytes) {
        let _ = isf.symbols.lookup(0x1000);
    }
});
