//! Types out of a Volatility table: `user_types`, `enums` and `base_types` of its JSON, taken into an arena.

use super::{Base, BaseKind, Enum, Member, Members, Record, RecordKind, Role, Type, TypeId, Types};
use crate::isf::IsfError;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// More types and members than this are not kept: a kernel's table has 30,000.
const MAX_NODES: usize = 4_000_000;
/// Types written inside each other; JSON that goes deeper is refused where it is read.
const UNKNOWN: TypeId = TypeId(0);

/// The types of a Volatility table.
///
/// JSON objects have no order: members are told by offset, then by first bit, then by name.
#[derive(Debug)]
pub struct IsfTypes {
    nodes: Vec<Node>,
    names: BTreeMap<String, TypeId>,
    pointer: u64,
    bases: BTreeMap<String, Base>,
}

#[derive(Debug)]
enum Node {
    /// Anything that has no members.
    Plain(Type),
    /// What another entry of the table says.
    Named(String),
    Record(Record, Vec<Member>),
    Enum(Enum, Vec<(String, i128)>),
}

#[derive(Deserialize)]
struct Table<'a> {
    #[serde(borrow, default)]
    base_types: BTreeMap<Cow<'a, str>, RawBase>,
    #[serde(borrow, default)]
    user_types: BTreeMap<Cow<'a, str>, RawRecord<'a>>,
    #[serde(borrow, default)]
    enums: BTreeMap<Cow<'a, str>, RawEnum<'a>>,
}

#[derive(Deserialize)]
struct RawBase {
    size: u64,
    #[serde(default)]
    signed: bool,
    kind: String,
}

#[derive(Deserialize)]
struct RawRecord<'a> {
    kind: String,
    size: u64,
    #[serde(borrow)]
    fields: BTreeMap<Cow<'a, str>, RawField<'a>>,
}

#[derive(Deserialize)]
struct RawField<'a> {
    offset: u64,
    #[serde(borrow, rename = "type")]
    ty: RawType<'a>,
}

#[derive(Deserialize)]
struct RawEnum<'a> {
    #[serde(default)]
    base: String,
    #[serde(borrow)]
    constants: BTreeMap<Cow<'a, str>, i64>,
}

#[derive(Deserialize)]
struct RawType<'a> {
    kind: String,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subtype: Option<Box<RawType<'a>>>,
    #[serde(borrow, default, rename = "type")]
    base: Option<Box<RawType<'a>>>,
    #[serde(default)]
    count: u64,
    #[serde(default)]
    bit_position: u32,
    #[serde(default)]
    bit_length: u32,
}

impl IsfTypes {
    /// Reads the JSON.
    ///
    /// # Errors
    /// If it is no whole JSON with types in it.
    pub fn parse(json: &[u8]) -> Result<Self, IsfError> {
        let table: Table<'_> =
            serde_json::from_slice(json).map_err(|error| IsfError::Json(error.to_string()))?;
        if table.user_types.is_empty() {
            return Err(IsfError::Json("no types".to_owned()));
        }
        let bases: BTreeMap<String, Base> =
            table.base_types.iter().map(|(name, raw)| (name.to_string(), base(name, raw))).collect();
        let pointer = bases.get("pointer").map_or(8, |base| base.size);
        let mut types =
            Self { nodes: vec![Node::Plain(Type::Unknown)], names: BTreeMap::new(), pointer, bases };
        for (name, raw) in table.enums {
            let base = types.base(&raw.base);
            let mut values: Vec<(String, i128)> =
                raw.constants.into_iter().map(|(name, value)| (name.into_owned(), value.into())).collect();
            values.sort_by_key(|(_, value)| *value);
            let id = types.push(Node::Enum(Enum { name: name.to_string(), base }, values));
            types.names.insert(name.into_owned(), id);
        }
        for (name, raw) in table.user_types {
            let kind = match &*raw.kind {
                "union" => RecordKind::Union,
                "class" => RecordKind::Class,
                _ => RecordKind::Struct,
            };
            let mut members = Vec::with_capacity(raw.fields.len());
            for (name, field) in raw.fields {
                let ty = types.add(&field.ty);
                members.push(Member { name: name.into_owned(), offset: field.offset, ty, role: Role::Field });
            }
            members.sort_by_key(|member| match types.get(member.ty) {
                Type::Bits { position, .. } => (member.offset, 1, position),
                _ => (member.offset, 0, 0),
            });
            let record = Record { kind, name: name.to_string(), size: Some(raw.size) };
            let id = types.push(Node::Record(record, members));
            types.names.insert(name.into_owned(), id);
        }
        Ok(types)
    }

    fn push(&mut self, node: Node) -> TypeId {
        if self.nodes.len() >= MAX_NODES {
            return UNKNOWN;
        }
        let id = TypeId(self.nodes.len() as u32);
        self.nodes.push(node);
        id
    }

    fn base(&mut self, name: &str) -> TypeId {
        let node = self.bases.get(name).cloned().map(|base| Node::Plain(Type::Base(base)));
        node.map_or(UNKNOWN, |node| self.push(node))
    }

    /// Takes a type in. (The JSON reader refuses what nests more than 128 deep.)
    fn add(&mut self, raw: &RawType<'_>) -> TypeId {
        let sub = raw.subtype.as_deref();
        let node = match (&*raw.kind, sub) {
            ("pointer", sub) => {
                let target = sub.map_or(UNKNOWN, |sub| self.add(sub));
                Node::Plain(Type::Pointer { target, size: self.pointer })
            }
            ("array", Some(sub)) => Node::Plain(Type::Array { element: self.add(sub), count: raw.count }),
            ("bitfield", _) => {
                let base = raw.base.as_deref().map_or(UNKNOWN, |base| self.add(base));
                Node::Plain(Type::Bits { base, position: raw.bit_position, length: raw.bit_length })
            }
            ("function", _) => Node::Plain(Type::Function { returns: None, arguments: Vec::new() }),
            ("struct" | "union" | "class" | "enum", _) => {
                Node::Named(raw.name.as_deref().unwrap_or_default().to_owned())
            }
            ("base", _) => return self.base(raw.name.as_deref().unwrap_or_default()),
            _ => return UNKNOWN,
        };
        self.push(node)
    }

    /// The node, or that of the entry it names.
    fn node(&self, id: TypeId) -> Option<&Node> {
        match self.nodes.get(id.0 as usize)? {
            Node::Named(name) => self.nodes.get(self.names.get(name)?.0 as usize),
            node => Some(node),
        }
    }
}

/// What the table says of a base type; its names are those of C, and an 8-bit number is a character there.
fn base(name: &str, raw: &RawBase) -> Base {
    let kind = match (&*raw.kind, name) {
        ("void", _) => BaseKind::Void,
        (_, "HRESULT") => BaseKind::Hresult,
        (_, "wchar" | "wchar_t") => BaseKind::Wide,
        ("char", _) => BaseKind::Character { signed: raw.signed },
        ("bool", _) => BaseKind::Bool,
        ("float", _) => BaseKind::Float,
        _ if raw.signed => BaseKind::Signed,
        _ => BaseKind::Unsigned,
    };
    Base { name: name.to_owned().into(), size: raw.size, kind }
}

impl Types for IsfTypes {
    fn provenance(&self) -> String {
        "types of the ISF table".to_owned()
    }

    fn find(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied()
    }

    fn names(&self) -> Vec<(String, TypeId)> {
        self.names.iter().map(|(name, id)| (name.clone(), *id)).collect()
    }

    fn get(&self, id: TypeId) -> Type {
        match self.node(id) {
            Some(Node::Plain(ty)) => ty.clone(),
            Some(Node::Record(record, _)) => Type::Record(record.clone()),
            Some(Node::Enum(of, _)) => Type::Enum(of.clone()),
            Some(Node::Named(_)) => Type::Unknown,
            // A name without an entry is a declaration; the table says of none whether it is an enum.
            None => match self.nodes.get(id.0 as usize) {
                Some(Node::Named(name)) => {
                    Type::Record(Record { kind: RecordKind::Struct, name: name.clone(), size: None })
                }
                _ => Type::Unknown,
            },
        }
    }

    fn members(&self, id: TypeId) -> Members {
        match self.node(id) {
            Some(Node::Record(_, members)) => Members { list: members.clone(), partial: false },
            _ => Members::default(),
        }
    }

    fn values(&self, id: TypeId) -> Vec<(String, i128)> {
        match self.node(id) {
            Some(Node::Enum(_, values)) => values.clone(),
            _ => Vec::new(),
        }
    }
}
