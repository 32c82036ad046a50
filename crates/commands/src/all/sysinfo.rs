//! `!sysinfo`

use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use serde_json::{Map, Value, json};
use stopcode_dump::{CpuidSource, RegistryData};
use stopcode_kernel::Hardware;

pub(super) const COMMAND: Command = Command {
    name: "!sysinfo",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("WHAT", Kind::Word)],
    what: "what firmware and processor told of the machine",
    details: "WHAT is `machineid`, `cpuinfo`, `cpuspeed`, `cpumicrocode`, `smbios` or `registers`; without it the first four. \
              Serial numbers are not read.",
    examples: &[("!sysinfo machineid", "maker, model, firmware"), ("!sysinfo cpumicrocode", "the microcode")],
    run: |session, arguments, output| {
        let hardware = session.machine().hardware();
        match arguments.text("WHAT").map(str::to_ascii_lowercase).as_deref() {
            None => all(&hardware, output),
            Some("machineid") => machine_id(&hardware, output),
            Some("cpuinfo") => cpu_info(&hardware, output),
            Some("cpuspeed") => cpu_speed(&hardware, output),
            Some("cpumicrocode") => microcode(&hardware, output),
            Some("smbios") => smbios(&hardware, output),
            Some("registers") => registers(&hardware, output),
            Some(_) => Err(Stop::failed(
                "!sysinfo takes machineid, cpuinfo, cpuspeed, cpumicrocode, smbios or registers",
            )),
        }
    },
};

type Part = fn(&Hardware, &mut Output) -> Outcome;

fn all(hardware: &Hardware, output: &mut Output) -> Outcome {
    if hardware.processor.is_none() && hardware.smbios.is_none() {
        return Err(Stop::unknown(
            "this dump holds neither the firmware's tables nor the processor's registry key",
        ));
    }
    let mut data = Map::new();
    let parts: [(&str, Part); 4] = [
        ("machineid", machine_id),
        ("cpuinfo", cpu_info),
        ("cpuspeed", cpu_speed),
        ("cpumicrocode", microcode),
    ];
    for (name, part) in parts {
        match part(hardware, output) {
            Ok(value) => _ = data.insert(name.to_owned(), value),
            Err(Stop::Unknown(why)) => {
                output.missing(why);
                data.insert(name.to_owned(), Value::Null);
            }
            Err(stop) => return Err(stop),
        }
    }
    Ok(Value::Object(data))
}

fn machine_id(hardware: &Hardware, output: &mut Output) -> Outcome {
    let Some(smbios) = &hardware.smbios else {
        return Err(Stop::unknown("the firmware's tables (SMBIOS) are not in this dump"));
    };
    let (major, minor) = smbios.version;
    output.line(format!("Machine ID Information [From Smbios {major}.{minor}]"))?;
    let rows = [
        ("BiosVendor", &smbios.bios_vendor),
        ("BiosVersion", &smbios.bios_version),
        ("BiosReleaseDate", &smbios.bios_date),
        ("SystemManufacturer", &smbios.system_manufacturer),
        ("SystemProductName", &smbios.system_product),
        ("BaseBoardManufacturer", &smbios.board_manufacturer),
        ("BaseBoardProduct", &smbios.board_product),
    ];
    let mut data = Map::new();
    for (name, value) in rows {
        if let Some(value) = value {
            output.line(format!("{name} = {value}"))?;
        }
        data.insert(name.to_owned(), value.clone().map_or(Value::Null, Value::String));
    }
    Ok(Value::Object(data))
}

fn key(hardware: &Hardware) -> Result<&stopcode_dump::ProcessorKey, Stop> {
    hardware
        .processor
        .as_ref()
        .ok_or_else(|| Stop::unknown("the processor's registry key is not in this dump"))
}

fn cpu_info(hardware: &Hardware, output: &mut Output) -> Outcome {
    output.line("[CPU Information]")?;
    let mut data = Map::new();
    for value in &key(hardware)?.values {
        let (kind, shown) = match &value.data {
            RegistryData::Text(text) => ("REG_SZ", text.trim().to_owned()),
            RegistryData::Dword(number) => ("REG_DWORD", number.to_string()),
            RegistryData::Qword(number) => ("REG_QWORD", format!("{number:x}")),
            RegistryData::Other(_, bytes) => {
                let shown: Vec<String> = bytes.iter().take(32).map(|byte| format!("{byte:x}")).collect();
                ("REG_BINARY", shown.join(","))
            }
            _ => continue,
        };
        output.line(format!("{} = {kind} {shown}", value.name))?;
        data.insert(value.name.clone(), shown.into());
    }
    Ok(Value::Object(data))
}

fn cpu_speed(hardware: &Hardware, output: &mut Output) -> Outcome {
    let key = key(hardware)?;
    let name = key.name().unwrap_or_default();
    output.line(format!("CPUID: \"{name}\""))?;
    let Some(mhz) = key.mhz() else {
        return Err(Stop::unknown("the processor's registry key in this dump has no ~MHz"));
    };
    output.line(format!("CurrentSpeed: {mhz}"))?;
    Ok(json!({"name": name, "mhz": mhz}))
}

fn microcode(hardware: &Hardware, output: &mut Output) -> Outcome {
    let key = key(hardware)?;
    let revision = key.microcode().ok_or_else(|| {
        Stop::unknown(
            "the processor's registry key in this dump has no microcode revision; !cpuinfo may show it",
        )
    })?;
    output.line(format!("Cached Microcode Version: {revision:016x}"))?;
    if let Some(vendor) = key.vendor() {
        output.line(format!("Processor Manufacturer = \"{vendor}\""))?;
    }
    if let Some(identifier) = key.identifier() {
        output.line(format!("Processor Identifier = \"{identifier}\""))?;
    }
    Ok(
        json!({"revision": crate::show::hex(revision), "vendor": key.vendor(), "identifier": key.identifier()}),
    )
}

fn smbios(hardware: &Hardware, output: &mut Output) -> Outcome {
    let machine = machine_id(hardware, output)?;
    let devices = hardware.smbios.as_ref().map_or(&[][..], |smbios| smbios.memory.as_slice());
    let mut memory = Vec::new();
    for device in devices {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let size = device.size_mib.map_or_else(|| "size not known".to_owned(), |size| format!("{size} MiB"));
        let speed = device
            .configured_speed
            .or(device.speed)
            .map_or_else(String::new, |speed| format!(", {speed} MT/s"));
        output.line(format!(
            "Memory Device: {}: {size}{speed}, {} {}",
            text(&device.locator),
            text(&device.manufacturer),
            text(&device.part_number)
        ))?;
        memory.push(json!({
            "locator": device.locator, "size_mib": device.size_mib, "speed": device.speed,
            "configured_speed": device.configured_speed, "manufacturer": device.manufacturer,
            "part_number": device.part_number,
        }));
    }
    Ok(json!({"machine": machine, "memory": memory}))
}

fn registers(hardware: &Hardware, output: &mut Output) -> Outcome {
    if hardware.cpuid.is_empty() {
        return Err(Stop::unknown("no CPUID record is in this dump"));
    }
    output.line("Source             EAX      EBX      ECX      EDX       (as seen)")?;
    let mut all = Vec::new();
    for record in &hardware.cpuid {
        let source = match record.source {
            CpuidSource::Leaf(leaf) => format!("CPUID {leaf:08x}"),
            CpuidSource::Register(register) => format!("MSR {register:08x}"),
            _ => "unknown".to_owned(),
        };
        let words = record.seen.map(|word| format!("{word:08x}"));
        output.line(format!("{source:<18} {}", words.join(" ")))?;
        all.push(json!({"source": source, "seen": words, "native": record.native.map(|word| format!("{word:08x}"))}));
    }
    Ok(Value::Array(all))
}
