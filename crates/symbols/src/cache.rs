//! What was once worked out of a symbol file, kept for the next run.
//!
//! A cache never decides anything: each entry says of which file it was made, by path, size and time of change, and one that
//! says something else, or cannot be read, is as good as none. Two programs may write at once; what lies there is always whole.

use crate::name_pack::{NamePack, NamePackWriter, Packing};
use crate::store::{MAX_FILE, read, write_whole};
use crate::{PdbKey, SymbolTable};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A folder of this program's own.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// Which file an entry was made of. `None` if the file cannot be looked at.
pub(crate) fn label(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let path = fs::canonicalize(path).ok()?;
    Some(format!("{} {changed} {}", metadata.len(), path.to_str()?))
}

impl Cache {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The names of a symbol file, if they are kept.
    pub(crate) fn names(&self, label: &str) -> Option<(PdbKey, SymbolTable)> {
        let pack = NamePack::parse(read(&self.place(label), MAX_FILE).ok()?).ok()?;
        let build = pack.builds().first().filter(|build| build.label == label)?;
        Some((build.key, pack.table(build).ok()?))
    }

    /// Keeps them.
    pub(crate) fn keep_names(&self, label: &str, key: PdbKey, table: &SymbolTable) {
        let mut writer = NamePackWriter::default();
        writer.add(key, label, table);
        write(&self.place(label), writer);
    }

    /// The globals of symbol files by label, as far as they are kept.
    pub(crate) fn globals(&self) -> Vec<(String, PdbKey, SymbolTable)> {
        let pack = read(&self.globals_place(), MAX_FILE).ok().and_then(|bytes| NamePack::parse(bytes).ok());
        let Some(pack) = pack else { return Vec::new() };
        let table =
            |build: &crate::PackedBuild| Some((build.label.clone(), build.key, pack.table(build).ok()?));
        pack.builds().iter().filter_map(table).collect()
    }

    /// Keeps them, in the place of those that were there.
    pub(crate) fn keep_globals(&self, globals: &[(String, PdbKey, SymbolTable)]) {
        let mut writer = NamePackWriter::default();
        for (label, key, table) in globals {
            writer.add(*key, label, table);
        }
        write(&self.globals_place(), writer);
    }

    fn globals_place(&self) -> PathBuf {
        self.folder.join("globals.names")
    }

    /// One file per path: an entry for a file that was changed takes the place of the old one.
    fn place(&self, label: &str) -> PathBuf {
        let path = label.splitn(3, ' ').last().unwrap_or_default();
        // FNV-1a: the same in every version of this program. What it maps to one place is told apart by the label.
        let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        self.folder.join("names").join(format!("{hash:016x}.names"))
    }
}

/// Where that cannot be done, it is worked out again next time.
fn write(place: &Path, writer: NamePackWriter) {
    if let Ok(bytes) = writer.finish(Packing::Stored) {
        _ = write_whole(place, &bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn an_entry_serves_the_file_it_was_made_of_and_no_other() {
        let folder = Folder::new("cache");
        let file = folder.write("a.json", "{}");
        let cache = Cache::new(folder.0.join("cache"));
        let key = PdbKey { guid: 1, age: 2 };
        let table: SymbolTable = [("A".to_owned(), 16)].into_iter().collect();
        let before = label(&file).unwrap();
        assert!(cache.names(&before).is_none());
        cache.keep_names(&before, key, &table);
        assert_eq!(cache.names(&before).unwrap().1.address_of("A"), Some(16));
        folder.write("a.json", "{ }");
        let after = label(&file).unwrap();
        assert!(cache.names(&after).is_none());
        assert_eq!(cache.place(&before), cache.place(&after));
        cache.keep_globals(&[(after.clone(), key, table)]);
        let kept = cache.globals();
        assert_eq!((kept.len(), &kept[0].0, kept[0].1), (1, &after, key));
        assert_eq!(label(&folder.0.join("none")), None);
    }
}
