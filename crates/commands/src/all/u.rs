//! `u`: disassembly.

use super::code::{decode, described, heading, line, tell_origin};
use super::memory::missing;
use crate::answer::{Outcome, Stop};
use crate::arguments::Range;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::{Value, json};
use stopcode_base::{Memory, VirtAddr};

/// Instructions by default.
const COUNT: u64 = 8;

pub(super) const COMMAND: Command = Command {
    name: "u",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("RANGE", Kind::Range { unit: 1, count: COUNT })],
    what: "disassembly from an address on",
    details: "`L` counts instructions. Without a range it begins at the instruction pointer, or goes on where the last one \
              ended. A small dump holds little code beside that of the crash.",
    examples: &[
        ("u .", "the instruction pointer"),
        ("u nt!KeBugCheckEx L3", "three instructions"),
        ("u L3", "three more"),
    ],
    run: |session, arguments, output| {
        let range = arguments.range("RANGE");
        let start = range.and_then(|range| range.start).or_else(|| session.next_code());
        let start = start.ok_or_else(|| Stop::failed("an address is missing"))?;
        match range.filter(|range| range.given) {
            Some(Range { count: None, bytes, .. }) => {
                show(session, start, u64::MAX, Some(start.plus(bytes)), output)
            }
            given => show(session, start, given.and_then(|range| range.count).unwrap_or(COUNT), None, output),
        }
    },
};

/// Shows `count` instructions from `start` on, and none at `end` or behind.
pub(super) fn show(
    session: &mut Session,
    start: VirtAddr,
    count: u64,
    end: Option<VirtAddr>,
    output: &mut Output,
) -> Outcome {
    let machine = session.machine();
    let (mut at, mut instructions) = (start, Vec::new());
    for number in 0..count {
        if end.is_some_and(|end| at >= end) {
            break;
        }
        let memory = session.memory(&machine);
        let Some((instruction, bytes)) = decode(session, &machine, at) else {
            if number == 0 && memory.read_u8(at).is_err() {
                return Err(missing(output.arch(), &memory, at));
            }
            let (byte, step) = match memory.read_u8(at) {
                Ok(byte) if memory.read_u8(at.plus(super::code::LONGEST as u64)).is_ok() => {
                    (format!("{byte:02x}"), 1)
                }
                // The rest of it is not there.
                Ok(_) | Err(_) => ("??".to_owned(), 0),
            };
            output.line(format!("{} {byte:<15} ???", output.at(at)))?;
            if step == 0 {
                output.missing(format!("the code at {} is not whole in this dump", output.at(at)));
                break;
            }
            at = at.plus(step);
            continue;
        };
        if let Some(heading) = heading(session, &machine, at, number == 0) {
            output.line(heading)?;
        }
        output.line(line(&instruction, &bytes, machine.arch()))?;
        tell_origin(&machine, at, output);
        instructions.push(described(&instruction, &bytes));
        at = at.plus(instruction.length as u64);
    }
    session.set_next_code(Some(at));
    Ok(json!({"start": address(start), "instructions": Value::Array(instructions)}))
}
