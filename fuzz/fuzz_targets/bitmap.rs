//! Dumps behind a page bitmap, in the form of Windows 8 and in that before it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_fuzz::{dump32, dump64, exercise};

fuzz_target!(|bytes: &[u8]| {
    exercise(dump64(5, b"FDMPDUMP", bytes));
    exercise(dump64(6, b"SDMPDUMP", bytes));
    exercise(dump64(2, b"SDMPDUMP", bytes));
    exercise(dump32(2, b"SDMPDUMP", bytes));
});
