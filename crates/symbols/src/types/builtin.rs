//! The built-in layouts as types: which fields they have, and where; not what those fields are.

use super::{Member, Members, Record, RecordKind, Role, Type, TypeId, Types};
use crate::field::Field;
use crate::layout::Layout;

/// Types with this number and above are fields without type.
const PLACES: u32 = 1 << 31;

/// The types of a built-in layout. Every record is partial, and its fields have places only.
#[derive(Debug)]
pub struct BuiltinTypes {
    provenance: String,
    /// By name.
    records: Vec<Partial>,
}

#[derive(Debug)]
struct Partial {
    name: &'static str,
    size: Option<u32>,
    fields: Vec<(&'static str, Field)>,
}

impl BuiltinTypes {
    /// What a layout has.
    pub fn new(layout: &Layout) -> Self {
        let records = layout
            .types()
            .into_iter()
            .map(|ty| {
                let mut fields = layout.fields(ty);
                fields.sort_by_key(|(name, field)| (field.offset, field.bits, *name));
                Partial { name: ty, size: layout.size(ty), fields }
            })
            .collect();
        Self { provenance: format!("built-in {}; fields it names only", layout.provenance()), records }
    }
}

impl Types for BuiltinTypes {
    fn provenance(&self) -> String {
        self.provenance.clone()
    }

    fn find(&self, name: &str) -> Option<TypeId> {
        self.records.binary_search_by_key(&name, |record| record.name).ok().map(|index| TypeId(index as u32))
    }

    fn names(&self) -> Vec<(String, TypeId)> {
        (0..).zip(&self.records).map(|(index, record)| (record.name.to_owned(), TypeId(index))).collect()
    }

    fn get(&self, id: TypeId) -> Type {
        if let Some(bits) = id.0.checked_sub(PLACES) {
            // No bits, or first bit and length in two bytes.
            let bits = (bits != 0).then_some((bits >> 8, bits & 0xff));
            return Type::Place { bits };
        }
        let Some(record) = self.records.get(id.0 as usize) else { return Type::Unknown };
        Type::Record(Record {
            kind: RecordKind::Struct,
            name: record.name.to_owned(),
            size: record.size.map(u64::from),
        })
    }

    fn members(&self, id: TypeId) -> Members {
        let Some(record) = self.records.get(id.0 as usize) else { return Members::default() };
        let place = |bits: Option<(u32, u32)>| {
            TypeId(PLACES + bits.map_or(0, |(first, length)| first << 8 | length & 0xff))
        };
        let member = |(name, field): &(&'static str, Field)| Member {
            name: (*name).to_owned(),
            offset: field.offset.into(),
            ty: place(field.bits),
            role: Role::Field,
        };
        Members { list: record.fields.iter().map(member).collect(), partial: true }
    }

    fn values(&self, _: TypeId) -> Vec<(String, i128)> {
        Vec::new()
    }
}
