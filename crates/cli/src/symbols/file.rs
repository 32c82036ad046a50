//! A symbol file of any kind, opened.

use clap::ValueEnum;
use std::path::Path;
use stopcode_base::visible;
use stopcode_image::Image;
use stopcode_symbols::{Isf, Pdb, PdbKey, SymbolTable, exports, unpack_xz};

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// A line each.
    Text,
    /// For programs.
    Json,
}

/// A table may unpack to this many bytes.
const MAX_FILE: u64 = 1 << 30;

/// The bytes of a symbol file, and of a packed one those within with what broke them off.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, Option<String>), String> {
    let place = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| format!("{place}: {error}"))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(format!("{place}: not a regular file of at most {} MiB", MAX_FILE >> 20));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{place}: {error}"))?;
    if !bytes.starts_with(b"\xfd7zXZ\0") {
        return Ok((bytes, None));
    }
    let (bytes, broken) = unpack_xz(&bytes, MAX_FILE).map_err(|error| format!("{place}: {error}"))?;
    Ok((bytes, broken.map(|error| error.to_string())))
}

/// Says what of a file could not be read.
pub(crate) fn told(path: &Path, damage: Option<&str>) {
    if let Some(damage) = damage {
        crate::analyze::say(&format!("note: {}: damaged: {}", path.display(), visible(damage)));
    }
}

/// How a PDB begins.
pub(crate) const PDB: &[u8] = b"Microsoft C/C++ MSF";

/// The names in a file, whichever of the three kinds it is.
pub(crate) fn table(path: &Path) -> Result<SymbolTable, String> {
    keyed_table(path).map(|(table, _)| table)
}

/// And the PDB they are of, where the file says.
pub(crate) fn keyed_table(path: &Path) -> Result<(SymbolTable, Option<PdbKey>), String> {
    let place = path.display();
    let (bytes, broken) = read(path)?;
    if bytes.starts_with(PDB) {
        let pdb = Pdb::parse(&bytes).map_err(|error| format!("{place}: {error}"))?;
        told(path, pdb.damage.as_deref());
        return Ok((pdb.symbols, Some(pdb.key)));
    }
    if bytes.starts_with(b"MZ") {
        let image = Image::of_file(&bytes).map_err(|error| format!("{place}: {error}"))?;
        return Ok((exports(&image), None));
    }
    let isf =
        Isf::parse(&bytes).map_err(|error| format!("{place}: neither a PDB nor an image, and {error}"))?;
    told(path, isf.damage.or(broken).as_deref());
    let key = isf.key.or_else(|| PdbKey::of_file_name(&path.file_name()?.to_string_lossy()));
    Ok((isf.symbols, key))
}
