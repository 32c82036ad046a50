//! A dump file: opening it and reading everything it offers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_base::{Memory, PhysAddr, VirtAddr};
use stopcode_dump::Dump;

fuzz_target!(|bytes: &[u8]| {
    let Ok(dump) = Dump::from_bytes(bytes.to_vec()) else { return };
    if let Some(triage) = dump.triage() {
        for block in triage.data_blocks.iter().take(64) {
            let _ = dump.read_available(block.address, 64);
        }
        let _ = triage.strings().take(1000).count();
    }
    if let Some(memory) = dump.physical() {
        let mut buffer = [0; 64];
        let mut from = 0;
        for _ in 0..64 {
            let Some((first, count)) = memory.next_run(from) else { break };
            let _ = memory.read_physical(PhysAddr(first << 12), &mut buffer);
            from = first + count;
        }
    }
    for at in
        [dump.header().kd_debugger_data_block, dump.header().ps_loaded_module_list].into_iter().flatten()
    {
        let _ = dump.address_space().map(|space| space.walk(at).entries().count());
        let _ = dump.read_available(at, 0x2000);
    }
    for blob in dump.secondary() {
        let _ = (blob.guid.to_string(), blob.name);
    }
    let _ = dump.read_u64(VirtAddr(dump.header().bug_check_parameters[0]));
    let _ = dump.kdbg().map(|kdbg| kdbg.fields().count());
});
