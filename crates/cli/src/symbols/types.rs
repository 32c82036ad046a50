//! `stopcode symbols types`: structures as a debugger's `dt` shows them.

use super::file::{PDB, Shape, read, told};
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;
use stopcode_base::visible;
use stopcode_symbols::{Dt, IsfTypes, Listing, PdbTypes, RecordKind, Type, TypeId, Types};

/// What to show.
pub(crate) struct Wanted<'a> {
    /// Names and patterns; all names if there are none.
    pub(crate) names: &'a [String],
    /// How many levels to open.
    pub(crate) depth: u32,
    /// The members to show; all if there are none.
    pub(crate) fields: &'a [String],
}

/// The types in a file.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Types>, String> {
    let place = path.display();
    let (bytes, broken) = read(path)?;
    if bytes.starts_with(PDB) {
        let types = PdbTypes::parse(&bytes).map_err(|error| format!("{place}: {error}"))?;
        told(path, types.damage);
        return Ok(Box::new(types));
    }
    if bytes.starts_with(b"MZ") {
        return Err(format!("{place}: an image holds no types: its PDB does"));
    }
    told(path, broken.as_deref());
    let types = IsfTypes::parse(&bytes)
        .map_err(|error| format!("{place}: neither a PDB nor an image, and {error}"))?;
    Ok(Box::new(types))
}

/// Shows what is wanted; what is not found is said on standard error.
pub(crate) fn show(
    types: &dyn Types,
    wanted: &Wanted<'_>,
    shape: Shape,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut json = Vec::new();
    let everything = ["*".to_owned()];
    let names = if wanted.names.is_empty() { &everything[..] } else { wanted.names };
    for name in names {
        let name = name.rsplit_once('!').map_or(&**name, |(_, name)| name);
        if name.contains(['*', '?']) {
            for (name, id) in types.matching(name) {
                match shape {
                    Shape::Text => writeln!(out, "          {}", visible(&name))?,
                    Shape::Json => json.push(as_json(types, id, &name, None)),
                }
            }
            continue;
        }
        let Some(id) = types.find(name) else {
            crate::analyze::say(&format!("warning: no type {} in this file", visible(name)));
            continue;
        };
        let fields: Vec<&str> = wanted.fields.iter().map(String::as_str).collect();
        let listing = Dt { depth: wanted.depth, ..Dt::new(types) }.list(id, &fields);
        match shape {
            Shape::Text => {
                writeln!(out, "{}", visible(name))?;
                write!(out, "{listing}")?;
                if listing.partial {
                    writeln!(out, "   (the file has only a part of it)")?;
                }
                if listing.cut {
                    writeln!(out, "   (cut: there is more)")?;
                }
                if let (Type::Record(_), Some(size)) = (types.get(id), types.size_of(id)) {
                    writeln!(out, "   size {size:#x}")?;
                }
            }
            Shape::Json => json.push(as_json(types, id, name, Some(&listing))),
        }
    }
    match shape {
        Shape::Text => Ok(()),
        Shape::Json => writeln!(out, "{}", serde_json::Value::Array(json)),
    }
}

fn as_json(types: &dyn Types, id: TypeId, name: &str, listing: Option<&Listing>) -> serde_json::Value {
    let kind = match types.get(id) {
        Type::Record(record) => match record.kind {
            RecordKind::Struct => "struct",
            RecordKind::Class => "class",
            RecordKind::Union => "union",
            RecordKind::Interface => "interface",
        },
        Type::Enum(_) => "enum",
        _ => "unknown",
    };
    let mut value = json!({ "name": name, "kind": kind, "size": types.size_of(id) });
    if let (Some(listing), Some(object)) = (listing, value.as_object_mut()) {
        let members = listing.lines.iter().map(
            |line| json!({ "depth": line.depth, "name": line.name, "offset": line.offset, "type": line.ty }),
        );
        let number = |value: i128| match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => json!(value),
            (_, Ok(value)) => json!(value),
            _ => json!(null),
        };
        let values =
            listing.values.iter().map(|(name, value)| json!({ "name": name, "value": number(*value) }));
        object.insert("partial".to_owned(), listing.partial.into());
        object.insert("cut".to_owned(), listing.cut.into());
        object.insert("members".to_owned(), members.collect());
        object.insert("values".to_owned(), values.collect());
    }
    value
}
