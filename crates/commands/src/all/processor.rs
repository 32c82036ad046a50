//! `~`

use super::shared::known;
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::{address, site};
use serde_json::{Value, json};
use stopcode_base::VirtAddr;

pub(super) const COMMAND: Command = Command {
    name: "~",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("Ns", Kind::Word)],
    what: "the processors, or the selection of one",
    details: "`~Nk` and the like run one command on processor N, `~*k` on each.",
    examples: &[("~", "a line a processor"), ("~3s", "processor 3 from now on")],
    run: |session, arguments, output| match arguments.text("Ns") {
        None => list(session, output),
        Some(word) => {
            let number = word.strip_suffix('s').and_then(|digits| digits.parse().ok());
            let number =
                number.ok_or_else(|| Stop::failed("`~Ns` selects processor N, `~Nk` shows its stack"))?;
            session.select_processor(number)?;
            Ok(json!({"processor": number}))
        }
    },
};

fn list(session: &Session, output: &mut Output) -> Outcome {
    let machine = session.machine();
    if machine.processors().is_empty() {
        return Err(Stop::unknown("no processor's control block (KPRCB) is in this dump"));
    }
    let mut all = Vec::new();
    for processor in machine.processors() {
        let mark = if processor.number == session.processor_number() { "." } else { " " };
        let at = processor.registers.map(|registers| registers.instruction());
        let name = at.and_then(|at| site(&machine.place(at))).unwrap_or_default();
        output.line(format!(
            "{mark}{:>3}  Thread {}  {} {name}",
            processor.number,
            known(output, processor.thread),
            known(output, at)
        ))?;
        let shown = |at: Option<VirtAddr>| at.map_or(Value::Null, address);
        all.push(json!({
            "number": processor.number, "prcb": shown(processor.prcb), "thread": shown(processor.thread),
            "instruction": shown(at), "crashed": processor.crashed,
        }));
    }
    Ok(Value::Array(all))
}
