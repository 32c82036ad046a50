//! Instructions that are not those that were written: a bit of the code flipped. The proof is the image's file, byte by
//! byte; without it, what no compiler writes and one flipped bit explains is evidence.

use super::fault::{context_command, is_software, squeeze};
use super::{memory, processor};
use crate::facts::Facts;
use crate::findings::{Findings, evidence};
use crate::verdict::Basis;
use crate::weights;
use stopcode_base::VirtAddr;
use stopcode_image::{Instruction, KnownRegisters, Register64, boundary_x64, decode_x64, unset_base_x64};

/// Longest instruction.
const LONGEST: usize = 15;
/// How far back a function's beginning is sought.
const REACH: u64 = 0x80;

/// Without the file: true if the instruction looks changed.
pub(super) fn looks_changed(facts: &Facts<'_>, findings: &mut Findings) -> bool {
    if !facts.x64_dump() {
        return false;
    }
    let Some(at) = facts.code_address().filter(|at| facts.x64().is_some_and(|r| r.rip == at.0)) else {
        return false;
    };
    let changed = uses_what_nobody_set(facts, at).or_else(|| is_none(facts, at));
    let Some((text, bit)) = changed else { return false };
    let image = facts.place(at).image.unwrap_or_else(|| "the image".to_owned());
    let item = |weight| {
        let item = evidence(Basis::CodeBytes, weight, text.clone());
        item.shown_by(format!("{}; ub {at:#}; u {at:#} L1", context_command(facts))).with_bit(bit).at(at)
    };
    findings.supports(&memory(), item(weights::STRONG));
    findings.supports(&processor(), item(weights::MODERATE));
    findings.contradicts_all(|cause| is_software(cause.class), &item(weights::CLEAR));
    findings.missing(format!("the file of {image} to compare its code with: that would prove a flipped bit"));
    true
}

/// What comparing the code with its file said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// It is not what it was.
    Changed,
    /// It is what the file holds.
    Sound,
    /// There is no file, or the dump does not hold the code.
    NotCompared,
}

/// The code of the image that ran, byte by byte against its file: software patches whole instructions, so single bits
/// that differ are flipped ones.
pub(super) fn against_file(facts: &Facts<'_>, findings: &mut Findings) -> Code {
    /// Damage is a bit or two; more is a patch, or another build of the file.
    const FEW: u64 = 4;
    let ran = facts.code_address().and_then(|at| Some((at, facts.witness.module_at(at)?)));
    let Some((at, module)) = ran else { return Code::NotCompared };
    let check = facts.witness.check_image(module);
    let Some(check) = check.value().filter(|check| check.compared > 0) else { return Code::NotCompared };
    if check.differences.is_empty() {
        // Other code of the image may be what the dump holds.
        let runs = !facts.witness.bytes(at, LONGEST).is_empty();
        return if runs { Code::Sound } else { Code::NotCompared };
    }
    let bits: Vec<(VirtAddr, u32)> =
        check.differences.iter().filter_map(|found| Some((found.start, found.single_bit()?))).collect();
    let all_bits = bits.len() == check.differences.len() && check.errors <= FEW;
    let Some((place, bit)) = bits.first().filter(|_| all_bits) else { return Code::NotCompared };
    let text = format!(
        "{} of {}'s code in memory and in its file differ in one bit each (first bit {bit} of the byte at {}): no software changes code so",
        if bits.len() == 1 { "1 byte".to_owned() } else { format!("{} bytes", bits.len()) },
        module.image,
        place.windbg()
    );
    let item = |weight| {
        let item = evidence(Basis::CodeBytes, weight, text.clone());
        item.shown_by(format!("!chkimg -d {}", module.display)).with_bit(*bit).at(*place)
    };
    findings.supports(&memory(), item(weights::DECISIVE));
    findings.supports(&processor(), item(weights::SLIGHT));
    findings.contradicts_all(|cause| is_software(cause.class), &item(weights::STRONG));
    Code::Changed
}

/// The instruction with each of its bits turned in turn: byte, bit and what it would be.
fn turned(
    bytes: &[u8],
    length: usize,
    at: VirtAddr,
    known: &KnownRegisters,
) -> Vec<(usize, u32, Instruction)> {
    let places = (0..length.min(bytes.len())).flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
    let turn = |(byte, bit): (usize, u32)| {
        let mut other = bytes.to_vec();
        *other.get_mut(byte)? ^= 1 << bit;
        Some((byte, bit, decode_x64(&other, at, Some(known))?))
    };
    places.filter_map(turn).collect()
}

fn known(facts: &Facts<'_>) -> Option<KnownRegisters> {
    Some(KnownRegisters { registers: *facts.x64()?, known: facts.context()?.known as u16 })
}

/// True if this dump holds all that the instruction touches.
fn touches_what_is_there(facts: &Facts<'_>, instruction: &Instruction) -> bool {
    let there = |at: VirtAddr| at.is_kernel() && !facts.witness.bytes(at, 1).is_empty();
    !instruction.accesses.is_empty()
        && instruction.accesses.iter().all(|access| access.address.is_some_and(there))
}

/// A function's first instructions take an address from a register that neither a caller passes nor they set; with one
/// bit turned they take it from one that points somewhere.
fn uses_what_nobody_set(facts: &Facts<'_>, at: VirtAddr) -> Option<(String, u32)> {
    let now = facts.instruction()?;
    let start = function_start(facts, at)?;
    let before = at.offset_from(start)? as usize;
    let code = facts.witness.bytes(start, before + LONGEST);
    let register = unset_base_x64(&code, before)?;
    let bytes = code.get(before..)?;
    let settled = |byte: usize, bit: u32| {
        let mut other = code.to_vec();
        if let Some(slot) = other.get_mut(before + byte) {
            *slot ^= 1 << bit;
        }
        unset_base_x64(&other, before).is_none()
    };
    let (byte, bit, meant) =
        turned(bytes, now.length, at, &known(facts)?).into_iter().find(|(byte, bit, other)| {
            other.length == now.length
                && other.mnemonic == now.mnemonic
                && touches_what_is_there(facts, other)
                && settled(*byte, *bit)
        })?;
    let text = format!(
        "`{}` takes an address from {}, which nothing in the function has set and no caller passes, as no compiler writes it; \
         with bit {bit} of its byte {byte} turned it is `{}`, whose memory is there",
        squeeze(&now.text),
        Register64::name(register),
        squeeze(&meant.text)
    );
    Some((text, bit))
}

/// Where the function begins: behind the filling that compilers put between functions.
fn function_start(facts: &Facts<'_>, at: VirtAddr) -> Option<VirtAddr> {
    const ALIGNMENT: u64 = 16;
    const FILLING: u8 = 0xcc;
    let starts =
        (0..=REACH / ALIGNMENT).map(|n| VirtAddr((at.0 & !(ALIGNMENT - 1)).wrapping_sub(n * ALIGNMENT)));
    starts.filter(|start| *start < at).find(|start| {
        let around = facts.witness.bytes(start.minus(1), 2);
        matches!(around.as_ref(), [FILLING, first] if *first != FILLING)
    })
}

/// Code leads up to bytes that are no instruction, and goes on behind them if one bit is turned.
fn is_none(facts: &Facts<'_>, at: VirtAddr) -> Option<(String, u32)> {
    /// Instructions behind it that have to make sense.
    const BEHIND: usize = 3;
    let bytes = facts.witness.bytes(at, 4 * LONGEST);
    if bytes.len() < 2 * LONGEST || decode_x64(&bytes, at, None).is_some() {
        return None;
    }
    let before = facts.witness.bytes(at.minus(REACH), REACH as usize);
    if before.len() != REACH as usize || !boundary_x64(&before).is_start() {
        return None;
    }
    let goes_on = |instruction: &Instruction| {
        let mut offset = instruction.length;
        (0..BEHIND).all(|_| {
            let next = bytes.get(offset..).and_then(|rest| decode_x64(rest, at.plus(offset as u64), None));
            next.map(|next| offset += next.length).is_some()
        })
    };
    let (byte, bit, meant) = turned(&bytes, 4, at, &known(facts)?)
        .into_iter()
        .find(|(_, _, other)| touches_what_is_there(facts, other) && goes_on(other))?;
    let text = format!(
        "the code leads to {} and goes on behind it, but what stands there is no instruction; with bit {bit} of its byte {byte} turned it is `{}`, whose memory is there",
        at.windbg(),
        squeeze(&meant.text)
    );
    Some((text, bit))
}

#[cfg(test)]
mod tests {
    use crate::Class;
    use crate::fake::{DRIVERS, Fake, confidence, lead, refuted, registers, says};
    use stopcode_base::VirtAddr;

    const AT: u64 = DRIVERS + 0x1000;

    /// `mov eax,[rcx+10h]` with a null pointer: a driver's own fault, unless its code says otherwise.
    fn case() -> Fake {
        Fake::new(0x7e, [0xc000_0005, AT, 0, 0]).stack(&["driver.sys", "nt!PspSystemThreadStartup"]).fault(
            VirtAddr(AT),
            0x10,
            registers(0),
            &[0x8b, 0x41, 0x10, 0x90, 0x90, 0x90],
        )
    }

    #[test]
    fn code_that_is_the_files_leaves_the_driver_to_blame() {
        for sound in [case(), case().compared(&[])] {
            assert_eq!(lead(&sound).1.as_deref(), Some("driver.sys"));
            assert!(!says(&sound, Class::MemoryHardware, "in its file"));
        }
    }

    #[test]
    fn one_bit_beside_the_file_is_memory_wherever_in_the_image() {
        for place in [AT + 1, AT + 0x5000] {
            let flipped = case().compared(&[(place, &[0x41], &[0x43])]);
            assert_eq!(lead(&flipped).0, Class::MemoryHardware);
            assert!(says(&flipped, Class::MemoryHardware, "first bit 1 of the byte"));
            assert!(refuted(&flipped, Class::DriverBug, "no software changes code so"));
            assert!(confidence(&flipped, Class::DriverBug) < 0.5);
        }
    }

    /// A hook is no flipped bit, nor is a byte of which several bits differ, nor code that is all different.
    #[test]
    fn patches_are_not_taken_for_flipped_bits() {
        let many: Vec<(u64, &[u8], &[u8])> =
            (0..9).map(|n| (AT + 16 * n, &[0_u8][..], &[1_u8][..])).collect();
        for patched in [
            case().compared(&[(AT + 0x40, &[0x48, 0x89, 0x5c, 0x24, 8], &[0xe9, 0, 0x10, 0, 0])]),
            case().compared(&[(AT + 0x40, &[0x41], &[0x42])]),
            case().compared(&[(AT + 0x40, &[0x41], &[0x43]), (AT + 0x80, &[0x74], &[0xeb])]),
            case().compared(&many),
        ] {
            assert!(!says(&patched, Class::MemoryHardware, "in its file"));
            assert_eq!(lead(&patched).1.as_deref(), Some("driver.sys"));
        }
    }
}
