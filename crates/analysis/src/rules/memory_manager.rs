//! The memory manager found damage: 0x1A, 0x4E, 0x12B. A page-table entry with one bit too many is the clearest
//! mark of failing memory there is; several wrong bits point to a stray write.

use super::{memory, processor, single_bit};
use crate::facts::Facts;
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    match (stop.base, stop.arg(1)) {
        (0x1a, 0x41790..=0x41793 | 0x403 | 0x411 | 0x3453 | 0x8884..=0x8888 | 0x61940 | 0x61941) => {
            page_table(facts, findings);
        }
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
    let text = format!("a page table is damaged (Arg1 {:#x})", stop.arg(1));
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    findings.supports(&memory(), item(weights::MODERATE));
    findings.supports(&Cause::of(Class::PoolCorruptionByDriver), item(weights::SLIGHT));
    findings.supports(&processor(), item(weights::NOTED));
}
