//! `!process`

use super::ethread;
use super::facts::{Record, needed};
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::Value;
use stopcode_base::{Fact, VirtAddr};
use stopcode_kernel::KernelProcess;

pub(super) const COMMAND: Command = Command {
    name: "!process",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::optional("ADDRESS", Kind::Expression),
        Parameter::optional("FLAGS", Kind::Expression),
        Parameter::optional("IMAGE", Kind::Word),
    ],
    what: "a process, or all of them",
    details: "Without ADDRESS, or with -1, the selected process; 0 stands for all, IMAGE for those whose name begins so. Bits of \
              FLAGS: 1 times, 2 threads with what they wait for, 4 their stacks. A small dump holds a few links of the list of \
              processes: what it leads to is shown, and that it breaks off.",
    examples: &[
        ("!process", "the process of the crash"),
        ("!process 0 0", "all processes"),
        ("!process 0 7 svchost.exe", "some of them in full"),
    ],
    run: |session, arguments, output| {
        let flags = arguments.number("FLAGS");
        match arguments.number("ADDRESS") {
            None | Some(u64::MAX) => {
                let at = session.process().map_err(Stop::Unknown)?;
                show(session, at, flags.unwrap_or(3), output)
            }
            Some(0) => all(session, flags.unwrap_or(3), arguments.text("IMAGE"), output),
            Some(at) => show(session, VirtAddr(at), flags.unwrap_or(3), output),
        }
    },
};

fn all(session: &Session, flags: u64, image: Option<&str>, output: &mut Output) -> Outcome {
    let machine = session.machine();
    let list = needed(machine.process_list())?;
    output.line("**** NT ACTIVE PROCESS DUMP ****")?;
    let mut processes = Vec::new();
    for at in &list.entries {
        output.go_on()?;
        let process = match machine.process_at(*at) {
            Fact::Known { value, .. } => value,
            gone @ Fact::Missing { .. } => {
                if image.is_none() {
                    let reason = gone.reason().unwrap_or_default();
                    output.line(format!("PROCESS {}", output.word(at.0)))?;
                    output.line(format!("    unknown: {reason}"))?;
                    output.line("")?;
                }
                continue;
            }
        };
        let wanted = |name: &str| {
            let own = process.image.value().map(|own| own.to_ascii_lowercase());
            own.is_some_and(|own| own.starts_with(&name.to_ascii_lowercase()))
        };
        if image.is_none_or(wanted) {
            processes.push(one(session, &process, flags, output)?);
            output.line("")?;
        }
    }
    let count = list.entries.len();
    let plural = if count == 1 { "" } else { "es" };
    let whole = if list.broken.is_some() { "; the list breaks off" } else { "" };
    output.line(format!("{count} process{plural}{whole}"))?;
    if let Some(why) = &list.broken {
        output.missing(format!("the list of processes breaks off: {why}"));
    }
    Ok(Value::Array(processes))
}

fn show(session: &Session, at: VirtAddr, flags: u64, output: &mut Output) -> Outcome {
    let process = needed(session.machine().process_at(at))?;
    one(session, &process, flags, output)
}

fn one(session: &Session, process: &KernelProcess, flags: u64, output: &mut Output) -> Outcome {
    let mut record = Record::default();
    record.set("address", address(process.address));
    output.line(format!("PROCESS {}", output.word(process.address.0)))?;
    let short = |id: &u64| format!("{id:04x}");
    let id = record.fact(output, "id", &process.id, short, |id| Value::from(*id));
    let parent = record.fact(output, "parent_id", &process.parent_id, short, |id| Value::from(*id));
    let peb = record.word(output, "peb", &process.peb);
    output.line(format!("    Cid: {id}    Peb: {peb}  ParentCid: {parent}"))?;
    let base = record.fact(
        output,
        "directory_table_base",
        &process.directory_table_base,
        |at| format!("{:08x}", at.0),
        |at| crate::show::hex(at.0),
    );
    let handles = record.word(output, "object_table", &process.object_table);
    output.line(format!("    DirBase: {base}  ObjectTable: {handles}"))?;
    let image = record.fact(output, "image", &process.image, String::clone, |name| name.as_str().into());
    output.line(format!("    Image: {image}"))?;
    if flags & 1 != 0 {
        let threads = record.count(output, "active_threads", &process.active_threads);
        output.line(format!("    Threads: {threads}"))?;
        let created = record.time(output, "create_time", &process.create_time);
        output.line(format!("    Created: {created}"))?;
        if process.exit_time.get().is_some_and(|time| time.0 != 0) {
            let ended = record.time(output, "exit_time", &process.exit_time);
            output.line(format!("    Ended: {ended}"))?;
        }
        let kernel = record.count(output, "kernel_ticks", &process.kernel_ticks);
        let user = record.count(output, "user_ticks", &process.user_ticks);
        output.line(format!("    Time of ended threads: kernel {kernel} ticks, user {user} ticks"))?;
    }
    if flags & 6 != 0 {
        record.set("threads", threads(session, process, flags, output)?);
    }
    Ok(record.into_data())
}

fn threads(session: &Session, process: &KernelProcess, flags: u64, output: &mut Output) -> Outcome {
    let list = match session.machine().threads_of(process.address) {
        Fact::Known { value, .. } => value,
        Fact::Missing { reason } => {
            output.missing(reason);
            return Ok(Value::Null);
        }
    };
    let mut shown = Vec::new();
    for at in &list.entries {
        output.go_on()?;
        output.line("")?;
        // Bit 1 alone is a line with what the thread waits for; the flags of 7 are the thread in full.
        let of_thread = if flags & 4 != 0 { 6 } else { 0 };
        match ethread::show(session, *at, of_thread, "        ", output) {
            Ok(data) => shown.push(data),
            Err(Stop::Unknown(why)) => output.line(format!("        THREAD {}  {why}", output.word(at.0)))?,
            Err(stop) => return Err(stop),
        }
    }
    if let Some(why) = &list.broken {
        output.missing(format!("the list of threads breaks off: {why}"));
    }
    Ok(Value::Array(shown))
}
