//! The sections of an error record.

use super::{name_of, text};
use crate::hardware::mca::{McaStatus, McaVendor};
use crate::reading::bytes::Bytes;
use stopcode_dump::Guid;

const GENERIC_PROCESSOR: Guid = Guid::from_digits(0x9876ccad_47b4_4bdb_b65e_16f193c4f3db);
const XPF_PROCESSOR: Guid = Guid::from_digits(0xdc3ea0b0_a144_4797_b95b_53fa242b6e1d);
const MEMORY: Guid = Guid::from_digits(0xa5bc1114_6f64_4ede_b863_3e83ed7c83b1);
const PCIE: Guid = Guid::from_digits(0xd995e954_bbc1_430f_ad91_b44dcb3c6f35);
const XPF_MCA: Guid = Guid::from_digits(0x8a1e1d01_42f9_4557_9c33_565e5cc3f7e8);

/// Section types, named as `!errrec` names them where it does.
const NAMES: [(Guid, &str); 10] = [
    (GENERIC_PROCESSOR, "Processor Generic"),
    (XPF_PROCESSOR, "x86/x64 Processor Specific"),
    (Guid::from_digits(0xe19e3d16_bc11_11e4_9caa_c2051d5d46b0), "ARM Processor Specific"),
    (MEMORY, "Platform Memory"),
    (PCIE, "PCI Express"),
    (XPF_MCA, "x86/x64 MCA"),
    (Guid::from_digits(0x81212a96_09ed_4996_9471_8d729c8e69ed), "Firmware Error Record Reference"),
    (Guid::from_digits(0xc5753963_3b84_4095_bf78_eddad3f9c9dd), "PCI/PCI-X Bus"),
    (Guid::from_digits(0xeb5e4685_ca66_4769_b6a2_26068b001326), "PCI/PCI-X Device"),
    (Guid::from_digits(0xe71254e7_c1b9_4940_ab76_909703a4320f), "NMI"),
];

pub(super) fn name(guid: Guid) -> Option<&'static str> {
    name_of(&NAMES, guid)
}

/// What a section says.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum SectionContent {
    /// What kind of error a processor had.
    GenericProcessor(GenericProcessorSection),
    /// Which processor it was, and its CPUID.
    XpfProcessor(XpfProcessorSection),
    /// A machine check with its registers.
    Mca(McaSection),
    /// A memory error.
    Memory(MemorySection),
    /// A PCI Express error.
    Pcie(PcieSection),
    /// A type or a length that is not decoded.
    Other,
}

/// `Processor Generic`. Each value is there if the record marks it valid.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GenericProcessorSection {
    /// `x86/x64`, `ARM`.
    pub processor: Option<&'static str>,
    /// `cache error`; several where several bits are set.
    pub error: Option<String>,
    /// `data read`.
    pub operation: Option<&'static str>,
    /// Level of the structure, from 0.
    pub level: Option<u8>,
    /// CPUID leaf 1 EAX, or MIDR.
    pub version: Option<u64>,
    /// The processor's name.
    pub brand: Option<String>,
    /// Its APIC id.
    pub id: Option<u64>,
    /// The address the error is about.
    pub target: Option<u64>,
    /// Where it stood.
    pub instruction: Option<u64>,
}

/// `x86/x64 Processor Specific`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XpfProcessorSection {
    /// Its APIC id, if marked valid.
    pub apic_id: Option<u64>,
    /// EAX, EBX, ECX, EDX of CPUID leaf 1, if marked valid.
    pub cpuid: Option<[u32; 4]>,
}

/// Microsoft's section for a machine check.
#[derive(Clone, PartialEq, Debug)]
pub struct McaSection {
    /// The processor's number.
    pub processor: u32,
    /// Bank that reported.
    pub bank: u32,
    /// `IA32_MCG_STATUS`.
    pub global_status: u64,
    /// `IA32_MCi_STATUS`, decoded.
    pub status: McaStatus,
    /// `IA32_MCi_ADDR`, if the status marks it valid.
    pub address: Option<u64>,
    /// `IA32_MCi_MISC`, if the status marks it valid.
    pub misc: Option<u64>,
    /// Where the processor stood.
    pub instruction: u64,
    /// Its APIC id.
    pub apic_id: u32,
}

/// `Platform Memory`. Each value is there if the record marks it valid.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemorySection {
    /// `single-bit ECC`.
    pub error: Option<&'static str>,
    /// Physical address.
    pub physical: Option<u64>,
    /// Node, card, module, bank, device, row, column, bit position.
    pub place: Vec<(&'static str, u16)>,
}

/// `PCI Express`. Each value is there if the record marks it valid.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PcieSection {
    /// `Root Port`.
    pub port: Option<&'static str>,
    /// Command and status registers.
    pub command_status: Option<(u16, u16)>,
    /// Vendor and device id.
    pub ids: Option<(u16, u16)>,
    /// Class code: class, subclass, interface.
    pub class: Option<u32>,
    /// Segment, bus, device, function.
    pub place: Option<(u16, u8, u8, u8)>,
    /// Uncorrectable and correctable error status of the advanced error reporting capability.
    pub aer: Option<(u32, u32)>,
}

pub(super) fn decode(guid: Guid, data: &Bytes<'_>, vendor: McaVendor) -> SectionContent {
    let content = match guid {
        GENERIC_PROCESSOR => generic(data).map(SectionContent::GenericProcessor),
        XPF_PROCESSOR => xpf(data).map(SectionContent::XpfProcessor),
        XPF_MCA => mca(data, vendor).map(SectionContent::Mca),
        MEMORY => memory(data).map(SectionContent::Memory),
        PCIE => pcie(data).map(SectionContent::Pcie),
        _ => None,
    };
    content.unwrap_or(SectionContent::Other)
}

/// Whose processor it was: the machine check's section says so.
pub(super) fn vendor(record: &Bytes<'_>, sections: u16) -> McaVendor {
    let of_section = |index: u16| {
        let at = super::HEADER_SIZE + usize::from(index) * super::DESCRIPTOR_SIZE;
        (record.guid(at + 0x10)? == XPF_MCA).then_some(())?;
        record.u32(record.u32(at)? as usize + 4)
    };
    match (0..sections).find_map(of_section) {
        Some(1) => McaVendor::Intel,
        Some(2) => McaVendor::Amd,
        _ => McaVendor::Unknown,
    }
}

fn generic(data: &Bytes<'_>) -> Option<GenericProcessorSection> {
    let valid = data.u64(0)?;
    let byte = |bit: u32, at: usize| data.u8(at).filter(|_| valid >> bit & 1 == 1);
    let word = |bit: u32, at: usize| data.u64(at).filter(|_| valid >> bit & 1 == 1);
    let processor = byte(0, 8).map(|kind| match kind {
        0 => "x86/x64",
        1 => "Itanium",
        2 => "ARM",
        _ => "unknown",
    });
    let kinds = [(1, "cache error"), (2, "TLB error"), (4, "bus error"), (8, "micro-architectural error")];
    let error = byte(2, 0xa).map(|bits| {
        let set: Vec<_> = kinds.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
        if set.is_empty() { "unknown error".to_owned() } else { set.join(", ") }
    });
    let operation = byte(3, 0xb).map(|operation| match operation {
        0 => "unknown or generic",
        1 => "data read",
        2 => "data write",
        3 => "instruction execution",
        _ => "reserved",
    });
    Some(GenericProcessorSection {
        processor,
        error,
        operation,
        level: byte(5, 0xd),
        version: word(6, 0x10),
        brand: data.0.get(0x18..0x98).filter(|_| valid >> 7 & 1 == 1).and_then(text),
        id: word(8, 0x98),
        target: word(9, 0xa0),
        instruction: word(12, 0xb8),
    })
}

fn xpf(data: &Bytes<'_>) -> Option<XpfProcessorSection> {
    let valid = data.u64(0)?;
    let cpuid = [0x10, 0x14, 0x18, 0x1c].map(|at| data.u32(at));
    let cpuid = match cpuid {
        [Some(a), Some(b), Some(c), Some(d)] if valid & 2 != 0 => Some([a, b, c, d]),
        _ => None,
    };
    Some(XpfProcessorSection { apic_id: data.u64(8).filter(|_| valid & 1 != 0), cpuid })
}

fn mca(data: &Bytes<'_>, vendor: McaVendor) -> Option<McaSection> {
    const ADDRESS_VALID: u64 = 1 << 58;
    const MISC_VALID: u64 = 1 << 59;
    let status = data.u64(0x28)?;
    Some(McaSection {
        processor: data.u32(0x10)?,
        bank: data.u32(0x24)?,
        global_status: data.u64(0x14)?,
        status: McaStatus::decode(status, vendor),
        address: data.u64(0x30).filter(|_| status & ADDRESS_VALID != 0),
        misc: data.u64(0x38).filter(|_| status & MISC_VALID != 0),
        instruction: data.u64(0x1c)?,
        apic_id: data.u32(0x44)?,
    })
}

fn memory(data: &Bytes<'_>) -> Option<MemorySection> {
    const ERRORS: [&str; 16] = [
        "unknown",
        "no error",
        "single-bit ECC",
        "multi-bit ECC",
        "single-symbol ChipKill ECC",
        "multi-symbol ChipKill ECC",
        "master abort",
        "target abort",
        "parity error",
        "watchdog timeout",
        "invalid address",
        "mirror broken",
        "memory sparing",
        "scrub corrected error",
        "scrub uncorrected error",
        "physical memory map-out event",
    ];
    const PLACES: [(u32, usize, &str); 8] = [
        (3, 0x20, "node"),
        (4, 0x22, "card"),
        (5, 0x24, "module"),
        (6, 0x26, "bank"),
        (7, 0x28, "device"),
        (8, 0x2a, "row"),
        (9, 0x2c, "column"),
        (10, 0x2e, "bit position"),
    ];
    let valid = data.u64(0)?;
    let is_valid = |bit: u32| valid >> bit & 1 == 1;
    let place = PLACES.iter().filter(|(bit, _, _)| is_valid(*bit));
    Some(MemorySection {
        error: data.u8(0x48).filter(|_| is_valid(14)).and_then(|kind| ERRORS.get(usize::from(kind)).copied()),
        physical: data.u64(0x10).filter(|_| is_valid(1)),
        place: place.filter_map(|(_, at, name)| Some((*name, data.u16(*at)?))).collect(),
    })
}

fn pcie(data: &Bytes<'_>) -> Option<PcieSection> {
    let valid = data.u64(0)?;
    let is_valid = |bit: u32| valid >> bit & 1 == 1;
    let port = data.u32(8).filter(|_| is_valid(0)).map(|port| match port {
        0 => "PCI Express Endpoint",
        1 => "Legacy PCI Express Endpoint",
        4 => "Root Port",
        5 => "Upstream Switch Port",
        6 => "Downstream Switch Port",
        7 => "PCI Express to PCI/PCI-X Bridge",
        8 => "PCI/PCI-X to PCI Express Bridge",
        9 => "Root Complex Integrated Endpoint",
        10 => "Root Complex Event Collector",
        _ => "unknown",
    });
    let id = Bytes(data.0.get(0x18..0x28).unwrap_or_default());
    let ids = || Some((id.u16(0)?, id.u16(2)?));
    let class = || Some(u32::from(id.u8(4)?) | u32::from(id.u8(5)?) << 8 | u32::from(id.u8(6)?) << 16);
    let place = || Some((id.u16(9)?, id.u8(11)?, id.u8(8)?, id.u8(7)?));
    // The capability of advanced error reporting: header, uncorrectable status, mask, severity, correctable status.
    let aer = || Some((data.u32(0x70 + 4)?, data.u32(0x70 + 0x10)?));
    Some(PcieSection {
        port,
        command_status: data.u16(0x10).zip(data.u16(0x12)).filter(|_| is_valid(2)),
        ids: is_valid(3).then(ids).flatten(),
        class: is_valid(3).then(class).flatten(),
        place: is_valid(3).then(place).flatten(),
        aer: is_valid(7).then(aer).flatten(),
    })
}
