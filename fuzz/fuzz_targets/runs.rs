//! Complete dumps: runs of pages in the header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_fuzz::{dump32, dump64, exercise};

/// Bytes of the descriptor in the header.
const DESCRIPTOR: usize = 700;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (descriptor, body) = input;
    let descriptor = &descriptor[..descriptor.len().min(DESCRIPTOR)];
    for (mut file, at) in [(dump64(1, b"", body), 0x88), (dump32(1, b"", body), 0x64)] {
        file[at..at + descriptor.len()].copy_from_slice(descriptor);
        exercise(file);
    }
});
