//! `.process`: selecting a process.

use crate::answer::Stop;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::json;
use stopcode_base::{Fact, VirtAddr};

pub(super) const COMMAND: Command = Command {
    name: ".process",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::switch("/p"),
        Parameter::switch("/r"),
        Parameter::switch("/P"),
        Parameter::switch("/i"),
        Parameter::optional("EPROCESS", Kind::Expression),
    ],
    what: "selects a process, or shows which one is",
    details: "`@$proc` is then this one. With `/p` addresses of user mode are read as this process sees them, in dumps that \
              hold its page tables. Without an address, or with 0, it goes back to the process of the crash. The other \
              switches are of no effect.",
    examples: &[
        (".process", "the process that is selected"),
        (".process /p @$proc; db @$peb L10", "user memory of a process"),
    ],
    run: |session, arguments, output| {
        match arguments.address("EPROCESS") {
            None => {}
            Some(at) if at.0 == 0 => session.select_home(),
            Some(at) => session.select_process(at),
        }
        let process = session.process().map_err(Stop::Unknown)?;
        output.line(format!("Implicit process is now {}", output.at(process)))?;
        let translated = arguments.switch("/p") && translate(session, process, output);
        Ok(json!({"process": address(process), "user_memory": translated}))
    },
};

/// Reads user memory as `process` sees it from now on; says why where that cannot be.
pub(super) fn translate(session: &mut Session, process: VirtAddr, output: &mut Output) -> bool {
    let machine = session.machine();
    if machine.dump().physical().is_none() {
        output.missing("a small dump holds no page tables: user memory stays that of the crash");
        return false;
    }
    let base = match machine.process_at(process) {
        Fact::Known { value, .. } => value.directory_table_base,
        Fact::Missing { reason } => Fact::missing(reason),
    };
    if let Some(reason) = base.reason() {
        output.missing(format!("user memory stays as it was: {reason}"));
    }
    base.get().is_some_and(|base| {
        session.select_user_space(Some(base));
        true
    })
}
