//! Where the parts of a triage dump lie: in the file, by the offsets in its header; and in memory, which the file
//! does not say for the structures that it copied.

use super::shape::Shape;
use crate::bytes::{u8_at, u32_at};
use std::ops::Range;
use stopcode_base::{Problem, Severity, VirtAddr};

/// Finds the parts of one file and names those that are not where the header says.
pub(super) struct Locator<'f, 'p> {
    file: &'f [u8],
    shape: Shape,
    starts: Vec<usize>,
    problems: &'p mut Vec<Problem>,
}

impl<'f, 'p> Locator<'f, 'p> {
    pub(super) fn new(file: &'f [u8], shape: Shape, problems: &'p mut Vec<Problem>) -> Self {
        let mut starts: Vec<usize> = shape
            .offsets()
            .iter()
            .filter_map(|field| u32_at(file, *field))
            .map(|offset| offset as usize)
            .collect();
        starts.sort_unstable();
        Self { file, shape, starts, problems }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn file(&self) -> &'f [u8] {
        self.file
    }

    /// The header's word at `field`; zero if the file ends before it.
    pub(super) fn word(&self, field: usize) -> usize {
        u32_at(self.file, field).unwrap_or(0) as usize
    }

    /// The part whose offset is at `field` and which has `size` bytes; empty if it is absent or damaged, and no
    /// longer than the room there is up to the next part and to the end of the file.
    pub(super) fn part(&mut self, name: &str, field: usize, size: usize) -> Range<usize> {
        let start = self.word(field);
        if start == 0 || size == 0 {
            return 0..0;
        }
        if start < self.shape.end || start >= self.file.len() {
            let what =
                format!("its offset is {start:#x}, the file has {:#x} bytes: left out", self.file.len());
            self.report(name, field, what);
            return 0..0;
        }
        let room = self.room(start, size);
        // A structure whose size is not known takes what room there is: no reason to complain.
        if room < size && size != super::LARGEST_STRUCTURE {
            let what =
                format!("{size:#x} bytes are stated, there is room for {room:#x} before the next part");
            self.report(name, field, what);
        }
        let end = start.saturating_add(room);
        if end > self.file.len() {
            let what = format!("the file ends {:#x} bytes before it does", end - self.file.len());
            self.report(name, field, what);
        }
        start..end.min(self.file.len())
    }

    /// The same for a table of `count` entries of `size` bytes.
    pub(super) fn table(&mut self, name: &str, field: usize, count: usize, size: usize) -> Range<usize> {
        self.part(name, field, count.saturating_mul(size))
    }

    /// How much of `size` bytes from `start` on may belong to one part. A part that ends exactly where another
    /// starts is believed even if some third, damaged offset points into it.
    fn room(&self, start: usize, size: usize) -> usize {
        let end = start.saturating_add(size);
        let next = self.starts.iter().copied().find(|other| *other > start);
        match next {
            Some(next) if next < end && self.starts.binary_search(&end).is_err() => next - start,
            _ => size,
        }
    }

    /// Names the part whose offset is at `field`, and what is wrong with it.
    pub(super) fn report(&mut self, name: &str, field: usize, what: String) {
        let place = format!("{name} (offset at {field:#x} of the triage header)");
        self.problems.push(Problem::new(Severity::Warning, place, what));
    }
}

/// Empty list heads that must agree before an address counts as proven.
const MINIMUM_VOTES: usize = 3;

/// The address of a copied kernel structure, from its own empty lists.
///
/// The head of an empty list points to itself, twice. Each such pair in the copy therefore tells where the structure
/// lay; a PRCB has hundreds, an ETHREAD or EPROCESS a few. The address that most of them tell is taken if at least
/// three agree on it and no other has half as many. Windows does not store this address, and before 19041 and after
/// 22H2 no other way to it was found.
pub(super) fn proven_by_lists(bytes: &[u8], shape: &Shape) -> Option<VirtAddr> {
    let width = shape.pointer_size();
    let mut told: Vec<u64> = (0..bytes.len().saturating_sub(2 * width - 1))
        .step_by(width)
        .filter_map(|offset| {
            let link = shape.pointer(bytes, offset).filter(|link| shape.is_kernel(*link))?;
            (shape.pointer(bytes, offset + width) == Some(link)).then(|| link.minus(offset as u64).0)
        })
        .collect();
    told.sort_unstable();
    let mut votes: Vec<(usize, u64)> =
        told.chunk_by(|a, b| a == b).filter_map(|same| Some((same.len(), *same.first()?))).collect();
    votes.sort_unstable_by(|a, b| b.cmp(a));
    let (most, address) = *votes.first()?;
    let second = votes.get(1).map_or(0, |(count, _)| *count);
    (most >= MINIMUM_VOTES && second * 2 <= most).then_some(VirtAddr(address))
}

/// The address of a copied dispatcher object: proven by its lists, or else as another structure `stated` it, if the
/// copy at least starts as such an object.
pub(super) fn address(
    bytes: &[u8],
    shape: &Shape,
    stated: Option<VirtAddr>,
    object_type: u8,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Option<VirtAddr> {
    let proven = proven_by_lists(bytes, shape);
    if let (Some(proven), Some(stated)) = (proven, stated)
        && proven != stated
    {
        let what = format!("the copy is of the one at {proven:#}, not of {stated:#}, which was current");
        problems.push(Problem::new(Severity::Warning, name, what));
    }
    let looks_right = u8_at(bytes, 0).is_some_and(|first| first & 0x7f == object_type);
    proven.or_else(|| stated.filter(|_| looks_right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Bits;

    const WIDE: Shape = Shape::of(Bits::B64);

    fn with_lists(size: usize, lists: &[(usize, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; size];
        for (offset, link) in lists {
            bytes[*offset..offset + 8].copy_from_slice(&link.to_le_bytes());
            bytes[offset + 8..offset + 16].copy_from_slice(&link.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn empty_lists_tell_where_a_structure_lay() {
        let base = 0xffff_8000_1234_5000;
        let three = [(0x10, base + 0x10), (0x80, base + 0x80), (0xf0, base + 0xf0)];
        assert_eq!(proven_by_lists(&with_lists(0x100, &three), &WIDE), Some(VirtAddr(base)));
        assert_eq!(proven_by_lists(&with_lists(0x100, &three[..2]), &WIDE), None);
        assert_eq!(proven_by_lists(&with_lists(0xf8, &three[..2]), &WIDE), None);
        let rivals =
            [three[0], three[1], three[2], (0x30, 0xffff_9000_0000_0030), (0x50, 0xffff_9000_0000_0050)];
        assert_eq!(proven_by_lists(&with_lists(0x100, &rivals), &WIDE), None);
        assert_eq!(proven_by_lists(&[0; 0x100], &WIDE), None);
        assert_eq!(proven_by_lists(&[], &WIDE), None);
    }

    #[test]
    fn without_proof_the_statement_counts_only_for_such_an_object() {
        let stated = Some(VirtAddr(0xffff_8000_0000_1000));
        let mut problems = Vec::new();
        assert_eq!(address(&[6, 0, 0], &WIDE, stated, 6, "ETHREAD", &mut problems), stated);
        assert_eq!(address(&[3, 0, 0], &WIDE, stated, 6, "ETHREAD", &mut problems), None);
        assert_eq!(address(&[], &WIDE, stated, 6, "ETHREAD", &mut problems), None);
        assert!(problems.is_empty());
    }
}
