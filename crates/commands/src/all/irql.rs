//! `!irql`

use super::facts::{Record, processor};
use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use serde_json::Value;
use stopcode_knowledge::enums::irql;

pub(super) const COMMAND: Command = Command {
    name: "!irql",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("PROCESSOR", Kind::Expression)],
    what: "the IRQL before the bug check's",
    details: "`KPRCB.DebuggerSavedIRQL`, which the crashing processor writes when KeBugCheckEx is called. Where this kernel's \
              place for it is not known, its saved CR8 tells the same; a frozen processor's CR8 is that of the freeze \
              and tells nothing.",
    examples: &[("!irql", "of the selected processor"), ("!irql 0", "of processor 0")],
    run: |session, arguments, output| {
        let state = processor(session, arguments.number("PROCESSOR"))?;
        let machine = session.machine();
        let crashed = machine.processors().iter().any(|it| it.crashed && it.number == state.number);
        let level = &state.saved_irql;
        if let Some(reason) = level.reason() {
            return Err(Stop::unknown(reason.to_owned()));
        }
        let mut record = Record::default();
        record.set("processor", state.number);
        let arch = machine.arch().to_string();
        let name = level.get().and_then(|level| irql(level, &arch)).unwrap_or("no level");
        let shown = record.fact(output, "irql", level, u8::to_string, |n| Value::from(*n));
        record.set("name", name);
        output.line(format!("Debugger saved IRQL for processor {:#x} -- {shown} ({name})", state.number))?;
        if !crashed {
            output.missing(
                "only the crashing processor notes its IRQL at a bug check: of another this may be old",
            );
        }
        Ok(record.into_data())
    },
};
