//! Damaged pool, lists and heap: 0x19, 0xC2, 0xC5, 0xD0, 0xDE, 0x13A, 0x139, 0x18. Who found the damage is seldom who did it.

use super::{driver_cause, memory};
use crate::facts::{Facts, Standee, Standing, Stop};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class, Evidence};
use crate::weights::{self, Strength};
use stopcode_base::VirtAddr;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    match stop.base {
        0x19 | 0xc2 | 0xc5 | 0xd0 | 0xde | 0x13a => damaged(facts, findings),
        0x139 => fast_fail(facts, findings, stop.arg(1)),
        0x18 => {
            let text = "an object's reference count fell below zero: somebody released it once too often";
            findings.supports(
                &Cause::of(Class::DriverBug),
                evidence(Basis::Arguments, weights::USUAL, text).shown_by(".bugcheck"),
            );
        }
        _ => {}
    }
}

/// Stops by which Windows says that shared data was found damaged.
pub(super) const fn is_damage(stop: &Stop) -> bool {
    // Of the fast-fail kinds, a stack cookie (2) and a stack pointer out of bounds (4) are the function's own.
    matches!(stop.base, 0x19 | 0x1a | 0x4e | 0xc2 | 0xc5 | 0xd0 | 0xde | 0x13a)
        || stop.base == 0x139 && !matches!(stop.arguments[0], 2 | 4)
}

/// Memory damaged by a driver: by the one that stands nearest on the stack, where there is one.
pub(super) fn by_driver(facts: &Facts<'_>) -> Cause {
    nearest(facts).map_or_else(
        || Cause::of(Class::PoolCorruptionByDriver),
        |(_, image)| Cause::by(Class::PoolCorruptionByDriver, facts.driver_suspect(image)),
    )
}

/// The nearest driver that does not come with Windows.
fn nearest<'w>(facts: &Facts<'w>) -> Option<(Standee<'w>, &'w str)> {
    let standee = facts.standees(facts.judged()?).find(|standee| standee.standing == Standing::ThirdParty)?;
    Some((standee, standee.frame.place.image.as_deref()?))
}

fn damaged(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    let what = match stop.base {
        0xc2 => "a request to the pool was wrong",
        0xc5 | 0xd0 => "the pool's own lists were damaged",
        0x13a => "the kernel heap was found damaged",
        _ => "a pool block was found damaged",
    };
    let text = format!(
        "{what} ({:#x}, Arg1 {:#x}); the damage may have been done before, by code that need not be on this stack",
        stop.base,
        stop.arg(1)
    );
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    blame(facts, findings, item);
    header_bit(facts, findings);
}

/// Headers of neighbouring blocks that would fit together but for one bit: 0x19 with Arg1 0x20 gives the block (Arg2) and the
/// next one (Arg3). `POOL_HEADER` on x64: the size of the block before, index, own size, each in 16 bytes; then the tag.
fn header_bit(facts: &Facts<'_>, findings: &mut Findings) {
    let stop =
        facts.stop.as_ref().filter(|stop| stop.base == 0x19 && stop.arg(1) == 0x20 && facts.x64_dump());
    let Some(stop) = stop else { return };
    let header =
        |at: u64| -> Option<[u8; 8]> { facts.witness.bytes(VirtAddr(at), 8).as_ref().try_into().ok() };
    let Some(block) = header(stop.arg(2)) else { return };
    // What overruns a block writes over the tag behind it as well.
    let tagged =
        |header: &[u8; 8]| header.iter().skip(4).all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let size = block[2];
    let bits = (0..8).find_map(|bit| {
        let whole = size ^ 1 << bit;
        let behind = header(stop.arg(2) + u64::from(whole) * 16)?;
        (whole != 0 && behind[0] == whole && tagged(&behind) && tagged(&block)).then_some(("size", bit))
    });
    let next = header(stop.arg(2) + u64::from(size) * 16).filter(tagged);
    let returned = next.map(|next| next[0] ^ size).filter(|bits| bits.is_power_of_two() && tagged(&block));
    let Some((field, bit)) =
        returned.map(|bits| ("next block's size before it", bits.trailing_zeros())).or(bits)
    else {
        return;
    };
    let behind = stop.arg(2) + u64::from(block[2] ^ if field == "size" { 1 << bit } else { 0 }) * 16;
    let text = format!(
        "the headers of the block at {:#x} and of its neighbour are sound, tags included, but for one bit (bit {bit}) of the {field}",
        stop.arg(2)
    );
    let item = |weight| {
        evidence(Basis::Memory, weight, text.clone())
            .shown_by(format!("db {:#x} L10; db {behind:#x} L10", stop.arg(2)))
            .with_bit(bit)
    };
    findings.supports(&memory(), item(weights::STRONG));
    findings.supports(&super::processor(), item(weights::SLIGHT));
    findings.contradicts_all(|cause| cause.class == Class::PoolCorruptionByDriver, &item(weights::CLEAR));
}

/// The nearest driver, or whichever damaged the data before; failing memory last.
fn blame(facts: &Facts<'_>, findings: &mut Findings, item: impl Fn(Strength) -> Evidence) {
    if nearest(facts).is_some() {
        findings.supports(&by_driver(facts), item(weights::MODERATE));
        findings.supports(&Cause::of(Class::PoolCorruptionByDriver), item(weights::NOTED));
        freeing_driver(facts, findings);
    } else {
        findings.supports(&by_driver(facts), item(weights::CLEAR));
    }
    findings.supports(&memory(), item(weights::NOTED));
}

/// The driver that handed the damaged block to the kernel.
fn freeing_driver(facts: &Facts<'_>, findings: &mut Findings) {
    let Some((nearest, _)) = nearest(facts) else { return };
    let text = format!(
        "{} handed the block to the kernel (frame {}): it owns it, or was given it damaged",
        nearest.frame.place.label().unwrap_or_default(),
        nearest.index
    );
    findings.supports(
        &by_driver(facts),
        evidence(Basis::Stack, weights::SLIGHT, text).shown_by("k").at(nearest.frame.instruction),
    );
}

/// 0x139: the kind of check that failed says what was damaged.
fn fast_fail(facts: &Facts<'_>, findings: &mut Findings, kind: u64) {
    let what = match kind {
        2 => "a stack cookie was overwritten: a function wrote past its own buffer",
        3 => "a doubly linked list does not link back to itself: an entry was freed in use or overwritten",
        4 => "the stack pointer lies outside the thread's stack",
        0xe => "a reference count overflowed or underflowed",
        0x1d => "a balanced tree is damaged",
        _ => "the kernel checked itself and failed",
    };
    let text = format!("{what} (Arg1 {kind:#x})");
    let item = |weight| evidence(Basis::Arguments, weight, text.clone()).shown_by(".bugcheck");
    if matches!(kind, 2 | 4) {
        let cause = nearest(facts)
            .map_or_else(|| Cause::of(Class::DriverBug), |(_, image)| driver_cause(facts, image));
        findings.supports(&cause, item(weights::MODERATE));
        findings.supports(&memory(), item(weights::NOTED));
    } else {
        blame(facts, findings, item);
    }
}
