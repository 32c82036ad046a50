//! WHEA error records: the Common Platform Error Record that Windows builds for a hardware error.
//!
//! Sources: UEFI specification, appendix N, for the record and its standard sections; the public types
//! `_WHEA_XPF_MCA_SECTION` and its kin for Microsoft's own.

use crate::core::Core;
use crate::hardware::mca::{McaStatus, McaVendor};
use crate::reading::bytes::Bytes;
use stopcode_base::{Fact, FileTime, Memory, VirtAddr};
use stopcode_dump::Guid;
use stopcode_knowledge::base_code;

mod section;

pub use section::{
    GenericProcessorSection, McaSection, MemorySection, PcieSection, SectionContent, XpfProcessorSection,
};

const HEADER_SIZE: usize = 0x80;
const DESCRIPTOR_SIZE: usize = 0x48;
/// Longest record that is read; real ones have some kilobytes.
const LONGEST: u32 = 0x1_0000;
/// More sections are not believed: real records have up to five.
const MOST_SECTIONS: u16 = 64;

/// How bad an error is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The system could go on after some action.
    Recoverable,
    /// The system could not go on.
    Fatal,
    /// Nothing was lost.
    Corrected,
    /// Only told.
    Informational,
    /// A number that has no meaning.
    Unknown(u32),
}

impl Severity {
    fn of(number: u32) -> Self {
        match number {
            0 => Self::Recoverable,
            1 => Self::Fatal,
            2 => Self::Corrected,
            3 => Self::Informational,
            other => Self::Unknown(other),
        }
    }

    /// As `!errrec` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recoverable => "Recoverable",
            Self::Fatal => "Fatal",
            Self::Corrected => "Corrected",
            Self::Informational => "Informational",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// A record.
#[derive(Clone, PartialEq, Debug)]
pub struct ErrorRecord {
    /// Where it is.
    pub address: VirtAddr,
    /// Its length in bytes, as it states.
    pub length: u32,
    /// The worst of its sections.
    pub severity: Severity,
    /// When it was made, if it says so.
    pub time: Option<FileTime>,
    /// Who made it.
    pub creator: Guid,
    /// How the error was signalled.
    pub notify: Guid,
    /// The name of [`Self::notify`], where it is known: `Machine Check Exception`.
    pub notify_name: Option<&'static str>,
    /// Its number.
    pub id: u64,
    /// Its flags: bit 0 recovered, bit 1 from a previous boot, bit 2 simulated.
    pub flags: u32,
    /// Its sections.
    pub sections: Vec<Section>,
    /// What of it could not be read, in words.
    pub damage: Option<String>,
}

/// A section of a record.
#[derive(Clone, PartialEq, Debug)]
pub struct Section {
    /// Its type.
    pub guid: Guid,
    /// The name of its type, where it is known: `Processor Generic`.
    pub name: Option<&'static str>,
    /// Offset of its data in the record.
    pub offset: u32,
    /// Length of its data.
    pub length: u32,
    /// How bad.
    pub severity: Severity,
    /// Its flags; bit 0 marks the section that tells the cause.
    pub flags: u32,
    /// The part that failed, where the firmware names it.
    pub fru: Option<String>,
    /// What it says.
    pub content: SectionContent,
}

/// The notification types of the UEFI specification that Windows uses.
const NOTIFICATIONS: [(Guid, &str); 9] = [
    (Guid::from_digits(0x2dce8bb1_bdd7_450e_b9ad_9cf4ebd4f890), "Corrected Machine Check"),
    (Guid::from_digits(0x4e292f96_d843_4a55_a8c2_d481f27ebeee), "Corrected Platform Error"),
    (Guid::from_digits(0xe8f56ffe_919c_4cc5_ba88_65abe14913bb), "Machine Check Exception"),
    (Guid::from_digits(0xcf93c01f_1a16_4dfc_b8bc_9c4daf67c104), "PCI Express Error"),
    (Guid::from_digits(0xcc5263e8_9308_454a_89d0_340bd39bc98e), "INIT"),
    (Guid::from_digits(0x5bad89ff_b7e6_42c9_814a_cf2485d6e98a), "NMI"),
    (Guid::from_digits(0x3d61a466_ab40_409a_a698_f362d464b38f), "Boot Error"),
    (Guid::from_digits(0x9a78788a_bbe8_11e4_809e_67611e5d46b0), "Synchronous External Abort"),
    (Guid::from_digits(0x5c284c81_b0ae_4e87_a322_b04c85624323), "System Error Interrupt"),
];

fn name_of(names: &[(Guid, &'static str)], guid: Guid) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == guid).map(|(_, name)| *name)
}

/// The record at `address`.
///
/// # Errors
/// If none is there: why.
pub fn error_record(memory: &dyn Memory, address: VirtAddr) -> Result<ErrorRecord, String> {
    let mut header = [0; HEADER_SIZE];
    memory
        .read(address, &mut header)
        .map_err(|miss| format!("the error record at {}: {}", address.windbg(), miss.reason))?;
    let bytes = Bytes(&header);
    if header.get(..4) != Some(b"CPER") || bytes.u32(6) != Some(u32::MAX) {
        return Err(format!(
            "what lies at {} is no error record: it does not begin with CPER",
            address.windbg()
        ));
    }
    let length = bytes.u32(0x14).unwrap_or(0);
    let count = bytes.u16(0xa).unwrap_or(0);
    let held = memory.read_available(address, length.clamp(HEADER_SIZE as u32, LONGEST) as usize);
    let mut damage = None;
    if held.len() < length as usize {
        damage = Some(format!("{:#x} of {length:#x} bytes are in this dump", held.len()));
    }
    if count > MOST_SECTIONS {
        damage = Some(format!("{count} sections are more than is believed"));
    }
    let record = Bytes(&held);
    let vendor = section::vendor(&record, count.min(MOST_SECTIONS));
    let sections =
        (0..count.min(MOST_SECTIONS)).filter_map(|index| section(&record, index, vendor)).collect();
    let valid = bytes.u32(0x10).unwrap_or(0);
    let notify = bytes.guid(0x50).unwrap_or(Guid([0; 16]));
    Ok(ErrorRecord {
        address,
        length,
        severity: Severity::of(bytes.u32(0xc).unwrap_or(u32::MAX)),
        time: bytes.u64(0x18).filter(|_| valid & 2 != 0).and_then(time),
        creator: bytes.guid(0x40).unwrap_or(Guid([0; 16])),
        notify,
        notify_name: name_of(&NOTIFICATIONS, notify),
        id: bytes.u64(0x60).unwrap_or(0),
        flags: bytes.u32(0x68).unwrap_or(0),
        sections,
        damage,
    })
}

/// WHEA_UNCORRECTABLE_ERROR: Arg1 the kind of error source, Arg2 the record, and for a machine check the two halves of
/// `MCi_STATUS`.
const WHEA_UNCORRECTABLE_ERROR: u32 = 0x124;
/// MACHINE_CHECK_EXCEPTION: on x64 Arg3 and Arg4 are the two halves of `MCi_STATUS`.
const MACHINE_CHECK_EXCEPTION: u32 = 0x9c;

/// The record that the bug check points to.
pub(crate) fn of_bug_check(core: &Core) -> Fact<ErrorRecord> {
    let stop = core.stop();
    if base_code(stop.code).base != WHEA_UNCORRECTABLE_ERROR {
        return Fact::missing(
            "this bug check passes no error record: only WHEA_UNCORRECTABLE_ERROR (124) does",
        );
    }
    let [_, at, _, _] = stop.arguments;
    match error_record(core.memory(), VirtAddr(at)) {
        Ok(record) => Fact::known(record, "Arg2 of the bug check"),
        Err(reason) => Fact::missing(reason),
    }
}

/// `MCi_STATUS` of the machine check that stopped the system: from the record, else from the arguments.
pub(crate) fn machine_check(core: &Core, vendor: McaVendor) -> Fact<McaStatus> {
    if let Some(record) = of_bug_check(core).value() {
        let of_section = |section: &Section| match &section.content {
            SectionContent::Mca(mca) => Some(mca.status.clone()),
            _ => None,
        };
        if let Some(status) = record.sections.iter().find_map(of_section) {
            return Fact::known(status, "MCA section of the error record at Arg2");
        }
    }
    let stop = core.stop();
    let base = base_code(stop.code).base;
    let [source, _, high, low] = stop.arguments;
    // Arg1 of 0x124 says whose error it is: 0 is a machine check.
    let from_arguments = base == MACHINE_CHECK_EXCEPTION || base == WHEA_UNCORRECTABLE_ERROR && source == 0;
    if !from_arguments {
        return Fact::missing("this bug check was no machine check");
    }
    let raw = high << 32 | low & 0xffff_ffff;
    Fact::known(McaStatus::decode(raw, vendor), "Arg3 and Arg4 of the bug check")
}

fn section(record: &Bytes<'_>, index: u16, vendor: McaVendor) -> Option<Section> {
    let at = HEADER_SIZE + usize::from(index) * DESCRIPTOR_SIZE;
    let descriptor = Bytes(record.0.get(at..at + DESCRIPTOR_SIZE)?);
    let (offset, length) = (descriptor.u32(0)?, descriptor.u32(4)?);
    let guid = descriptor.guid(0x10)?;
    let data = record.0.get(offset as usize..).unwrap_or_default();
    let data = data.get(..length as usize).unwrap_or(data);
    let valid = descriptor.0.get(0xa).copied().unwrap_or(0);
    let fru = descriptor.0.get(0x34..0x48).filter(|_| valid & 2 != 0).and_then(text);
    Some(Section {
        guid,
        name: section::name(guid),
        offset,
        length,
        severity: Severity::of(descriptor.u32(0x30)?),
        flags: descriptor.u32(0xc)?,
        fru,
        content: section::decode(guid, &Bytes(data), vendor),
    })
}

/// Seconds, minutes, hours, precision, day, month, year, century: of binary-coded decimals in the specification, plain
/// numbers in what Windows writes. Only what is a date in plain numbers is taken.
fn time(raw: u64) -> Option<FileTime> {
    // 1 January 1601, by the count of days below.
    const EPOCH: u64 = 584_694;
    let [second, minute, hour, _, day, month, year, century] = raw.to_le_bytes().map(u64::from);
    let fits = second < 60
        && minute < 60
        && hour < 24
        && (1..=31).contains(&day)
        && (1..=12).contains(&month)
        && year < 100;
    let full = century * 100 + year;
    if !fits || !(1990..=2100).contains(&full) {
        return None;
    }
    // Days since 1601, by the days before each month of a year that begins in March.
    let (shifted_year, shifted_month) = if month > 2 { (full, month - 3) } else { (full - 1, month + 9) };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (153 * shifted_month + 2) / 5
        + day
        - 1;
    Some(FileTime((((days - EPOCH) * 24 + hour) * 60 + minute) * 600_000_000 + second * 10_000_000))
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = stopcode_base::visible(String::from_utf8_lossy(bytes.get(..end)?).trim());
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stopcode_base::SliceMemory;

    const AT: VirtAddr = VirtAddr(0xffff_8000_0000_1000);

    /// A record with the sections given, laid out by the tables of the UEFI specification.
    fn record(sections: &[(u128, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_SIZE];
        bytes[..4].copy_from_slice(b"CPER");
        bytes[6..10].fill(0xff);
        bytes[0xa..0xc].copy_from_slice(&(sections.len() as u16).to_le_bytes());
        bytes[0xc] = 1;
        bytes[0x10] = 2;
        bytes[0x18..0x20].copy_from_slice(&[53, 31, 18, 0, 13, 8, 14, 20]);
        bytes[0x50..0x60].copy_from_slice(&Guid::from_digits(0xe8f56ffe_919c_4cc5_ba88_65abe14913bb).0);
        let mut at = HEADER_SIZE + DESCRIPTOR_SIZE * sections.len();
        for (guid, data) in sections {
            let mut descriptor = vec![0; DESCRIPTOR_SIZE];
            descriptor[..4].copy_from_slice(&(at as u32).to_le_bytes());
            descriptor[4..8].copy_from_slice(&(data.len() as u32).to_le_bytes());
            descriptor[0xa] = 2;
            descriptor[0x10..0x20].copy_from_slice(&Guid::from_digits(*guid).0);
            descriptor[0x30] = 1;
            descriptor[0x34..0x3a].copy_from_slice(b"DIMM 2");
            bytes.extend(descriptor);
            at += data.len();
        }
        bytes.extend(sections.iter().flat_map(|(_, data)| data));
        let length = (bytes.len() as u32).to_le_bytes();
        bytes[0x14..0x18].copy_from_slice(&length);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<ErrorRecord, String> {
        error_record(&SliceMemory { base: AT, bytes }, AT)
    }

    fn machine_check() -> (u128, Vec<u8>) {
        let mut mca = vec![0; 0x124];
        mca[4] = 1;
        mca[0x10] = 3;
        mca[0x24] = 5;
        mca[0x28..0x30].copy_from_slice(&0xbe00_0000_0080_0400_u64.to_le_bytes());
        mca[0x30..0x38].copy_from_slice(&0xffff_f800_1234_5678_u64.to_le_bytes());
        (0x8a1e1d01_42f9_4557_9c33_565e5cc3f7e8, mca)
    }

    #[test]
    fn a_machine_check() {
        let record = read(&record(&[machine_check()])).unwrap();
        assert_eq!((record.severity, record.notify_name), (Severity::Fatal, Some("Machine Check Exception")));
        assert_eq!(record.time.unwrap().to_string(), "2014-08-13T18:31:53Z");
        assert_eq!(record.sections[0].fru.as_deref(), Some("DIMM 2"));
        let SectionContent::Mca(mca) = &record.sections[0].content else { panic!("{record:?}") };
        assert_eq!((mca.processor, mca.bank, mca.address), (3, 5, Some(0xffff_f800_1234_5678)));
        assert_eq!(mca.status.meaning.as_deref(), Some("internal timer: no instruction was retired in time"));
        assert!(record.damage.is_none());
    }

    #[test]
    fn a_memory_and_a_pci_express_error() {
        let mut memory = vec![0; 0x50];
        memory[..8].copy_from_slice(&(1_u64 << 1 | 1 << 5 | 1 << 14).to_le_bytes());
        memory[0x10..0x18].copy_from_slice(&0x1_2345_6000_u64.to_le_bytes());
        memory[0x24] = 2;
        memory[0x48] = 3;
        let mut pcie = vec![0; 0xd0];
        pcie[0] = 1 | 1 << 3 | 1 << 7;
        pcie[8] = 4;
        pcie[0x18..0x28].copy_from_slice(&[0x86, 0x80, 0x70, 0xa1, 0, 4, 6, 2, 0x1c, 0, 0, 1, 0, 0, 0, 0]);
        pcie[0x74] = 0x20;
        let sections = [
            (0xa5bc1114_6f64_4ede_b863_3e83ed7c83b1, memory),
            (0xd995e954_bbc1_430f_ad91_b44dcb3c6f35, pcie),
        ];
        let record = read(&record(&sections)).unwrap();
        let contents: Vec<_> = record.sections.iter().map(|section| section.content.clone()).collect();
        assert_eq!(
            contents,
            [
                SectionContent::Memory(MemorySection {
                    error: Some("multi-bit ECC"),
                    physical: Some(0x1_2345_6000),
                    place: vec![("module", 2)],
                }),
                SectionContent::Pcie(PcieSection {
                    port: Some("Root Port"),
                    command_status: None,
                    ids: Some((0x8086, 0xa170)),
                    class: Some(0x06_0400),
                    place: Some((0, 1, 0x1c, 2)),
                    aer: Some((0x20, 0)),
                }),
            ]
        );
    }

    #[test]
    fn what_is_cut_says_so() {
        let whole = record(&[machine_check()]);
        let cut = read(&whole[..HEADER_SIZE + DESCRIPTOR_SIZE]).unwrap();
        assert_eq!(cut.sections[0].content, SectionContent::Other);
        assert!(cut.damage.unwrap().contains("are in this dump"));
        assert!(read(&whole[..0x7f]).unwrap_err().contains("not in this dump"));
        assert!(read(&[0; 0x200]).unwrap_err().contains("no error record"));
    }

    proptest! {
        #[test]
        fn any_bytes_behind_the_signature_end(rest in prop::collection::vec(any::<u8>(), 0..0x400)) {
            let mut bytes = record(&[machine_check()]);
            for (at, byte) in rest.into_iter().enumerate() {
                if let Some(place) = bytes.get_mut(10 + at) {
                    *place = byte;
                }
            }
            prop_assert!(read(&bytes).is_ok_and(|record| record.sections.len() <= usize::from(MOST_SECTIONS)));
        }
    }
}
