//! `!irp`

use super::facts::{named, needed};
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::{address, hex};
use serde_json::{Value, json};
use stopcode_kernel::{Irp, StackLocation, major_name};

pub(super) const COMMAND: Command = Command {
    name: "!irp",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::required("ADDRESS", Kind::Expression),
        Parameter::optional("DETAIL", Kind::Expression),
    ],
    what: "an I/O request packet",
    details: "The driver of each location is named where its device and driver objects are in the dump. `!thread` lists the IRPs \
              of a thread.",
    examples: &[("!irp ffffa20f`28104010", "an IRP at an address")],
    run: |session, arguments, output| {
        let irp = needed(session.machine().irp_at(arguments.address("ADDRESS").unwrap_or_default()))?;
        show(session, &irp, output)
    },
};

fn show(session: &Session, irp: &Irp, output: &mut Output) -> Outcome {
    let current = irp.locations.get(usize::from(irp.current_location).wrapping_sub(1));
    let state = match current {
        Some(location) => format!(
            "Irp is active with {} stacks {} is current (= {:#x})",
            irp.stack_count, irp.current_location, location.address.0
        ),
        None => format!("Irp is completed, or was not sent yet: {} stacks", irp.stack_count),
    };
    output.line(state)?;
    let mdl = if irp.mdl.0 == 0 { "No Mdl:".to_owned() } else { format!("Mdl={}:", output.word(irp.mdl.0)) };
    let status = stopcode_knowledge::ntstatus(irp.status)
        .map_or_else(|| format!("{:08x}", irp.status), |it| it.name.to_owned());
    output.line(format!(" {mdl} Thread {}:  Status {status}", output.word(irp.thread.0)))?;
    if irp.cancel {
        output.line(" It was asked to be cancelled")?;
    }
    if irp.cancel_routine.0 != 0 {
        output.line(format!(" Cancel routine {}", named(session, irp.cancel_routine)))?;
    }
    output.line(format!(
        "     cmd  flg cl {:<width$} {:<width$} Completion-Context",
        "Device",
        "File",
        width = output.word(0).len()
    ))?;
    let mut locations = Vec::new();
    for (number, location) in (1_u8..).zip(&irp.locations) {
        let mark = if number == irp.current_location { '>' } else { ' ' };
        locations.push(show_location(session, mark, location, output)?);
    }
    if irp.locations.len() < usize::from(irp.stack_count) {
        output.missing(format!(
            "{} of {} stack locations are in this dump",
            irp.locations.len(),
            irp.stack_count
        ));
    }
    Ok(json!({
        "address": address(irp.address), "thread": address(irp.thread), "status": hex(irp.status),
        "stack_count": irp.stack_count, "current_location": irp.current_location, "locations": locations,
    }))
}

fn show_location(
    session: &Session,
    mark: char,
    location: &StackLocation,
    output: &mut Output,
) -> Result<Value, Stop> {
    let unused = location.device.0 == 0 && location.major == 0;
    let name = if unused { "N/A" } else { major_name(location.major).unwrap_or("N/A") };
    output.line(format!("{mark}[{name}({:x}), {:x}]", location.major, location.minor))?;
    let when: String = [(0x40, " Success"), (0x80, " Error"), (0x20, " Cancel"), (0x01, " pending")]
        .iter()
        .filter(|(bit, _)| location.control & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    output.line(format!(
        "          {:>3x} {:>2x} {} {} {}-{}{when}",
        location.flags,
        location.control,
        output.word(location.device.0),
        output.word(location.file.0),
        output.word(location.completion.0),
        output.word(location.context.0)
    ))?;
    let driver = location.driver.value();
    let completion = (location.completion.0 != 0).then(|| named(session, location.completion));
    if driver.is_some() || completion.is_some() {
        let (driver, completion) =
            (driver.map_or("", String::as_str), completion.as_deref().unwrap_or_default());
        output.line(format!("           {driver}    {completion}"))?;
    }
    let [a, b, c, d] = location.arguments;
    output.line(format!("            Args: {a:08x} {b:08x} {c:08x} {d:08x}"))?;
    Ok(json!({
        "address": address(location.address), "major": location.major, "minor": location.minor,
        "device": address(location.device), "driver": driver, "file": address(location.file),
        "completion": completion, "arguments": location.arguments.map(hex),
    }))
}
