//! `stopcode symbols pack`.

use super::file::keyed_table;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use stopcode_symbols::{NamePackWriter, Packing, SymbolSource};

/// Packs what has a key; says what has none.
pub(crate) fn pack(
    inputs: &[PathBuf],
    output: &Path,
    out: &mut impl Write,
) -> Result<io::Result<()>, String> {
    let mut writer = NamePackWriter::default();
    let mut files: Vec<PathBuf> = inputs.iter().filter(|path| !path.is_dir()).cloned().collect();
    let folders = SymbolSource::new(inputs.iter().filter(|path| path.is_dir()).cloned());
    files.extend(folders.candidates().iter().map(|candidate| candidate.path.clone()));
    for path in &files {
        let (table, key) = keyed_table(path)?;
        let Some(key) = key else {
            crate::analyze::say(&format!(
                "note: {}: does not say which PDB it is of; left out",
                path.display()
            ));
            continue;
        };
        writer.add(key, &key.to_string(), &table);
    }
    let builds = writer.len();
    if builds == 0 {
        return Err("nothing to pack".to_owned());
    }
    let written =
        writer.finish(Packing::Xz).and_then(|bytes| std::fs::write(output, &bytes).map(|()| bytes.len()));
    let bytes = written.map_err(|error| format!("{}: {error}", output.display()))?;
    Ok(writeln!(out, "{builds} builds, {bytes} bytes"))
}
