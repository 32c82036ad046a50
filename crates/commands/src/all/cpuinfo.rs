//! `!cpuinfo`

use super::facts::{Record, processors};
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::hex;
use serde_json::{Value, json};
use stopcode_kernel::Hypervisor;

pub(super) const COMMAND: Command = Command {
    name: "!cpuinfo",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("PROCESSOR", Kind::Expression)],
    what: "processor model, stepping, microcode, hypervisor",
    details: "The microcode's revision is the upper half of the update signature on Intel's processors, all of it on AMD's.",
    examples: &[("!cpuinfo", "all processors")],
    run: |session, arguments, output| {
        let states = processors(session, arguments.number("PROCESSOR"))?;
        let key = session.machine().hardware().processor;
        output.line(" CP  F/M/S      Manufacturer  MHz  Update Signature")?;
        let mut all = Vec::new();
        for state in &states {
            let mut record = Record::default();
            record.set("processor", state.number);
            let model = record.fact(
                output,
                "model",
                &state.model,
                |cpu| format!("{},{},{}", cpu.family, cpu.model, cpu.stepping),
                |cpu| json!({"family": cpu.family, "model": cpu.model, "stepping": cpu.stepping}),
            );
            let vendor =
                record.fact(output, "vendor", &state.vendor, String::clone, |name| name.as_str().into());
            let mhz = record.count(output, "mhz", &state.mhz);
            let signature = record.fact(
                output,
                "update_signature",
                &state.update_signature,
                |raw| format!("{raw:016x}"),
                |raw| hex(*raw),
            );
            output.line(format!("{:>3}  {model:<9}  {vendor:<12} {mhz:>5} {signature}", state.number))?;
            all.push(record.into_data());
        }
        let name = key.as_ref().and_then(stopcode_dump::ProcessorKey::name);
        let microcode = key.as_ref().and_then(stopcode_dump::ProcessorKey::microcode);
        if let Some(name) = name {
            output.line(name)?;
        }
        if let Some(microcode) = microcode {
            output.line(format!("Microcode revision {microcode:#x}"))?;
        }
        let machine = session.machine();
        let system = machine.system();
        if let Some(features) = system.features {
            output.line(format!("CPUID leaf 1, ECX {features:08x}"))?;
        }
        if let Some((found, source)) = system.hypervisor.known_with_source() {
            let words = match found {
                Hypervisor::Absent => "none",
                Hypervisor::Present => "below this Windows",
                Hypervisor::Root => "below this Windows, its root partition",
            };
            output.line(format!("Hypervisor: {words} ({source})"))?;
        }
        Ok(json!({
            "features": system.features.map_or(Value::Null, hex),
            "processors": all, "name": name.map_or(Value::Null, Value::from),
            "microcode": microcode.map_or(Value::Null, hex),
        }))
    },
};
