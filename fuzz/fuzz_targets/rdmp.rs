//! Dumps of newer debuggers: ranges of pages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_fuzz::{dump64, exercise};

fuzz_target!(|bytes: &[u8]| {
    for kind in 8..=10 {
        exercise(dump64(kind, b"\x40\0\0\0RDMPDUMP", bytes));
    }
});
