//! Damaged pool, lists and heap: 0x19, 0xC2, 0xC5, 0xD0, 0xDE, 0x13A, 0x139, 0x18. Who found the damage is seldom who did it.

use super::{driver_cause, memory};
use crate::facts::{Facts, Standee, Standing, Stop};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class, Evidence};
use crate::weights::{self, Strength};

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
