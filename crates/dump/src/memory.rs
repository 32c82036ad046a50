//! Which byte of the file holds a virtual address: disjoint segments, made once, found by binary search.

use std::collections::BinaryHeap;
use stopcode_base::{MissReason, VirtAddr};

/// A run of bytes that the dump places at an address.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u64,
    end: u64,
    /// File offset of the first byte; `None` where the file ends before it.
    offset: Option<usize>,
}

/// Pieces in the order in which they were added: where two overlap, the later one counts.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    present: Vec<Piece>,
    missing: Vec<Piece>,
}

impl Pieces {
    /// Adds `size` bytes at `address` from `offset` on in a file of `file_size`. What lies beyond the end of the file
    /// is remembered as missing, which any byte that is there outranks.
    pub(crate) fn add(&mut self, address: VirtAddr, offset: usize, size: usize, file_size: usize) {
        let held = file_size.saturating_sub(offset).min(size);
        let middle = address.0.saturating_add(held as u64);
        let end = address.0.saturating_add(size as u64);
        if middle > address.0 {
            self.present.push(Piece { start: address.0, end: middle, offset: Some(offset) });
        }
        if end > middle {
            self.missing.push(Piece { start: middle, end, offset: None });
        }
    }

    /// Settles overlaps: a sweep over the starts, with the pieces that cover the place in a heap by rank.
    pub(crate) fn into_map(self) -> Map {
        let mut pieces: Vec<(Piece, usize)> = self.missing.into_iter().chain(self.present).zip(0..).collect();
        pieces.sort_unstable_by_key(|(piece, rank)| (piece.start, *rank));
        let mut segments: Vec<Piece> = Vec::with_capacity(pieces.len());
        // Rank first, so that the top of the heap is the piece that counts.
        let mut covering: BinaryHeap<(usize, u64, u64, Option<usize>)> = BinaryHeap::new();
        let mut waiting = pieces.into_iter().peekable();
        let mut here = 0;
        loop {
            while covering.peek().is_some_and(|top| top.2 <= here) {
                covering.pop();
            }
            if covering.is_empty() {
                let Some((next, _)) = waiting.peek() else { break };
                here = next.start;
            }
            while let Some((piece, rank)) = waiting.next_if(|(piece, _)| piece.start <= here) {
                covering.push((rank, piece.start, piece.end, piece.offset));
            }
            let Some(&(_, start, end, offset)) = covering.peek() else { continue };
            if end <= here {
                continue;
            }
            let end = waiting.peek().map_or(end, |(next, _)| end.min(next.start));
            push(
                &mut segments,
                Piece { start: here, end, offset: offset.map(|o| o + (here - start) as usize) },
            );
            here = end;
        }
        segments.shrink_to_fit();
        Map { segments }
    }
}

/// Appends `piece`, joined to the last segment where it continues it in both memory and file.
fn push(segments: &mut Vec<Piece>, piece: Piece) {
    if let Some(last) = segments.last_mut() {
        let continued = last.offset.map(|offset| offset + (last.end - last.start) as usize);
        if last.end == piece.start && continued == piece.offset {
            last.end = piece.end;
            return;
        }
    }
    segments.push(piece);
}

/// Disjoint segments in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Map {
    segments: Vec<Piece>,
}

impl Map {
    /// The bytes of `file` that lie at `at`, up to the end of its segment; at least one.
    pub(crate) fn at<'a>(&self, file: &'a [u8], at: VirtAddr) -> Result<&'a [u8], MissReason> {
        let above = self.segments.partition_point(|segment| segment.start <= at.0);
        let segment = above
            .checked_sub(1)
            .and_then(|index| self.segments.get(index))
            .filter(|segment| at.0 < segment.end)
            .ok_or(MissReason::NotInDump)?;
        let offset = segment.offset.ok_or(MissReason::FileTruncated)?;
        let start = offset + (at.0 - segment.start) as usize;
        let end = offset + (segment.end - segment.start) as usize;
        file.get(start..end).filter(|bytes| !bytes.is_empty()).ok_or(MissReason::FileTruncated)
    }

    /// Address and size of every run of memory without a gap, as far as its bytes are in the file.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (VirtAddr, u64)> {
        let mut segments = self.segments.iter().filter(|s| s.offset.is_some()).peekable();
        std::iter::from_fn(move || {
            let first = segments.next()?;
            let mut end = first.end;
            while let Some(next) = segments.next_if(|next| next.start == end) {
                end = next.end;
            }
            Some((VirtAddr(first.start), end - first.start))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"0123456789abcdefghijklmnopqrstuv";

    fn text(map: &Map, from: u64, to: u64) -> String {
        (from..to)
            .map(|at| match map.at(FILE, VirtAddr(at)) {
                Ok(bytes) => char::from(bytes[0]),
                Err(MissReason::FileTruncated) => '!',
                Err(_) => '.',
            })
            .collect()
    }

    #[test]
    fn later_pieces_win_and_missing_ones_lose() {
        let mut pieces = Pieces::default();
        pieces.add(VirtAddr(10), 0, 10, FILE.len());
        pieces.add(VirtAddr(12), 10, 3, FILE.len());
        pieces.add(VirtAddr(18), 20, 4, FILE.len());
        pieces.add(VirtAddr(20), 30, 6, FILE.len());
        let map = pieces.into_map();
        // 10 to 19 from the first, 12 to 14 from the second, 18 and 19 from the third, 20 and 21 from the last.
        assert_eq!(text(&map, 8, 28), "..01abc567kluv!!!!..");
    }

    #[test]
    fn a_piece_at_the_end_of_the_address_space() {
        let mut pieces = Pieces::default();
        pieces.add(VirtAddr(u64::MAX - 2), 0, 10, FILE.len());
        let map = pieces.into_map();
        assert_eq!(map.at(FILE, VirtAddr(u64::MAX - 1)), Ok(&b"1"[..]));
        assert_eq!(map.at(FILE, VirtAddr(u64::MAX)), Err(MissReason::NotInDump));
    }

    #[test]
    fn runs_join_what_touches() {
        let mut pieces = Pieces::default();
        pieces.add(VirtAddr(10), 0, 4, FILE.len());
        pieces.add(VirtAddr(14), 9, 2, FILE.len());
        pieces.add(VirtAddr(20), 9, 2, FILE.len());
        let runs: Vec<_> = pieces.into_map().runs().collect();
        assert_eq!(runs, [(VirtAddr(10), 6), (VirtAddr(20), 2)]);
    }
}
