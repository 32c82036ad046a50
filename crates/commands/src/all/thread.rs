//! `.thread`: selecting a thread.

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::scope::Scope;
use crate::show::address;
use serde_json::json;
use stopcode_base::Fact;

pub(super) const COMMAND: Command = Command {
    name: ".thread",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::switch("/p"),
        Parameter::switch("/r"),
        Parameter::switch("/P"),
        Parameter::optional("ETHREAD", Kind::Expression),
    ],
    what: "selects a thread, or shows which one is",
    details: "Its registers are those of the processor it ran on; of a thread that waits, where it goes on. Without an address, or with 0, it goes back to the thread of \
              the crash. With `/p` user memory is read as the thread's process sees it; the other switches are of no effect.",
    examples: &[(".thread", "the thread that is selected")],
    run: |session, arguments, output| {
        let machine = session.machine();
        match arguments.address("ETHREAD") {
            None => {}
            Some(at) if at.0 == 0 => session.select_home(),
            Some(at) => {
                let ran = machine.processors().iter().find(|processor| processor.thread == Some(at));
                match ran {
                    Some(processor) => session.select_processor(processor.number)?,
                    None => match machine.stack_of(at) {
                        Fact::Known { value, .. } => {
                            if let Some(scope) = Scope::waiting(&machine, value) {
                                session.select(scope);
                            }
                        }
                        Fact::Missing { reason } => {
                            output.missing(format!("{reason}; the registers stay as they were"));
                        }
                    },
                }
                session.select_thread(at);
            }
        }
        if arguments.switch("/p") {
            let process = session.process().map_err(Stop::Unknown)?;
            super::process::translate(session, process, output);
        }
        let thread = session.thread().map_err(Stop::Unknown)?;
        output.line(format!("Implicit thread is now {}", output.at(thread)))?;
        Ok(json!({"thread": address(thread)}))
    },
};
