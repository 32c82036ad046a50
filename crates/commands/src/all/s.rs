//! `s`: a search through memory.

use super::memory::letters;
use crate::answer::{Outcome, Stop};
use crate::arguments::{range, word};
use crate::command::Command;
use crate::expression::evaluate_start;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::json;
use stopcode_base::{Memory, VirtAddr};

/// Places that are shown.
const MOST: usize = 1000;
/// Pages that are looked at: 16 GiB.
const PAGES: u64 = 1 << 22;
const PAGE: u64 = 0x1000;

pub(super) const COMMAND: Command = Command {
    name: "s",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("[-b|-w|-d|-q|-a|-u] RANGE WANTED", Kind::Rest)],
    what: "searches memory for bytes, words or text",
    details: "`-b` bytes (as without), `-w -d -q` words of 2, 4 and 8 bytes, `-a` ASCII and `-u` UTF-16 text. What the dump \
              does not hold is passed over.",
    examples: &[
        ("s -a nt L?1000 \"MZ\"", "text"),
        ("s -q @$sp L200 fffff800`0328b169", "a pointer on the stack"),
    ],
    run: |session, arguments, output| {
        let text = arguments.text("[-b|-w|-d|-q|-a|-u] RANGE WANTED").unwrap_or_default();
        let (unit, ascii, rest) = kind(text)?;
        let (range, rest) = range(rest, unit, 1, session)?;
        let start = range.start.ok_or_else(|| Stop::failed("an address is missing"))?;
        let wanted = wanted(session, rest.trim(), unit, ascii)?;
        if wanted.is_empty() {
            return Err(Stop::failed("what to look for is missing"));
        }
        search(session, start, range.bytes, &wanted, output)
    },
};

/// Bytes of a unit, whether it is text, and what follows the switch.
fn kind(text: &str) -> Result<(u64, Option<bool>, &str), Stop> {
    let Some(switch) = text.strip_prefix('-') else { return Ok((1, None, text)) };
    let (letter, rest) = word(switch);
    Ok(match letter {
        "b" => (1, None, rest),
        "w" => (2, None, rest),
        "d" => (4, None, rest),
        "q" => (8, None, rest),
        "a" => (1, Some(true), rest),
        "u" => (2, Some(false), rest),
        other => {
            return Err(Stop::failed(format!("Syntax error at '-{other}'; usage: {}", COMMAND.synopsis())));
        }
    })
}

/// The bytes to look for.
fn wanted(session: &Session, text: &str, unit: u64, ascii: Option<bool>) -> Result<Vec<u8>, Stop> {
    if let Some(ascii) = ascii {
        let text = word(text).0;
        return Ok(if ascii {
            text.bytes().collect()
        } else {
            text.encode_utf16().flat_map(u16::to_le_bytes).collect()
        });
    }
    let mut bytes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (value, behind) = evaluate_start(rest, session)?;
        bytes.extend(value.to_le_bytes().iter().take(unit as usize));
        rest = behind.trim_start();
    }
    Ok(bytes)
}

fn search(session: &Session, from: VirtAddr, length: u64, wanted: &[u8], output: &mut Output) -> Outcome {
    let machine = session.machine();
    let view = session.memory(&machine);
    let memory: &dyn Memory = &view;
    let mut found = Vec::new();
    let (mut done, mut held, mut more) = (0, 0, 0);
    let mut pages = 0;
    while done < length && pages < PAGES {
        pages += 1;
        if pages % 64 == 1 {
            output.go_on()?;
        }
        let at = from.plus(done);
        let page = (PAGE - (at.0 & (PAGE - 1))).min(length - done);
        let last = (length - done).min(page + wanted.len() as u64 - 1);
        for (start, bytes) in runs(memory, at, last as usize) {
            held += bytes.len();
            for (offset, window) in bytes.windows(wanted.len()).enumerate() {
                let place = start.plus(offset as u64);
                if window != wanted || place.0.wrapping_sub(at.0) >= page {
                    continue;
                }
                if found.len() < MOST {
                    found.push(place);
                } else {
                    more += 1;
                }
            }
        }
        done += page;
    }
    if held == 0 {
        return Err(Stop::unknown("nothing of this range is in this dump"));
    }
    for place in &found {
        let shown = super::memory::bytes(memory, *place, 16);
        let raw: Vec<String> = shown
            .iter()
            .map(|byte| byte.map_or_else(|| "??".to_owned(), |byte| format!("{byte:02x}")))
            .collect();
        output.line(format!("{}  {}  {}", output.at(*place), raw.join(" "), letters(&shown)))?;
    }
    if more > 0 {
        output.missing(format!("{more} more places"));
    }
    if done < length {
        output.missing(format!("the search ended at {}: the range is too long", output.at(from.plus(done))));
    }
    Ok(json!({"found": found.into_iter().map(address).collect::<Vec<_>>(), "more": more}))
}

/// What is there of a page or less, in runs without a gap.
fn runs(memory: &dyn Memory, at: VirtAddr, count: usize) -> Vec<(VirtAddr, Vec<u8>)> {
    let whole = memory.read_available(at, count);
    if whole.len() == count {
        return vec![(at, whole)];
    }
    let mut runs: Vec<(VirtAddr, Vec<u8>)> = Vec::new();
    if !whole.is_empty() {
        runs.push((at, whole));
    }
    // A small dump holds parts of pages: what begins later in this one.
    let mut offset = runs.first().map_or(0, |(_, bytes)| bytes.len());
    while offset < count {
        let here = at.plus(offset as u64);
        let bytes = memory.read_available(here, count - offset);
        offset += bytes.len().max(8 - (here.0 as usize & 7));
        if !bytes.is_empty() {
            runs.push((here, bytes));
        }
    }
    runs
}
