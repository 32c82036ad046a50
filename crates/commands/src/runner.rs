//! Runs lines: the one place that knows both the commands and the session they work on.

use crate::answer::{Answer, Outcome, Status, Stop};
use crate::line::{Invocation, UnknownCommand, Which, parse_part, parts};
use crate::output::Output;
use crate::session::Session;
use serde_json::{Value, json};
use stopcode_base::visible;

/// Longer lines are not read.
const LONGEST_LINE: usize = 0x1_0000;

/// Runs a line; one answer a command.
pub fn run(session: &mut Session, line: &str) -> Vec<Answer> {
    if line.len() > LONGEST_LINE {
        let reason = format!("a line has at most {LONGEST_LINE} bytes, this one has {}", line.len());
        return vec![ended(String::new(), String::new(), None, Err(Stop::Failed(reason)))];
    }
    let mut answers = Vec::new();
    for part in parts(line) {
        if session.is_over() {
            break;
        }
        answers.push(run_one(session, part));
    }
    answers
}

/// Runs one command.
pub fn run_one(session: &mut Session, text: &str) -> Answer {
    let text = text.trim();
    let mut output = Output::new(session.machine().arch(), session.cancel_flag());
    let outcome = outcome(session, text, &mut output);
    let (shown, note) = output.into_parts();
    ended(visible(text), shown, note, outcome)
}

fn outcome(session: &mut Session, text: &str, output: &mut Output) -> Outcome {
    let invocation = parse_part(text).map_err(|UnknownCommand(name)| {
        Stop::Failed(format!("Couldn't resolve error at '{name}': no such command; .help lists them"))
    })?;
    let selection = session.selection();
    let outcome = match invocation.processor {
        None => return invoke(session, &invocation, output),
        Some(Which::One(number)) => on(session, number, &invocation, output),
        Some(Which::All) => on_all(session, &invocation, output),
    };
    session.select_again(selection);
    outcome
}

fn on(session: &mut Session, number: u32, invocation: &Invocation<'_>, output: &mut Output) -> Outcome {
    session.select_processor(number)?;
    invoke(session, invocation, output)
}

/// Runs a command on each processor; what one does not hold is said in its place.
fn on_all(session: &mut Session, invocation: &Invocation<'_>, output: &mut Output) -> Outcome {
    let numbers: Vec<u32> = session.machine().processors().iter().map(|processor| processor.number).collect();
    if numbers.is_empty() {
        return Err(Stop::unknown("no processor's control block (KPRCB) is in this dump"));
    }
    let mut all = Vec::new();
    for number in numbers {
        output.line(format!("Processor {number}:"))?;
        match on(session, number, invocation, output) {
            Ok(data) => all.push(json!({"processor": number, "data": data})),
            Err(Stop::Unknown(why)) => {
                output.line(&why)?;
                all.push(json!({"processor": number, "data": null, "reason": why}));
            }
            Err(stop) => return Err(stop),
        }
        output.line("")?;
    }
    Ok(Value::Array(all))
}

fn invoke(session: &mut Session, invocation: &Invocation<'_>, output: &mut Output) -> Outcome {
    let command = invocation.command;
    let arguments = command.arguments(invocation.letters, invocation.arguments, session)?;
    (command.run)(session, &arguments, output)
}

fn ended(command: String, text: String, note: Option<String>, outcome: Result<Value, Stop>) -> Answer {
    let (status, reason, data) = match outcome {
        Ok(data) => (Status::Answer, note, data),
        Err(Stop::Unknown(why)) => (Status::Unknown, Some(visible(&why)), Value::Null),
        Err(Stop::Failed(why)) => (Status::Failed, Some(visible(&why)), Value::Null),
        Err(Stop::Interrupted) => (Status::Failed, Some("interrupted".to_owned()), Value::Null),
        Err(Stop::TooLong) => {
            (Status::Answer, Some("the output is cut: ask for less".to_owned()), Value::Null)
        }
    };
    Answer { command, status, reason, text, data }
}
