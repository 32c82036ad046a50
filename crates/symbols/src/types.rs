//! Types of an image: one small model over a PDB's type records, an ISF table and the built-in layouts.
//!
//! A type is named by a [`TypeId`] of its provider and read when it is asked for. Whatever a file claims, reading one
//! costs no more than the file's own records: chains are followed a bounded number of steps, and a reference that leads
//! nowhere is [`Type::Unknown`].

mod builtin;
mod dt;
mod isf;
mod leaf;
mod numeric;
mod pdb;
mod spelling;
mod value;

pub use builtin::BuiltinTypes;
pub use dt::{Dt, Line, Listing};
pub use isf::IsfTypes;
pub use pdb::PdbTypes;
pub(crate) use pdb::Records;
pub use spelling::declared;
pub use value::{Text, Value};

use std::borrow::Cow;

/// A type within its provider.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TypeId(pub u32);

/// What a type is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Type {
    /// Its record is missing, damaged or of a kind that has no bytes.
    Unknown,
    /// Its source tells places, not types: the first bit and the number of bits, if it is a bit field.
    Place {
        /// The bits, counted from the member's offset.
        bits: Option<(u32, u32)>,
    },
    /// A type of the language.
    Base(Base),
    /// A pointer or reference.
    Pointer {
        /// What it points to.
        target: TypeId,
        /// 4 or 8 bytes.
        size: u64,
    },
    /// So many of the same.
    Array {
        /// What each is.
        element: TypeId,
        /// How many; 0 also where the element's size is not known.
        count: u64,
    },
    /// A structure, class or union.
    Record(Record),
    /// Named numbers.
    Enum(Enum),
    /// Some bits of a number.
    Bits {
        /// The number.
        base: TypeId,
        /// Its first bit, from the least.
        position: u32,
        /// How many bits.
        length: u32,
    },
    /// A function.
    Function {
        /// What it returns; `None` where the source does not tell.
        returns: Option<TypeId>,
        /// What it takes; `...` is a last one that is [`Type::Unknown`].
        arguments: Vec<TypeId>,
    },
}

/// A type of the language.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// As C spells it: `unsigned long`.
    pub name: Cow<'static, str>,
    /// Bytes.
    pub size: u64,
    /// How its bytes are read.
    pub kind: BaseKind,
}

/// How the bytes of a base type are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BaseKind {
    /// There are none.
    Void,
    /// A number without sign, little-endian.
    Unsigned,
    /// A number in two's complement, little-endian.
    Signed,
    /// An 8-bit character, with or without sign as `unsigned char` and `char`.
    Character {
        /// True for `char`.
        signed: bool,
    },
    /// A UTF-16 unit.
    Wide,
    /// 0 is false.
    Bool,
    /// IEEE 754.
    Float,
    /// `HRESULT`.
    Hresult,
}

/// Which keyword a record was declared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// `struct`.
    Struct,
    /// `class`.
    Class,
    /// `union`.
    Union,
    /// `__interface`.
    Interface,
}

/// A structure, class or union; [`Types::members`] says what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The keyword.
    pub kind: RecordKind,
    /// Its name; from a file, so it passes `stopcode_base::visible` before it is shown.
    pub name: String,
    /// Bytes; `None` if it is only declared or its source does not tell.
    pub size: Option<u64>,
}

/// What a record holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// In the order of the source; a PDB's is that of the declaration.
    pub list: Vec<Member>,
    /// True if there are more: a record is damaged, or was taken up into the built-in layouts only in part.
    pub partial: bool,
}

/// A part of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its name; empty for a base class.
    pub name: String,
    /// Bytes from the start of the record; 0 for what has no fixed place.
    pub offset: u64,
    /// What it is.
    pub ty: TypeId,
    /// What part it plays.
    pub role: Role,
}

/// What part a member plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Data.
    Field,
    /// A base class, with its members.
    Base,
    /// A base class that is found through a pointer: its offset is not fixed.
    VirtualBase,
    /// The pointer to the virtual functions.
    VirtualTable,
    /// Shared by all records of the type, outside of them.
    Static,
}

/// Named numbers; [`Types::values`] lists them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enum {
    /// Its name.
    pub name: String,
    /// The number below.
    pub base: TypeId,
}

/// Where types come from.
pub trait Types {
    /// What the types are of, and how sure that is, in words for the reader.
    fn provenance(&self) -> String;

    /// The definition of a record or enum by its exact name; a mere declaration if there is no definition.
    fn find(&self, name: &str) -> Option<TypeId>;

    /// Every record and enum that has a definition, by name.
    fn names(&self) -> Vec<(String, TypeId)>;

    /// What a type is, at the cost of its own record. A declared record is completed by its definition.
    fn get(&self, id: TypeId) -> Type;

    /// What a record holds; nothing if the type is none.
    fn members(&self, id: TypeId) -> Members;

    /// Names and numbers of an enum, in the order of the source; none if the type is none.
    fn values(&self, id: TypeId) -> Vec<(String, i128)>;

    /// Names that match a pattern with `*` and `?`, without regard to case.
    fn matching(&self, pattern: &str) -> Vec<(String, TypeId)> {
        let mut names = self.names();
        names.retain(|(name, _)| stopcode_base::fits(pattern, name));
        names
    }

    /// Bytes a type takes; `None` if that is not known.
    fn size_of(&self, id: TypeId) -> Option<u64> {
        let mut factor = 1_u64;
        let mut id = id;
        for _ in 0..MAX_NESTING {
            let size = match self.get(id) {
                Type::Array { element, count } => {
                    factor = factor.checked_mul(count)?;
                    id = element;
                    continue;
                }
                Type::Enum(Enum { base, .. }) | Type::Bits { base, .. } => {
                    id = base;
                    continue;
                }
                Type::Unknown | Type::Place { .. } | Type::Function { .. } => return None,
                Type::Base(base) => base.size,
                Type::Pointer { size, .. } => size,
                Type::Record(record) => record.size?,
            };
            return factor.checked_mul(size);
        }
        None
    }
}

/// Arrays of arrays, pointers to pointers: no declaration nests deeper.
const MAX_NESTING: usize = 32;

impl Base {
    /// A base type with a fixed name.
    pub(crate) const fn new(name: &'static str, size: u64, kind: BaseKind) -> Self {
        Self { name: Cow::Borrowed(name), size, kind }
    }

    /// As a debugger spells it: `Uint4B`.
    pub fn dt_name(&self) -> Cow<'static, str> {
        let bytes = self.size;
        match self.kind {
            BaseKind::Void => "Void".into(),
            BaseKind::Unsigned => format!("Uint{bytes}B").into(),
            BaseKind::Signed => format!("Int{bytes}B").into(),
            BaseKind::Character { signed: true } => "Char".into(),
            BaseKind::Character { signed: false } => "UChar".into(),
            BaseKind::Wide => "Wchar".into(),
            BaseKind::Bool if bytes == 1 => "Bool".into(),
            BaseKind::Bool => format!("Bool{bytes}B").into(),
            BaseKind::Float => match bytes {
                4 => "Float".into(),
                8 => "Double".into(),
                _ => format!("Float{bytes}B").into(),
            },
            BaseKind::Hresult => "HRESULT".into(),
        }
    }
}
