//! `ub`: disassembly before an address.

use super::code::{LONGEST, described, heading, line, of_bytes, tell_origin};
use super::memory::missing;
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::json;
use stopcode_base::{Arch, Memory, VirtAddr};

/// Instructions by default.
const COUNT: u64 = 8;
/// More are not looked for.
const MOST: u64 = 1000;
/// Bytes before the first instruction shown from which decoding falls into step.
const SETTLE: usize = 64;

pub(super) const COMMAND: Command = Command {
    name: "ub",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("ADDRESS", Kind::Range { unit: 1, count: COUNT })],
    what: "disassembly before an address",
    details: "`L` counts instructions. x64 instructions cannot be read backwards: of all ways to decode what stands before, \
              the one that most starting points lead to is shown.",
    examples: &[
        ("ub nt!KiIpiSendRequest+0x305", "what led to a return address"),
        ("ub . L4", "four instructions"),
    ],
    run: |session, arguments, output| {
        let range = arguments.range("ADDRESS");
        let end = range.and_then(|range| range.start).or_else(|| session.next_code());
        let end = end.ok_or_else(|| Stop::failed("an address is missing"))?;
        let count = range.and_then(|range| range.count).unwrap_or(COUNT).min(MOST) as usize;
        show(session, end, count, output)
    },
};

fn show(session: &mut Session, end: VirtAddr, count: usize, output: &mut Output) -> Outcome {
    let machine = session.machine();
    let arch = machine.arch();
    let bytes = before(&session.code(&machine), end, count * LONGEST + SETTLE);
    if bytes.is_empty() {
        return Err(missing(output.arch(), &session.memory(&machine), end.minus(1)));
    }
    let start = end.minus(bytes.len() as u64);
    let lengths: Vec<Option<usize>> = (0..bytes.len())
        .map(|offset| {
            let rest = bytes.get(offset..)?;
            let rest = rest.get(..rest.len().min(LONGEST)).unwrap_or(rest);
            Some(of_bytes(session, arch, rest, start.plus(offset as u64))?.length)
        })
        .collect();
    let chain = chain(&lengths, count, if arch == Arch::Arm64 { 4 } else { 1 });
    if chain.is_empty() {
        return Err(Stop::unknown(format!(
            "the bytes before {} are no instructions, or not whole in this dump",
            output.at(end)
        )));
    }
    let mut instructions = Vec::new();
    for (number, offset) in chain.iter().enumerate() {
        let at = start.plus(*offset as u64);
        let raw = bytes.get(*offset..).unwrap_or_default();
        let Some(instruction) = of_bytes(session, arch, raw, at) else { continue };
        let raw = raw.get(..instruction.length).unwrap_or_default();
        if let Some(heading) = heading(session, &machine, at, number == 0) {
            output.line(heading)?;
        }
        output.line(line(&instruction, raw, arch))?;
        tell_origin(&machine, at, output);
        instructions.push(described(&instruction, raw));
    }
    if instructions.len() < count {
        output.missing("no more code before it is in this dump");
    }
    Ok(json!({"end": address(end), "instructions": instructions}))
}

/// The bytes that end before `end`, without a gap, at most `most`.
fn before(memory: &dyn Memory, end: VirtAddr, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < most {
        let Ok(byte) = memory.read_u8(end.minus(bytes.len() as u64 + 1)) else { break };
        bytes.push(byte);
    }
    bytes.reverse();
    bytes
}

/// Offsets of the last `count` instructions that lead to the end of the code: of those that end where the next begins, each
/// time the one that most starting points pass through. `lengths` are those of the instructions at each offset.
fn chain(lengths: &[Option<usize>], count: usize, step: usize) -> Vec<usize> {
    // From how many starting points decoding comes through each offset.
    let mut votes = vec![1u32; lengths.len()];
    for (offset, length) in lengths.iter().enumerate() {
        let own = votes.get(offset).copied().unwrap_or(0);
        if let Some(next) = length.and_then(|length| votes.get_mut(offset + length)) {
            *next = next.saturating_add(own);
        }
    }
    let mut end = lengths.len();
    let mut chain = Vec::new();
    while chain.len() < count {
        let candidates =
            (end.saturating_sub(LONGEST)..end).filter(|offset| (end - offset).is_multiple_of(step));
        let ends_here = candidates.filter(|offset| lengths.get(*offset) == Some(&Some(end - offset)));
        let Some(best) = ends_here.max_by_key(|offset| votes.get(*offset).copied().unwrap_or(0)) else {
            break;
        };
        chain.push(best);
        end = best;
    }
    chain.reverse();
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopcode_image::decode_x64;

    #[test]
    fn the_posts_instructions_are_found_backwards() {
        // From the 2014 post: pop rsi; pop rbp; ret; mov eax,esi; jmp; movzx ecx; movzx eax; mov edi,edx
        let code = [
            0x5e, 0x5d, 0xc3, 0x8b, 0xc6, 0xe9, 0xe2, 0xfe, 0xff, 0xff, 0x0f, 0xb7, 0x0d, 0xb4, 0x89, 0x21,
            0, 0x0f, 0xb7, 0x05, 0xaf, 0x89, 0x21, 0, 0x8b, 0xfa,
        ];
        let lengths: Vec<_> = (0..code.len())
            .map(|at| decode_x64(&code[at..], VirtAddr(at as u64), None).map(|found| found.length))
            .collect();
        assert_eq!(chain(&lengths, 8, 1), [0, 1, 2, 3, 5, 10, 17, 24]);
        assert_eq!(chain(&lengths, 3, 1), [10, 17, 24]);
        assert_eq!(chain(&[], 3, 1), [0; 0]);
        assert_eq!(chain(&[None, None], 3, 1), [0; 0]);
    }
}
