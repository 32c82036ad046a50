//! Secondary data: what drivers and parts of the system added to the dump, each under a GUID (`.enumtag` in WinDbg).
//!
//! `DumpBlob`, then blobs back to back. Where the chain ends before the file does, what follows is no part of the
//! dump: often old contents of the disk. It is never read as anything.

mod content;
mod hardware;

pub use content::{Content, PnpActivity, TriageDataGroup};
pub use hardware::{
    CpuidRecord, CpuidSource, MemoryDevice, ProcessorKey, RegistryData, RegistryValue, Smbios,
};

use crate::bytes::{Part, is_zero, u32_at};
use std::fmt;
use std::sync::Arc;
use stopcode_base::{Problem, Severity};

const FILE_HEADER: usize = 0x10;
const BLOB_HEADER: usize = 0x20;
/// More blobs than this are not believed: real dumps have some forty.
const MOST_BLOBS: usize = 0x1_0000;

/// A GUID, as 16 bytes in the order of the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// From its digits as written.
    #[must_use]
    pub const fn from_digits(digits: u128) -> Self {
        Self(swap(digits.to_be_bytes()))
    }

    /// Its digits as written.
    #[must_use]
    pub const fn digits(self) -> u128 {
        u128::from_be_bytes(swap(self.0))
    }
}

/// Turns the first three fields of a GUID around, which files hold in little-endian order.
const fn swap(b: [u8; 16]) -> [u8; 16] {
    [b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]
}

/// `2b4ae195-a64d-4f04-8ede-7e4f981bd42a`.
impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.digits());
        let (rest, last) = digits.split_at(20);
        let (first, rest) = rest.split_at(8);
        let (second, rest) = rest.split_at(4);
        let (third, fourth) = rest.split_at(4);
        write!(f, "{first}-{second}-{third}-{fourth}-{last}")
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! guids {
    ($($(#[$doc:meta])* $name:ident = $digits:literal, $owner:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: Guid = Guid::from_digits($digits);)*
        /// Owners of blobs, by symbol where that is known.
        const OWNERS: &[(Guid, &str)] = &[$(($name, $owner)),*];
    };
}

guids! {
    BOOT_STATUS = 0xf57308df_cc45_4e01_ad76_29a4ebb010ec, "nt!PopBlackBoxBsdGuid";
    NTFS = 0x00afe9c4_940d_4213_8016_cd3719b5bc20, "nt!PopBlackBoxNtfsGuid";
    PNP = 0xb7631941_532a_4cd6_b1b1_edb5917d4557, "nt!PopBlackBoxPnpGuid";
    WINLOGON = 0x80cc79cf_a719_4af1_bf97_fe29ff76ebc1, "nt!PopBlackBoxWinLogonGuid";
    CODE_INTEGRITY = 0x4ee76bd8_3cf4_44a0_a0ac_3937643e37a3, "nt!PopBlackBoxCodeIntegrityGuid";
    PCI = 0x9276c055_eb87_425c_b8b5_04e4d247f6cd, "pci!PCI_CFG_RECORD_GUID";
    TRIAGE_DATA = 0x2b4ae195_a64d_4f04_8ede_7e4f981bd42a, "nt!GUID_TRIAGEDUMP_DATA";
    ETW = 0x2b88b710_1c93_4f7c_b06c_655ecc50decc, "nt!EtwSecondaryDumpDataGuid";
    SECURE_KERNEL = 0xb0692a5e_6b7b_4073_8a7c_604e35032970, "nt!HvlSkCrashdumpGuid";
    VSM_LOG = 0x9282756a_ab95_4d24_a137_ecddc5de53f5, "nt!PspVsmLogBugCheckCallback";
    CAR = 0x5bc8704a_6cb7_4378_ac72_ad06e2416e4a, "nt!CarSecondaryDataGuid";
    FEATURES = 0x0f1f53f3_561f_42e7_bdb4_ba8e66b726d5, "nt!CmFcpSecondaryMultiPartDumpDataCallback";
    HYPERVISOR_BOOT = 0x00dae7ca_6833_45c5_b147_bdaed7b61fd6, "hvservice!HbEvt";
    KMDF_LOG = 0x54c84888_01d1_4c1e_bed6_282c98241303, "wdf01000!WdfDumpGuid";
    KMDF_DRIVERS = 0xf87e4a4c_c5a1_4d2f_bff0_d5de63a5e4c3, "wdf01000!WdfDumpGuid2";
    PAGING_DEVICE = 0xc939c73b_17dc_4a44_904c_e2d987f52649, "storport";
    PORT = 0xda82441d_7142_4bc1_b844_0807c5a4b67f, "storport";
    DISPLAY = 0x270a33fd_3da6_460d_ba89_3c1bae21e39b, "watchdog!WdDxgkSecondaryDataGUID";
    NVIDIA = 0xbf2297dc_34ba_11dc_868a_e19155d89593, "NVIDIA display driver";
    CRASHDMP = 0x65755a40_f146_43ea_8c91_36b85728fd35, "crashdmp!CRASHDUMP_GUID_ID";
    SMBIOS = 0xbc5c008f_1e3a_44d7_988d_86f6884c6758, "mssmbios!SMBiosGuidSMBios";
    PROCESSOR = 0x6c7ac389_4313_47dc_9f34_a8800a0fb56c, "mssmbios!SMBiosGuidBios";
    CPUID = 0xd03dc06f_d88e_44c5_ba2a_fae035172d19, "mssmbios!SMBiosGuidRegisters";
    ACPI = 0xe83b40d2_b0a0_4842_abea_71c9e3463dd1, "mssmbios!SMBiosGuidAcpi";
}

/// One blob of secondary data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    /// Who it belongs to.
    pub guid: Guid,
    /// The owner, as a symbol or a module, where it is known for certain.
    pub name: Option<&'static str>,
    data: Part,
}

impl Blob {
    /// Its bytes; fewer than were written if the file is cut off.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Where in the file they are.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.data.range()
    }

    /// What the blob says, for those whose layout is known and that hold what they should.
    pub fn content(&self) -> Option<Content> {
        content::decode(self.guid, &self.data)
    }
}

/// Reads the chain at `start`, where the dump proper ends, and judges what follows it. `file` is the file from
/// `origin` on.
pub(crate) fn parse(
    file: &Arc<Vec<u8>>,
    start: usize,
    origin: usize,
    problems: &mut Vec<Problem>,
) -> Vec<Blob> {
    let mut blobs = Vec::new();
    if start >= file.len() {
        return blobs;
    }
    let header = file.get(start..).unwrap_or_default();
    let size = u32_at(header, 8).map(|size| size as usize);
    let size = size.filter(|size| (FILE_HEADER..0x1000).contains(size) && header.len() >= *size);
    let mut end = start;
    if let (true, Some(size)) = (header.starts_with(b"DumpBlob"), size) {
        end = start + size;
        while let Some((blob, next)) =
            blob_at(file, end, origin, problems).filter(|_| blobs.len() < MOST_BLOBS)
        {
            blobs.push(blob);
            end = next;
        }
    }
    check_tail(file, end, origin, problems);
    blobs
}

/// The blob at `at` and where the next one starts.
fn blob_at(
    file: &Arc<Vec<u8>>,
    at: usize,
    origin: usize,
    problems: &mut Vec<Problem>,
) -> Option<(Blob, usize)> {
    let header = file.get(at..at.checked_add(BLOB_HEADER)?)?;
    // Any other size would be another layout, or no blob at all but what happened to be on the disk.
    if u32_at(header, 0)? as usize != BLOB_HEADER {
        return None;
    }
    let guid = Guid(header.get(4..20)?.try_into().ok()?);
    let [size, before, after] = [0x14, 0x18, 0x1c].map(|field| u32_at(header, field).unwrap_or(0) as usize);
    let start = at.checked_add(BLOB_HEADER)?.checked_add(before)?;
    let end = start.checked_add(size)?;
    let next = end.checked_add(after)?;
    if next > file.len() {
        let what =
            format!("blob {guid} is to have {size:#x} bytes, the file ends at {:#x}", origin + file.len());
        let place = format!("secondary data, offset {:#x}", origin + at);
        problems.push(Problem::new(Severity::Warning, place, what));
    }
    let name = OWNERS.iter().find(|(owner, _)| *owner == guid).map(|(_, name)| *name);
    Some((Blob { guid, name, data: Part::of_tail(file, start..end, origin) }, next))
}

/// Bytes after the last blob belong to no one; if they are not zeros, the owner should know before sharing the file.
fn check_tail(file: &[u8], end: usize, origin: usize, problems: &mut Vec<Problem>) {
    let tail = file.get(end..).unwrap_or_default();
    if is_zero(tail) {
        return;
    }
    let end = origin + end;
    let place = format!("secondary data, offset {end:#x}");
    if tail.len() < BLOB_HEADER && starts_chain_or_blob(tail) {
        problems.push(Problem::new(
            Severity::Warning,
            place,
            "the file ends inside a header: what followed is lost",
        ));
        return;
    }
    let what =
        format!("the last {} bytes are no part of the dump and may be old contents of the disk", tail.len());
    let problem = Problem::new(Severity::Note, format!("after the dump, offset {end:#x}"), what);
    problems.push(problem.with_hint(
        "They may be anything that was once on this disk: consider that before sharing the file.",
    ));
}

/// True if `bytes`, shorter than a header, are the start of one.
fn starts_chain_or_blob(bytes: &[u8]) -> bool {
    let size = (BLOB_HEADER as u32).to_le_bytes();
    [&b"DumpBlob"[..], &size].iter().any(|start| bytes.starts_with(start) || start.starts_with(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_written_as_windows_writes_it() {
        let guid = Guid::from_digits(0x2b4ae195_a64d_4f04_8ede_7e4f981bd42a);
        assert_eq!(guid.to_string(), "2b4ae195-a64d-4f04-8ede-7e4f981bd42a");
        assert_eq!(guid.0[..8], [0x95, 0xe1, 0x4a, 0x2b, 0x4d, 0xa6, 0x04, 0x4f]);
        assert_eq!(BOOT_STATUS.to_string(), "f57308df-cc45-4e01-ad76-29a4ebb010ec");
    }
}
