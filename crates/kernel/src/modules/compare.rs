//! A module's code in memory beside the file it was loaded from.

use crate::core::Core;
use crate::modules::module::Module;
use std::ops::Range;
use std::path::PathBuf;
use stopcode_base::{Fact, VirtAddr};
use stopcode_image::{Image, Relocation, Rewritten, Section};

/// More differences are counted and not kept: another image altogether lies there.
const MOST_DIFFERENCES: usize = 4096;
/// Code is compared in pieces of this size.
const PAGE: u32 = 0x1000;

/// What a comparison of a module's code with its file found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageCheck {
    /// The file: time stamp and size are the module's.
    pub file: PathBuf,
    /// Bytes of code that were compared.
    pub compared: u64,
    /// Bytes of code that the dump does not hold.
    pub missing: u64,
    /// Bytes of code that the loader may have written over, and that were therefore not compared.
    pub excused: u64,
    /// Bytes that differ.
    pub errors: u64,
    /// Where they differ, ascending; the first 4,096.
    pub differences: Vec<Difference>,
    /// Kinds of the loader's patches whose places this reader does not know: a difference may be one of them.
    pub unknown_patches: Vec<u64>,
}

/// Neighbouring bytes that all differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The first of them.
    pub start: VirtAddr,
    /// What the file has there, relocated.
    pub expected: Vec<u8>,
    /// What memory has.
    pub found: Vec<u8>,
}

impl Difference {
    /// The number of the bit in its byte, where one single bit of one byte differs.
    pub fn single_bit(&self) -> Option<u32> {
        let ([expected], [found]) = (self.expected.as_slice(), self.found.as_slice()) else { return None };
        let changed = expected ^ found;
        changed.is_power_of_two().then(|| changed.trailing_zeros())
    }
}

/// Compares the code that stays in memory: sections that may be executed, not written to, and not given back after the
/// start.
pub(crate) fn compare(core: &Core, module: &Module) -> Fact<ImageCheck> {
    let Some((path, bytes)) = core.image_file(module) else {
        return Fact::missing(missing(module));
    };
    let file = match Image::of_file(&bytes) {
        Ok(image) => image,
        Err(error) => return Fact::missing(format!("{}: {error}", path.display())),
    };
    let mut relocations = file.relocations();
    relocations.sort_unstable();
    let Rewritten { ranges, unknown } = file.rewritten();
    let delta = module.base.0.wrapping_sub(file.headers().image_base);
    let comparison =
        Comparison { core, base: module.base, file: &file, relocations, delta, excused: merged(ranges) };
    let source = format!("{}, whose time stamp and size are the module's", path.display());
    let mut check = ImageCheck {
        file: path,
        compared: 0,
        missing: 0,
        excused: 0,
        errors: 0,
        differences: Vec::new(),
        unknown_patches: unknown,
    };
    for section in file.headers().sections.iter().filter(|section| stays(section)) {
        comparison.section(section, &mut check);
    }
    Fact::known(check, source)
}

fn missing(module: &Module) -> String {
    match module.time_date_stamp {
        Some(stamp) => format!(
            "no image of {} with time stamp {stamp:08X} and size {:#x} is among the symbols (--symbols)",
            module.image, module.size
        ),
        None => format!("the dump does not tell which image of {} it was", module.image),
    }
}

fn stays(section: &Section) -> bool {
    section.is_code() && !section.is_writable() && !section.is_discardable()
}

/// The same ranges, ascending and apart.
fn merged(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut apart: Vec<Range<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match apart.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => apart.push(range),
        }
    }
    apart
}

struct Comparison<'a> {
    core: &'a Core,
    base: VirtAddr,
    file: &'a Image<'a>,
    relocations: Vec<Relocation>,
    delta: u64,
    excused: Vec<Range<u32>>,
}

impl Comparison<'_> {
    fn section(&self, section: &Section, check: &mut ImageCheck) {
        // The file pads a section's bytes; what lies behind its size is not mapped as code.
        let size = if section.virtual_size == 0 {
            section.file_size
        } else {
            section.virtual_size.min(section.file_size)
        };
        let end = section.rva.saturating_add(size);
        let mut at = section.rva;
        while at < end {
            let next = (at / PAGE).saturating_add(1).saturating_mul(PAGE).min(end);
            let expected = self.expected(at, next);
            if expected.is_empty() {
                return;
            }
            self.piece(at, &expected, check);
            at = next;
        }
    }

    /// The file's bytes of a piece, moved to where the module was loaded.
    fn expected(&self, start: u32, end: u32) -> Vec<u8> {
        // A word may begin before the piece or end behind it.
        let from = start.saturating_sub(8).max(self.file.section(start).map_or(start, |section| section.rva));
        let mut bytes = self.file.bytes(from, (end - from) as usize + 8);
        let first = self.relocations.partition_point(|relocation| relocation.rva < from);
        for relocation in self.relocations.iter().skip(first).take_while(|relocation| relocation.rva < end) {
            let at = (relocation.rva - from) as usize;
            relocate(&mut bytes, at, usize::from(relocation.size), self.delta);
        }
        bytes.truncate((end - from) as usize);
        bytes.split_off(((start - from) as usize).min(bytes.len()))
    }

    fn piece(&self, rva: u32, expected: &[u8], check: &mut ImageCheck) {
        let held = held(self.core, self.base.plus(rva.into()), expected.len());
        for (index, (expected, found)) in expected.iter().zip(held).enumerate() {
            let at = rva + index as u32;
            let Some(found) = found else {
                check.missing += 1;
                continue;
            };
            if self.is_excused(at) {
                check.excused += 1;
                continue;
            }
            check.compared += 1;
            if found != *expected {
                check.errors += 1;
                note(check, self.base.plus(at.into()), *expected, found);
            }
        }
    }

    fn is_excused(&self, rva: u32) -> bool {
        let after = self.excused.partition_point(|range| range.start <= rva);
        after.checked_sub(1).and_then(|last| self.excused.get(last)).is_some_and(|range| rva < range.end)
    }
}

/// Adds `delta` to the word of `size` bytes at `at`, as far as it lies in `bytes`.
fn relocate(bytes: &mut [u8], at: usize, size: usize, delta: u64) {
    let Some(place) = bytes.get_mut(at..at + size) else { return };
    let word = place.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let moved = word.wrapping_add(delta).to_le_bytes();
    place.iter_mut().zip(moved).for_each(|(place, byte)| *place = byte);
}

/// The bytes of memory from `at` on, none for those that are not there.
fn held(core: &Core, at: VirtAddr, length: usize) -> Vec<Option<u8>> {
    let mut bytes: Vec<Option<u8>> = vec![None; length];
    let mut fill = |start: VirtAddr, length: usize| {
        let piece = core.memory().read_available(start, length);
        let offset = start.offset_from(at).unwrap_or_default() as usize;
        for (place, byte) in bytes.iter_mut().skip(offset).zip(piece) {
            *place = Some(byte);
        }
    };
    if core.dump.physical().is_some() {
        fill(at, length);
        return bytes;
    }
    // A small dump holds pieces that begin anywhere.
    let end = at.plus(length as u64);
    for (start, size) in core.dump.memory_runs() {
        let (first, last) = (start.max(at), start.plus(size).min(end));
        if let Some(length) = last.offset_from(first).filter(|length| *length > 0) {
            fill(first, length as usize);
        }
    }
    bytes
}

fn note(check: &mut ImageCheck, at: VirtAddr, expected: u8, found: u8) {
    let full = check.differences.len() >= MOST_DIFFERENCES;
    match check.differences.last_mut() {
        Some(last) if last.start.plus(last.found.len() as u64) == at => {
            last.expected.push(expected);
            last.found.push(found);
        }
        _ if full => {}
        _ => check.differences.push(Difference { start: at, expected: vec![expected], found: vec![found] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_move_with_the_base() {
        let mut bytes = 0x1_4000_1000_u64.to_le_bytes().to_vec();
        relocate(&mut bytes, 0, 8, 0xffff_f800_0000_0000);
        assert_eq!(bytes, 0xffff_f801_4000_1000_u64.to_le_bytes());
        // A word that is not there whole stays as it is.
        relocate(&mut bytes, 4, 8, 1);
        assert_eq!(bytes, 0xffff_f801_4000_1000_u64.to_le_bytes());
    }

    #[test]
    fn ranges_are_merged() {
        assert_eq!(merged(vec![8..10, 1..4, 2..3, 4..5]), [1..5, 8..10]);
    }

    #[test]
    fn one_bit_of_one_byte() {
        let difference = |expected: &[u8], found: &[u8]| Difference {
            start: VirtAddr(0),
            expected: expected.to_vec(),
            found: found.to_vec(),
        };
        assert_eq!(difference(&[0xe9], &[0xe8]).single_bit(), Some(0));
        assert_eq!(difference(&[0x48], &[0xc8]).single_bit(), Some(7));
        assert_eq!(difference(&[0x48], &[0x4b]).single_bit(), None);
        assert_eq!(difference(&[1, 2], &[0, 0]).single_bit(), None);
    }
}
