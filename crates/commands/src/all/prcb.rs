//! `!prcb`

use super::facts::{Record, processor};
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use serde_json::Value;

pub(super) const COMMAND: Command = Command {
    name: "!prcb",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("PROCESSOR", Kind::Expression)],
    what: "the processor control block",
    details: "",
    examples: &[("!prcb", "of the selected processor")],
    run: |session, arguments, output| {
        let state = processor(session, arguments.number("PROCESSOR"))?;
        let mut record = Record::default();
        record.set("processor", state.number);
        record.set("prcb", crate::show::address(state.prcb));
        output.line(format!("PRCB for Processor {} at {}:", state.number, output.at(state.prcb)))?;
        let irql = record.count(output, "saved_irql", &state.saved_irql);
        output.line(format!("Current IRQL -- {irql}"))?;
        let current = record.word(output, "current_thread", &state.current_thread);
        let next = record.word(output, "next_thread", &state.next_thread);
        let idle = record.word(output, "idle_thread", &state.idle_thread);
        output.line(format!("Threads--  Current {current} Next {next} Idle {idle}"))?;
        let mhz = record.count(output, "mhz", &state.mhz);
        let vendor = record.fact(output, "vendor", &state.vendor, String::clone, |name| name.as_str().into());
        output.line(format!("Processor-- {vendor} {mhz} MHz"))?;
        let dpc = &state.dpc;
        let depth = record.count(output, "dpc_depth", &dpc.depth);
        let threaded = record.count(output, "threaded_dpc_depth", &dpc.threaded_depth);
        let active = record
            .fact(output, "dpc_routine_active", &dpc.routine_active, u8::to_string, |n| Value::from(*n));
        output.line(format!("DPC--      Queued {depth} Threaded {threaded} RoutineActive {active}"))?;
        let stack = record.word(output, "dpc_stack", &dpc.stack);
        output.line(format!("           Stack {stack}"))?;
        let time = record.count(output, "dpc_time_count", &dpc.time_count);
        let limit = record.count(output, "dpc_time_limit", &dpc.time_limit);
        let watchdog = record.count(output, "dpc_watchdog_count", &dpc.watchdog_count);
        output.line(format!("           TimeCount {time} of {limit} ticks, WatchdogCount {watchdog}"))?;
        Ok(record.into_data())
    },
};
