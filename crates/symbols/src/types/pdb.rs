//! Types out of a PDB: the type stream (TPI), whose records refer to each other by number.

use super::leaf::{Entry, Leaf, Simple, Tag, entries, simple};
use super::{Enum, MAX_NESTING, Member, Members, Record, Role, Type, TypeId, Types};
use crate::pdb::{Msf, PdbError, ReadAt, Stream, u16_at, u32_at};
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// Stream number of the types.
const STREAM_TYPES: usize = 2;
/// Numbers below are types that need no record.
const FIRST: u32 = 0x1000;

/// The types of a PDB. Records are found at once and read when asked for.
#[derive(Debug)]
pub struct PdbTypes {
    records: Records,
    /// Definitions and, of what has none, declarations; read at the first question by name.
    names: OnceLock<Names>,
    /// What could not be read, if anything.
    pub damage: Option<&'static str>,
}

/// Records that refer to each other by number: the types, and what is told of functions.
#[derive(Debug)]
pub(crate) struct Records {
    bytes: Vec<u8>,
    /// Where each record's length stands, from number 0x1000 on.
    starts: Vec<u32>,
}

impl Records {
    /// Finds the records of a stream; with them, whether some are missing.
    pub(crate) fn parse(stream: Stream) -> Option<(Self, bool)> {
        let word = |at| u32_at(&stream.bytes, at);
        let (header, first, end) = (word(4)? as usize, word(8)?, word(12)?);
        if first != FIRST || header < 0x38 {
            return None;
        }
        let wanted = end.saturating_sub(FIRST) as usize;
        let mut starts = Vec::new();
        let mut at = header;
        while let Some(length) = u16_at(&stream.bytes, at).filter(|_| starts.len() < wanted) {
            let next = at + 2 + usize::from(length);
            if length < 2 || next > stream.bytes.len() {
                break;
            }
            starts.push(at as u32);
            at = next;
        }
        let missing = stream.cut || starts.len() < wanted;
        Some((Self { bytes: stream.bytes, starts }, missing))
    }

    /// The kind of a record, and what follows that.
    pub(crate) fn get(&self, number: u32) -> Option<(u16, &[u8])> {
        let at = *self.starts.get(number.checked_sub(FIRST)? as usize)? as usize;
        let length = usize::from(u16_at(&self.bytes, at)?);
        let record = self.bytes.get(at + 2..at + 2 + length)?;
        Some((u16_at(record, 0)?, record.get(2..)?))
    }
}

/// Types by name and by decorated name.
#[derive(Debug, Default)]
struct Names {
    /// True if it is a definition.
    plain: BTreeMap<Vec<u8>, (u32, bool)>,
    /// Definitions alone.
    unique: BTreeMap<Vec<u8>, u32>,
}

impl PdbTypes {
    /// Finds the records.
    ///
    /// # Errors
    /// If the bytes are no PDB or have no types.
    pub fn parse(bytes: &[u8]) -> Result<Self, PdbError> {
        Self::of(&Msf::parse(bytes)?)
    }

    /// The types of a PDB that is open.
    pub(crate) fn of(msf: &Msf<impl ReadAt>) -> Result<Self, PdbError> {
        let stream = msf.stream(STREAM_TYPES).ok_or(PdbError::Stream("list of types"))?;
        let (records, damage) = Records::parse(stream).ok_or(PdbError::Stream("list of types"))?;
        Ok(Self { records, names: OnceLock::new(), damage: damage.then_some("the list of types is cut") })
    }

    /// Every type that has a record, in the order of the file.
    pub fn ids(&self) -> impl Iterator<Item = TypeId> + use<> {
        (FIRST..FIRST.saturating_add(self.records.starts.len() as u32)).map(TypeId)
    }

    fn leaf(&self, index: u32) -> Option<Leaf<'_>> {
        let (kind, body) = self.records.get(index)?;
        Leaf::parse(kind, body)
    }

    fn by_name(&self) -> &Names {
        self.names.get_or_init(|| {
            let mut names = Names::default();
            for id in self.ids() {
                let Some(Leaf::Tag(tag)) = self.leaf(id.0) else { continue };
                match names.plain.entry(tag.name.to_vec()) {
                    Slot::Vacant(slot) => _ = slot.insert((id.0, !tag.forward)),
                    Slot::Occupied(mut slot) if !slot.get().1 && !tag.forward => {
                        slot.insert((id.0, true));
                    }
                    Slot::Occupied(_) => {}
                }
                if let Some(unique) = tag.unique.filter(|_| !tag.forward) {
                    names.unique.entry(unique.to_vec()).or_insert(id.0);
                }
            }
            names
        })
    }

    /// The definition of what is declared; the declaration where there is none.
    fn complete<'b>(&'b self, tag: Tag<'b>) -> Tag<'b> {
        if !tag.forward {
            return tag;
        }
        let names = self.by_name();
        let index = match tag.unique {
            Some(unique) => names.unique.get(unique).copied(),
            None => names.plain.get(tag.name).filter(|(_, defined)| *defined).map(|(index, _)| *index),
        };
        match index.and_then(|index| self.leaf(index)) {
            Some(Leaf::Tag(whole)) if whole.kind.is_some() == tag.kind.is_some() => whole,
            _ => tag,
        }
    }

    /// Goes through a list of fields, also where it goes on in further records; false if some of it is broken.
    fn fields<'b>(&'b self, first: u32, mut take: impl FnMut(Entry<'b>)) -> bool {
        let mut list = first;
        // A list that leads back to itself would never end. Zero is no list.
        let mut seen = BTreeSet::new();
        let mut whole = true;
        while list != 0 {
            let Some(Leaf::Fields(bytes)) = self.leaf(list).filter(|_| seen.insert(list)) else {
                return false;
            };
            list = 0;
            for entry in entries(bytes) {
                match entry {
                    Ok(Entry::More { fields }) => list = fields,
                    Ok(entry) => take(entry),
                    Err(()) => whole = false,
                }
            }
        }
        whole
    }

    /// The record or enum behind a type, completed.
    fn tag(&self, id: TypeId) -> Option<Tag<'_>> {
        let mut index = id.0;
        for _ in 0..MAX_NESTING {
            match self.leaf(index)? {
                Leaf::Modifier { of } => index = of,
                Leaf::Tag(tag) => return Some(self.complete(tag)),
                _ => return None,
            }
        }
        None
    }

    /// What a list of arguments holds.
    fn arguments(&self, list: u32) -> Vec<TypeId> {
        let Some(Leaf::Arguments { count, raw }) = self.leaf(list) else { return Vec::new() };
        raw.chunks_exact(4).filter_map(|raw| u32_at(raw, 0)).map(TypeId).take(count as usize).collect()
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl Types for PdbTypes {
    fn provenance(&self) -> String {
        match self.damage {
            Some(damage) => format!("type records of the PDB; {damage}"),
            None => "type records of the PDB".to_owned(),
        }
    }

    fn find(&self, name: &str) -> Option<TypeId> {
        self.by_name().plain.get(name.as_bytes()).map(|(index, _)| TypeId(*index))
    }

    fn names(&self) -> Vec<(String, TypeId)> {
        let plain = self.by_name().plain.iter();
        plain
            .filter(|(_, (_, defined))| *defined)
            .map(|(name, (index, _))| (text(name), TypeId(*index)))
            .collect()
    }

    fn get(&self, id: TypeId) -> Type {
        let mut index = id.0;
        for _ in 0..MAX_NESTING {
            if index < FIRST {
                return match simple(index) {
                    Some(Simple::Base(base)) => Type::Base(base),
                    Some(Simple::Pointer { target, size }) => Type::Pointer { target, size },
                    None => Type::Unknown,
                };
            }
            return match self.leaf(index) {
                Some(Leaf::Modifier { of }) => {
                    index = of;
                    continue;
                }
                Some(Leaf::Pointer { target, size }) => Type::Pointer { target: TypeId(target), size },
                Some(Leaf::Array { element, size }) => {
                    let element = TypeId(element);
                    let each = self.size_of(element);
                    Type::Array { element, count: each.and_then(|each| size.checked_div(each)).unwrap_or(0) }
                }
                Some(Leaf::Bits { base, length, position }) => {
                    Type::Bits { base: TypeId(base), position: position.into(), length: length.into() }
                }
                Some(Leaf::Function { returns, arguments }) => {
                    Type::Function { returns: Some(TypeId(returns)), arguments: self.arguments(arguments) }
                }
                Some(Leaf::Tag(tag)) => {
                    let tag = self.complete(tag);
                    let name = text(tag.name);
                    match tag.kind {
                        None => Type::Enum(Enum { name, base: TypeId(tag.base) }),
                        Some(kind) => {
                            Type::Record(Record { kind, name, size: (!tag.forward).then_some(tag.size) })
                        }
                    }
                }
                Some(Leaf::Arguments { .. } | Leaf::Fields(_) | Leaf::Other) | None => Type::Unknown,
            };
        }
        Type::Unknown
    }

    fn members(&self, id: TypeId) -> Members {
        let mut list = Vec::new();
        let Some(tag) = self.tag(id).filter(|tag| tag.kind.is_some()) else { return Members::default() };
        let whole = self.fields(tag.fields, |entry| {
            let (name, offset, ty, role) = match entry {
                Entry::Member { ty, offset, name } => (name, offset, ty, Role::Field),
                Entry::Static { ty, name } => (name, 0, ty, Role::Static),
                Entry::Base { ty, offset } => (&b""[..], offset, ty, Role::Base),
                Entry::VirtualBase { ty } => (&b""[..], 0, ty, Role::VirtualBase),
                Entry::VirtualTable { ty } => (&b"__VFN_table"[..], 0, ty, Role::VirtualTable),
                Entry::Value { .. } | Entry::More { .. } | Entry::Other => return,
            };
            list.push(Member { name: text(name), offset, ty: TypeId(ty), role });
        });
        Members { list, partial: !whole }
    }

    fn values(&self, id: TypeId) -> Vec<(String, i128)> {
        let mut values = Vec::new();
        if let Some(tag) = self.tag(id).filter(|tag| tag.kind.is_none()) {
            self.fields(tag.fields, |entry| {
                if let Entry::Value { name, value } = entry {
                    values.push((text(name), value));
                }
            });
        }
        values
    }

    /// A record tells its size without its members, and an array its own: no product of claims.
    fn size_of(&self, id: TypeId) -> Option<u64> {
        let mut index = id.0;
        for _ in 0..MAX_NESTING {
            index = match self.leaf(index) {
                Some(Leaf::Modifier { of }) => of,
                Some(Leaf::Bits { base, .. }) => base,
                Some(Leaf::Tag(tag)) => match self.complete(tag) {
                    Tag { kind: None, base, .. } => base,
                    tag => return (!tag.forward).then_some(tag.size),
                },
                Some(Leaf::Array { size, .. } | Leaf::Pointer { size, .. }) => return Some(size),
                Some(_) => return None,
                None => {
                    return match simple(index)? {
                        Simple::Base(base) => Some(base.size),
                        Simple::Pointer { size, .. } => Some(size),
                    };
                }
            };
        }
        None
    }
}
