//! Single flipped bits in addresses: what failing memory does, and software hardly ever.

use super::access::{exception_command, fault_address, is_software};
use super::{memory, processor};
use crate::facts::Facts;
use crate::findings::{Findings, evidence};
use crate::verdict::Basis;
use crate::weights::{self, Strength};
use stopcode_base::{Registers, VirtAddr};

/// A pointer and the address it was used for lie within one page of each other.
const NEAR: u64 = 0x1000;
/// Below this a value is null plus the offset of a field.
const NULL_AREA: u64 = 0x1000;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    if !matches!(stop.base, 0x0a | 0xd1 | 0x50 | 0x1e | 0x3b | 0x7e | 0x8e | 0xbe | 0xfc) {
        return;
    }
    let Some(address) = fault_address(facts).filter(|address| address.0 != u64::MAX) else { return };
    if let Some(bit) = lone_bit(address) {
        let text = format!(
            "the address it touched, {}, is a null pointer plus {:#x} with one bit (bit {bit}) set: the code's check for null let it pass",
            address.windbg(),
            address.0 & !(1 << bit)
        );
        found(facts, findings, weights::CLEAR, &text, bit, address);
    } else if let Some((bit, register, value)) = beside_a_register(facts, address) {
        let text = format!(
            "the address it touched, {}, is one flipped bit (bit {bit}) away from what {register} points to ({})",
            address.windbg(),
            VirtAddr(value).windbg()
        );
        found(facts, findings, weights::CLEAR, &text, bit, address);
    } else if let Some((bit, whole)) = beside_known_memory(facts, address) {
        let text = format!(
            "the address it touched, {}, is not canonical and one flipped bit (bit {bit}) away from {}, which this dump holds",
            address.windbg(),
            whole.windbg()
        );
        found(facts, findings, weights::CLEAR, &text, bit, address);
    }
}

fn found(
    facts: &Facts<'_>,
    findings: &mut Findings,
    weight: Strength,
    text: &str,
    bit: u32,
    address: VirtAddr,
) {
    let command = match facts.stop.as_ref().map(|stop| stop.base) {
        Some(0x0a | 0xd1 | 0x50 | 0xbe | 0xfc) => ".bugcheck; r".to_owned(),
        Some(0x3b) => {
            facts.context().map_or_else(|| "r".to_owned(), |context| format!("{}; r", context.command))
        }
        _ => exception_command(facts),
    };
    let item =
        |weight| evidence(Basis::Memory, weight, text).shown_by(command.clone()).with_bit(bit).at(address);
    findings.supports(&memory(), item(weight));
    findings.supports(&processor(), item(weights::SLIGHT));
    // Code that was handed a pointer with a flipped bit is the victim of it, whoever's code it is.
    findings.contradicts_all(|cause| is_software(cause.class), &item(weights::CLEAR));
}

/// One bit above the null area, and a small offset.
fn lone_bit(address: VirtAddr) -> Option<u32> {
    let high = address.0 & !(NULL_AREA - 1);
    // Bits below 20 make values that programs use as plain numbers.
    (high.is_power_of_two() && high.trailing_zeros() >= 20).then(|| high.trailing_zeros())
}

/// A register that points where the address would with one bit turned.
fn beside_a_register(facts: &Facts<'_>, address: VirtAddr) -> Option<(u32, String, u64)> {
    let context = facts.context()?;
    if !matches!(context.registers, Registers::X64(_)) {
        return None;
    }
    let registers = context.registers.named();
    (16..47).find_map(|bit| {
        let whole = address.0 ^ (1 << bit);
        registers.iter().enumerate().find_map(|(index, (name, value))| {
            let known = context.known >> index & 1 != 0;
            let near = VirtAddr(*value).is_kernel() && value.abs_diff(whole) < NEAR;
            (known && near).then(|| (bit, name.clone(), *value))
        })
    })
}

/// A non-canonical address that one bit turns into memory the dump holds.
fn beside_known_memory(facts: &Facts<'_>, address: VirtAddr) -> Option<(u32, VirtAddr)> {
    if !facts.is_dump() || address.is_canonical() {
        return None;
    }
    (47..64)
        .map(|bit| (bit, VirtAddr(address.0 ^ (1 << bit))))
        .find(|(_, whole)| whole.is_kernel() && facts.witness.bytes(*whole, 8).len() == 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_bit_is_told_from_numbers_and_pointers() {
        assert_eq!(lone_bit(VirtAddr(0x20_0000_0068)), Some(37));
        assert_eq!(lone_bit(VirtAddr(0x68)), None);
        assert_eq!(lone_bit(VirtAddr(0x1_0068)), None);
        assert_eq!(lone_bit(VirtAddr(0xffff_f800_0000_0068)), None);
        assert_eq!(lone_bit(VirtAddr(0x30_0000_0068)), None);
    }
}
