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
    &row("!analyze", "the debugger's own analysis"),
    &row("!blackboxbsd", "boot status data"),
    &row("!blackboxntfs", "what NTFS had in progress"),
    &row("!blackboxpnp", "what Plug and Play had in progress"),
    &row("!blackboxwinlogon", "what the logon had in progress"),
    &row("!chkimg", "code bytes that differ from the image"),
    &row("!cpuinfo", "processor model, stepping, microcode"),
    &row("!errrec", "a hardware error record"),
    &row("!ipi", "interprocessor interrupt state"),
    &row("!irp", "an I/O request packet"),
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
    &row(".cxr", "selects a context record"),
    &row(".ecxr", "selects the exception's context"),
    &row(".enumtag", "secondary data"),
    &row(".exr", "an exception record"),
    &row(".thread", "selects a thread"),
    &row(".time", "time of the crash, uptime"),
    &row(".trap", "selects a trap frame"),
    &row("dps", "memory as pointers with names"),
    &row("dq", "memory as 64-bit words"),
    &row("ln", "the nearest names"),
    &row("u", "disassembly"),
    &row("ub", "disassembly before an address"),
    &row("vertarget", "the system"),
];
