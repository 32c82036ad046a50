//! `!errrec`

use super::mca::status_lines;
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::show::{address, hex};
use serde_json::{Value, json};
use stopcode_base::VirtAddr;
use stopcode_kernel::{ErrorRecord, Section, SectionContent, error_record};

pub(super) const COMMAND: Command = Command {
    name: "!errrec",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("ADDRESS", Kind::Expression)],
    what: "a hardware error record",
    details: "Arg2 of WHEA_UNCORRECTABLE_ERROR (124) is the address of one.",
    examples: &[("!errrec @$bug_param2", "the record of bug check 124")],
    run: |session, arguments, output| {
        let at = arguments.address("ADDRESS").unwrap_or_default();
        let record = error_record(session.machine().memory(), at).map_err(Stop::Unknown)?;
        show(&record, output)
    },
};

const DOUBLE: &str = "===============================================================================";
const SINGLE: &str = "-------------------------------------------------------------------------------";

/// Shows a record.
pub(super) fn show(record: &ErrorRecord, output: &mut Output) -> Outcome {
    output.line(DOUBLE)?;
    output.line(format!("Common Platform Error Record @ {}", record.address))?;
    output.line(SINGLE)?;
    output.line(format!("Record Id     : {:016x}", record.id))?;
    output.line(format!("Severity      : {}", record.severity.as_str()))?;
    output.line(format!("Length        : {}", record.length))?;
    output.line(format!("Creator       : {}", record.creator))?;
    let notify = record.notify_name.map_or_else(|| record.notify.to_string(), str::to_owned);
    output.line(format!("Notify Type   : {notify}"))?;
    if let Some(time) = record.time {
        output.line(format!("Timestamp     : {time}"))?;
    }
    output.line(format!("Flags         : {:#010x}", record.flags))?;
    if let Some(damage) = &record.damage {
        output.missing(damage);
    }
    let mut sections = Vec::new();
    for (index, section) in record.sections.iter().enumerate() {
        sections.push(section_lines(record.address, index, section, output)?);
    }
    Ok(json!({
        "address": address(record.address), "id": hex(record.id), "severity": record.severity.as_str(),
        "length": record.length, "notify": notify, "time": record.time.map(|time| time.to_string()),
        "sections": sections,
    }))
}

fn section_lines(record: VirtAddr, index: usize, section: &Section, output: &mut Output) -> Outcome {
    let name = section.name.map_or_else(|| section.guid.to_string(), str::to_owned);
    output.line("")?;
    output.line(DOUBLE)?;
    output.line(format!("Section {index:<5} : {name}"))?;
    output.line(SINGLE)?;
    output.line(format!("Section       @ {}", record.plus(section.offset.into())))?;
    output.line(format!("Offset        : {}", section.offset))?;
    output.line(format!("Length        : {}", section.length))?;
    let primary = if section.flags & 1 != 0 { " Primary" } else { "" };
    output.line(format!("Flags         : {:#010x}{primary}", section.flags))?;
    output.line(format!("Severity      : {}", section.severity.as_str()))?;
    if let Some(fru) = &section.fru {
        output.line(format!("FRU Text      : {fru}"))?;
    }
    output.line("")?;
    let content = content_lines(&section.content, output)?;
    Ok(
        json!({"name": name, "severity": section.severity.as_str(), "primary": section.flags & 1 != 0, "content": content}),
    )
}

fn content_lines(content: &SectionContent, output: &mut Output) -> Outcome {
    match content {
        SectionContent::Mca(mca) => {
            output.line(format!("Processor     : {} (APIC id {})", mca.processor, mca.apic_id))?;
            output.line(format!("Bank          : {}", mca.bank))?;
            let status = status_lines(&mca.status, output)?;
            if let Some(at) = mca.address {
                output.line(format!("Address       : {at:016x}"))?;
            }
            if let Some(misc) = mca.misc {
                output.line(format!("Misc          : {misc:016x}"))?;
            }
            output.line(format!("MCG Status    : {:016x}", mca.global_status))?;
            Ok(json!({
                "processor": mca.processor, "bank": mca.bank, "status": status, "address": mca.address.map(hex),
                "misc": mca.misc.map(hex), "global_status": hex(mca.global_status),
            }))
        }
        SectionContent::GenericProcessor(section) => fields(
            &[
                ("Proc. Type", section.processor.map(str::to_owned)),
                ("Error Type", section.error.clone()),
                ("Operation", section.operation.map(str::to_owned)),
                ("Level", section.level.map(|level| level.to_string())),
                ("CPU Version", section.version.map(|version| format!("{version:016x}"))),
                ("CPU", section.brand.clone()),
                ("Processor ID", section.id.map(|id| format!("{id:016x}"))),
                ("Target", section.target.map(|at| format!("{at:016x}"))),
                ("Instruction", section.instruction.map(|at| format!("{at:016x}"))),
            ],
            output,
        ),
        SectionContent::XpfProcessor(section) => fields(
            &[
                ("Local APIC Id", section.apic_id.map(|id| format!("{id:016x}"))),
                ("CPU Id", section.cpuid.map(|leaf| leaf.map(|word| format!("{word:08x}")).join(" "))),
            ],
            output,
        ),
        SectionContent::Memory(section) => fields(
            &[
                ("Error Type", section.error.map(str::to_owned)),
                ("Physical", section.physical.map(|at| format!("{at:016x}"))),
                ("Place", place(&section.place)),
            ],
            output,
        ),
        SectionContent::Pcie(section) => {
            let location = section.place.map(|(segment, bus, device, function)| {
                format!("segment {segment}, bus {bus}, device {device}, function {function}")
            });
            let class = section.class.map(|class| format!("{class:06x}"));
            fields(
                &[
                    ("Port Type", section.port.map(str::to_owned)),
                    (
                        "Command, Status",
                        section
                            .command_status
                            .map(|(command, status)| format!("{command:04x}, {status:04x}")),
                    ),
                    ("VenId:DevId", section.ids.map(|(vendor, device)| format!("{vendor:04x}:{device:04x}"))),
                    ("Class Code", class),
                    ("Place", location),
                    ("AER uncorr.", section.aer.map(|(status, _)| format!("{status:08x}"))),
                    ("AER corr.", section.aer.map(|(_, status)| format!("{status:08x}"))),
                ],
                output,
            )
        }
        _ => {
            output.line("(not decoded)")?;
            Ok(Value::Null)
        }
    }
}

fn place(places: &[(&str, u16)]) -> Option<String> {
    let shown: Vec<String> = places.iter().map(|(name, number)| format!("{name} {number}")).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

/// Names and what is known of them.
fn fields(named: &[(&str, Option<String>)], output: &mut Output) -> Outcome {
    let mut data = serde_json::Map::new();
    for (name, value) in named {
        if let Some(value) = value {
            output.line(format!("{name:<14}: {value}"))?;
        }
        data.insert(name.to_ascii_lowercase(), value.clone().map_or(Value::Null, Value::String));
    }
    Ok(Value::Object(data))
}
