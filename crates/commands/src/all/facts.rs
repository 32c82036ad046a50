//! How facts of the machine are shown: the value where it is known, a question mark and the reason where it is not.

use crate::answer::Stop;
use crate::output::Output;
use crate::session::Session;
use crate::show::{address, hex, site, word};
use serde_json::{Map, Value, json};
use stopcode_base::{Fact, FileTime, VirtAddr};
use stopcode_kernel::{ProcessorState, Stack};

use super::shared::{call_site, known, return_address};

/// What stands for a value that is not known.
pub(super) const UNKNOWN: &str = "?";

/// The data of an answer, filled fact by fact: values by name, and under `sources` where each is from.
#[derive(Default)]
pub(super) struct Record {
    values: Map<String, Value>,
    sources: Map<String, Value>,
    reasons: Map<String, Value>,
}

impl Record {
    /// A value that needs no source.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.values.insert(name.to_owned(), value.into());
    }

    /// A fact; gives what text shows.
    pub(super) fn fact<T>(
        &mut self,
        output: &mut Output,
        name: &str,
        fact: &Fact<T>,
        text: impl Fn(&T) -> String,
        data: impl Fn(&T) -> Value,
    ) -> String {
        match fact {
            Fact::Known { value, source } => {
                self.values.insert(name.to_owned(), data(value));
                self.sources.insert(name.to_owned(), source.as_str().into());
                text(value)
            }
            Fact::Missing { reason } => {
                output.missing(reason.as_ref());
                self.values.insert(name.to_owned(), Value::Null);
                self.reasons.insert(name.to_owned(), reason.as_ref().into());
                UNKNOWN.to_owned()
            }
        }
    }

    /// An address or another word as wide, as WinDbg writes it without the back quote.
    pub(super) fn word(&mut self, output: &mut Output, name: &str, fact: &Fact<VirtAddr>) -> String {
        let arch = output.arch();
        self.fact(output, name, fact, |at| word(arch, at.0), |at| address(*at))
    }

    /// A count.
    pub(super) fn count<T: Copy + Into<u64>>(
        &mut self,
        output: &mut Output,
        name: &str,
        fact: &Fact<T>,
    ) -> String {
        self.fact(output, name, fact, |n| (*n).into().to_string(), |n| Value::from((*n).into()))
    }

    /// A time.
    pub(super) fn time(&mut self, output: &mut Output, name: &str, fact: &Fact<FileTime>) -> String {
        self.fact(output, name, fact, FileTime::to_string, |time| time.to_string().into())
    }

    /// All of it.
    pub(super) fn into_data(mut self) -> Value {
        if !self.sources.is_empty() {
            self.values.insert("sources".to_owned(), Value::Object(self.sources));
        }
        if !self.reasons.is_empty() {
            self.values.insert("missing".to_owned(), Value::Object(self.reasons));
        }
        Value::Object(self.values)
    }
}

/// The value of a fact, or the reason as the command's answer.
pub(super) fn needed<T>(fact: Fact<T>) -> Result<T, Stop> {
    match fact {
        Fact::Known { value, .. } => Ok(value),
        Fact::Missing { reason } => Err(Stop::unknown(reason)),
    }
}

/// The processors to show: the one that is asked for, else all.
pub(super) fn processors(session: &Session, number: Option<u64>) -> Result<Vec<ProcessorState>, Stop> {
    let machine = session.machine();
    let mut states = machine.processor_states();
    if states.is_empty() {
        return Err(Stop::unknown("no processor's control block (KPRCB) is in this dump"));
    }
    if let Some(number) = number {
        states.retain(|state| u64::from(state.number) == number);
        if states.is_empty() {
            session.processor(&machine, u32::try_from(number).unwrap_or(u32::MAX))?;
            return Err(Stop::unknown(format!("the KPRCB of processor {number} is not in this dump")));
        }
    }
    Ok(states)
}

/// The processor that is asked for, else the selected one.
pub(super) fn processor(session: &Session, number: Option<u64>) -> Result<ProcessorState, Stop> {
    let number = number.unwrap_or_else(|| session.processor_number().into());
    let found = processors(session, Some(number))?.into_iter().next();
    found.ok_or_else(|| Stop::unknown(format!("the KPRCB of processor {number} is not in this dump")))
}

/// A stack as `k` shows it, each line after `indent`.
pub(super) fn stack_lines(output: &mut Output, indent: &str, stack: &Stack) -> Result<Value, Stop> {
    output.line(format!("{indent}{} {} Call Site", output.column("Child-SP"), output.column("RetAddr")))?;
    let mut frames = Vec::new();
    for (number, frame) in stack.frames.iter().enumerate() {
        if frame.gap_before {
            output.line(format!("{indent}~~~~~ frames may be missing here ~~~~~"))?;
        }
        let site = call_site(output, frame);
        let line = format!(
            "{indent}{} {} {site}",
            output.at(frame.stack_pointer),
            known(output, return_address(stack, number))
        );
        output.line(line)?;
        frames.push(json!({"stack_pointer": address(frame.stack_pointer), "call_site": site}));
    }
    Ok(Value::Array(frames))
}

/// `nt!KiPageFault (fffff804`7bc25870)`, or the bare address.
pub(super) fn named(session: &Session, at: VirtAddr) -> String {
    match site(&session.machine().place(at)) {
        Some(name) => format!("{name} ({})", session.machine().arch().windbg(at)),
        None => session.machine().arch().windbg(at),
    }
}

/// A number of the processor's registers as data.
pub(super) fn registers(named: &[(&str, u64)]) -> Value {
    Value::Object(named.iter().map(|(name, value)| ((*name).to_owned(), hex(*value))).collect())
}
