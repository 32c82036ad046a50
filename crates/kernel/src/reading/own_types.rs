//! Types out of files: PDBs and ISF tables.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use stopcode_symbols::{IsfTypes, Member, PdbTypes, Role, Type, Types, unpack_xz};

/// A larger file is not read.
const LARGEST: u64 = 1 << 30;

/// The kernel's types out of a file that is provably its own.
pub(crate) struct OwnTypes {
    types: Rc<dyn Types>,
    /// Whose types they are, in words.
    pub(crate) provenance: String,
    /// Places of plain fields, by structure.
    places: RefCell<HashMap<&'static str, HashMap<String, u32>>>,
}

impl OwnTypes {
    /// The types in a file; `None` if it holds none.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let types = read(path).ok()?;
        Some(Self { provenance: types.provenance(), types, places: RefCell::default() })
    }

    pub(crate) fn types(&self) -> Rc<dyn Types> {
        Rc::clone(&self.types)
    }

    /// Where a field lies; `None` for bit fields and for what is not there.
    pub(crate) fn place(&self, structure: &'static str, field: &str) -> Option<u32> {
        let mut places = self.places.borrow_mut();
        let of_structure = places.entry(structure).or_insert_with(|| self.read_places(structure));
        of_structure.get(field).copied()
    }

    fn read_places(&self, structure: &str) -> HashMap<String, u32> {
        let Some(id) = self.types.find(structure) else { return HashMap::new() };
        let plain = |member: &Member| {
            member.role == Role::Field && !matches!(self.types.get(member.ty), Type::Bits { .. })
        };
        let members = self.types.members(id).list.into_iter().filter(plain);
        members.filter_map(|member| Some((member.name, u32::try_from(member.offset).ok()?))).collect()
    }
}

pub(crate) fn read(path: &Path) -> Result<Rc<dyn Types>, String> {
    let place = path.display();
    let told = |error: &dyn std::fmt::Display| format!("{place}: {error}");
    let size = std::fs::metadata(path).map_err(|error| told(&error))?.len();
    if size > LARGEST {
        return Err(told(&"too large"));
    }
    let bytes = std::fs::read(path).map_err(|error| told(&error))?;
    if bytes.starts_with(b"Microsoft C/C++ MSF") {
        return Ok(Rc::new(PdbTypes::parse(&bytes).map_err(|error| told(&error))?));
    }
    let bytes = if bytes.starts_with(b"\xfd7zXZ\0") {
        unpack_xz(&bytes, LARGEST).map_err(|error| told(&error))?.0
    } else {
        bytes
    };
    Ok(Rc::new(IsfTypes::parse(&bytes).map_err(|error| told(&error))?))
}
