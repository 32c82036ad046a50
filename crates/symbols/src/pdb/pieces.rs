//! The code of functions: one piece each, and more where the compiler moved seldom-used code elsewhere.

use super::places::Places;
use super::records::{self, Record, Scope};
use std::ops::Range;

/// A piece of a function.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) start: u32,
    size: u32,
    /// 0 for what begins at the function's start, else which of its parts, in the order of their records: so annotations
    /// count them.
    pub(super) number: u32,
    /// The records of the function's scope.
    pub(super) scope: Range<usize>,
}

/// The pieces of a module's functions, by address. None in an image that was rearranged after linking: sizes hold for the
/// code before.
#[derive(Debug)]
pub(super) struct Pieces(Vec<Piece>);

impl Pieces {
    /// Out of all symbol records of a module, signature included.
    pub(super) fn of(bytes: &[u8], places: &Places) -> Self {
        if places.is_rearranged() {
            return Self(Vec::new());
        }
        let whole = |scope: Scope| {
            Some(Piece { start: places.rva(scope.place)?, size: scope.size, number: 0, scope: scope.records })
        };
        let mut pieces: Vec<Piece> = records::scopes(bytes).filter_map(whole).collect();
        pieces.sort_by_key(|piece| piece.start);
        let functions = pieces.len();
        let mut counts = vec![0_u32; functions];
        for record in records::iter(bytes.get(4..).unwrap_or_default()) {
            let Record::Part { place, size, whole } = record else { continue };
            let (Some(start), Some(whole)) = (places.rva(place), places.rva(whole)) else { continue };
            let Some(index) = holding(pieces.get(..functions).unwrap_or_default(), whole) else { continue };
            if let (Some(count), Some(function)) = (counts.get_mut(index), pieces.get(index)) {
                *count += 1;
                let scope = function.scope.clone();
                pieces.push(Piece { start, size, number: *count, scope });
            }
        }
        pieces.sort_by_key(|piece| piece.start);
        Self(pieces)
    }

    /// The piece that holds an address.
    pub(super) fn at(&self, rva: u32) -> Option<&Piece> {
        self.0.get(holding(&self.0, rva)?)
    }
}

/// Which of these, sorted by address, holds one.
fn holding(pieces: &[Piece], rva: u32) -> Option<usize> {
    let index = pieces.partition_point(|piece| piece.start <= rva).checked_sub(1)?;
    pieces.get(index).filter(|piece| rva - piece.start < piece.size).map(|_| index)
}
