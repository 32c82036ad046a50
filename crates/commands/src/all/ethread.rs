//! `!thread`

use super::facts::{Record, named, needed, stack_lines};
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::{Value, json};
use stopcode_base::{Fact, VirtAddr};
use stopcode_kernel::{KernelThread, Machine};
use stopcode_knowledge::enums::{dispatcher_object, thread_state, wait_reason};

/// `KTHREAD.State` of a thread that runs, and of one that waits.
const RUNNING: u8 = 2;
const WAITING: u8 = 5;

pub(super) const COMMAND: Command = Command {
    name: "!thread",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::optional("ADDRESS", Kind::Expression),
        Parameter::optional("FLAGS", Kind::Expression),
    ],
    what: "a thread: its state, what it waits for, its stack's limits, its stack",
    details: "Without ADDRESS, or with -1, the selected thread. Bits of FLAGS: 2 what it waits for, 4 its stack; 6 by \
              default.",
    examples: &[("!thread", "the thread that crashed"), ("!thread @$thread 0", "in few lines")],
    run: |session, arguments, output| {
        let at = match arguments.number("ADDRESS") {
            None | Some(0 | u64::MAX) => session.thread().map_err(Stop::Unknown)?,
            Some(at) => VirtAddr(at),
        };
        let flags = arguments.number("FLAGS").unwrap_or(6);
        show(session, at, flags, "", output)
    },
};

/// Shows the thread at `at`, each line after `indent`.
pub(super) fn show(
    session: &Session,
    at: VirtAddr,
    flags: u64,
    indent: &str,
    output: &mut Output,
) -> Outcome {
    let machine = session.machine();
    let thread = needed(machine.thread_at(at))?;
    let mut record = Record::default();
    record.set("address", address(at));
    let short = |fact: &Fact<u64>| fact.get().map_or_else(|| "????".to_owned(), |id| format!("{id:04x}"));
    let cid = format!("{}.{}", short(&thread.process_id), short(&thread.thread_id));
    record.fact(output, "process_id", &thread.process_id, u64::to_string, |id| Value::from(*id));
    record.fact(output, "thread_id", &thread.thread_id, u64::to_string, |id| Value::from(*id));
    let teb = record.word(output, "teb", &thread.teb);
    let runs_on = processor_of(&machine, at);
    record.set("processor", runs_on.map_or(Value::Null, Value::from));
    let state = state_words(&mut record, &thread, runs_on, output);
    output.line(format!("{indent}THREAD {}  Cid {cid}  Teb: {teb} {state}", output.word(at.0)))?;
    if flags & 2 != 0 {
        waits(&thread, indent, &mut record, output)?;
    }
    if flags != 0 {
        details(session, &thread, indent, &mut record, output)?;
    }
    if flags & 4 != 0 {
        stack(&machine, &thread, indent, &mut record, output)?;
    }
    Ok(record.into_data())
}

/// The processor that ran the thread.
fn processor_of(machine: &Machine, thread: VirtAddr) -> Option<u32> {
    machine
        .processors()
        .iter()
        .find(|processor| processor.thread == Some(thread))
        .map(|processor| processor.number)
}

/// `RUNNING on processor 4`, `WAIT: (Executive) KernelMode`.
fn state_words(
    record: &mut Record,
    thread: &KernelThread,
    runs_on: Option<u32>,
    output: &mut Output,
) -> String {
    let words = |state: &u8| thread_state(*state).unwrap_or("unknown state").to_owned();
    let state = record.fact(output, "state", &thread.state, words, |state| words(state).into());
    let reason = |reason: &u8| wait_reason(*reason).unwrap_or("unknown").to_owned();
    match thread.state.get() {
        Some(RUNNING) => match runs_on {
            Some(number) => format!("RUNNING on processor {number}"),
            None => "RUNNING".to_owned(),
        },
        Some(WAITING) => {
            let why = record.fact(output, "wait_reason", &thread.wait_reason, reason, |it| reason(it).into());
            let mode = |mode: &u8| if *mode == 0 { "KernelMode" } else { "UserMode" };
            let mode = record.fact(
                output,
                "wait_mode",
                &thread.wait_mode,
                |it| mode(it).to_owned(),
                |it| mode(it).into(),
            );
            format!("WAIT: ({why}) {mode}")
        }
        _ => state.to_uppercase(),
    }
}

fn waits(thread: &KernelThread, indent: &str, record: &mut Record, output: &mut Output) -> Result<(), Stop> {
    let Some(objects) = thread.wait_objects.value() else { return Ok(()) };
    let kind = |kind: Option<u8>| kind.and_then(dispatcher_object).unwrap_or("not in this dump");
    let mut all = Vec::new();
    for object in objects {
        output.line(format!("{indent}    {}  {}", output.word(object.address.0), kind(object.kind)))?;
        all.push(
            json!({"address": address(object.address), "kind": object.kind.and_then(dispatcher_object)}),
        );
    }
    record.set("waits_for", all);
    Ok(())
}

fn details(
    session: &Session,
    thread: &KernelThread,
    indent: &str,
    record: &mut Record,
    output: &mut Output,
) -> Result<(), Stop> {
    let machine = session.machine();
    irps(thread, indent, record, output)?;
    let owner = record.word(output, "process", &thread.process);
    let image = |process: &Fact<VirtAddr>| {
        let found = machine.process_at(process.get()?);
        found.value()?.image.value().cloned()
    };
    let name = image(&thread.process).unwrap_or_default();
    output.line(format!("{indent}Owning Process            {owner}       Image:         {name}"))?;
    let attached = record.word(output, "attached_process", &thread.attached_process);
    if thread.attached_process.get() != thread.process.get() {
        let name = image(&thread.attached_process).unwrap_or_default();
        output.line(format!("{indent}Attached Process          {attached}       Image:         {name}"))?;
    }
    let start = record.count(output, "wait_start_tick", &thread.wait_time);
    output.line(format!("{indent}Wait Start TickCount      {start}"))?;
    let switches = record.count(output, "context_switches", &thread.context_switches);
    output.line(format!("{indent}Context Switch Count      {switches}"))?;
    let tick = tick(&machine);
    for (label, key, fact) in
        [("UserTime", "user_ticks", &thread.user_ticks), ("KernelTime", "kernel_ticks", &thread.kernel_ticks)]
    {
        let ticks = record.count(output, key, fact);
        let time = fact.get().zip(tick).map(|(ticks, tick)| duration(u64::from(ticks).saturating_mul(tick)));
        let shown = time.unwrap_or_else(|| format!("{ticks} ticks"));
        output.line(format!("{indent}{label:<25} {shown}"))?;
    }
    let address_name = |at: &VirtAddr| named(session, *at);
    for (label, key, fact) in [
        ("Win32 Start Address", "win32_start_address", &thread.win32_start_address),
        ("Start Address", "start_address", &thread.start_address),
    ] {
        let shown = record.fact(output, key, fact, address_name, |at| address(*at));
        output.line(format!("{indent}{label} {shown}"))?;
    }
    let initial = record.word(output, "initial_stack", &thread.initial_stack);
    let current = record.word(output, "kernel_stack", &thread.kernel_stack);
    let base = record.word(output, "stack_base", &thread.stack_base);
    let limit = record.word(output, "stack_limit", &thread.stack_limit);
    output.line(format!("{indent}Stack Init {initial} Current {current}"))?;
    output.line(format!("{indent}Base {base} Limit {limit}"))?;
    let signed = |n: &i8| n.to_string();
    let priority = record.fact(output, "priority", &thread.priority, signed, |n| Value::from(*n));
    let base_priority =
        record.fact(output, "base_priority", &thread.base_priority, signed, |n| Value::from(*n));
    output.line(format!("{indent}Priority {priority} BasePriority {base_priority}"))?;
    let trap = record.word(output, "trap_frame", &thread.trap_frame);
    if thread.trap_frame.get().is_some_and(|at| machine.arch().is_kernel(at)) {
        output.line(format!("{indent}TrapFrame {trap}"))?;
    }
    Ok(())
}

fn irps(thread: &KernelThread, indent: &str, record: &mut Record, output: &mut Output) -> Result<(), Stop> {
    match &thread.irps {
        Fact::Known { value, .. } => {
            if !value.entries.is_empty() {
                output.line(format!("{indent}IRP List:"))?;
            }
            for irp in &value.entries {
                output.line(format!("{indent}    {}", output.word(irp.0)))?;
            }
            if let Some(why) = &value.broken {
                output.missing(format!("the list of IRPs breaks off: {why}"));
            }
            record.set("irps", value.entries.iter().map(|irp| address(*irp)).collect::<Vec<_>>());
        }
        Fact::Missing { .. } => record.set("irps", Value::Null),
    }
    Ok(())
}

/// 100 ns in a tick: `KeTimeIncrement`, where the dump holds it.
fn tick(machine: &Machine) -> Option<u64> {
    let at = machine.dump().kdbg()?.get("KeTimeIncrement").filter(|at| *at != 0)?;
    let tick = machine.memory().read_u32(VirtAddr(at)).ok()?;
    // Windows' clocks tick between 0.5 ms and 15.6 ms.
    (5_000..=160_000).contains(&tick).then_some(tick.into())
}

/// `00:00:00.656`
fn duration(units: u64) -> String {
    let (seconds, thousandths) = (units / 10_000_000, units / 10_000 % 1000);
    format!("{:02}:{:02}:{:02}.{thousandths:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn stack(
    machine: &Machine,
    thread: &KernelThread,
    indent: &str,
    record: &mut Record,
    output: &mut Output,
) -> Result<(), Stop> {
    match machine.stack_of(thread.address) {
        Fact::Known { value, .. } => record.set("stack", stack_lines(output, indent, &value)?),
        Fact::Missing { reason } => {
            output.missing(reason);
            record.set("stack", Value::Null);
        }
    }
    Ok(())
}
