//! The facts of one dump: stop code, exception, system, what is missing, what is wrong with the input.

use crate::paper::{Paper, Tone, rest};
use crate::words::{Addresses, code, count, duration, time};
use stopcode_case::{DumpReport, ExceptionReport, ProblemReport, StopReport, SystemReport};

const MISSING: usize = 8;
const PROBLEMS: usize = 12;

/// Stop code, arguments and exception, as `.bugcheck` and `!analyze` print them.
pub(crate) fn stop(dump: &DumpReport, paper: &mut Paper) {
    let addresses = Addresses::of(dump);
    if let Some(stop) = &dump.stop {
        paper.heading("Stop code");
        paper.line(2, Tone::Plain, &stop_title(stop));
        if !stop.arguments.is_empty() {
            paper.line(2, Tone::Plain, "Arguments:");
        }
        for (index, argument) in stop.arguments.iter().enumerate() {
            let meaning =
                argument.meaning.as_deref().map(|meaning| format!(", {meaning}")).unwrap_or_default();
            let text = format!("{}{meaning}", addresses.argument(&argument.value));
            paper.item(2, &format!("Arg{}: ", index + 1), Tone::Plain, &text);
        }
    }
    if let Some(exception) = &dump.exception {
        paper.heading("Exception");
        paper.paragraph(2, &exception_line(exception, addresses));
    }
}

/// `SYSTEM_THREAD_EXCEPTION_NOT_HANDLED (7e), recorded as 1000007e`.
pub(crate) fn stop_title(stop: &StopReport) -> String {
    let name = stop.name.as_deref().unwrap_or("no name known");
    let base = code(&stop.base_code);
    if stop.code == stop.base_code {
        format!("{name} ({base})")
    } else {
        format!("{name} ({base}), recorded as {}", code(&stop.code))
    }
}

fn exception_line(exception: &ExceptionReport, addresses: Addresses) -> String {
    let name = exception.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
    let symbol = exception.symbol.as_deref().map(|symbol| format!(" ({symbol})")).unwrap_or_default();
    format!("{}{name} at {}{symbol}", code(&exception.code), addresses.address(&exception.address))
}

/// What ran, for how long, on what.
pub(crate) fn system(dump: &DumpReport, paper: &mut Paper) {
    let Some(system) = &dump.system else { return };
    let fields = system_fields(system);
    if fields.is_empty() {
        return;
    }
    paper.heading("System");
    for (label, text) in fields {
        paper.field(label, &text);
    }
}

fn system_fields(system: &SystemReport) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    let mut add = |label, text: Option<String>| fields.extend(text.map(|text| (label, text)));
    add("Windows", windows(system));
    add("Up for", system.uptime_seconds.map(duration));
    add("Stopped at", system.crash_time.as_deref().map(time));
    add("Machine", system.machine.clone());
    add("Firmware", system.firmware.clone());
    add("Processor", processor(system));
    add(
        "Process",
        system
            .process
            .as_ref()
            .map(|process| format!("{process} (ran at the time; not by itself a suspect)")),
    );
    add("Verifier", system.verifier_flags.as_deref().map(verifier));
    fields
}

fn windows(system: &SystemReport) -> Option<String> {
    let version = system.os_version.clone().or_else(|| system.build.map(|build| format!("build {build}")));
    let mut parts: Vec<String> =
        [system.product.clone(), version, system.architecture.clone()].into_iter().flatten().collect();
    if parts.is_empty() {
        return None;
    }
    if let Some(source) = &system.os_version_source {
        parts.push(format!("({source})"));
    }
    Some(parts.join(" "))
}

fn processor(system: &SystemReport) -> Option<String> {
    let parts = [
        system.processor_name.clone(),
        system.processors.map(|number| count(number as usize, "processor")),
        system.microcode.as_deref().map(|revision| format!("microcode {revision}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn verifier(flags: &str) -> String {
    if flags == "0x0" { "off".to_owned() } else { format!("on, flags {}", code(flags)) }
}

/// What would have helped.
pub(crate) fn missing(dump: &DumpReport, paper: &mut Paper) {
    let Some(verdict) = &dump.verdict else { return };
    if verdict.missing.is_empty() {
        return;
    }
    paper.heading("What would have helped");
    for item in verdict.missing.iter().take(MISSING) {
        paper.item(2, "? ", Tone::Plain, item);
    }
    if let Some(rest) = rest(verdict.missing.len(), MISSING) {
        paper.paragraph(2, &rest);
    }
}

/// What is wrong with the input, with what can be done.
pub(crate) fn problems(dump: &DumpReport, paper: &mut Paper) {
    if dump.problems.is_empty() {
        return;
    }
    paper.heading("The input");
    for item in dump.problems.iter().take(PROBLEMS) {
        // Where nothing was read the hints already stand above, as what to do.
        problem(item, dump.verdict.is_some(), paper);
    }
    if let Some(rest) = rest(dump.problems.len(), PROBLEMS) {
        paper.paragraph(2, &rest);
    }
}

fn problem(problem: &ProblemReport, with_hint: bool, paper: &mut Paper) {
    let tone = match problem.severity.as_str() {
        "error" => Tone::Error,
        "warning" => Tone::Warning,
        _ => Tone::Plain,
    };
    paper.item(2, &format!("{}: ", problem.severity), tone, &format!("{} ({})", problem.what, problem.place));
    if let Some(hint) = problem.hint.as_ref().filter(|_| with_hint) {
        paper.item(2, "hint: ", Tone::Hint, hint);
    }
}

/// For counting equal crashes.
pub(crate) fn bucket(dump: &DumpReport, paper: &mut Paper) {
    if let Some(verdict) = &dump.verdict {
        let bucket = &verdict.bucket;
        paper.heading("Bucket");
        paper.paragraph(2, &format!("{} (id {}, rules {})", bucket.text, bucket.id, bucket.version));
    }
}
