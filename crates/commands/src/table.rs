//! One row a command.

/// A command of the kd language.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// WinDbg's spelling.
    pub name: &'static str,
    /// Its arguments, as help shows them.
    pub arguments: &'static str,
    /// What it shows.
    pub what: &'static str,
}

const fn row(name: &'static str, arguments: &'static str, what: &'static str) -> Command {
    Command { name, arguments, what }
}

/// Every command that evidence may cite, sorted by name.
pub const COMMANDS: &[Command] = &[
    row("!analyze", "[-v]", "the debugger's own analysis"),
    row("!blackboxbsd", "", "boot status data"),
    row("!blackboxntfs", "", "what NTFS had in progress"),
    row("!blackboxpnp", "", "what Plug and Play had in progress"),
    row("!blackboxwinlogon", "", "what the logon had in progress"),
    row("!chkimg", "MODULE", "code bytes that differ from the image"),
    row("!cpuinfo", "", "processor model, stepping, microcode"),
    row("!errrec", "ADDRESS", "a hardware error record"),
    row("!ipi", "[PROCESSOR]", "interprocessor interrupt state"),
    row("!irp", "ADDRESS", "an I/O request packet"),
    row("!irql", "[PROCESSOR]", "the IRQL before the debugger's"),
    row("!mca", "STATUS", "a machine check status, decoded"),
    row("!pcr", "[PROCESSOR]", "the processor control region"),
    row("!prcb", "[PROCESSOR]", "the processor control block"),
    row("!process", "[ADDRESS [FLAGS]]", "a process"),
    row("!pte", "ADDRESS", "the page-table entries of an address"),
    row("!running", "[-it]", "the threads that ran on the processors"),
    row("!sysinfo", "machineid | cpuinfo | cpumicrocode", "what SMBIOS tells of the machine"),
    row("!thread", "[ADDRESS]", "a thread and its stack limits"),
    row("!verifier", "[FLAGS]", "Driver Verifier's state"),
    row("!whea", "", "hardware error sources"),
    row(".bugcheck", "", "the stop code and its arguments"),
    row(".cxr", "[ADDRESS]", "selects a context record"),
    row(".ecxr", "", "selects the exception's context"),
    row(".enumtag", "", "secondary data"),
    row(".exr", "ADDRESS | -1", "an exception record"),
    row(".thread", "[ADDRESS]", "selects a thread"),
    row(".time", "", "time of the crash, uptime"),
    row(".trap", "[ADDRESS]", "selects a trap frame"),
    row("dps", "RANGE", "memory as pointers with names"),
    row("dq", "RANGE", "memory as 64-bit words"),
    row("k", "", "the stack"),
    row("kb", "", "the stack with arguments"),
    row("kf", "", "the stack with bytes per frame"),
    row("kv", "", "the stack with trap frames"),
    row("lm", "[u] [t] [m PATTERN]", "modules"),
    row("lmvm", "MODULE", "one module in full"),
    row("ln", "ADDRESS", "the nearest names"),
    row("r", "[REGISTER]", "registers"),
    row("u", "RANGE", "disassembly"),
    row("ub", "ADDRESS", "disassembly before an address"),
    row("vertarget", "", "the system"),
];

/// The command of this name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.binary_search_by(|command| command.name.cmp(name)).ok().and_then(|index| COMMANDS.get(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_found() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(COMMANDS.iter().all(|command| find(command.name) == Some(command)));
        assert_eq!(find("!nothing"), None);
    }
}
