//! Symbol records and the list of modules.

use std::ffi::CStr;
use std::ops::Range;

/// A section, counted from 1, and an offset in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) section: u16,
    pub(super) offset: u32,
}

/// The records that name a place in the image.
#[derive(Clone, Copy)]
pub(super) enum Record<'r> {
    Public { flags: u32, place: Place, name: &'r [u8] },
    Variable { place: Place, name: &'r [u8] },
    Procedure { place: Place, size: u32, name: &'r [u8] },
    Part { place: Place, size: u32, whole: Place },
}

// From cvinfo.h.
const S_THUNK32: u16 = 0x1102;
const S_LDATA32: u16 = 0x110c;
const S_GDATA32: u16 = 0x110d;
const S_PUB32: u16 = 0x110e;
const S_LPROC32: u16 = 0x110f;
const S_GPROC32: u16 = 0x1110;
const S_SEPCODE: u16 = 0x1132;
const S_LPROC32_ID: u16 = 0x1146;
const S_GPROC32_ID: u16 = 0x1147;
const S_INLINESITE: u16 = 0x114d;
const S_INLINESITE_END: u16 = 0x114e;
const S_INLINESITE2: u16 = 0x115d;
const S_LPROC32_DPC: u16 = 0x1155;
const S_LPROC32_DPC_ID: u16 = 0x1156;

/// The records of a stream up to the first that is broken. Records of kinds that name nothing are passed over.
pub(super) fn iter(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        loop {
            let (next, kind, body) = record_at(bytes, 0)?;
            bytes = bytes.get(next..)?;
            if let Some(record) = record(kind, body) {
                return Some(record);
            }
        }
    })
}

fn record(kind: u16, body: &[u8]) -> Option<Record<'_>> {
    let place = |at: usize| Some(Place { offset: u32_at(body, at)?, section: u16_at(body, at + 4)? });
    let name = |at: usize| {
        let rest = body.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        rest.get(..end)
    };
    Some(match kind {
        S_PUB32 => Record::Public { flags: u32_at(body, 0)?, place: place(4)?, name: name(10)? },
        S_LDATA32 | S_GDATA32 => Record::Variable { place: place(4)?, name: name(10)? },
        S_LPROC32 | S_GPROC32 | S_LPROC32_ID | S_GPROC32_ID | S_LPROC32_DPC | S_LPROC32_DPC_ID => {
            Record::Procedure { size: u32_at(body, 12)?, place: place(28)?, name: name(35)? }
        }
        S_THUNK32 => Record::Procedure { place: place(12)?, size: u16_at(body, 18)?.into(), name: name(21)? },
        // The offsets of both places stand before their sections.
        S_SEPCODE => Record::Part {
            size: u32_at(body, 8)?,
            place: Place { offset: u32_at(body, 16)?, section: u16_at(body, 24)? },
            whole: Place { offset: u32_at(body, 20)?, section: u16_at(body, 26)? },
        },
        _ => return None,
    })
}

/// A module of the list in the debug information.
pub(super) struct Module<'l> {
    /// Its stream, if it has one.
    pub(super) stream: Option<usize>,
    /// Bytes of symbol records in it, with the signature before them.
    pub(super) symbols: usize,
    /// Where its line information lies in the stream.
    pub(super) lines: Range<usize>,
    /// The object file, as the linker was given it.
    pub(super) object: &'l [u8],
    /// The library it came out of; the object file again if there is none.
    pub(super) library: &'l [u8],
}

/// The list of modules: 64 bytes each, two names behind, padded to a multiple of four.
pub(super) fn modules(list: &[u8]) -> impl Iterator<Item = Module<'_>> {
    let mut at = 0_usize;
    std::iter::from_fn(move || {
        let head = list.get(at..)?.get(..64)?;
        let object = CStr::from_bytes_until_nul(list.get(at + 64..)?).ok()?.to_bytes();
        let library_at = at + 64 + object.len() + 1;
        let library = CStr::from_bytes_until_nul(list.get(library_at..)?).ok()?.to_bytes();
        at = (library_at + library.len() + 1).next_multiple_of(4);
        let stream = u16_at(head, 34).filter(|number| *number != u16::MAX).map(usize::from);
        let [symbols, old, lines] = [36, 40, 44].map(|at| u32_at(head, at).unwrap_or(0) as usize);
        let start = symbols.saturating_add(old);
        Some(Module { stream, symbols, lines: start..start.saturating_add(lines), object, library })
    })
}

/// A function's record: where it stands in its stream, where its scope ends there, and what it covers.
pub(super) struct Scope {
    pub(super) records: Range<usize>,
    pub(super) place: Place,
    pub(super) size: u32,
}

/// The functions of a module's stream with their scopes. `bytes` are all of its symbol records, signature included, since
/// records count from there.
pub(super) fn scopes(bytes: &[u8]) -> impl Iterator<Item = Scope> {
    let mut at = 4_usize;
    std::iter::from_fn(move || {
        loop {
            let (next, kind, body) = record_at(bytes, at)?;
            let start = std::mem::replace(&mut at, next);
            if let Some(Record::Procedure { place, size, .. }) =
                record(kind, body).filter(|_| kind != S_THUNK32)
            {
                let end = u32_at(body, 4).map_or(next, |end| end as usize).clamp(next, bytes.len().max(next));
                return Some(Scope { records: next..end, place, size }).filter(|_| start < next);
            }
        }
    })
}

/// An inlined function within a scope, or the end of one.
pub(super) enum Inline<'r> {
    /// Its number, and its code ranges as annotations.
    Site {
        function: u32,
        annotations: &'r [u8],
    },
    End,
}

/// The inlined functions of a scope, each with all those within it before its end.
pub(super) fn inlines(bytes: &[u8], scope: Range<usize>) -> impl Iterator<Item = Inline<'_>> {
    let mut at = scope.start;
    std::iter::from_fn(move || {
        while at < scope.end {
            let (next, kind, body) = record_at(bytes, at)?;
            at = next;
            // The second kind also counts calls.
            let annotations_at = match kind {
                S_INLINESITE => 12,
                S_INLINESITE2 => 16,
                S_INLINESITE_END => return Some(Inline::End),
                _ => continue,
            };
            let function = u32_at(body, 8)?;
            return Some(Inline::Site { function, annotations: body.get(annotations_at..)? });
        }
        None
    })
}

/// The record at an offset: where the next one is, its kind, and what follows that.
fn record_at(bytes: &[u8], at: usize) -> Option<(usize, u16, &[u8])> {
    let length = usize::from(u16_at(bytes, at)?);
    let next = at.checked_add(length)?.checked_add(2)?;
    Some((next, u16_at(bytes, at + 2)?, bytes.get(at + 4..next)?))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}
