//! Secondary data behind a dump: the `DumpBlob` chain.
//!
//! File header `DumpBlob`, header size, build; then per blob a header (size 0x20, GUID, data size, padding before and
//! after) and its data. Two blobs are written, both as `mssmbios.sys` adds them: the processor's registry values and
//! what `cpuid` answers.

use crate::machine::{Cpu, Machine};

/// `mssmbios!SMBiosGuidBios`, {6c7ac389-4313-47dc-9f34-a8800a0fb56c}, as stored.
const REGISTRY: [u8; 16] =
    [0x89, 0xc3, 0x7a, 0x6c, 0x13, 0x43, 0xdc, 0x47, 0x9f, 0x34, 0xa8, 0x80, 0x0a, 0x0f, 0xb5, 0x6c];
/// `mssmbios!SMBiosGuidRegisters`, {d03dc06f-d88e-44c5-ba2a-fae035172d19}, as stored.
const CPUID: [u8; 16] =
    [0x6f, 0xc0, 0x3d, 0xd0, 0x8e, 0xd8, 0xc5, 0x44, 0xba, 0x2a, 0xfa, 0xe0, 0x35, 0x17, 0x2d, 0x19];

const REG_SZ: u32 = 1;
const REG_BINARY: u32 = 3;
const REG_DWORD: u32 = 4;

/// The chain, file header included.
pub(crate) fn chain(machine: &Machine) -> Vec<u8> {
    let mut out = b"DumpBlob".to_vec();
    word(&mut out, 0x10);
    word(&mut out, 0xf000_0000 | machine.build);
    blob(&mut out, REGISTRY, &registry(&machine.cpu));
    blob(&mut out, CPUID, &cpuid(&machine.cpu));
    out
}

fn blob(out: &mut Vec<u8>, tag: [u8; 16], data: &[u8]) {
    let padding = data.len().next_multiple_of(8) - data.len();
    word(out, 0x20);
    out.extend(tag);
    word(out, data.len() as u32);
    word(out, 0);
    word(out, padding as u32);
    out.extend(data);
    out.resize(out.len() + padding, 0);
}

/// The values of `HKLM\HARDWARE\DESCRIPTION\System\CentralProcessor\0`.
fn registry(cpu: &Cpu) -> Vec<u8> {
    let maker = if cpu.vendor == "GenuineIntel" { "Intel64" } else { "AMD64" };
    let identifier = format!("{maker} Family {} Model {} Stepping {}", cpu.family, cpu.model, cpu.stepping);
    let mut out = Vec::new();
    value(&mut out, "~MHz", REG_DWORD, &cpu.mhz.to_le_bytes());
    value(&mut out, "Identifier", REG_SZ, &wide(&identifier));
    value(&mut out, "ProcessorNameString", REG_SZ, &wide(&cpu.name));
    value(&mut out, "Update Revision", REG_BINARY, &(cpu.microcode.0 << 32).to_le_bytes());
    value(&mut out, "VendorIdentifier", REG_SZ, &wide(&cpu.vendor));
    out
}

fn value(out: &mut Vec<u8>, name: &str, kind: u32, data: &[u8]) {
    let name = wide(name);
    word(out, name.len() as u32);
    out.extend(name);
    word(out, kind);
    word(out, data.len() as u32);
    out.extend(data);
}

/// Records of ten words: zero, leaf, the four registers as seen, and the same without a hypervisor in between.
fn cpuid(cpu: &Cpu) -> Vec<u8> {
    let mut out = Vec::new();
    for [leaf, registers @ ..] in &cpu.cpuid {
        word(&mut out, 0);
        word(&mut out, leaf.0 as u32);
        for register in registers.iter().chain(registers) {
            word(&mut out, register.0 as u32);
        }
    }
    out
}

fn word(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

/// UTF-16 with its terminating zero.
pub(crate) fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}
