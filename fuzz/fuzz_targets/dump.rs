//! A dump file: opening it and reading everything it offers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| stopcode_fuzz::exercise(bytes.to_vec()));
