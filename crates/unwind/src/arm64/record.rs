//! ARM64 function table entries: packed ones, which describe a prologue in 30 bits, and full records.

use super::codes::{At, Codes, Op};
use crate::{ImageView, Refusal};

/// Bytes in an entry.
const SIZE: u32 = 8;

/// The longest prologue that a packed entry describes: pacibsp; 5 saves of integer registers and one of lr; 4 of
/// floats; 4 of parameters; two subtractions; stp and mov of the frame record.
const MOST_PACKED: usize = 19;
/// The largest number that one subtraction from sp can have here.
const LARGEST_SUB: u64 = 4080;

/// Instructions that are undone, the last one of the prologue first.
pub(crate) enum Sequence {
    Bytes(Vec<u8>),
    Packed(Vec<Op>),
}

impl Sequence {
    pub(crate) fn ops(&self) -> Box<dyn Iterator<Item = Result<Op, Refusal>> + '_> {
        match self {
            Self::Bytes(bytes) => Box::new(Codes(bytes)),
            Self::Packed(ops) => Box::new(ops.iter().copied().map(Ok)),
        }
    }

    /// How many instructions it stands for.
    fn length(&self) -> Result<u32, Refusal> {
        let mut length = 0;
        for op in self.ops() {
            match op? {
                Op::End | Op::EndOfPiece => break,
                op => length += u32::from(op.is_instruction()),
            }
        }
        Ok(length)
    }
}

/// What is to be undone at `offset` bytes into a function.
pub(crate) struct Plan {
    pub(crate) sequence: Sequence,
    /// Instructions at the start of the sequence that are not to be undone.
    pub(crate) skip: u32,
}

/// The entry whose function holds `rva`, and how far into it that is.
pub(crate) fn find(image: &ImageView<'_>, rva: u32) -> Result<Option<(u32, u32)>, Refusal> {
    let (table, size) = image.pdata;
    let (mut low, mut high) = (0, size / SIZE);
    if high == 0 {
        return Err(Refusal::NoFunctionTable);
    }
    let at = |index: u32| {
        index.checked_mul(SIZE).and_then(|offset| table.checked_add(offset)).ok_or(Refusal::Malformed)
    };
    while low < high {
        let middle = low + (high - low) / 2;
        if word(image, at(middle)?)? <= rva {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let Some(index) = low.checked_sub(1) else { return Ok(None) };
    let entry = at(index)?;
    let (begin, data) = (word(image, entry)?, word(image, entry.wrapping_add(4))?);
    let length = match data & 3 {
        0 => word(image, data)? & 0x3_ffff,
        1 | 2 => data >> 2 & 0x7ff,
        _ => return Err(Refusal::Malformed),
    };
    Ok(rva.checked_sub(begin).filter(|offset| *offset < length * 4).map(|offset| (data, offset)))
}

fn word(image: &ImageView<'_>, rva: u32) -> Result<u32, Refusal> {
    let mut bytes = [0; 4];
    image.read(rva, &mut bytes).map_err(Refusal::DataMissing)?;
    Ok(u32::from_le_bytes(bytes))
}

/// What to undo at an instruction (`run` of them have run), or, if `interrupted` is not set, while a call runs.
pub(crate) fn plan(image: &ImageView<'_>, data: u32, run: u32, interrupted: bool) -> Result<Plan, Refusal> {
    match data & 3 {
        0 => full(image, data, run, interrupted),
        _ => packed(data, run, interrupted),
    }
}

fn full(image: &ImageView<'_>, at: u32, run: u32, interrupted: bool) -> Result<Plan, Refusal> {
    let head = word(image, at)?;
    let version = head >> 18 & 3;
    if version != 0 {
        return Err(Refusal::Version(version as u8));
    }
    let length = head & 0x3_ffff;
    let (mut epilogs, mut words, mut next) = (head >> 22 & 0x1f, head >> 27, at.wrapping_add(4));
    let one_at_end = head >> 21 & 1 == 1;
    if epilogs == 0 && words == 0 {
        let extended = word(image, next)?;
        (epilogs, words, next) = (extended & 0xffff, extended >> 16 & 0xff, next.wrapping_add(4));
    }
    let scopes = if one_at_end { 0 } else { epilogs };
    let mut bytes = vec![0; words as usize * 4];
    image.read(next.wrapping_add(scopes * 4), &mut bytes).map_err(Refusal::DataMissing)?;
    let from = |index: u32| bytes.get(index as usize..).map(|rest| Sequence::Bytes(rest.to_vec()));
    if one_at_end {
        let sequence = from(epilogs).ok_or(Refusal::Malformed)?;
        // The return is not in the sequence.
        let begin = length.saturating_sub(sequence.length()? + 1);
        // An epilogue may call one helper, which takes the stack cookie off.
        if run >= begin && (interrupted || run > begin && run < length) {
            return Ok(Plan { sequence, skip: run - begin });
        }
    }
    for scope in 0..scopes {
        let scope = word(image, next.wrapping_add(scope * 4))?;
        let begin = scope & 0x3_ffff;
        if run < begin || !interrupted && run == begin {
            // They are sorted.
            break;
        }
        let sequence = from(scope >> 22).ok_or(Refusal::Malformed)?;
        if run - begin <= sequence.length()? {
            return Ok(Plan { sequence, skip: run - begin });
        }
    }
    let sequence = Sequence::Bytes(bytes);
    let skip = sequence.length()?.saturating_sub(run);
    Ok(Plan { sequence, skip })
}

fn packed(data: u32, run: u32, interrupted: bool) -> Result<Plan, Refusal> {
    let length = data >> 2 & 0x7ff;
    let prolog = packed_prolog(data)?;
    let epilog = packed_epilog(&prolog);
    let begin = length.saturating_sub(epilog.length()? + 1);
    // A fragment (2) has neither.
    let is_whole = data & 3 == 1;
    if is_whole && interrupted && run >= begin {
        return Ok(Plan { sequence: epilog, skip: run - begin });
    }
    let skip = if is_whole { prolog.length()?.saturating_sub(run) } else { 0 };
    Ok(Plan { sequence: prolog, skip })
}

/// Collects the instructions of a prologue in the order they run.
struct Prolog {
    ops: Vec<Op>,
    /// Bytes that the first store lowers sp by.
    to_allocate: u64,
}

impl Prolog {
    fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Where a store goes: the first one makes the room for all.
    fn at(&mut self, offset: u64) -> At {
        match std::mem::take(&mut self.to_allocate) {
            0 => At::Offset(offset),
            size => At::Pushed(size),
        }
    }

    fn allocate(&mut self, size: u64) {
        if size > LARGEST_SUB {
            self.push(Op::Allocate(LARGEST_SUB));
            self.push(Op::Allocate(size - LARGEST_SUB));
        } else if size > 0 {
            self.push(Op::Allocate(size));
        }
    }
}

fn packed_prolog(data: u32) -> Result<Sequence, Refusal> {
    let field = |low: u32, bits: u32| u64::from(data >> low & ((1 << bits) - 1));
    let (floats, integers, homes, cr, frame) =
        (field(13, 3), field(16, 4), field(20, 1) == 1, field(21, 2), field(23, 9) * 16);
    let floats = if floats == 0 { 0 } else { floats + 1 };
    if integers > 10 {
        return Err(Refusal::Malformed);
    }
    let integer_bytes = (integers + u64::from(cr == 1)) * 8;
    let saved = (integer_bytes + floats * 8 + if homes { 64 } else { 0 }).next_multiple_of(16);
    let locals = frame.checked_sub(saved).ok_or(Refusal::Malformed)?;
    let mut prolog = Prolog { ops: Vec::with_capacity(MOST_PACKED), to_allocate: saved };
    if cr == 2 {
        prolog.push(Op::SignLink);
    }
    if integers == 1 && cr == 1 {
        // x19 and lr have no store that lowers sp as well.
        let size = std::mem::take(&mut prolog.to_allocate);
        prolog.allocate(size);
    }
    for first in (0..integers).step_by(2) {
        let at = prolog.at(first * 8);
        let register = 19 + first as u8;
        prolog.push(match integers - first {
            1 if cr == 1 => Op::SaveWithLink { register, at },
            1 => Op::Save { first: register, count: 1, at },
            _ => Op::Save { first: register, count: 2, at },
        });
    }
    if cr == 1 && integers % 2 == 0 {
        let at = prolog.at(integers * 8);
        prolog.push(Op::Save { first: 30, count: 1, at });
    }
    for first in (0..floats).step_by(2) {
        let at = prolog.at(integer_bytes + first * 8);
        prolog.push(Op::SaveFloat { first: 8 + first as u8, count: (floats - first).min(2) as u8, at });
    }
    if homes {
        // Parameters are stored and never loaded back.
        let size = std::mem::take(&mut prolog.to_allocate);
        prolog.push(if size == 0 { Op::Nothing } else { Op::Allocate(size) });
        for _ in 0..3 {
            prolog.push(Op::Nothing);
        }
    }
    if cr >= 2 {
        if locals <= 512 {
            prolog.push(Op::Save { first: 29, count: 2, at: At::Pushed(locals) });
        } else {
            prolog.allocate(locals);
            prolog.push(Op::Save { first: 29, count: 2, at: At::Offset(0) });
        }
        prolog.push(Op::SetFrame(0));
    } else {
        prolog.allocate(locals);
    }
    prolog.ops.reverse();
    Ok(Sequence::Packed(prolog.ops))
}

/// The epilogue has no counterpart of stored parameters, nor of setting x29.
fn packed_epilog(prolog: &Sequence) -> Sequence {
    let undone = prolog.ops().flatten().filter(|op| !matches!(op, Op::Nothing | Op::SetFrame(_)));
    Sequence::Packed(undone.collect())
}
