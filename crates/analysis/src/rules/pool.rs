//! Damaged pool, lists and heap: 0x19, 0xC2, 0xC5, 0xD0, 0xDE, 0x13A, 0x139, 0x18. Who found the damage is seldom who did it.

use super::{driver_cause, memory};
use crate::facts::{Facts, Standee, Standing, Stop, standing};
use crate::findings::{Cause, Findings, evidence};
use crate::strength::Strength;
use crate::verdict::{Basis, Class, Evidence};
use crate::weights;
use stopcode_base::VirtAddr;
use stopcode_kernel::Module;
use stopcode_knowledge::{self as knowledge, ParamKind};

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
    let owner = named_tags(stop).into_iter().find_map(|tag| owner_of(facts, tag));
    match &owner {
        Some((cause, _)) if nearest(facts).is_none() => {
            findings.supports(cause, item(weights::MODERATE));
            findings.supports(&Cause::of(Class::PoolCorruptionByDriver), item(weights::NOTED));
            findings.supports(&memory(), item(weights::NOTED));
        }
        _ => blame(facts, findings, item),
    }
    if let Some((cause, tag)) = owner {
        findings.supports(&cause, tag);
    }
    run_over(facts, findings);
    header_bit(facts, findings);
}

/// `POOL_HEADER` on x64: the size of the block before, index, own size, type, each a byte, sizes in units of 16 bytes; then
/// the tag.
#[derive(Clone, Copy)]
struct Header {
    at: VirtAddr,
    bytes: [u8; 8],
}

/// Bytes of a unit of sizes, and of a header with the pointer behind its tag.
const UNIT: u64 = 16;

impl Header {
    fn read(facts: &Facts<'_>, at: VirtAddr) -> Option<Self> {
        let bytes = facts.witness.bytes(at, 8).as_ref().try_into().ok()?;
        Some(Self { at, bytes })
    }

    const fn size_before(self) -> u8 {
        self.bytes[0]
    }

    const fn size(self) -> u8 {
        self.bytes[2]
    }

    fn tag(&self) -> &[u8] {
        self.bytes.get(4..).unwrap_or_default()
    }

    /// What overruns a block writes over the tag behind it as well.
    fn is_tagged(&self) -> bool {
        self.tag().iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
    }

    /// The header behind a block of so many units.
    fn behind(self, facts: &Facts<'_>, units: u8) -> Option<Self> {
        let behind = self.at.plus(u64::from(units) * UNIT);
        Self::read(facts, behind).filter(|_| units != 0)
    }

    /// The header of the block before, where both headers say the same of its size.
    fn before(self, facts: &Facts<'_>) -> Option<Self> {
        let before = Self::read(facts, self.at.minus(u64::from(self.size_before()) * UNIT))?;
        (self.size_before() != 0 && before.size() == self.size_before()).then_some(before)
    }
}

/// The header that 0x19 with Arg1 0x20 names (Arg2).
fn named_header(facts: &Facts<'_>) -> Option<Header> {
    let stop = facts.stop.as_ref()?;
    let named = stop.base == 0x19 && stop.arg(1) == 0x20 && facts.x64_dump();
    named.then(|| Header::read(facts, VirtAddr(stop.arg(2))))?
}

/// Headers of neighbouring blocks that would fit together but for one bit.
///
/// What runs over the end of a block runs upwards, and comes to the header's first byte, the size of the block before,
/// ahead of all others: a header in which that one still fits was not run over.
fn header_bit(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(block) = named_header(facts) else { return };
    let first_of_page = block.at.0.is_multiple_of(0x1000) && block.size_before() == 0;
    if !block.is_tagged() || !first_of_page && block.before(facts).is_none() {
        return;
    }
    let size = block.size();
    let next = block.behind(facts, size).filter(Header::is_tagged);
    let returned = next.map(|next| next.size_before() ^ size).filter(|bits| bits.is_power_of_two());
    let own = (0..8).map(|bit| (bit, size ^ 1 << bit)).find(|(_, whole)| {
        block.behind(facts, *whole).is_some_and(|behind| behind.size_before() == *whole && behind.is_tagged())
    });
    let found = returned
        .map(|bits| ("next block's size before it", bits.trailing_zeros(), size))
        .or_else(|| own.map(|(bit, whole)| ("size", bit, whole)));
    let Some((field, bit, units)) = found else { return };
    let behind = block.at.plus(u64::from(units) * UNIT);
    let text = format!(
        "the headers of the block at {:#x} and of its neighbours are sound, tags included, but for one bit (bit {bit}) of the {field}",
        block.at.0
    );
    let item = |weight| {
        evidence(Basis::Memory, weight, text.clone())
            .shown_by(format!("db {:#} L10; db {behind:#} L10", block.at))
            .with_bit(bit)
    };
    findings.supports(&memory(), item(weights::STRONG));
    findings.supports(&super::processor(), item(weights::SLIGHT));
    findings.contradicts_all(|cause| cause.class == Class::PoolCorruptionByDriver, &item(weights::CLEAR));
}

/// The header was run over from the block before: what stands in it goes on from where that block ends.
fn run_over(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(header) = named_header(facts).filter(|header| header.before(facts).is_none()) else { return };
    // The headers of a page lead from one to the next; the last that leads here is that of the block before.
    let mut before = Header::read(facts, header.at.page());
    while let Some(behind) =
        before.and_then(|block| block.behind(facts, block.size())).filter(|behind| behind.at < header.at)
    {
        before = Some(behind);
    }
    let ends_here = |block: &Header| block.at.plus(u64::from(block.size()) * UNIT) == header.at;
    let Some(before) = before.filter(|block| block.is_tagged() && ends_here(block)) else { return };
    let tag = String::from_utf8_lossy(before.tag());
    let text = format!(
        "the header at {:#x} is damaged from its first byte on, as by a write past the end of the block before it, which lies at {:#x} and has the tag {tag:?}",
        header.at.0, before.at.0
    );
    let item = evidence(Basis::Memory, weights::MODERATE, text);
    let shown = format!("db {:#} L10; db {:#} L10", before.at, header.at);
    findings.supports(&by_driver(facts), item.shown_by(shown).at(header.at));
    if let Some((cause, tag)) = before.tag().first_chunk().and_then(|tag| owner_of(facts, *tag)) {
        findings.supports(&cause, tag);
    }
}

/// The pool tags that arguments name. The highest bit of the last letter says that the block is protected.
fn named_tags(stop: &Stop) -> Vec<[u8; 4]> {
    let Some(known) = knowledge::bug_check(stop.base) else { return Vec::new() };
    let meanings = known.arguments(&stop.arguments);
    let tags = stop.arguments.iter().zip(meanings).filter(|(_, meaning)| meaning.kind == ParamKind::PoolTag);
    let letters = tags.map(|(value, _)| (*value as u32 & 0x7fff_ffff).to_le_bytes());
    letters.filter(|tag| tag.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')).collect()
}

/// A driver gives its pool tags of its own, which stand in its code as constants: the one that has this one made the block.
fn owner_of(facts: &Facts<'_>, tag: [u8; 4]) -> Option<(Cause, Evidence)> {
    /// Of all images together no more is searched; who is not searched may have the tag, too.
    const MOST: u64 = 128 << 20;
    // How code hands a tag over: `mov r8d, TAG` to allocate, `mov edx, TAG` to free, `push TAG` on x86. As mere text, a tag such
    // as `File` stands in many an image.
    let patterns: Vec<Vec<u8>> =
        [&[0x41, 0xb8][..], &[0xba], &[0x68]].iter().map(|before| [before, &tag[..]].concat()).collect();
    let drivers: Vec<&Module> = facts
        .witness
        .modules()
        .iter()
        .filter(|module| standing(&module.image) == Standing::ThirdParty)
        .collect();
    if drivers.iter().map(|module| module.size).fold(0, u64::saturating_add) > MOST {
        return None;
    }
    let mut holders =
        drivers.into_iter().filter_map(|module| Some((module, facts.witness.first_in(module, &patterns)?)));
    // What stands in two images may stand there by chance.
    let (Some((module, at)), None) = (holders.next(), holders.next()) else { return None };
    let written: String = tag.iter().map(|byte| char::from(*byte)).collect();
    let text = format!(
        "of all drivers that do not come with Windows only {} has the block's pool tag {written:?} in its code, at {}, as far as \
         this dump holds their code",
        module.image,
        at.windbg()
    );
    let cause = Cause::by(Class::PoolCorruptionByDriver, facts.driver_suspect(&module.image));
    Some((cause, evidence(Basis::Memory, weights::MODERATE, text).shown_by(format!("u {at:#} L1")).at(at)))
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

#[cfg(test)]
mod tests {
    use crate::Class;
    use crate::fake::{Fake, confidence, lead, refuted, says};

    const PAGE: u64 = 0xffff_fa80_0123_4000;

    /// Three blocks of 0x40, 0x60 and 0x40 bytes from the start of a page, with one byte of the headers changed; 0x19 about
    /// the second.
    fn page(changes: &[(usize, u8)]) -> Fake {
        let mut bytes = vec![0; 0x200];
        for (at, before, size, tag) in
            [(0, 0, 4, b"Drv1"), (0x40, 4, 6, b"File"), (0xa0, 6, 4, b"Thre"), (0xe0, 4, 4, b"Mdl ")]
        {
            bytes[at..at + 4].copy_from_slice(&[before, 0, size, 2]);
            bytes[at + 4..at + 8].copy_from_slice(tag);
        }
        for (at, value) in changes {
            bytes[*at] = *value;
        }
        Fake::new(0x19, [0x20, PAGE + 0x40, PAGE + 0xa0, 0])
            .stack(&["nt!KeBugCheckEx", "nt!ExFreePool", "driver.sys"])
            .bytes_at(PAGE, &bytes)
    }

    #[test]
    fn a_header_with_one_bit_wrong_is_memory() {
        // The size of the second block, 6, as 0x26; and the size before the third.
        for (at, value) in [(0x42, 0x26), (0xa0, 4)] {
            let flipped = page(&[(at, value)]);
            assert_eq!(lead(&flipped).0, Class::MemoryHardware, "{at:#x}");
            assert!(says(&flipped, Class::MemoryHardware, "but for one bit"));
            assert!(refuted(&flipped, Class::PoolCorruptionByDriver, "but for one bit"));
        }
    }

    #[test]
    fn a_header_run_over_from_its_first_byte_is_the_block_befores() {
        let changes: Vec<(usize, u8)> = (0x40..0x48).map(|at| (at, 0x41)).collect();
        let overrun = page(&changes);
        assert!(says(&overrun, Class::PoolCorruptionByDriver, "the tag \"Drv1\""));
        assert!(!says(&overrun, Class::MemoryHardware, "but for one bit"));
        assert!(confidence(&overrun, Class::MemoryHardware) < 0.5);
    }

    #[test]
    fn sound_headers_and_wholly_different_sizes_say_nothing() {
        for fake in [page(&[]), page(&[(0x42, 0x39)])] {
            assert!(!says(&fake, Class::MemoryHardware, "but for one bit"));
            assert_eq!(lead(&fake).0, Class::PoolCorruptionByDriver);
        }
    }
}
