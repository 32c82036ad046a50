//! Single flipped bits in addresses: what failing memory does, and software hardly ever.

use super::fault::{address_command, context_command, fault_address, is_software};
use super::{memory, processor, single_bit};
use crate::facts::Facts;
use crate::findings::{Findings, evidence};
use crate::strength::Strength;
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_base::{Registers, VirtAddr};
use stopcode_kernel::Pte;

/// A pointer and the address it was used for lie within one page of each other.
const NEAR: u64 = 0x1000;
/// Below this a value is null plus the offset of a field.
const NULL_AREA: u64 = 0x1000;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    if (stop.base, stop.arg(1)) == (0x139, 3) {
        list(facts, findings);
        return;
    }
    if !matches!(stop.base, 0x0a | 0xd1 | 0x50 | 0x1e | 0x3b | 0x7e | 0x8e | 0xbe | 0xfc) {
        return;
    }
    let Some(address) = fault_address(facts) else { return };
    if address.0 == u64::MAX {
        not_canonical(facts, findings);
    } else if let Some(entry) = unmapped_by_one_bit(facts, address) {
        let text = format!(
            "the page-table entry of {}, {:#x}, holds all that the entry of a mapped kernel page holds but for its valid bit",
            address.windbg(),
            entry.value
        );
        let shown = format!("{}; !pte {address:#}", address_command(facts));
        found(findings, weights::CLEAR, &text, 0, address, &shown);
    } else if let Some(bit) = lone_bit(address) {
        let text = format!(
            "the address it touched, {}, is a null pointer plus {:#x} with one bit (bit {bit}) set: the code's check for null let it pass",
            address.windbg(),
            address.0 & !(1 << bit)
        );
        let shown = format!("{}; {}", address_command(facts), turned(address, bit));
        found(findings, weights::CLEAR, &text, bit, address, &shown);
    } else if let Some((bit, register, value)) = beside_a_register(facts, address) {
        let text = format!(
            "the address it touched, {}, is one flipped bit (bit {bit}) away from what {register} points to ({})",
            address.windbg(),
            VirtAddr(value).windbg()
        );
        let shown =
            format!("{}; {}; {}", address_command(facts), context_command(facts), turned(address, bit));
        found(findings, weights::CLEAR, &text, bit, address, &shown);
    } else if let Some((bit, whole)) = beside_known_memory(facts, address) {
        let text = format!(
            "the address it touched, {}, is not there and one flipped bit (bit {bit}) away from {}, which this dump holds",
            address.windbg(),
            whole.windbg()
        );
        let shown = format!("{}; {}; dq {whole:#} L1", address_command(facts), turned(address, bit));
        found(findings, weights::CLEAR, &text, bit, address, &shown);
    }
}

/// A protection fault tells no address; the instruction and its registers do. An address that no page table can map is one
/// that the processor refuses, and one flipped bit makes such an address of a kernel pointer.
fn not_canonical(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(instruction) = facts.instruction().filter(|i| facts.code_address() == Some(i.address)) else {
        return;
    };
    let mut touched = instruction.accesses.iter().filter_map(|access| access.address);
    let Some(address) = touched.find(|address| !address.is_canonical()) else { return };
    // Bit 47 and those above it are all alike in a pointer.
    let whole =
        (47..64).map(|bit| (bit, VirtAddr(address.0 ^ 1 << bit))).find(|(_, whole)| whole.is_kernel());
    let Some((bit, whole)) = whole else { return };
    let text = format!(
        "the address that the instruction touched, {}, is no canonical one, and one flipped bit (bit {bit}) away from the kernel address {}",
        address.windbg(),
        whole.windbg()
    );
    let shown = format!("{}; {}", context_command(facts), turned(address, bit));
    found(findings, weights::STRONG, &text, bit, address, &shown);
}

/// The command that works out an address with one bit turned.
fn turned(address: VirtAddr, bit: u32) -> String {
    format!("? {address:#} ^ {:#x}", 1_u64 << bit)
}

fn found(findings: &mut Findings, weight: Strength, text: &str, bit: u32, address: VirtAddr, shown_by: &str) {
    let item = |weight| evidence(Basis::Memory, weight, text).shown_by(shown_by).with_bit(bit).at(address);
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

/// The level-1 entry of an address whose valid bit alone is missing. Entries of pages that are paged out or in transition
/// hold a protection in place of these bits, and none that reads so is given to kernel pages.
fn unmapped_by_one_bit(facts: &Facts<'_>, address: VirtAddr) -> Option<Pte> {
    /// Writable, accessed, dirty, global; not the user's.
    const X64: (u64, u64) = (0x1e2, 0x162);
    /// A page, shared, accessed, the kernel's and never executed. That of a prototype has the bit for accessed, too, but then
    /// an address of the kernel's in its upper half.
    const ARM64: (u64, u64) = (0xff60_0000_0000_0742, 0x0060_0000_0000_0702);
    let (mask, mapped) = match facts.context()?.registers {
        Registers::X64(_) => X64,
        Registers::Arm64(_) => ARM64,
        _ => return None,
    };
    let entries = facts.witness.page_table_entries(address);
    entries.into_iter().find(|entry| entry.level == 1 && !entry.valid() && entry.value & mask == mapped)
}

/// A list whose link is one flipped bit away from one that closes it: an entry that a register points to, its neighbours,
/// and the pointers between them.
fn list(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(context) = facts.context().filter(|_| facts.is_dump()) else { return };
    let word = |at: VirtAddr| {
        let bytes = facts.witness.bytes(at, 8);
        Some(u64::from_le_bytes(bytes.as_ref().try_into().ok()?))
    };
    let mut entries: Vec<u64> = Vec::new();
    for (index, (_, value)) in context.registers.named().into_iter().enumerate() {
        if context.known >> index & 1 != 0 {
            // The head, say, is at hand, and the entry behind it is the one that was damaged.
            let neighbours = [word(VirtAddr(value)), word(VirtAddr(value).plus(8))];
            entries.extend(
                [Some(value)].into_iter().chain(neighbours).flatten().filter(|at| VirtAddr(*at).is_kernel()),
            );
        }
    }
    for entry in entries {
        // Forward links point to entries whose backward link, eight bytes on, points back; and the other way round.
        for (name, own, back) in [("Flink", 0, 8), ("Blink", 8, 0)] {
            let Some(link) = word(VirtAddr(entry).plus(own)).filter(|link| VirtAddr(*link).is_kernel())
            else {
                continue;
            };
            let returned = word(VirtAddr(link).plus(back));
            if returned == Some(entry) {
                continue;
            }
            let whole = (3..48).find(|bit| word(VirtAddr(link ^ 1 << bit).plus(back)) == Some(entry));
            let other = returned
                .filter(|other| single_bit(other ^ entry))
                .map(|other| (other ^ entry).trailing_zeros());
            let Some(bit) = whole.or(other) else { continue };
            let answers = if whole.is_some() { link ^ 1 << bit } else { link };
            let shown = format!("dq {entry:#x} L2; ? {link:#x} ^ {:#x}; dq {answers:#x} L2", 1_u64 << bit);
            let text = format!(
                "the list entry at {}: its {name} {link:#x} and what points back to it differ in one bit (bit {bit}) from a list that is whole",
                VirtAddr(entry).windbg()
            );
            let item = |weight| {
                let item = evidence(Basis::Memory, weight, text.clone());
                item.shown_by(shown.clone()).with_bit(bit).at(VirtAddr(entry))
            };
            findings.supports(&memory(), item(weights::STRONG));
            findings.supports(&processor(), item(weights::SLIGHT));
            let damaged = |class| is_software(class) || class == Class::PoolCorruptionByDriver;
            findings.contradicts_all(|cause| damaged(cause.class), &item(weights::CLEAR));
            return;
        }
    }
}

/// An address that one bit turns into memory the dump holds.
fn beside_known_memory(facts: &Facts<'_>, address: VirtAddr) -> Option<(u32, VirtAddr)> {
    // The bits below are those in which neighbours differ.
    let lowest = if address.is_canonical() { 21 } else { 47 };
    if !facts.is_dump()
        || !address.is_kernel() && address.is_canonical()
        || !facts.witness.bytes(address, 1).is_empty()
    {
        return None;
    }
    (lowest..64)
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
