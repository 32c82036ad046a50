//! The machine as mssmbios.sys describes it: firmware tables, the first processor's registry key, CPUID.
//!
//! Serial numbers, asset tags and UUIDs are personal and not needed to explain a crash: they are not decoded.

use crate::bytes::{text_until_nul, u8_at, u16_at, u32_at, u64_at, utf16_until_nul};

/// A value of a registry key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegistryValue {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: RegistryData,
}

/// Data of a registry value.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RegistryData {
    /// REG_SZ.
    Text(String),
    /// REG_DWORD.
    Dword(u32),
    /// REG_QWORD.
    Qword(u64),
    /// Any other type: its number and its bytes.
    Other(u32, Vec<u8>),
}

/// The parts of the SMBIOS tables that say what machine it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Smbios {
    /// Version of the tables: major, minor.
    pub version: (u8, u8),
    /// Who made the firmware.
    pub bios_vendor: Option<String>,
    /// Its version.
    pub bios_version: Option<String>,
    /// Its date as the maker wrote it, mostly month/day/year.
    pub bios_date: Option<String>,
    /// Who made the machine.
    pub system_manufacturer: Option<String>,
    /// Its model.
    pub system_product: Option<String>,
    /// Who made the board.
    pub board_manufacturer: Option<String>,
    /// Its model.
    pub board_product: Option<String>,
    /// Slots that hold memory.
    pub memory: Vec<MemoryDevice>,
}

/// A memory module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryDevice {
    /// Its slot, as printed on the board.
    pub locator: Option<String>,
    /// Size in MiB, if the firmware knows it.
    pub size_mib: Option<u32>,
    /// The speed it can do, in MT/s.
    pub speed: Option<u16>,
    /// The speed it runs at, in MT/s.
    pub configured_speed: Option<u16>,
    /// Who made it.
    pub manufacturer: Option<String>,
    /// Its model.
    pub part_number: Option<String>,
}

/// `HKLM\HARDWARE\DESCRIPTION\System\CentralProcessor\0`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessorKey {
    /// Its values, in order.
    pub values: Vec<RegistryValue>,
}

/// What one CPUID leaf or machine-specific register held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuidRecord {
    /// What was read.
    pub source: CpuidSource,
    /// EAX, EBX, ECX, EDX as Windows saw them, under a hypervisor where there is one.
    pub seen: [u32; 4],
    /// The same of the processor itself.
    pub native: [u32; 4],
}

/// What a [`CpuidRecord`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CpuidSource {
    /// A CPUID leaf.
    Leaf(u32),
    /// A machine-specific register; real dumps have EFER (0xc0000080).
    Register(u32),
    /// A record of a type we do not know: type and number.
    Unknown(u32, u32),
}

/// `RawSMBIOSData`: calling method, version, revision, length, tables.
pub(super) fn smbios(data: &[u8]) -> Option<Smbios> {
    let length = u32_at(data, 4)? as usize;
    let tables = data.get(8..)?;
    let mut tables = tables.get(..length).unwrap_or(tables);
    let mut smbios = Smbios { version: (u8_at(data, 1)?, u8_at(data, 2)?), ..Smbios::default() };
    let mut found = false;
    while let Some((table, rest)) = Table::split(tables) {
        smbios.add(&table);
        found = true;
        tables = rest;
    }
    found.then_some(smbios)
}

impl Smbios {
    fn add(&mut self, table: &Table<'_>) {
        // The first table of a kind describes the main part.
        let set = |field: &mut Option<String>, offset| {
            if field.is_none() {
                *field = table.text(offset);
            }
        };
        match table.kind {
            0 => {
                set(&mut self.bios_vendor, 4);
                set(&mut self.bios_version, 5);
                set(&mut self.bios_date, 8);
            }
            1 => {
                set(&mut self.system_manufacturer, 4);
                set(&mut self.system_product, 5);
            }
            2 => {
                set(&mut self.board_manufacturer, 4);
                set(&mut self.board_product, 5);
            }
            17 => self.memory.extend(MemoryDevice::of(table)),
            _ => {}
        }
    }
}

impl MemoryDevice {
    /// The device of a type 17 table; `None` for an empty slot.
    fn of(table: &Table<'_>) -> Option<Self> {
        let size_mib = match u16_at(table.formatted, 0xc)? {
            0 => return None,
            0xffff => None,
            0x7fff => u32_at(table.formatted, 0x1c).map(|size| size & 0x7fff_ffff),
            size if size & 0x8000 != 0 => Some(u32::from(size & 0x7fff) / 1024),
            size => Some(u32::from(size)),
        };
        let speed = |offset| u16_at(table.formatted, offset).filter(|speed| !matches!(speed, 0 | 0xffff));
        Some(Self {
            locator: table.text(0x10),
            size_mib,
            speed: speed(0x15),
            configured_speed: speed(0x20),
            manufacturer: table.text(0x17),
            part_number: table.text(0x1a),
        })
    }
}

/// One SMBIOS table: a formatted part, then its strings.
struct Table<'a> {
    kind: u8,
    formatted: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Table<'a> {
    /// The first table of `bytes` and what follows it; `None` at the end or where the tables are damaged.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let kind = u8_at(bytes, 0)?;
        let length = usize::from(u8_at(bytes, 1)?);
        let formatted = bytes.get(..length).filter(|_| length >= 4)?;
        let strings = bytes.get(length..)?;
        // The strings end with an empty one; a table without strings has just the two NULs.
        let end = strings.windows(2).position(|pair| pair == [0, 0])?;
        let rest = strings.get(end + 2..)?;
        Some((Self { kind, formatted, strings: strings.get(..end)? }, rest))
    }

    /// The string that the byte at `offset` of the formatted part numbers, from 1; `None` for none and for blanks.
    fn text(&self, offset: usize) -> Option<String> {
        let number = usize::from(u8_at(self.formatted, offset)?).checked_sub(1)?;
        let text = text_until_nul(self.strings.split(|byte| *byte == 0).nth(number)?);
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

/// Values one after another: bytes of the name, the name, type, bytes of the data, the data.
pub(super) fn processor_key(mut data: &[u8]) -> Option<ProcessorKey> {
    let mut values = Vec::new();
    while let Some((value, rest)) = registry_value(data) {
        values.push(value);
        data = rest;
    }
    (!values.is_empty()).then_some(ProcessorKey { values })
}

fn registry_value(data: &[u8]) -> Option<(RegistryValue, &[u8])> {
    let name_size = u32_at(data, 0)? as usize;
    let (name, rest) = data.get(4..)?.split_at_checked(name_size)?;
    let (kind, size) = (u32_at(rest, 0)?, u32_at(rest, 4)? as usize);
    let (value, rest) = rest.get(8..)?.split_at_checked(size)?;
    let data = match kind {
        1 => RegistryData::Text(utf16_until_nul(value)),
        4 if size == 4 => RegistryData::Dword(u32_at(value, 0)?),
        11 if size == 8 => RegistryData::Qword(u64_at(value, 0)?),
        _ => RegistryData::Other(kind, value.to_vec()),
    };
    let name = utf16_until_nul(name);
    (!name.is_empty()).then_some((RegistryValue { name, data }, rest))
}

impl ProcessorKey {
    /// The value called `name`.
    pub fn get(&self, name: &str) -> Option<&RegistryData> {
        self.values.iter().find(|value| value.name.eq_ignore_ascii_case(name)).map(|value| &value.data)
    }

    /// The text called `name`, without the blanks that pad it.
    fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            RegistryData::Text(text) => Some(text.trim()),
            _ => None,
        }
    }

    /// `ProcessorNameString`: `AMD Ryzen 7 3700X 8-Core Processor`.
    pub fn name(&self) -> Option<&str> {
        self.text("ProcessorNameString")
    }

    /// `Identifier`: `AMD64 Family 23 Model 113 Stepping 0`.
    pub fn identifier(&self) -> Option<&str> {
        self.text("Identifier")
    }

    /// `VendorIdentifier`: `GenuineIntel`.
    pub fn vendor(&self) -> Option<&str> {
        self.text("VendorIdentifier")
    }

    /// `~MHz`.
    pub fn mhz(&self) -> Option<u32> {
        match self.get("~MHz")? {
            RegistryData::Dword(mhz) => Some(*mhz),
            _ => None,
        }
    }

    /// Revision of the microcode that runs: `Update Revision`, or the register 0x8b it comes from, which Intel's
    /// processors keep in the upper half. Dumps of AMD's processors seen so far do not have it.
    pub fn microcode(&self) -> Option<u64> {
        let raw = match self.get("Update Revision").or_else(|| self.get("MSR8B"))? {
            RegistryData::Qword(raw) => *raw,
            RegistryData::Other(_, bytes) => u64_at(bytes, 0)?,
            RegistryData::Dword(_) | RegistryData::Text(_) => return None,
        };
        Some(if raw >> 32 != 0 { raw >> 32 } else { raw }).filter(|revision| *revision != 0)
    }
}

/// Records of 40 bytes: type (0 leaf, 1 register), number, four words as seen, four native ones.
pub(super) fn cpuid(data: &[u8]) -> Option<Vec<CpuidRecord>> {
    let records: Vec<_> = data.chunks_exact(40).filter_map(cpuid_record).collect();
    (!records.is_empty()).then_some(records)
}

fn cpuid_record(record: &[u8]) -> Option<CpuidRecord> {
    let word = |index: usize| u32_at(record, 4 * index);
    let source = match (word(0)?, word(1)?) {
        (0, leaf) => CpuidSource::Leaf(leaf),
        (1, register) => CpuidSource::Register(register),
        (kind, number) => CpuidSource::Unknown(kind, number),
    };
    let seen = [word(2)?, word(3)?, word(4)?, word(5)?];
    Some(CpuidRecord { source, seen, native: [word(6)?, word(7)?, word(8)?, word(9)?] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(kind: u8, formatted: &[u8], strings: &str) -> Vec<u8> {
        let mut bytes = vec![kind, formatted.len() as u8 + 4, 0, 0];
        bytes.extend(formatted);
        bytes.extend(strings.as_bytes());
        bytes.extend(if strings.is_empty() { &b"\0\0"[..] } else { &b"\0"[..] });
        bytes
    }

    fn raw(tables: &[Vec<u8>]) -> Vec<u8> {
        let tables = tables.concat();
        let mut bytes = vec![0, 3, 1, 0];
        bytes.extend((tables.len() as u32).to_le_bytes());
        bytes.extend(tables);
        bytes
    }

    #[test]
    fn tables_name_the_machine() {
        let mut device = [0; 0x24];
        device[8..10].copy_from_slice(&8192_u16.to_le_bytes());
        device[0xc] = 1;
        device[0x11..0x13].copy_from_slice(&3200_u16.to_le_bytes());
        device[0x13] = 2;
        let data = raw(&[
            table(127, &[], ""),
            table(0, &[1, 2, 0, 0, 3], "Maker\0V1\x002020-01-02\0"),
            table(1, &[1, 2, 0, 3], "Corp\0Model 5\0SERIAL\0"),
            table(17, &device, "DIMM 0\0Samsung\0"),
            table(17, &[0; 0x24], ""),
        ]);
        let smbios = smbios(&data).unwrap();
        assert_eq!(smbios.version, (3, 1));
        assert_eq!(smbios.bios_vendor.as_deref(), Some("Maker"));
        assert_eq!(smbios.bios_date.as_deref(), Some("2020-01-02"));
        assert_eq!(smbios.system_product.as_deref(), Some("Model 5"));
        assert_eq!(smbios.memory.len(), 1);
        assert_eq!(smbios.memory[0].locator.as_deref(), Some("DIMM 0"));
        assert_eq!((smbios.memory[0].size_mib, smbios.memory[0].speed), (Some(8192), Some(3200)));
        assert!(!format!("{smbios:?}").contains("SERIAL"));
    }

    #[test]
    fn a_cut_key_keeps_its_first_values() {
        let mut data = Vec::new();
        for (name, kind, value) in
            [("~MHz\0", 4_u32, &[0x0b, 0x0e, 0, 0][..]), ("MSR8B\0", 11, &[0, 0, 0, 0, 0x1b, 0, 0, 0])]
        {
            data.extend((2 * name.len() as u32).to_le_bytes());
            data.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
            data.extend(kind.to_le_bytes());
            data.extend((value.len() as u32).to_le_bytes());
            data.extend(value);
        }
        let key = processor_key(&data).unwrap();
        assert_eq!((key.mhz(), key.microcode()), (Some(0xe0b), Some(0x1b)));
        let cut = processor_key(&data[..data.len() - 1]).unwrap();
        assert_eq!((cut.mhz(), cut.microcode()), (Some(0xe0b), None));
    }

    #[test]
    fn registers_are_not_leaves() {
        let mut data = vec![0; 85];
        data[4] = 1;
        data[40] = 1;
        data[44] = 0x80;
        data[8] = 7;
        let records = cpuid(&data).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].source, records[0].seen[0]), (CpuidSource::Leaf(1), 7));
        assert_eq!(records[1].source, CpuidSource::Register(0x80));
    }
}
