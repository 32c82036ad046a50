//! `stopcode symbols list` and `lookup`.

use super::file::Shape;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use stopcode_base::visible;
use stopcode_symbols::{Found, How, PdbFile, Reach, SymbolKind, SymbolTable, demangle};

/// Every name, by address.
pub(crate) fn list(table: &SymbolTable, format: Shape, out: &mut impl Write) -> io::Result<()> {
    if let Shape::Text = format {
        for found in table.iter() {
            let size = found.size.map_or_else(String::new, |size| format!("{size:x}"));
            writeln!(out, "{:08x} {size:>8} {:<8} {}", found.rva, kind(&found), name(&found))?;
        }
        return Ok(());
    }
    // Written one by one: a kernel has forty thousand.
    let mut before = "[\n";
    for found in table.iter() {
        let entry = serde_json::json!({
            "rva": found.rva, "name": found.name, "size": found.size, "kind": kind(&found),
        });
        write!(out, "{before}{entry}")?;
        before = ",\n";
    }
    writeln!(out, "{}]", if table.is_empty() { "[" } else { "\n" })
}

/// A PDB for its lines.
pub(crate) fn open_pdb(path: &Path) -> Result<PdbFile<File>, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("{}: lines come from PDBs only: {error}", path.display());
    let file = File::open(path).map_err(|error| failed(&error))?;
    PdbFile::open(file).map_err(|error| failed(&error))
}

/// Where the code of an address was written: inlined functions from the inside out, then the one that holds them.
fn source(pdb: &PdbFile<File>, rva: u32, out: &mut impl Write) -> io::Result<()> {
    for frame in pdb.frames(rva) {
        let function =
            frame.function.as_deref().map_or_else(|| "?".to_owned(), |name| visible(&demangle(name)));
        let inlined = if frame.inlined { " (inlined)" } else { "" };
        let line = frame
            .line
            .map_or_else(|| "no line".to_owned(), |line| format!("{} @ {}", visible(&line.file), line.line));
        writeln!(out, "          {function}{inlined}  [{line}]")?;
    }
    match pdb.module_at(rva) {
        Some(module) if module.library == module.object => {
            writeln!(out, "          from {}", visible(&module.object))
        }
        Some(module) => {
            writeln!(out, "          from {} in {}", visible(&module.object), visible(&module.library))
        }
        None => Ok(()),
    }
}

/// What each address is, and how far that can be said.
pub(crate) fn lookup(
    table: &SymbolTable,
    addresses: &[u32],
    pdb: Option<&PdbFile<File>>,
    out: &mut impl Write,
) -> io::Result<()> {
    for rva in addresses {
        let Some(found) = table.lookup(*rva) else {
            writeln!(out, "{rva:08x}  before the first name")?;
            continue;
        };
        let offset = if found.offset == 0 { String::new() } else { format!("+{:#x}", found.offset) };
        let reach = match (found.reach, found.size) {
            (Reach::Start, _) => "its start",
            (Reach::Within, Some(_)) => "inside it",
            (Reach::Within, None) => "nearest name before; its size is not known",
            (Reach::PastEnd, _) => "behind its end: only the nearest name before",
            (Reach::Far, _) => "far behind it: only the nearest name before",
            (Reach::BehindLiteral, _) => "behind a string literal: in code, a part of some other function",
        };
        let how = match found.how {
            How::Isf => "ISF",
            How::Export => "export",
            How::Public => "public symbol",
            How::Procedure => "function record",
            How::Variable => "variable record",
            _ => "symbol",
        };
        writeln!(out, "{rva:08x}  {}{offset}  [{reach}; {how}]", name(&found))?;
        if let Some(pdb) = pdb {
            source(pdb, *rva, out)?;
        }
    }
    Ok(())
}

fn kind(found: &Found<'_>) -> &'static str {
    match found.kind {
        _ if found.cold => "part",
        SymbolKind::Code => "function",
        SymbolKind::Data => "data",
        SymbolKind::StringLiteral => "string",
        SymbolKind::Unknown => "unknown",
    }
}

fn name(found: &Found<'_>) -> String {
    let name = visible(&demangle(found.name));
    if found.cold { format!("{name} (cold)") } else { name }
}
