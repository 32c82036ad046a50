//! The code before the fault in words: what it reads, computes and calls, and how it touches memory, from bytes that the
//! dump (or the text) holds. x64 only.

use crate::facts::Facts;
use stopcode_base::VirtAddr;
use stopcode_image::{AccessKind, Flow, Instruction, decode_x64};

/// How far back the code is read.
const BEFORE: u64 = 0x40;
/// Steps told before the last one.
const TOLD: usize = 5;

/// What the code at the judged address did, in a sentence or two; nothing where its bytes are not known.
pub(crate) fn story(facts: &Facts<'_>) -> Option<String> {
    let at = place(facts)?;
    let last = decode_x64(&facts.witness.bytes(at, 15), at, None);
    let mut before = before(facts, at);
    // What stands before a jump or a return does not lead here.
    if let Some(left) = before.iter().rposition(|i| matches!(i.flow, Flow::Jump(_) | Flow::Return)) {
        before.drain(..=left);
    }
    if before.is_empty() && last.is_none() {
        return None;
    }
    let mut steps: Vec<String> = Vec::new();
    for step in before.iter().filter_map(|instruction| words(facts, instruction)) {
        if steps.last() != Some(&step) {
            steps.push(step);
        }
    }
    let steps = steps.get(steps.len().saturating_sub(TOLD)..)?;
    let lead = format!("Just before {}, the code {}", facts.label(at), list(steps));
    let last = last.map(|instruction| {
        let text = instruction.text.split_whitespace().collect::<Vec<_>>().join(" ");
        match words(facts, &instruction) {
            Some(words) => format!("`{text}`, {words}"),
            None => format!("`{text}`, touches no memory"),
        }
    });
    match (steps.is_empty(), last) {
        (false, Some(last)) => Some(format!("{lead}; the instruction there, {last}.")),
        (false, None) => Some(format!("{lead}.")),
        (true, Some(last)) => Some(format!("The instruction at {}, {last}.", facts.label(at))),
        (true, None) => None,
    }
}

/// The address to tell of: where the context stands, or, of a double fault, where the processor was interrupted.
fn place(facts: &Facts<'_>) -> Option<VirtAddr> {
    let double_fault =
        facts.stop.as_ref().filter(|stop| stop.base == 0x7f && stop.arg(1) == 8 && stop.arg(4) != 0);
    double_fault
        .map(|stop| VirtAddr(stop.arg(4)))
        .or_else(|| facts.code_address())
        .filter(|at| at.is_kernel())
}

/// The instructions that lead to `at`. x64 code has no fixed length: it is decoded from every byte in reach, and what most
/// ways agree on stands.
fn before(facts: &Facts<'_>, at: VirtAddr) -> Vec<Instruction> {
    // A text may hold less than a dump.
    let held = (4..=BEFORE)
        .rev()
        .map(|count| (at.minus(count), facts.witness.bytes(at.minus(count), count as usize)));
    let Some((start, bytes)) = held.into_iter().find(|(start, bytes)| start.plus(bytes.len() as u64) == at)
    else {
        return Vec::new();
    };
    let chains: Vec<Vec<Instruction>> =
        (0..bytes.len()).filter_map(|skip| chain(bytes.get(skip..)?, start.plus(skip as u64), at)).collect();
    let Some(longest) = chains.iter().max_by_key(|chain| chain.len()) else { return Vec::new() };
    let agreed = |instruction: &&Instruction| {
        let address = instruction.address;
        let reach = chains.iter().filter(|chain| chain.first().is_some_and(|first| first.address <= address));
        let (all, met) = reach.fold((0, 0), |(all, met), chain| {
            (all + 1, met + usize::from(chain.iter().any(|other| other.address == address)))
        });
        met * 2 > all
    };
    longest.iter().filter(agreed).cloned().collect()
}

/// Decodes straight on; `None` unless it comes out exactly at the end.
fn chain(mut bytes: &[u8], mut at: VirtAddr, end: VirtAddr) -> Option<Vec<Instruction>> {
    let mut instructions = Vec::new();
    while !bytes.is_empty() {
        let instruction = decode_x64(bytes, at, None)?;
        bytes = bytes.get(instruction.length..)?;
        at = at.plus(instruction.length as u64);
        instructions.push(instruction);
    }
    (at == end).then_some(instructions)
}

/// What an instruction does, in the third person; `None` for what only moves values between registers.
fn words(facts: &Facts<'_>, instruction: &Instruction) -> Option<String> {
    let mnemonic = instruction.mnemonic.as_str();
    match instruction.flow {
        Flow::Call(Some(target)) => return Some(format!("calls {}", facts.label(target))),
        Flow::Call(None) => return Some(format!("calls through {}", operand(instruction, 0))),
        Flow::Jump(Some(target)) => return Some(format!("jumps to {}", facts.label(target))),
        Flow::Branch(_) => return Some("branches on the outcome".to_owned()),
        Flow::Return => return Some("returns".to_owned()),
        _ => {}
    }
    if instruction.privileged {
        return Some(format!("speaks to the processor itself (`{mnemonic}`)"));
    }
    if mnemonic.starts_with("push") || mnemonic.starts_with("pop") {
        return None;
    }
    if let Some(access) = instruction.accesses.iter().find(|_| mnemonic != "lea" && mnemonic != "nop") {
        // Only a place that the instruction names by itself is known without registers: a global.
        let place = access
            .address
            .map_or_else(|| memory_operand(instruction), |at| format!("the global {}", facts.label(at)));
        let verb = match (mnemonic, access.kind) {
            ("cmp" | "test", _) => "compares",
            (_, AccessKind::Read) => "reads",
            (_, AccessKind::Write) => "writes",
            (_, AccessKind::ReadWrite) => "changes",
        };
        let locked = if instruction.text.starts_with("lock") { " with the bus locked" } else { "" };
        let size = match access.size {
            0 => String::new(),
            1 => " 1 byte of".to_owned(),
            size => format!(" {size} bytes of"),
        };
        return Some(format!("{verb}{size} {place}{locked}"));
    }
    match mnemonic {
        "cmp" | "test" => Some(format!("compares {}", operands(instruction))),
        "lea" | "add" | "sub" | "and" | "or" | "shl" | "shr" | "sar" | "imul" | "mul" | "div" | "idiv"
        | "not" | "neg" => Some(format!("computes {}", operand(instruction, 0))),
        "xor" if operand(instruction, 0) != operand(instruction, 1) => {
            Some(format!("computes {}", operand(instruction, 0)))
        }
        _ => None,
    }
}

/// What follows the mnemonic.
fn operands(instruction: &Instruction) -> String {
    let rest = instruction.text.trim_start_matches("lock ").split_once(char::is_whitespace);
    rest.map_or_else(String::new, |(_, rest)| rest.trim().to_owned())
}

fn operand(instruction: &Instruction, index: usize) -> String {
    operands(instruction).split(',').nth(index).unwrap_or_default().trim().to_owned()
}

/// The operand in brackets, as a debugger writes it.
fn memory_operand(instruction: &Instruction) -> String {
    let all = operands(instruction);
    match (all.find('['), all.find(']')) {
        (Some(open), Some(close)) if open < close => all.get(open..=close).unwrap_or_default().to_owned(),
        _ => "memory".to_owned(),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, NT};
    use stopcode_base::X64Registers;

    fn told(code: &[u8], at: u64) -> Option<String> {
        // Padding of one-byte instructions, so that every way of decoding meets the code.
        let mut bytes = vec![0x90; BEFORE as usize];
        let length = code.len();
        let fault = 4;
        bytes.extend_from_slice(code);
        let start = VirtAddr(at).minus(BEFORE + (length - fault) as u64);
        let fake = Fake::new(0x7e, [0; 4])
            .fault(VirtAddr(at), 0, X64Registers::default(), &code[length - fault..])
            .bytes_at(start.0, &bytes);
        story(&Facts::new(&fake))
    }

    #[test]
    fn what_the_code_did_is_told_with_the_globals_it_names() {
        // mov rax,[rip+0x100]; mov ecx,[rax+8]; call +0; mov [rax+18h],ecx (padded to four bytes with nop)
        let code = [
            0x48, 0x8b, 0x05, 0x00, 0x01, 0x00, 0x00, 0x8b, 0x48, 0x08, 0xe8, 0x00, 0x00, 0x00, 0x00, 0x89,
            0x48, 0x18, 0x90,
        ];
        let told = told(&code, NT + 0x2000).unwrap();
        for words in [
            "reads 8 bytes of the global nt+",
            "reads 4 bytes of [rax+8]",
            "calls nt+",
            "`mov dword ptr [rax+18h],ecx`, writes 4 bytes of [rax+18h]",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
    }

    #[test]
    fn without_bytes_nothing_is_told() {
        let fake = Fake::new(0x7e, [0; 4]).fault(VirtAddr(NT + 0x2000), 0, X64Registers::default(), &[]);
        assert_eq!(story(&Facts::new(&fake)), None);
    }
}
