//! Symbol records and the list of modules.

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
const S_LPROC32_DPC: u16 = 0x1155;
const S_LPROC32_DPC_ID: u16 = 0x1156;

/// The records of a stream up to the first that is broken. Records of kinds that name nothing are passed over.
pub(super) fn iter(mut bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        loop {
            let length = usize::from(u16_at(bytes, 0)?);
            let kind = u16_at(bytes, 2)?;
            let body = bytes.get(4..length.checked_add(2)?)?;
            bytes = bytes.get(length + 2..)?;
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
pub(super) struct Module {
    /// Its stream, if it has one.
    pub(super) stream: Option<usize>,
    /// Bytes of symbol records in it, with the signature before them.
    pub(super) symbols: usize,
}

/// The list of modules: 64 bytes each, two names behind, padded to a multiple of four.
pub(super) fn modules(list: &[u8]) -> impl Iterator<Item = Module> {
    let mut at = 0_usize;
    std::iter::from_fn(move || {
        let head = list.get(at..)?.get(..64)?;
        let mut end = at + 64;
        for _ in 0..2 {
            end += list.get(end..)?.iter().position(|byte| *byte == 0)? + 1;
        }
        at = end.next_multiple_of(4);
        let stream = u16_at(head, 34).filter(|number| *number != u16::MAX).map(usize::from);
        Some(Module { stream, symbols: u32_at(head, 36)? as usize })
    })
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}
