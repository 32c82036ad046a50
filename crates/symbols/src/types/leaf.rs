//! Type records of a PDB. Numbers and layouts: Microsoft's `cvinfo.h`; the records with 32-bit properties, which newer
//! compilers write, are described in issue 50 of Microsoft's repository `microsoft-pdb`.

use super::numeric::Cursor;
use super::{Base, BaseKind, RecordKind, TypeId};

const LF_MODIFIER: u16 = 0x1001;
const LF_POINTER: u16 = 0x1002;
const LF_PROCEDURE: u16 = 0x1008;
const LF_MFUNCTION: u16 = 0x1009;
const LF_ARGLIST: u16 = 0x1201;
const LF_FIELDLIST: u16 = 0x1203;
const LF_BITFIELD: u16 = 0x1205;
const LF_BCLASS: u16 = 0x1400;
const LF_VBCLASS: u16 = 0x1401;
const LF_IVBCLASS: u16 = 0x1402;
const LF_INDEX: u16 = 0x1404;
const LF_VFUNCTAB: u16 = 0x1409;
const LF_ENUMERATE: u16 = 0x1502;
const LF_ARRAY: u16 = 0x1503;
const LF_CLASS: u16 = 0x1504;
const LF_STRUCTURE: u16 = 0x1505;
const LF_UNION: u16 = 0x1506;
const LF_ENUM: u16 = 0x1507;
const LF_MEMBER: u16 = 0x150d;
const LF_STMEMBER: u16 = 0x150e;
const LF_METHOD: u16 = 0x150f;
const LF_NESTTYPE: u16 = 0x1510;
const LF_ONEMETHOD: u16 = 0x1511;
const LF_NESTTYPEEX: u16 = 0x1512;
const LF_INTERFACE: u16 = 0x1519;
const LF_BINTERFACE: u16 = 0x151a;
const LF_CLASS2: u16 = 0x1608;
const LF_STRUCTURE2: u16 = 0x1609;
const LF_UNION2: u16 = 0x160a;
const LF_INTERFACE2: u16 = 0x160b;

/// Bits of a record's properties.
const FORWARD: u32 = 1 << 7;
const UNIQUE_NAME: u32 = 1 << 9;

/// One type record, as far as its layout is of use.
#[derive(Debug)]
pub(super) enum Leaf<'b> {
    Modifier {
        of: u32,
    },
    Pointer {
        target: u32,
        size: u64,
    },
    Array {
        element: u32,
        size: u64,
    },
    Bits {
        base: u32,
        length: u8,
        position: u8,
    },
    Function {
        returns: u32,
        arguments: u32,
    },
    /// As many numbers of types.
    Arguments {
        count: u32,
        raw: &'b [u8],
    },
    Fields(&'b [u8]),
    Tag(Tag<'b>),
    Other,
}

/// What record and enum have in common.
#[derive(Debug)]
pub(super) struct Tag<'b> {
    /// `None` for an enum.
    pub(super) kind: Option<RecordKind>,
    pub(super) fields: u32,
    /// The type below an enum; 0 for a record.
    pub(super) base: u32,
    pub(super) size: u64,
    pub(super) name: &'b [u8],
    /// The decorated name, which two types of one name in different scopes do not share.
    pub(super) unique: Option<&'b [u8]>,
    /// Only a declaration; the definition is elsewhere.
    pub(super) forward: bool,
}

impl<'b> Leaf<'b> {
    /// `None` if the record is too short for what it is.
    pub(super) fn parse(kind: u16, body: &'b [u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        Some(match kind {
            LF_MODIFIER => Self::Modifier { of: cursor.u32()? },
            LF_POINTER => {
                let (target, attributes) = (cursor.u32()?, cursor.u32()?);
                // The size stands in bits 13 to 18; the lowest five say how it points.
                let size = match (u64::from(attributes >> 13) & 0x3f, attributes & 0x1f) {
                    (0, 0xc) => 8,
                    (0, _) => 4,
                    (size, _) => size,
                };
                Self::Pointer { target, size }
            }
            LF_ARRAY => {
                let element = cursor.u32()?;
                cursor.skip(4)?;
                Self::Array { element, size: cursor.unsigned()? }
            }
            LF_BITFIELD => Self::Bits { base: cursor.u32()?, length: cursor.u8()?, position: cursor.u8()? },
            LF_PROCEDURE | LF_MFUNCTION => {
                let returns = cursor.u32()?;
                // The class and the type of `this` stand between; then calling convention and count.
                cursor.skip(if kind == LF_MFUNCTION { 12 } else { 4 })?;
                Self::Function { returns, arguments: cursor.u32()? }
            }
            LF_ARGLIST => Self::Arguments { count: cursor.u32()?, raw: cursor.0 },
            LF_FIELDLIST => Self::Fields(body),
            LF_CLASS | LF_STRUCTURE | LF_INTERFACE | LF_UNION | LF_ENUM | LF_CLASS2 | LF_STRUCTURE2
            | LF_INTERFACE2 | LF_UNION2 => Self::Tag(Tag::parse(kind, cursor)?),
            _ => Self::Other,
        })
    }
}

impl<'b> Tag<'b> {
    fn parse(leaf: u16, mut cursor: Cursor<'b>) -> Option<Self> {
        let newer = matches!(leaf, LF_CLASS2 | LF_STRUCTURE2 | LF_INTERFACE2 | LF_UNION2);
        let kind = match leaf {
            LF_CLASS | LF_CLASS2 => Some(RecordKind::Class),
            LF_STRUCTURE | LF_STRUCTURE2 => Some(RecordKind::Struct),
            LF_INTERFACE | LF_INTERFACE2 => Some(RecordKind::Interface),
            LF_UNION | LF_UNION2 => Some(RecordKind::Union),
            _ => None,
        };
        let properties = if newer {
            cursor.u32()?
        } else {
            cursor.skip(2)?;
            cursor.u16()?.into()
        };
        let base = if kind.is_none() { cursor.u32()? } else { 0 };
        let fields = cursor.u32()?;
        if !matches!(kind, None | Some(RecordKind::Union)) {
            // What it derives from and the shape of its table, which the fields repeat.
            cursor.skip(8)?;
        }
        if newer {
            cursor.skip(2)?;
        }
        let size = if kind.is_some() { cursor.unsigned()? } else { 0 };
        let name = cursor.name()?;
        let unique = if properties & UNIQUE_NAME != 0 { cursor.name() } else { None };
        let unique = unique.filter(|name| !name.is_empty());
        Some(Self { kind, fields, base, size, name, unique, forward: properties & FORWARD != 0 })
    }
}

/// One entry of a field list.
#[derive(Debug)]
pub(super) enum Entry<'b> {
    Member {
        ty: u32,
        offset: u64,
        name: &'b [u8],
    },
    Static {
        ty: u32,
        name: &'b [u8],
    },
    Base {
        ty: u32,
        offset: u64,
    },
    VirtualBase {
        ty: u32,
    },
    VirtualTable {
        ty: u32,
    },
    Value {
        name: &'b [u8],
        value: i128,
    },
    /// The list goes on in another record.
    More {
        fields: u32,
    },
    /// Functions and nested names, which take no place.
    Other,
}

/// The entries of a field list up to the first that is broken or unknown: its length is not told otherwise. The last
/// item is an error then.
pub(super) fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, ()>> {
    let mut cursor = Cursor(bytes);
    let mut broken = false;
    std::iter::from_fn(move || {
        // Padding says how far it goes, in its lower half.
        while let Some(pad @ 0xf0..) = cursor.0.first() {
            cursor.skip(usize::from(pad & 0xf).max(1)).or_else(|| {
                cursor.0 = &[];
                None
            });
        }
        if broken || cursor.0.is_empty() {
            return None;
        }
        let entry = entry(&mut cursor).ok_or(());
        broken = entry.is_err();
        Some(entry)
    })
}

fn entry<'b>(cursor: &mut Cursor<'b>) -> Option<Entry<'b>> {
    let kind = cursor.u16()?;
    // Access and the kind of method, or padding.
    let attributes = cursor.u16()?;
    Some(match kind {
        LF_MEMBER => Entry::Member { ty: cursor.u32()?, offset: cursor.unsigned()?, name: cursor.name()? },
        LF_ENUMERATE => {
            let value = cursor.number()?;
            Entry::Value { value, name: cursor.name()? }
        }
        LF_STMEMBER => Entry::Static { ty: cursor.u32()?, name: cursor.name()? },
        LF_BCLASS | LF_BINTERFACE => Entry::Base { ty: cursor.u32()?, offset: cursor.unsigned()? },
        LF_VBCLASS | LF_IVBCLASS => {
            let ty = cursor.u32()?;
            cursor.skip(4)?;
            cursor.number()?;
            cursor.number()?;
            Entry::VirtualBase { ty }
        }
        LF_VFUNCTAB => Entry::VirtualTable { ty: cursor.u32()? },
        LF_INDEX => Entry::More { fields: cursor.u32()? },
        LF_METHOD | LF_NESTTYPE | LF_NESTTYPEEX => {
            cursor.skip(4)?;
            cursor.name()?;
            Entry::Other
        }
        LF_ONEMETHOD => {
            // A method that opens a place in the table of virtual functions says which.
            let opens = matches!(attributes >> 2 & 7, 4 | 6);
            cursor.skip(if opens { 8 } else { 4 })?;
            cursor.name()?;
            Entry::Other
        }
        _ => return None,
    })
}

/// A type that needs no record: the low byte says which, the next four bits whether it is a pointer to that.
pub(super) enum Simple {
    Base(Base),
    Pointer { target: TypeId, size: u64 },
}

/// What an index below 0x1000 means; `None` if nothing known.
pub(super) fn simple(index: u32) -> Option<Simple> {
    let target = TypeId(index & 0xff);
    let size = match index >> 8 & 0xf {
        0 => return base(index).map(Simple::Base),
        // Near, far and huge pointers of 16-bit code.
        1 => 2,
        2..=5 => 4,
        6 => 8,
        _ => return None,
    };
    Some(Simple::Pointer { target, size })
}

fn base(index: u32) -> Option<Base> {
    use BaseKind::{Bool, Character, Float, Hresult, Signed, Unsigned, Void, Wide};
    let (name, size, kind) = match index {
        0x03 => ("void", 0, Void),
        0x08 => ("HRESULT", 4, Hresult),
        0x10 => ("signed char", 1, Character { signed: true }),
        0x70 => ("char", 1, Character { signed: true }),
        0x20 => ("unsigned char", 1, Character { signed: false }),
        0x7c => ("char8_t", 1, Character { signed: false }),
        0x71 => ("wchar_t", 2, Wide),
        0x7a => ("char16_t", 2, Wide),
        0x7b => ("char32_t", 4, Unsigned),
        0x68 => ("__int8", 1, Signed),
        0x69 => ("unsigned __int8", 1, Unsigned),
        0x11 => ("short", 2, Signed),
        0x21 => ("unsigned short", 2, Unsigned),
        0x72 => ("__int16", 2, Signed),
        0x73 => ("unsigned __int16", 2, Unsigned),
        0x12 => ("long", 4, Signed),
        0x22 => ("unsigned long", 4, Unsigned),
        0x74 => ("int", 4, Signed),
        0x75 => ("unsigned int", 4, Unsigned),
        0x13 | 0x76 => ("__int64", 8, Signed),
        0x23 | 0x77 => ("unsigned __int64", 8, Unsigned),
        0x14 | 0x78 => ("__int128", 16, Signed),
        0x24 | 0x79 => ("unsigned __int128", 16, Unsigned),
        0x30 => ("bool", 1, Bool),
        0x31 => ("__bool16", 2, Bool),
        0x32 => ("__bool32", 4, Bool),
        0x33 => ("__bool64", 8, Bool),
        0x40 => ("float", 4, Float),
        0x41 => ("double", 8, Float),
        0x42 => ("long double", 10, Float),
        0x46 => ("__float16", 2, Float),
        _ => return None,
    };
    Some(Base::new(name, size, kind))
}
