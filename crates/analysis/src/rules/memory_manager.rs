//! The memory manager found damage: 0x1A, 0x4E, 0x12B. A page-table entry with one bit too many is the clearest
//! mark of failing memory there is; several wrong bits point to a stray write.

use super::{cause_on_stack, memory, processor, single_bit};
use crate::facts::{Facts, Standing, Stop};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use stopcode_knowledge as knowledge;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    match (stop.base, stop.arg(1)) {
        (
            0x1a,
            0x403
            | 0x404
            | 0x411
            | 0x780
            | 0x781
            | 0x3451
            | 0x3453
            | 0x5003
            | 0x8884..=0x888a
            | 0x41201
            | 0x41202
            | 0x41283
            | 0x41284
            | 0x41785
            | 0x41790..=0x41793
            | 0x61940
            | 0x61941,
        )
        | (0x4e, 0x6 | 0x8d) => page_table(facts, findings),
        // What a driver passed was wrong: no damage was found, and its call is still on the stack.
        (
            0x1a,
            0x1000
            | 0x1010
            | 0x1233..=0x1236
            | 0x1240
            | 0x1241
            | 0x4477
            | 0x5305
            | 0x15000
            | 0x15001
            | 0x41286
            | 0x41287
            | 0x61946
            | 0x61948..=0x6194a,
        )
        | (0x4e, 0x7 | 0x9a) => misuse(facts, findings),
        (0x1a, 0x31) => {
            let text = "code or relocation data of an image is corrupt in memory (Arg1 0x31)";
            findings
                .supports(&memory(), evidence(Basis::Arguments, weights::CLEAR, text).shown_by(".bugcheck"));
        }
        (0x1a, 0x3f) => {
            let text = "a page came back from the page file with another checksum (Arg1 0x3f)";
            let item = |weight| evidence(Basis::Arguments, weight, text).shown_by(".bugcheck");
            findings.supports(&memory(), item(weights::MODERATE));
            findings.supports(
                &super::hardware(Class::StorageHardware, "disk, its cable or controller"),
                item(weights::MODERATE),
            );
        }
        (0x1a | 0x4e, _) => {
            let text = format!(
                "the memory manager found its tables damaged ({:#x}, Arg1 {:#x})",
                stop.base,
                stop.arg(1)
            );
            let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
            // Page frames are handed out through lists of pages that drivers fill and return; doing that wrongly damages them
            // more often than memory fails.
            findings.supports(&super::pool::by_driver(facts), item(weights::MODERATE));
            findings.supports(&Cause::of(Class::PoolCorruptionByDriver), item(weights::NOTED));
            findings.supports(&memory(), item(weights::NOTED));
        }
        (0x12b, _) => {
            let text =
                "a page failed its checksum in the compressed store: what was written is not what is there";
            findings
                .supports(&memory(), evidence(Basis::Arguments, weights::STRONG, text).shown_by(".bugcheck"));
        }
        _ => {}
    }
}

/// Pages locked, mapped or given back in a way that the memory manager does not allow.
fn misuse(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let meaning = knowledge::bug_check(stop.base)
        .and_then(|known| known.subcode(stop.arg(1)))
        .map(|known| known.meaning);
    let text = format!(
        "the memory manager refused what it was asked ({:#x}, Arg1 {:#x}): {}",
        stop.base,
        stop.arg(1),
        meaning.as_deref().unwrap_or("pages were not as their driver said")
    );
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck; k");
    let caller = facts.judged().and_then(|stack| {
        let nearest = facts.standees(stack).find(|standee| standee.standing == Standing::ThirdParty)?;
        nearest.frame.place.image.as_deref()
    });
    match caller {
        Some(image) => findings.supports(&cause_on_stack(facts, image), item(weights::CLEAR)),
        None => findings.supports(&Cause::of(Class::DriverBug), item(weights::CLEAR)),
    }
    findings.supports(&memory(), item(weights::NOTED));
}

/// Two arguments that should be the same and differ in one bit: 0x403 has the entry and what the frame's entry says of it, 0x404
/// the entry's address and the one recorded.
fn differs_in_a_bit(stop: &Stop) -> Option<u64> {
    let (one, other) = match stop.arg(1) {
        0x403 => (stop.arg(3), stop.arg(4)),
        0x404 => (stop.arg(2), stop.arg(4)),
        _ => return None,
    };
    (stop.base == 0x1a && one != 0 && other != 0 && single_bit(one ^ other)).then_some(one ^ other)
}

/// A damaged page-table entry. Arg3 is what it holds in 0x41792 (where nothing should be); count its bits.
fn page_table(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let value = stop.arg(3);
    if stop.arg(1) == 0x41792 && value != 0 {
        let pte = stop.arg(2);
        let bits = value.count_ones();
        if single_bit(value) {
            let text = format!(
                "the page-table entry at {pte:#x} should be empty and holds {value:#x}: exactly one bit (bit {}) is set",
                value.trailing_zeros()
            );
            let item = |weight| {
                let item = evidence(Basis::Arguments, weight, text.clone());
                item.shown_by(".bugcheck").with_bit(value.trailing_zeros())
            };
            findings.supports(&memory(), item(weights::STRONG));
            findings.supports(&processor(), item(weights::SLIGHT));
            findings.contradicts(&Cause::of(Class::PoolCorruptionByDriver), item(weights::MODERATE));
        } else {
            let text = format!(
                "the page-table entry at {pte:#x} should be empty and holds {value:#x}, {bits} bits of it set"
            );
            let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
            let few = bits <= 3;
            findings.supports(&memory(), item(if few { weights::CLEAR } else { weights::SLIGHT }));
            findings.supports(
                &Cause::of(Class::PoolCorruptionByDriver),
                item(if few { weights::SLIGHT } else { weights::CLEAR }),
            );
        }
        return;
    }
    if let Some(bit) = differs_in_a_bit(stop) {
        let text = format!(
            "what should be the same in the page table and in the list of page frames differs in one bit, {bit:#x}"
        );
        let item = |weight| {
            let item = evidence(Basis::Arguments, weight, text.clone());
            item.shown_by(".bugcheck").with_bit(bit.trailing_zeros())
        };
        findings.supports(&memory(), item(weights::STRONG));
        findings.supports(&processor(), item(weights::SLIGHT));
        return;
    }
    let meaning = knowledge::bug_check(stop.base)
        .and_then(|known| known.subcode(stop.arg(1)))
        .map(|known| known.meaning);
    let text = format!(
        "a page table or a list of pages is damaged (Arg1 {:#x}): {}",
        stop.arg(1),
        meaning.as_deref().unwrap_or("it holds what it cannot hold")
    );
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    findings.supports(&memory(), item(weights::MODERATE));
    findings.supports(&Cause::of(Class::PoolCorruptionByDriver), item(weights::SLIGHT));
    findings.supports(&processor(), item(weights::NOTED));
}
