//! A dump file: opening it and reading everything it offers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_base::{Memory, VirtAddr};
use stopcode_dump::Dump;

fuzz_target!(|bytes: &[u8]| {
    let Ok(dump) = Dump::from_bytes(bytes.to_vec()) else { return };
    if let Some(triage) = dump.triage() {
        for block in triage.data_blocks.iter().take(64) {
            let _ = dump.read_available(block.address, 64);
        }
        let _ = triage.strings().take(1000).count();
    }
    for blob in dump.secondary() {
        let _ = (blob.guid.to_string(), blob.name);
    }
    let _ = dump.read_u64(VirtAddr(dump.header().bug_check_parameters[0]));
    let _ = dump.kdbg().map(|kdbg| kdbg.fields().count());
});
