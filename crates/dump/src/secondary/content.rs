//! What the better known blobs say. Layouts were found on real dumps; a blob that does not fit gives nothing.

use super::hardware::{self, CpuidRecord, ProcessorKey, Smbios};
use super::{BOOT_STATUS, CPUID, Guid, PNP, PROCESSOR, SMBIOS, TRIAGE_DATA, WINLOGON};
use crate::bytes::{text_until_nul, u32_at, u64_at, utf16_until_nul};
use stopcode_base::{FileTime, VirtAddr};

/// The decoded content of a blob.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Content {
    /// The firmware's description of the machine.
    Smbios(Smbios),
    /// The registry key of the first processor.
    Processor(ProcessorKey),
    /// What the processor answered to CPUID, and a few machine-specific registers.
    Cpuid(Vec<CpuidRecord>),
    /// The device that plug and play was working on.
    Pnp(PnpActivity),
    /// How far the logon had come: `ShellRestart`.
    Winlogon(String),
    /// The size that the boot status data state of themselves, in bytes.
    BootStatusSize(u32),
    /// The name of a WPP in-flight recorder: a driver, as `win32kfull`.
    Recorder(String),
    /// Who asked for which memory to be saved.
    TriageData(Vec<TriageDataGroup>),
}

/// What plug and play was doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PnpActivity {
    /// Since when.
    pub since: FileTime,
    /// Device instance path; may hold a serial number.
    pub device: String,
}

/// Memory that one caller asked to have saved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TriageDataGroup {
    /// The caller: `IoTriageDumpData`.
    pub name: String,
    /// Address and size of each block.
    pub blocks: Vec<(VirtAddr, u32)>,
}

/// Decodes the blob of `guid`, or one that shows by its own signature what it is.
pub(super) fn decode(guid: Guid, data: &[u8]) -> Option<Content> {
    match guid {
        SMBIOS => hardware::smbios(data).map(Content::Smbios),
        PROCESSOR => hardware::processor_key(data).map(Content::Processor),
        CPUID => hardware::cpuid(data).map(Content::Cpuid),
        PNP => pnp(data).map(Content::Pnp),
        WINLOGON => winlogon(data).map(Content::Winlogon),
        BOOT_STATUS => u32_at(data, 0).map(Content::BootStatusSize),
        TRIAGE_DATA => triage_data(data).map(Content::TriageData),
        _ => recorder(data).map(Content::Recorder),
    }
}

fn pnp(data: &[u8]) -> Option<PnpActivity> {
    let device = utf16_until_nul(data.get(0x2c..)?);
    let since = FileTime(u64_at(data, 0x10)?);
    (!device.is_empty()).then_some(PnpActivity { since, device })
}

fn winlogon(data: &[u8]) -> Option<String> {
    let size = (u32_at(data, 4)? as usize).min(data.len());
    Some(utf16_until_nul(data.get(12..size)?)).filter(|text| !text.is_empty())
}

/// A recorder starts with its name in 16 bytes and carries `WPLg` at 0x1c.
fn recorder(data: &[u8]) -> Option<String> {
    let name = text_until_nul(data.get(..16)?);
    (data.get(0x1c..0x20)? == b"WPLg" && !name.is_empty()).then_some(name)
}

/// Groups of {count, bytes of the name, entries of 16 bytes, name}, one after another.
fn triage_data(mut data: &[u8]) -> Option<Vec<TriageDataGroup>> {
    let mut groups = Vec::new();
    while let (Some(count), Some(name_size)) = (u32_at(data, 0), u32_at(data, 4)) {
        if count == 0 && name_size == 0 {
            break;
        }
        let entries = 8..8 + (count as usize).checked_mul(16)?;
        let name = entries.end..entries.end.checked_add(name_size as usize)?;
        let blocks = data.get(entries)?.chunks_exact(16);
        let blocks =
            blocks.filter_map(|entry| Some((VirtAddr(u64_at(entry, 0)?), u32_at(entry, 8)?))).collect();
        groups.push(TriageDataGroup { name: text_until_nul(data.get(name.clone())?), blocks });
        data = data.get(name.end..)?;
    }
    Some(groups).filter(|groups| !groups.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn black_boxes() {
        let mut data = vec![0; 0x2c];
        data[0x10] = 9;
        data.extend(wide("ROOT\\X\0rest"));
        let device = "ROOT\\X".to_owned();
        assert_eq!(decode(PNP, &data), Some(Content::Pnp(PnpActivity { since: FileTime(9), device })));
        assert_eq!(decode(PNP, &data[..0x2c]), None);

        let mut data = vec![1, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0];
        data.extend(wide("ShellRestart"));
        assert_eq!(decode(WINLOGON, &data), Some(Content::Winlogon("ShellRestart".to_owned())));
        data[4] = 255;
        assert_eq!(decode(WINLOGON, &data), Some(Content::Winlogon("ShellRestart".to_owned())));
        data[4] = 3;
        assert_eq!(decode(WINLOGON, &data), None);
        assert_eq!(decode(BOOT_STATUS, &[0xc8, 0, 0, 0, 1]), Some(Content::BootStatusSize(0xc8)));
    }

    #[test]
    fn a_recorder_shows_its_signature() {
        let mut data = b"win32kfull\0\0\0\0\0\0".to_vec();
        data.resize(0x1c, 0);
        data.extend(b"WPLg");
        assert_eq!(decode(Guid([7; 16]), &data), Some(Content::Recorder("win32kfull".to_owned())));
        data[0x1c] = b'X';
        assert_eq!(decode(Guid([7; 16]), &data), None);
    }

    #[test]
    fn who_asked_for_memory() {
        let mut data = vec![1, 0, 0, 0, 3, 0, 0, 0];
        data.extend(0xffff_8000_0000_1000_u64.to_le_bytes());
        data.extend([0x40, 0, 0, 0, 0, 0, 0, 0]);
        data.extend(b"me\0");
        let group =
            TriageDataGroup { name: "me".to_owned(), blocks: vec![(VirtAddr(0xffff_8000_0000_1000), 0x40)] };
        assert_eq!(decode(TRIAGE_DATA, &data), Some(Content::TriageData(vec![group])));
        data[0] = 2;
        assert_eq!(decode(TRIAGE_DATA, &data), None);
        data[..4].copy_from_slice(&[255; 4]);
        assert_eq!(decode(TRIAGE_DATA, &data), None);
    }
}
