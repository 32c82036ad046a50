//! Symbol stores as WinDbg lays them out, and the path that names them.
//!
//! Layout and grammar: Microsoft's "Symbol path for Windows debuggers" and "Symbol store folder tree".

mod file;
mod path;

pub use file::StoreFile;
pub use path::{Place, SymbolPath};

use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Larger files are not read: the largest kernel PDBs have some 40 MB.
pub(crate) const MAX_FILE: u64 = 1 << 30;
/// A `file.ptr` holds one path.
const MAX_POINTER: u64 = 4096;

/// A folder that holds symbol files by name and key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in this folder, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where it keeps a file: in two tiers if the folder says so by holding `index2.txt`.
    pub fn place_of(&self, file: &StoreFile) -> PathBuf {
        self.root.join(file.relative(self.root.join("index2.txt").is_file()))
    }

    /// The file's bytes, unpacked if the store holds it compressed (`.pd_`) or points elsewhere (`file.ptr`), and where
    /// they were read. Only bytes that `fits` accepts are given: a store may hold what another program left half done.
    pub fn find(&self, file: &StoreFile, fits: impl Fn(&[u8]) -> bool) -> Option<(PathBuf, Vec<u8>)> {
        let two_tier = self.root.join("index2.txt").is_file();
        for relative in file.spellings(two_tier) {
            let plain = self.root.join(relative);
            let packed = plain.with_file_name(file.compressed_name());
            let pointer = plain.with_file_name("file.ptr");
            let found = read(&plain, MAX_FILE)
                .map(|bytes| (plain, bytes))
                .or_else(|_| Ok((packed.clone(), unpack_cab(&read(&packed, MAX_FILE)?, MAX_FILE)?)))
                .or_else(|_: io::Error| follow(&pointer));
            if let Some(found) = found.ok().filter(|(_, bytes)| fits(bytes)) {
                return Some(found);
            }
        }
        None
    }

    /// Puts a file into the store, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn put(&self, file: &StoreFile, bytes: &[u8]) -> io::Result<PathBuf> {
        let place = self.place_of(file);
        write_whole(&place, bytes).map(|()| place)
    }
}

/// Writes a file, whole or not at all: beside its place first, then renamed.
pub(crate) fn write_whole(place: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let folder = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let unique = format!("{}-{}.part", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let part = folder.join(unique);
    let written = fs::File::create_new(&part)
        .and_then(|mut out| out.write_all(bytes).and_then(|()| out.sync_all()))
        .and_then(|()| fs::rename(&part, place));
    if written.is_err() {
        _ = fs::remove_file(&part);
    }
    written
}

/// Reads a regular file of at most `limit` bytes: a device or pipe would never end.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `PATH:` and a path on this machine. Paths to other machines are not followed: opening one tells it who asks.
fn follow(pointer: &Path) -> io::Result<(PathBuf, Vec<u8>)> {
    let text = read(pointer, MAX_POINTER)?;
    let text = String::from_utf8_lossy(&text);
    let path = text.trim().strip_prefix("PATH:").unwrap_or_default().trim();
    if path.is_empty() || path.starts_with(r"\\") || path.starts_with("//") || path.contains("://") {
        return Err(io::ErrorKind::NotFound.into());
    }
    let path = PathBuf::from(path);
    let bytes = read(&path, MAX_FILE)?;
    if bytes.starts_with(b"MSCF") {
        return Ok((path, unpack_cab(&bytes, MAX_FILE)?));
    }
    Ok((path, bytes))
}

/// The one file in a cabinet, as `.pd_` and `.sy_` hold it.
///
/// # Errors
/// If the bytes are no cabinet of one file that can be unpacked, or more than `limit` come out of it.
pub fn unpack_cab(bytes: &[u8], limit: u64) -> io::Result<Vec<u8>> {
    // Number of files, and where in what is unpacked the first begins (CFHEADER and CFFILE of "Microsoft Cabinet
    // Format"). The reader does not check the latter.
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?));
    let files = word(28).map(|word| word & 0xffff);
    let start = word(16).and_then(|entry| word((entry as usize).checked_add(4)?));
    if (files, start) != (Some(1), Some(0)) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let unpack = || {
        let mut cabinet = cab::Cabinet::new(Cursor::new(bytes))?;
        let mut entries = cabinet.folder_entries().flat_map(cab::FolderEntry::file_entries);
        let name = entries.next().map(|entry| entry.name().to_owned()).ok_or(io::ErrorKind::InvalidData)?;
        let mut unpacked = Vec::new();
        cabinet.read_file(&name)?.take(limit.saturating_add(1)).read_to_end(&mut unpacked)?;
        if unpacked.len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(unpacked)
    };
    // The decoder for LZX asserts what a hostile file need not fulfil; nothing of it outlives the call.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(unpack))
        .unwrap_or_else(|_| Err(io::ErrorKind::InvalidData.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PdbKey;
    use crate::testing::Folder;

    fn file() -> StoreFile {
        StoreFile::pdb("a.pdb", PdbKey { guid: 0xabc, age: 0x1a }).unwrap()
    }

    const KEY: &str = "00000000000000000000000000000ABC1a";

    #[test]
    fn what_is_put_is_found_again_in_both_layouts() {
        let folder = Folder::new("store");
        let store = Store::new(&folder.0);
        assert_eq!(store.find(&file(), |_| true), None);
        let place = store.put(&file(), b"one").unwrap();
        assert_eq!(place, folder.0.join("a.pdb").join(KEY).join("a.pdb"));
        assert_eq!(store.find(&file(), |_| true), Some((place.clone(), b"one".to_vec())));
        assert_eq!(store.find(&file(), |bytes| bytes != b"one"), None);
        store.put(&file(), b"two").unwrap();
        assert_eq!(store.find(&file(), |_| true).unwrap().1, b"two");
        assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
        folder.write("index2.txt", "");
        assert_eq!(
            store.put(&file(), b"two tiers").unwrap(),
            folder.0.join("a.").join("a.pdb").join(KEY).join("a.pdb")
        );
        assert_eq!(store.find(&file(), |_| true).unwrap().1, b"two tiers");
    }

    #[test]
    fn other_spellings_of_name_and_key_are_found() {
        let folder = Folder::new("store-case");
        folder.write(&format!("a.pdb/{}/a.pdb", KEY.to_uppercase()), "upper");
        let found = Store::new(&folder.0)
            .find(&StoreFile::pdb("A.PDB", PdbKey { guid: 0xabc, age: 0x1a }).unwrap(), |_| true);
        assert_eq!(found.unwrap().1, b"upper");
    }

    fn cabinet(text: &[u8]) -> Vec<u8> {
        let mut builder = cab::CabinetBuilder::new();
        builder.add_folder(cab::CompressionType::MsZip).add_file("a.pdb");
        let mut writer = builder.build(Cursor::new(Vec::new())).unwrap();
        while let Some(mut file) = writer.next_file().unwrap() {
            file.write_all(text).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn compressed_files_and_pointers_lead_to_the_file() {
        let folder = Folder::new("store-cab");
        let packed = cabinet(b"unpacked");
        folder.write_bytes(&format!("a.pdb/{KEY}/a.pd_"), &packed);
        let store = Store::new(&folder.0);
        assert_eq!(store.find(&file(), |_| true).unwrap().1, b"unpacked");
        let other = Folder::new("store-ptr");
        let target = other.write("elsewhere.pdb", "there");
        other.write(&format!("s/a.pdb/{KEY}/file.ptr"), &format!("PATH:{}\r\n", target.display()));
        let store = Store::new(other.0.join("s"));
        assert_eq!(store.find(&file(), |_| true), Some((target, b"there".to_vec())));
        for refused in
            ["MSG: not here", r"PATH:\\server\share\a.pdb", "PATH://server/a.pdb", "PATH:", "\u{0}"]
        {
            other.write(&format!("s/a.pdb/{KEY}/file.ptr"), refused);
            assert_eq!(store.find(&file(), |_| true), None, "{refused}");
        }
    }

    #[test]
    fn broken_cabinets_do_no_harm() {
        let packed = cabinet(&[7; 5000]);
        assert_eq!(unpack_cab(&packed, 5000).unwrap(), [7; 5000]);
        assert!(unpack_cab(&packed, 4999).is_err());
        for end in 0..packed.len() {
            assert!(unpack_cab(&packed[..end], 5000).is_err(), "cut at {end}");
        }
        for at in 0..packed.len() {
            for wrong in [0, 1, 0x7f, 0xff] {
                let mut damaged = packed.clone();
                damaged[at] = wrong;
                assert!(unpack_cab(&damaged, 100_000).map_or(0, |bytes| bytes.len()) <= 100_000);
            }
        }
    }
}
