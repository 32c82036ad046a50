//! What `IA32_MCi_STATUS` says, in words.
//!
//! Sources: the architectural part as in the Intel SDM, volume 3, chapter "Interpreting Machine Check Error Codes"; AMD's
//! own bits as in the APM, volume 2, "Machine Check Architecture". What a model means by the model-specific code
//! is not decoded.

use std::fmt::Write as _;

/// Whose machine check it is: some bits differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum McaVendor {
    /// `GenuineIntel`.
    Intel,
    /// `AuthenticAMD` and `HygonGenuine`.
    Amd,
    /// Not known: only what all share is told.
    Unknown,
}

impl McaVendor {
    /// From the vendor string of CPUID.
    pub fn of_name(name: &str) -> Self {
        match name {
            "GenuineIntel" => Self::Intel,
            "AuthenticAMD" | "HygonGenuine" => Self::Amd,
            _ => Self::Unknown,
        }
    }
}

/// A decoded `IA32_MCi_STATUS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct McaStatus {
    /// The register.
    pub raw: u64,
    /// The bits that are set, by the manuals' short names with their meaning, highest first.
    pub flags: Vec<(&'static str, &'static str)>,
    /// Bits 15 to 0.
    pub error_code: u16,
    /// Bits 31 to 16.
    pub model_code: u16,
    /// What the error code says; `None` for a code that the manuals do not define.
    pub meaning: Option<String>,
    /// Corrected errors counted, where the processor counts them here (Intel).
    pub corrected: Option<u16>,
}

/// Bits that Intel and AMD share.
const SHARED: [(u32, &str, &str); 7] = [
    (63, "VAL", "the register is valid"),
    (62, "OVER", "an earlier error was lost"),
    (61, "UC", "the processor did not correct the error"),
    (60, "EN", "the error was enabled to be reported"),
    (59, "MISCV", "MCi_MISC is valid"),
    (58, "ADDRV", "MCi_ADDR is valid"),
    (57, "PCC", "the state of the processor may be corrupt"),
];
const INTEL: [(u32, &str, &str); 2] =
    [(56, "S", "signalled by a machine check"), (55, "AR", "software has to act before it goes on")];
const AMD: [(u32, &str, &str); 6] = [
    (55, "TCC", "the context of the task is corrupt"),
    (53, "SYNDV", "MCA_SYND is valid"),
    (46, "CECC", "corrected by ECC"),
    (45, "UECC", "detected by ECC, not corrected"),
    (44, "DEFERRED", "deferred: the data are bad, nobody has used them yet"),
    (43, "POISON", "poisoned data were used"),
];

impl McaStatus {
    /// Decodes `raw`.
    pub fn decode(raw: u64, vendor: McaVendor) -> Self {
        let own: &[(u32, &str, &str)] = match vendor {
            McaVendor::Intel => &INTEL,
            McaVendor::Amd => &AMD,
            McaVendor::Unknown => &[],
        };
        let set = SHARED.iter().chain(own).filter(|(bit, _, _)| raw >> bit & 1 == 1);
        let error_code = (raw & 0xffff) as u16;
        Self {
            raw,
            flags: set.map(|(_, name, meaning)| (*name, *meaning)).collect(),
            error_code,
            model_code: (raw >> 16 & 0xffff) as u16,
            meaning: meaning(error_code, vendor),
            corrected: (vendor == McaVendor::Intel)
                .then_some((raw >> 38 & 0x7fff) as u16)
                .filter(|count| *count > 0),
        }
    }

    /// The register holds an error.
    pub fn is_valid(&self) -> bool {
        self.raw >> 63 == 1
    }
}

/// The compound codes, each told by its highest bit set, and the simple ones. Bit 12 says only that corrections are
/// filtered (Intel).
fn meaning(code: u16, vendor: McaVendor) -> Option<String> {
    let code = if vendor == McaVendor::Amd { code } else { code & !(1 << 12) };
    let level = ["level 0", "level 1", "level 2", "any level"]
        .get(usize::from(code & 3))
        .copied()
        .unwrap_or_default();
    let what = ["instruction", "data", "generic", "reserved"]
        .get(usize::from(code >> 2 & 3))
        .copied()
        .unwrap_or_default();
    let request = request(code >> 4 & 0xf);
    let amd = vendor == McaVendor::Amd;
    Some(match code {
        0 => "no error".to_owned(),
        0x10..=0x1f => format!("TLB error: {what}, {level}"),
        0x100..=0x1ff => format!("cache hierarchy error: {request}, {what}, {level}"),
        0x400..=0x7ff if amd => "internal unclassified error".to_owned(),
        0x800..=0xfff if amd || code != 0xe0b => bus(code, request, level),
        _ if amd => return None,
        1 => "unclassified error".to_owned(),
        2 => "parity error in the microcode ROM".to_owned(),
        3 => "external error: another processor signalled it".to_owned(),
        4 => "functional redundancy check: master and slave differ".to_owned(),
        5 => "internal parity error".to_owned(),
        6 => "SMM handler ran outside its memory".to_owned(),
        0x0c..=0x0f => format!("cache hierarchy error, {level}"),
        0x80..=0xff => memory_controller(code),
        0x400 => "internal timer: no instruction was retired in time".to_owned(),
        0x401..=0x7ff => "internal unclassified error".to_owned(),
        0xe0b => "I/O error".to_owned(),
        _ => return None,
    })
}

fn request(code: u16) -> &'static str {
    let requests = [
        "generic error",
        "generic read",
        "generic write",
        "data read",
        "data write",
        "instruction fetch",
        "prefetch",
        "eviction",
        "snoop",
    ];
    requests.get(usize::from(code)).copied().unwrap_or("reserved request")
}

fn memory_controller(code: u16) -> String {
    let what = match code >> 4 & 7 {
        0 => "generic request",
        1 => "read",
        2 => "write",
        3 => "address or command",
        4 => "scrubbing",
        _ => "reserved request",
    };
    let mut text = format!("memory controller error: {what}");
    match code & 0xf {
        0xf => text.push_str(", channel not known"),
        channel => _ = write!(text, ", channel {channel}"),
    }
    text
}

fn bus(code: u16, request: &str, level: &str) -> String {
    let part = |shift: u16, names: [&'static str; 4]| {
        names.get(usize::from(code >> shift & 3)).copied().unwrap_or_default()
    };
    let who =
        part(9, ["this processor asked", "this processor answered", "this processor looked on", "generic"]);
    let timeout = if code >> 8 & 1 == 1 { ", timed out" } else { "" };
    let space = part(2, ["memory", "reserved", "I/O", "other"]);
    format!("bus or interconnect error: {who}{timeout}, {request}, {space}, {level}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_manuals() {
        let intel = |code| meaning(code, McaVendor::Intel).unwrap();
        // Intel SDM 3B: the examples of the compound codes.
        assert_eq!(intel(0x0145), "cache hierarchy error: data write, data, level 1");
        assert_eq!(intel(0x0014), "TLB error: data, level 0");
        assert_eq!(intel(0x009f), "memory controller error: read, channel not known");
        assert_eq!(intel(0x0400), "internal timer: no instruction was retired in time");
        assert_eq!(
            intel(0x0800),
            "bus or interconnect error: this processor asked, generic error, memory, level 0"
        );
        assert_eq!(
            intel(0x0f0f),
            "bus or interconnect error: generic, timed out, generic error, other, any level"
        );
        // Bit 12 only says that corrections are filtered.
        assert_eq!(intel(0x1145), intel(0x0145));
        assert_eq!(meaning(0x0009, McaVendor::Intel), None);
        assert_eq!(meaning(0x009f, McaVendor::Amd), None, "AMD defines no memory controller code there");
    }

    #[test]
    fn bits_by_vendor() {
        let names = |status: &McaStatus| status.flags.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let raw = 0xbe00_0000_0080_0400;
        let status = McaStatus::decode(raw, McaVendor::Intel);
        assert_eq!(names(&status), ["VAL", "UC", "EN", "MISCV", "ADDRV", "PCC"]);
        assert_eq!((status.error_code, status.model_code, status.corrected), (0x400, 0x80, None));
        assert!(status.is_valid());
        let amd = McaStatus::decode(1 << 63 | 1 << 55 | 1 << 44 | 0x0135, McaVendor::Amd);
        assert_eq!(names(&amd), ["VAL", "TCC", "DEFERRED"]);
        assert_eq!(amd.meaning.as_deref(), Some("cache hierarchy error: data read, data, level 1"));
        let counted = McaStatus::decode(1 << 63 | 3 << 38, McaVendor::Intel);
        assert_eq!(counted.corrected, Some(3));
        assert_eq!(McaStatus::decode(1 << 55, McaVendor::Unknown).flags, []);
    }
}
