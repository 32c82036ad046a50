//! What the targets for dumps share: a header that leads the fuzzer straight into one container, and a reader of all
//! that a dump offers.

use stopcode_base::{Memory, PhysAddr, VirtAddr};
use stopcode_dump::Dump;

/// Bytes of an input that fill the header's fields.
const FIELDS: usize = 0x20;

/// A 64-bit dump of type `kind`: the first bytes of `input` are addresses in its header, the rest is what follows it.
pub fn dump64(kind: u32, signature: &[u8], input: &[u8]) -> Vec<u8> {
    let (fields, body) = input.split_at_checked(FIELDS).unwrap_or((input, &[]));
    let mut file = b"PAGE".repeat(0x800);
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(4, b"DU64");
    put(0x30, &0x8664_u32.to_le_bytes());
    put(0x34, &2_u32.to_le_bytes());
    put(0x38, &0xd1_u32.to_le_bytes());
    put(0xf98, &kind.to_le_bytes());
    for (field, at) in fields.chunks_exact(8).zip([0x10, 0x20, 0x80, 0x40]) {
        put(at, field);
    }
    let start = file.len();
    file.extend(body);
    sign(&mut file, start, signature);
    file
}

/// The same for a 32-bit dump.
pub fn dump32(kind: u32, signature: &[u8], input: &[u8]) -> Vec<u8> {
    let (fields, body) = input.split_at_checked(FIELDS).unwrap_or((input, &[]));
    let mut file = b"PAGE".repeat(0x400);
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(4, b"DUMP");
    put(0x20, &0x14c_u32.to_le_bytes());
    put(0x24, &2_u32.to_le_bytes());
    put(0x28, &0xd1_u32.to_le_bytes());
    put(0xf88, &kind.to_le_bytes());
    for (field, at) in fields.chunks_exact(4).zip([0x10, 0x18, 0x60, 0x5c]) {
        put(at, field);
    }
    let start = file.len();
    file.extend(body);
    sign(&mut file, start, signature);
    file
}

/// Puts the container's signature where it is looked for.
fn sign(file: &mut [u8], start: usize, signature: &[u8]) {
    if let Some(place) = file.get_mut(start..start + signature.len()) {
        place.copy_from_slice(signature);
    }
}

/// Opens a dump and reads everything it offers.
pub fn exercise(bytes: Vec<u8>) {
    let Ok(dump) = Dump::from_bytes(bytes) else { return };
    assert!(dump.problems().len() < 200);
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
            assert!(first >= from && count > 0);
            let _ = memory.read_physical(PhysAddr(first << 12), &mut buffer);
            from = first + count;
        }
    }
    let header = dump.header();
    for at in [header.kd_debugger_data_block, header.ps_loaded_module_list].into_iter().flatten() {
        let walk = dump.walk(None, at);
        let _ = walk.map(|walk| walk.entries().map(|entry| entry.flags.to_string().len()).sum::<usize>());
        let _ = dump.read_available(at, 0x2000);
    }
    for blob in dump.secondary() {
        let _ = (blob.guid.to_string(), blob.name);
    }
    let _ = dump.read_u64(VirtAddr(header.bug_check_parameters[0]));
    let _ = dump.kdbg().map(|kdbg| kdbg.fields().count());
}
