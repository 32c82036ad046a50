//! Secondary data behind a dump: the `DumpBlob` chain.
//!
//! File header `DumpBlob`, header size, build; then per blob a header (size 0x20, GUID, data size, padding before and
//! after) and its data. The blobs are those that `mssmbios.sys` adds: the firmware's tables where they are described, the
//! processor's registry values, and what `cpuid` answers.

use crate::machine::{Cpu, Firmware, Machine, Slot};
use crate::record::Record;

/// `mssmbios!SMBiosGuidSMBios`, {bc5c008f-1e3a-44d7-988d-86f6884c6758}, as stored.
const SMBIOS: [u8; 16] =
    [0x8f, 0x00, 0x5c, 0xbc, 0x3a, 0x1e, 0xd7, 0x44, 0x98, 0x8d, 0x86, 0xf6, 0x88, 0x4c, 0x67, 0x58];
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
    if let Some(firmware) = &machine.firmware {
        blob(&mut out, SMBIOS, &smbios(firmware));
    }
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

/// `RawSMBIOSData`: calling method, version, revision, length, and the tables of the types 0, 1, 17 and 127.
fn smbios(firmware: &Firmware) -> Vec<u8> {
    let mut bios = Table::new(0, 0x18);
    bios.text(4, &firmware.bios_vendor).text(5, &firmware.bios_version).text(8, &firmware.bios_date);
    let mut system = Table::new(1, 0x1b);
    system.text(4, &firmware.manufacturer).text(5, &firmware.product);
    let end = Table::new(127, 4);
    let all = [bios, system].into_iter().chain(firmware.memory.iter().map(slot)).chain([end]);
    let tables: Vec<u8> = all.enumerate().flat_map(|(n, table)| table.into_bytes(n as u16)).collect();
    let [major, minor] = firmware.version;
    let mut out = vec![0, major, minor, 0];
    word(&mut out, tables.len() as u32);
    out.extend(tables);
    out
}

/// A memory device. (Source: SMBIOS reference specification, 7.18.)
fn slot(slot: &Slot) -> Table {
    /// More than fits in 15 bits stands in a word of its own.
    const LARGE: u16 = 0x7fff;
    let mut table = Table::new(17, 0x28);
    let short = u16::try_from(slot.size_mib).ok().filter(|size| *size < LARGE);
    table.put(0xc, &short.unwrap_or(LARGE).to_le_bytes());
    if short.is_none() {
        table.put(0x1c, &slot.size_mib.to_le_bytes());
    }
    table.text(0x10, &slot.locator).put(0x15, &slot.speed.to_le_bytes());
    table.text(0x17, &slot.manufacturer).text(0x1a, &slot.part_number);
    table.put(0x20, &slot.configured_speed.to_le_bytes());
    table
}

/// One SMBIOS table: a formatted part, then its strings.
struct Table {
    formatted: Record,
    strings: Vec<u8>,
    count: u8,
}

impl Table {
    fn new(kind: u8, length: u8) -> Self {
        let mut formatted = Record::zeroed(length.into());
        formatted.u8(0, kind).u8(1, length);
        Self { formatted, strings: Vec::new(), count: 0 }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.formatted.put(at, bytes);
        self
    }

    /// A string, whose number stands at `at`; none where it is empty.
    fn text(&mut self, at: usize, text: &str) -> &mut Self {
        if !text.is_empty() {
            self.count += 1;
            self.formatted.u8(at, self.count);
            self.strings.extend(text.bytes().filter(|byte| *byte != 0));
            self.strings.push(0);
        }
        self
    }

    fn into_bytes(mut self, handle: u16) -> Vec<u8> {
        self.formatted.u16(2, handle);
        let mut out = self.formatted.into_bytes();
        out.extend(&self.strings);
        // One more NUL ends the strings; a table without any has two.
        out.extend(if self.strings.is_empty() { &[0, 0][..] } else { &[0][..] });
        out
    }
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
