//! `da`, `du`: memory as text.

use super::memory::{missing, range};
use crate::answer::Outcome;
use crate::arguments::Arguments;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::json;
use stopcode_base::{Memory, VirtAddr};

/// Letters shown without a length.
const MOST: u64 = 0x200;
/// Letters on a line.
const LINE: usize = 64;

const ASCII: &[Parameter] = &[Parameter::optional("RANGE", Kind::Range { unit: 1, count: MOST })];
const UNICODE: &[Parameter] = &[Parameter::optional("RANGE", Kind::Range { unit: 2, count: MOST })];

pub(super) const DA: Command = Command {
    name: "da",
    aliases: &[],
    letters: "",
    parameters: ASCII,
    what: "memory as ASCII text, up to a zero",
    details: "",
    examples: &[("da poi(@$sp)", "the text that a pointer leads to")],
    run: |session, arguments, output| show(session, arguments, 1, output),
};

pub(super) const DU: Command = Command {
    name: "du",
    aliases: &[],
    letters: "",
    parameters: UNICODE,
    what: "memory as UTF-16 text, up to a zero",
    details: "",
    examples: &[("du poi(@$sp)", "the text that a pointer leads to")],
    run: |session, arguments, output| show(session, arguments, 2, output),
};

fn show(session: &mut Session, arguments: &Arguments<'_>, unit: u64, output: &mut Output) -> Outcome {
    let range = range(session, arguments, unit, MOST)?;
    let machine = session.machine();
    let memory = session.memory(&machine);
    let most = (range.bytes / unit).min(0x1_0000);
    let text = text(&memory, range.start, unit, most);
    if text.is_empty() && memory.read_u8(range.start).is_err() {
        return Err(missing(output.arch(), &memory, range.start));
    }
    let letters: Vec<char> = text.chars().collect();
    let mut at = range.start;
    for line in letters.chunks(LINE) {
        output.line(format!("{}  \"{}\"", output.at(at), line.iter().collect::<String>()))?;
        at = at.plus(line.len() as u64 * unit);
    }
    if letters.is_empty() {
        output.line(format!("{}  \"\"", output.at(at)))?;
    }
    session.set_next_data(at);
    Ok(json!({"start": address(range.start), "text": stopcode_base::visible(&text)}))
}

/// Text of at most `most` units, up to a zero or to what is not there.
pub(super) fn text(memory: &dyn Memory, at: VirtAddr, unit: u64, most: u64) -> String {
    let bytes = memory.read_available(at, (most * unit) as usize);
    if unit == 1 {
        let text = bytes.into_iter().take_while(|byte| *byte != 0);
        return text.map(|byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '.' }).collect();
    }
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .filter_map(|pair| pair.try_into().ok().map(u16::from_le_bytes))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}
