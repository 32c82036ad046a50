//! `vertarget`, `version`, `.time`: the system and when it stopped.

use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::Parameter;
use crate::session::Session;
use crate::show::{address, date};
use serde_json::json;
use stopcode_base::Arch;

const NOTHING: &[Parameter] = &[];

pub(super) const VERTARGET: Command = Command {
    name: "vertarget",
    aliases: &[],
    letters: "",
    parameters: NOTHING,
    what: "the system that crashed",
    details: "",
    examples: &[("vertarget", "version, product, processors, kernel base, times")],
    run: |session, _, output| system(session, output),
};

pub(super) const VERSION: Command = Command {
    name: "version",
    aliases: &[],
    letters: "",
    parameters: NOTHING,
    what: "the system that crashed, the dump and this program",
    details: "",
    examples: &[],
    run: |session, _, output| {
        let mut data = system(session, output)?;
        let machine = session.machine();
        let dump = machine.dump();
        output.line(format!("Dump: {}, {} bytes", dump.kind_id(), dump.file_size()))?;
        output.line(concat!("stopcode ", env!("CARGO_PKG_VERSION")))?;
        if let Some(data) = data.as_object_mut() {
            data.insert("dump".to_owned(), json!({"kind": dump.kind_id(), "size": dump.file_size()}));
            data.insert("stopcode".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        }
        Ok(data)
    },
};

pub(super) const TIME: Command = Command {
    name: ".time",
    aliases: &[],
    letters: "",
    parameters: NOTHING,
    what: "when the system stopped, and how long it had run",
    details: "Times are in UTC.",
    examples: &[(".time", "")],
    run: |session, _, output| {
        let machine = session.machine();
        let system = machine.system();
        if system.crash_time.get().is_none() && system.uptime_seconds.get().is_none() {
            return Err(Stop::unknown(system.crash_time.reason().unwrap_or_default()));
        }
        times(session, output)?;
        Ok(json!({
            "crash_time": system.crash_time.get().map(|time| time.to_string()),
            "uptime_seconds": system.uptime_seconds.get(),
        }))
    },
};

fn system(session: &Session, output: &mut Output) -> Outcome {
    let machine = session.machine();
    let header = machine.dump().header();
    let system = machine.system();
    let product = system.product.as_deref().unwrap_or("Windows");
    let kernel = if header.major_version == 15 { "Free" } else { "Checked" };
    let arch = match header.arch {
        Some(Arch::X64) => "x64",
        Some(Arch::Arm64) => "ARM 64-bit (AArch64)",
        Some(Arch::X86) => "x86 compatible",
        _ => "unknown architecture",
    };
    let many = if header.number_processors == 1 { "UP" } else { "MP" };
    output.line(format!(
        "{product} Kernel Version {} {many} ({} procs) {kernel} {arch}",
        header.minor_version, header.number_processors
    ))?;
    if let Some(kind) = header.product_type {
        let kind = match kind {
            1 => "WinNt",
            2 => "LanManNt",
            3 => "Server",
            _ => "unknown",
        };
        let suite = header.suite_mask.map_or_else(String::new, |mask| format!(", suite: {mask:#x}"));
        output.line(format!("Product: {kind}{suite}"))?;
    }
    match system.os_version.known_with_source() {
        Some((version, source)) => output.line(format!("Kernel file version: {version} ({source})"))?,
        None => output.missing(system.os_version.reason().unwrap_or_default()),
    }
    let list = header.ps_loaded_module_list.unwrap_or_default();
    output.line(format!(
        "Kernel base = 0x{} PsLoadedModuleList = 0x{}",
        output.at(machine.build().kernel_base),
        output.at(list)
    ))?;
    times(session, output)?;
    Ok(json!({
        "product": system.product, "build": header.minor_version, "version": system.os_version.value(),
        "version_source": system.os_version.known_with_source().map(|(_, source)| source.as_str()),
        "processors": header.number_processors, "architecture": header.arch.map(|arch| arch.to_string()),
        "kernel_base": address(machine.build().kernel_base), "ps_loaded_module_list": address(list),
        "crash_time": system.crash_time.get().map(|time| time.to_string()),
        "uptime_seconds": system.uptime_seconds.get(),
    }))
}

fn times(session: &Session, output: &mut Output) -> Result<(), Stop> {
    let machine = session.machine();
    let system = machine.system();
    match system.crash_time.get() {
        Some(time) => output.line(format!("Debug session time: {} (UTC)", date(time, true)))?,
        None => output.line(format!(
            "Debug session time: not known: {}",
            system.crash_time.reason().unwrap_or_default()
        ))?,
    }
    match system.uptime_seconds.get() {
        Some(seconds) => {
            let thousandths = (seconds * 1000.0) as u64;
            let (whole, fraction) = (thousandths / 1000, thousandths % 1000);
            output.line(format!(
                "System Uptime: {} days {}:{:02}:{:02}.{fraction:03}",
                whole / 86_400,
                whole / 3600 % 24,
                whole / 60 % 60,
                whole % 60
            ))
        }
        None => output.line(format!(
            "System Uptime: not known: {}",
            system.uptime_seconds.reason().unwrap_or_default()
        )),
    }
}
