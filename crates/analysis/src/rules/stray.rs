//! An instruction pointer inside an instruction. Code falls from one instruction into the next, so either the processor lost
//! its way, or somebody named the place: a pointer that code jumps or calls through.

use super::fault::{context_command, is_software, software_causes, squeeze};
use super::{memory, processor};
use crate::facts::Facts;
use crate::findings::{Findings, evidence};
use crate::verdict::Basis;
use crate::weights;
use stopcode_base::VirtAddr;
use stopcode_image::{Flow, Instruction, boundary_x64, decode_x64};

/// Bytes before the address that are decoded.
const WINDOW: u64 = 0x80;

/// True if the instruction pointer stands inside an instruction.
pub(super) fn rule(facts: &Facts<'_>, findings: &mut Findings) -> bool {
    let Some(address) = facts.code_address().filter(|_| facts.x64().is_some() && facts.is_dump()) else {
        return false;
    };
    let before = facts.witness.bytes(address.minus(WINDOW), WINDOW as usize);
    let boundary = boundary_x64(&before);
    if before.len() != WINDOW as usize || !boundary.is_inside() {
        return false;
    }
    let text = format!(
        "the instruction pointer {} stands inside an instruction: decoding from {} point in the code before it leads there",
        address.windbg(),
        if boundary.met == 0 { "no" } else { "hardly any" }
    );
    let item = |weight| {
        // One of the ways, which passes over the address.
        let shown = format!("{}; u {:#} L20", context_command(facts), address.minus(WINDOW / 2));
        evidence(Basis::CodeBytes, weight, text.clone()).shown_by(shown).at(address)
    };
    if let Some(branch) = branch_to(facts, address) {
        let text = format!(
            "{text}; `{}` at {} goes just there: the pointer it goes through is wrong, not the processor",
            squeeze(&branch.text),
            branch.address.windbg()
        );
        let shown = format!(
            "{}; u {:#} L20; u {:#} L1",
            context_command(facts),
            address.minus(WINDOW / 2),
            branch.address
        );
        for cause in software_causes(findings) {
            let item = evidence(Basis::CodeBytes, weights::CLEAR, text.clone());
            findings.supports(&cause, item.shown_by(shown.clone()).at(branch.address));
        }
        let item = evidence(Basis::CodeBytes, weights::NOTED, text).shown_by(shown).at(branch.address);
        findings.supports(&memory(), item);
        return true;
    }
    findings.supports(&processor(), item(weights::CLEAR));
    findings.supports(&memory(), item(weights::MODERATE));
    findings.contradicts_all(|cause| is_software(cause.class), &item(weights::MODERATE));
    true
}

/// The jump or call through a register or memory that leads to `address`: shortly before it, or the call that the word on
/// top of the stack returns to. That one holds all 64 bits of the address tells it from bytes that only read so.
fn branch_to(facts: &Facts<'_>, address: VirtAddr) -> Option<Instruction> {
    let leads_there = |instruction: &Instruction| {
        matches!(instruction.flow, Flow::Jump(None) | Flow::Call(None))
            && target(facts, instruction) == Some(address)
    };
    let start = address.minus(WINDOW);
    let code = facts.witness.bytes(start, WINDOW as usize);
    let at = |offset: usize| decode_x64(code.get(offset..)?, start.plus(offset as u64), None);
    // The nearest first.
    if let Some(branch) = (0..code.len()).rev().filter_map(at).find(leads_there) {
        return Some(branch);
    }
    let top = facts.witness.bytes(VirtAddr(facts.x64()?.rsp()), 8);
    let returns = VirtAddr(u64::from_le_bytes(top.as_ref().try_into().ok()?));
    // `call` through a register takes two or three bytes, through memory up to seven.
    (2..8).find_map(|length| {
        let at = returns.minus(length);
        let call = decode_x64(&facts.witness.bytes(at, length as usize), at, None)?;
        (call.length as u64 == length && leads_there(&call)).then_some(call)
    })
}

/// Where a jump or call leads whose target is not in the instruction: the register it names, or the word it reads.
fn target(facts: &Facts<'_>, branch: &Instruction) -> Option<VirtAddr> {
    let context = facts.context()?;
    let bytes = facts.witness.bytes(branch.address, branch.length);
    let registers = stopcode_image::KnownRegisters { registers: *facts.x64()?, known: context.known as u16 };
    let branch = decode_x64(&bytes, branch.address, Some(&registers))?;
    if let Some(access) = branch.accesses.first() {
        let word = facts.witness.bytes(access.address?, 8);
        return Some(VirtAddr(u64::from_le_bytes(word.as_ref().try_into().ok()?)));
    }
    let operand = branch.text.split_whitespace().last()?;
    let named = context.registers.named().into_iter().enumerate();
    let mut known = named.filter(|(index, _)| context.known >> index & 1 != 0);
    known.find_map(|(_, (name, value))| (name == operand).then_some(VirtAddr(value)))
}

#[cfg(test)]
mod tests {
    use super::WINDOW;
    use crate::Class;
    use crate::fake::{DRIVERS, Fake, lead, refuted, registers, says};
    use stopcode_base::{VirtAddr, X64Registers};

    const AT: u64 = DRIVERS + 0x1000;
    /// `mov r11, constant`, in whose constant the fault is.
    const CONSTANT: [u8; 2] = [0x49, 0xbb];
    /// What the constant reads as: `mov rax,[rbx+10h]`.
    const READS_AS: [u8; 8] = [0x48, 0x8b, 0x43, 0x10, 0x90, 0x90, 0x90, 0x90];

    /// Code up to the fault, nothing but no-ops before it, and then the constant.
    fn case(before: &[u8], registers: X64Registers) -> Fake {
        let mut code = vec![0x90; WINDOW as usize - before.len()];
        code.extend(before);
        code.extend(READS_AS);
        Fake::new(0x7e, [0xc000_0005, AT, 0, 0])
            .stack(&["driver.sys", "nt!PspSystemThreadStartup"])
            .bytes_at(AT - WINDOW, &code)
            .fault(VirtAddr(AT), 0x10, registers, &READS_AS)
    }

    #[test]
    fn nobody_falls_into_the_middle_of_an_instruction() {
        let stray = case(&CONSTANT, registers(0));
        assert_eq!(lead(&stray).0, Class::ProcessorHardware);
        assert!(says(&stray, Class::ProcessorHardware, "stands inside an instruction"));
        assert!(refuted(&stray, Class::DriverBug, "stands inside an instruction"));
    }

    /// `jmp r10` with just this address in r10: who filled the register is to blame.
    #[test]
    fn a_pointer_that_leads_there_is_whose_it_is() {
        let jump = [&[0x41, 0xff, 0xe2][..], &CONSTANT].concat();
        let mut there = registers(0);
        there.gpr[10] = AT;
        let named = case(&jump, there);
        assert_eq!(lead(&named).1.as_deref(), Some("driver.sys"));
        assert!(says(&named, Class::DriverBug, "goes just there"));
        // The same code with another value in r10 did not jump here.
        there.gpr[10] = AT + 1;
        assert_eq!(lead(&case(&jump, there)).0, Class::ProcessorHardware);
    }

    #[test]
    fn an_instruction_that_code_leads_to_is_none_of_this() {
        let plain = case(&[0x90], registers(0));
        assert!(!says(&plain, Class::ProcessorHardware, "inside an instruction"));
        assert_eq!(lead(&plain).1.as_deref(), Some("driver.sys"));
    }
}
