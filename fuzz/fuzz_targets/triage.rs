//! Small dumps, 64-bit and 32-bit: tables, strings and blocks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_fuzz::{dump32, dump64, exercise};

fuzz_target!(|bytes: &[u8]| {
    exercise(dump64(4, b"", bytes));
    exercise(dump32(4, b"", bytes));
});
