//! Commands that evidence cites and that are not built yet: they say so.

use crate::answer::Stop;
use crate::command::{Command, Kind, Parameter};

const ANYTHING: &[Parameter] = &[Parameter::optional("ARGUMENTS", Kind::Rest)];

const fn row(name: &'static str, what: &'static str) -> Command {
    Command {
        name,
        aliases: &[],
        letters: "",
        parameters: ANYTHING,
        what,
        details: "",
        examples: &[],
        run: |_, _, _| Err(Stop::unknown("stopcode does not have this command yet")),
    }
}

pub(super) const COMMANDS: &[&Command] = &[
    &row("!blackboxbsd", "boot status data"),
    &row("!blackboxntfs", "what NTFS had in progress"),
    &row("!blackboxpnp", "what Plug and Play had in progress"),
    &row("!blackboxwinlogon", "what the logon had in progress"),
    &row("!cpuinfo", "processor model, stepping, microcode"),
    &row("!errrec", "a hardware error record"),
    &row("!ipi", "interprocessor interrupt state"),
    &row("!irql", "the IRQL before the debugger's"),
    &row("!mca", "a machine check status, decoded"),
    &row("!pcr", "the processor control region"),
    &row("!prcb", "the processor control block"),
    &row("!process", "a process"),
    &row("!pte", "the page-table entries of an address"),
    &row("!running", "the threads that ran on the processors"),
    &row("!sysinfo", "what SMBIOS tells of the machine"),
    &row("!thread", "a thread and its stack limits"),
    &row("!verifier", "Driver Verifier's state"),
    &row("!whea", "hardware error sources"),
];
