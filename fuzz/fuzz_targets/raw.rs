//! Memory without a dump header: tables of segments, and the search for a kernel.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_fuzz::exercise;

/// The smallest file that is taken for plain memory.
const PLAIN: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    for signature in [&b"\x7fELF\x02\x01"[..], b"\x7fELF\x01\x01", b"Raw_Dmp!"] {
        exercise([signature, bytes.get(signature.len()..).unwrap_or_default()].concat());
    }
    let mut plain = bytes.to_vec();
    plain.resize(PLAIN.max(bytes.len().next_multiple_of(0x1000)), 0);
    exercise(plain);
});
