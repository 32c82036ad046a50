//! `!ipi`

use super::facts::{Record, processors};
use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use serde_json::Value;
use stopcode_knowledge::enums::ipi_frozen;

pub(super) const COMMAND: Command = Command {
    name: "!ipi",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("PROCESSOR", Kind::Expression)],
    what: "interprocessor interrupt state",
    details: "Every bug check freezes the other processors: `[Frozen]` on all but the crashing one is the healthy picture, \
              not a cause. `[Target Freeze]` marks a processor that did not answer.",
    examples: &[("!ipi", "all processors"), ("!ipi 0", "one of them")],
    run: |session, arguments, output| {
        let states = processors(session, arguments.number("PROCESSOR"))?;
        let unknown = states.iter().map(|state| state.ipi.frozen.reason());
        if let Some(Some(reason)) = unknown.reduce(Option::and) {
            return Err(Stop::unknown(reason.to_owned()));
        }
        let mut all = Vec::new();
        for state in &states {
            let mut record = Record::default();
            record.set("processor", state.number);
            let count = record.count(output, "target_count", &state.ipi.target_count);
            let barrier = record.count(output, "packet_barrier", &state.ipi.packet_barrier);
            let frozen = record.fact(
                output,
                "ipi_frozen",
                &state.ipi.frozen,
                |n| format!("{n:x}"),
                |n| Value::from(*n),
            );
            let words = state.ipi.frozen.get().map(|value| {
                let meaning = ipi_frozen(value);
                format!("{}[{}]", if meaning.active { "[FreezeActive] " } else { "" }, meaning.state)
            });
            let words = words.unwrap_or_default();
            output.line(format!("IPI State for Processor {}", state.number))?;
            output.line(format!(
                "  TargetCount {count:>5} PacketBarrier {barrier:>4} IpiFrozen {frozen:>3} {words}"
            ))?;
            record.set("state", words);
            all.push(record.into_data());
        }
        Ok(Value::Array(all))
    },
};
