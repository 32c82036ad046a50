//! The system: version, time, processors, firmware, and what runs below Windows.

use crate::core::Core;
use crate::facts::{Hypervisor, System};
use stopcode_base::{Arch, Fact};
use stopcode_dump::{Attributes, Content, CpuidRecord, CpuidSource, Dump, ProcessorKey, Smbios};
use stopcode_knowledge as knowledge;

/// A later year has no form in RFC 3339, and no dump.
const LAST_YEAR: i64 = 9999;

/// Drivers that serve Hyper-V's guests: they run in the root partition only.
const ROOT_PARTITION_DRIVERS: [&str; 5] =
    ["vmswitch.sys", "storvsp.sys", "vpcivsp.sys", "vmbusr.sys", "synth3dvsp.sys"];

pub(crate) fn system(core: &Core) -> System {
    let dump = &core.dump;
    let header = dump.header();
    let hardware = Hardware::of(dump);
    let uptime = match header.system_uptime {
        Some(units) => Fact::known(units as f64 / 1e7, "dump header"),
        None => Fact::missing("the dump header does not tell"),
    };
    let crash_time = match header.system_time {
        Some(time) if time.date().0 > LAST_YEAR => Fact::missing("the time in the dump header is damaged"),
        Some(time) => Fact::known(time, "dump header"),
        None => Fact::missing("the dump header does not tell"),
    };
    System {
        os_version: core.build.version.clone(),
        fingerprint: Some(core.build.fingerprint.clone()),
        product: product(core),
        build: Some(header.minor_version),
        arch: header.arch,
        processors: Some(header.number_processors),
        uptime_seconds: uptime,
        crash_time,
        processor_name: hardware.processor.as_ref().and_then(|key| key.name().map(str::to_owned)),
        microcode: hardware.processor.as_ref().and_then(ProcessorKey::microcode),
        machine: hardware.smbios.as_ref().and_then(maker_and_model),
        firmware: hardware.smbios.as_ref().and_then(firmware),
        features: hardware.leaf1().map(|leaf| leaf.native[2]),
        hypervisor: hypervisor(core, hardware.leaf1()),
        live: match header.attributes {
            Some(set) => Fact::known(set.contains(Attributes::LIVE_DUMP), "attributes in the dump header"),
            None => Fact::missing("the dump header does not tell"),
        },
    }
}

/// Windows' own name for the version.
fn product(core: &Core) -> Option<String> {
    let header = core.dump.header();
    let server = header.product_type.is_some_and(|product| product == 2 || product == 3);
    knowledge::product_name(header.minor_version, server).map(str::to_owned)
}

/// What a dump's secondary data tell of the hardware; each the first of its kind.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Hardware {
    /// The registry key of the first processor.
    pub processor: Option<ProcessorKey>,
    /// The firmware's description of the machine.
    pub smbios: Option<Smbios>,
    /// What the processor answered to CPUID.
    pub cpuid: Vec<CpuidRecord>,
}

impl Hardware {
    fn leaf1(&self) -> Option<CpuidRecord> {
        self.cpuid.iter().find(|record| record.source == CpuidSource::Leaf(1)).copied()
    }

    pub(crate) fn of(dump: &Dump) -> Self {
        let mut hardware = Self::default();
        for content in dump.secondary().iter().filter_map(stopcode_dump::Blob::content) {
            match content {
                Content::Processor(key) => _ = hardware.processor.get_or_insert(key),
                Content::Smbios(smbios) => _ = hardware.smbios.get_or_insert(smbios),
                Content::Cpuid(records) if hardware.cpuid.is_empty() => hardware.cpuid = records,
                _ => {}
            }
        }
        hardware
    }
}

/// Maker and model of the system, or of its board where the system's are the usual placeholders.
fn maker_and_model(smbios: &Smbios) -> Option<String> {
    let real = |text: &Option<String>| text.clone().filter(|text| !is_placeholder(text));
    let joined = |maker: &Option<String>, model: &Option<String>| {
        let model = real(model)?;
        Some(real(maker).map_or_else(|| model.clone(), |maker| format!("{maker} {model}")))
    };
    joined(&smbios.system_manufacturer, &smbios.system_product)
        .or_else(|| joined(&smbios.board_manufacturer, &smbios.board_product))
}

/// What firmware says where nobody filled it in.
fn is_placeholder(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    text.is_empty()
        || [
            "to be filled",
            "system product name",
            "system manufacturer",
            "default string",
            "not applicable",
            "o.e.m.",
        ]
        .iter()
        .any(|placeholder| text.contains(placeholder))
}

fn firmware(smbios: &Smbios) -> Option<String> {
    let parts = [&smbios.bios_vendor, &smbios.bios_version, &smbios.bios_date];
    let parts: Vec<&str> = parts.into_iter().filter_map(|part| part.as_deref()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// CPUID leaf 1, ECX bit 31: a hypervisor is present.
const HYPERVISOR_PRESENT: u32 = 1 << 31;

fn hypervisor(core: &Core, leaf1: Option<CpuidRecord>) -> Fact<Hypervisor> {
    if core.arch != Arch::X64 {
        return Fact::missing("CPUID is x64 only");
    }
    let Some([_, _, ecx, _]) = leaf1.map(|leaf| leaf.seen) else {
        return Fact::missing("this dump holds no CPUID record");
    };
    if ecx & HYPERVISOR_PRESENT == 0 {
        return Fact::known(Hypervisor::Absent, "CPUID leaf 1, ECX bit 31");
    }
    let root = core.modules.iter().find(|module| ROOT_PARTITION_DRIVERS.contains(&module.image.as_str()));
    match root {
        Some(driver) => Fact::known(
            Hypervisor::Root,
            format!(
                "CPUID leaf 1, ECX bit 31; {}, which runs in the root partition only, is loaded",
                driver.image
            ),
        ),
        None => Fact::known(Hypervisor::Present, "CPUID leaf 1, ECX bit 31"),
    }
}
