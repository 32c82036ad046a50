//! Symbol files on disk: what `--symbols PATH…` names. The only module that touches files.

mod images;
mod recognize;
mod walk;

pub(crate) use images::Given;
pub use images::ImageNames;
pub use recognize::{Progress, Recognized};

use crate::cache::{self, Cache};
use crate::isf::{Isf, IsfError, unpack_xz};
use crate::name_pack::NamePack;
use crate::store::{MAX_FILE, SymbolPath, read};
use crate::{Online, PdbKey, SymbolTable};
use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use stopcode_base::Problem;
use walk::Walk;

/// A file that may hold the symbols of one image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Where it is.
    pub path: PathBuf,
    /// The PDB its name says it is for; `None` if the name does not say.
    pub key: Option<PdbKey>,
}

/// Why a symbol file was not used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// It holds no symbols that can be used.
    #[error("{}: {error}", path.display())]
    Isf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: IsfError,
    },
    /// Its name promises another PDB than its content has.
    #[error("{}: the name says {named}, the content {inside}", path.display())]
    OtherPdb {
        /// The file.
        path: PathBuf,
        /// The PDB the name says.
        named: PdbKey,
        /// The PDB the content says.
        inside: PdbKey,
    },
}

/// What was read once, for all that ask again: the dumps of a folder are often of one kernel.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    globals: Mutex<Option<recognize::Globals>>,
    by_key: Mutex<HashMap<PdbKey, Slot<Named>>>,
    pub(crate) images: Mutex<HashMap<ImageKey, Slot<ImageNames>>>,
    packs: OnceLock<Vec<(PathBuf, NamePack)>>,
}

/// Filled by the first who asks; others wait for it instead of doing it again.
pub(crate) type Slot<T> = Arc<OnceLock<Option<T>>>;
/// The names in a file.
type Named = (PathBuf, Arc<SymbolTable>);
/// Name, time stamp, size, and the PDB where it is known.
pub(crate) type ImageKey = (String, u32, u32, Option<PdbKey>);

/// The value for a key, worked out once.
pub(crate) fn once<K: Eq + Hash, T: Clone>(
    slots: &Mutex<HashMap<K, Slot<T>>>,
    key: K,
    work: impl FnOnce() -> Option<T>,
) -> Option<T> {
    let slot = Arc::clone(slots.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
    slot.get_or_init(work).clone()
}

/// The symbol files under some paths, listed when first needed and loaded one by one. Clones share what was listed.
#[derive(Clone, Debug)]
pub struct SymbolSource {
    /// Files and folders.
    paths: Vec<PathBuf>,
    /// Folders and symbol paths, in the order given.
    searched: Vec<SymbolPath>,
    listing: Arc<OnceLock<Listing>>,
    given: Arc<OnceLock<Vec<(PathBuf, Given)>>>,
    /// Set where the host allows the network.
    pub(crate) online: Option<Arc<Online>>,
    cache: Option<Cache>,
    pub(crate) memo: Arc<Memo>,
}

#[derive(Debug)]
struct Listing {
    candidates: Vec<Candidate>,
    packs: Vec<PathBuf>,
    problems: Vec<Problem>,
}

impl SymbolSource {
    /// Folders are searched this deep.
    pub const MAX_DEPTH: usize = 6;
    /// At most this many entries of folders are looked at.
    pub const MAX_ENTRIES: usize = 20_000;
    /// A symbol file may unpack to this many bytes.
    pub const MAX_UNPACKED: u64 = 512 << 20;
    /// [`Self::recognize`] loads at most this many files.
    pub const MAX_LOADED: usize = 64;

    /// A source over files, folders, and symbol paths in WinDbg's grammar ([`SymbolPath`]). Nothing is read yet, and no
    /// server is asked.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut source = Self {
            paths: Vec::new(),
            searched: Vec::new(),
            listing: Arc::default(),
            given: Arc::default(),
            online: None,
            cache: None,
            memo: Arc::default(),
        };
        for path in paths {
            if let Some(text) = path.to_str().filter(|text| SymbolPath::is_path(text) && !path.exists()) {
                let variable = |name: &str| std::env::var(name).ok();
                source.searched.push(SymbolPath::parse(text, &default_store(), variable));
                continue;
            }
            if path.is_dir() {
                source.searched.push(SymbolPath::folder(path.clone()));
            }
            source.paths.push(path);
        }
        source
    }

    /// Lets the servers of the symbol paths be asked for what is not on this machine; if no path names one, Microsoft's,
    /// with the default store before it.
    #[must_use]
    pub fn with_online(mut self, online: Arc<Online>) -> Self {
        if self.searched.iter().all(|path| path.servers().next().is_none()) {
            let variable = |_: &str| None;
            self.searched.push(SymbolPath::parse(MICROSOFT, &default_store(), variable));
        }
        self.online = Some(online);
        self
    }

    /// Keeps in `folder` what took long to work out of symbol files, for the next run. Without it nothing is written but
    /// stores.
    #[must_use]
    pub fn with_cache(mut self, folder: PathBuf) -> Self {
        self.cache = Some(Cache::new(folder));
        self
    }

    /// True if there is anything to look at.
    pub fn has_paths(&self) -> bool {
        !self.paths.is_empty() || !self.searched.is_empty()
    }

    pub(crate) fn symbol_paths(&self) -> &[SymbolPath] {
        &self.searched
    }

    /// PDBs and images named outright.
    pub(crate) fn given(&self) -> &[(PathBuf, Given)] {
        self.given.get_or_init(|| {
            let given = |path: &PathBuf| Some((path.clone(), Given::of_file(path)?));
            self.paths.iter().filter(|path| is_binary_name(path)).filter_map(given).collect()
        })
    }

    /// The ISF files there are (`.json`, `.json.xz`), by path; a file named outright is one whatever its name.
    pub fn candidates(&self) -> &[Candidate] {
        &self.listing().candidates
    }

    /// What could not be searched, and why.
    pub fn problems(&self) -> &[Problem] {
        &self.listing().problems
    }

    /// The symbols of one PDB: loads the files whose name is its key until one holds it, then those named outright
    /// whose name says nothing. `None` if there is none.
    ///
    /// # Errors
    /// If the only files for it cannot be used: why the first of them cannot.
    pub fn find(&self, key: PdbKey) -> Result<Option<(PathBuf, Isf)>, SourceError> {
        let named = self.candidates().iter().filter(|candidate| candidate.key == Some(key));
        let plain = self
            .candidates()
            .iter()
            .filter(|candidate| candidate.key.is_none() && self.paths.contains(&candidate.path));
        let mut first = None;
        for candidate in named.chain(plain) {
            match load(&candidate.path) {
                Ok(isf) if isf.key == Some(key) || (isf.key.is_none() && candidate.key == Some(key)) => {
                    return Ok(Some((candidate.path.clone(), isf)));
                }
                Ok(isf) => {
                    if let (Some(named), Some(inside)) = (candidate.key, isf.key) {
                        let path = candidate.path.clone();
                        first.get_or_insert(SourceError::OtherPdb { path, named, inside });
                    }
                }
                Err(error) if candidate.key.is_some() => _ = first.get_or_insert(error),
                Err(_) => {}
            }
        }
        first.map_or(Ok(None), Err)
    }

    /// The names of one PDB: from a table (ISF) or a pack that holds it.
    pub fn names_by_key(&self, key: PdbKey) -> Option<(PathBuf, Arc<SymbolTable>)> {
        once(&self.memo.by_key, key, || self.read_by_key(key))
    }

    fn read_by_key(&self, key: PdbKey) -> Option<Named> {
        let named = self.candidates().iter().filter(|candidate| candidate.key == Some(key));
        let kept = named.filter_map(|candidate| {
            let (inside, table) = self.cache.as_ref()?.names(&cache::label(&candidate.path)?)?;
            (inside == key).then(|| (candidate.path.clone(), Arc::new(table)))
        });
        if let Some(kept) = kept.into_iter().next() {
            return Some(kept);
        }
        if let Some((path, isf)) = self.find(key).ok().flatten() {
            // What is damaged is read again, and told again.
            if let (Some(cache), Some(label), None) = (&self.cache, cache::label(&path), &isf.damage) {
                cache.keep_names(&label, key, &isf.symbols);
            }
            return Some((path, Arc::new(isf.symbols)));
        }
        self.packs().iter().find_map(|(path, pack)| {
            let build = pack.builds().iter().find(|build| build.key == key)?;
            Some((path.clone(), Arc::new(pack.table(build).ok()?)))
        })
    }

    /// The names in one file, out of the cache if it has them.
    fn names_in(&self, path: &Path) -> Option<(Option<PdbKey>, Arc<SymbolTable>)> {
        let kept = || self.cache.as_ref()?.names(&cache::label(path)?);
        if let Some((key, table)) = kept() {
            return Some((Some(key), Arc::new(table)));
        }
        let isf = load(path).ok()?;
        Some((isf.key, Arc::new(isf.symbols)))
    }

    /// Packs of names, opened.
    fn packs(&self) -> &[(PathBuf, NamePack)] {
        let open = |path: &PathBuf| Some((path.clone(), NamePack::parse(read(path, MAX_FILE).ok()?).ok()?));
        self.memo.packs.get_or_init(|| self.listing().packs.iter().filter_map(open).collect())
    }

    fn listing(&self) -> &Listing {
        self.listing.get_or_init(|| {
            let mut walk = Walk::default();
            for path in &self.paths {
                if path.is_dir() {
                    walk.folder(path, 0);
                } else if !is_binary_name(path) {
                    walk.file(path.clone());
                }
            }
            let Walk { mut candidates, mut packs, problems, .. } = walk;
            candidates.sort_by(|a, b| a.path.cmp(&b.path));
            candidates.dedup();
            packs.sort();
            packs.dedup();
            Listing { candidates, packs, problems }
        })
    }
}

/// Reads one symbol file.
fn load(path: &Path) -> Result<Isf, SourceError> {
    let io = |error| SourceError::Io { path: path.to_owned(), error };
    let wrong = |error| SourceError::Isf { path: path.to_owned(), error };
    // A device or pipe would never end.
    let metadata = fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(io(std::io::Error::other("not a regular file")));
    }
    if metadata.len() > SymbolSource::MAX_UNPACKED {
        return Err(wrong(IsfError::TooLarge(SymbolSource::MAX_UNPACKED >> 20)));
    }
    let bytes = fs::read(path).map_err(io)?;
    if !bytes.starts_with(b"\xfd7zXZ\0") {
        return Isf::parse(&bytes).map_err(wrong);
    }
    let (json, broken) = unpack_xz(&bytes, SymbolSource::MAX_UNPACKED).map_err(wrong)?;
    let mut isf = Isf::parse(&json).map_err(wrong)?;
    if let Some(error) = broken {
        isf.damage.get_or_insert_with(|| format!("the .xz file is damaged: {error}"));
    }
    Ok(isf)
}

/// Where Microsoft publishes the symbols of Windows.
pub const MICROSOFT: &str = "https://msdl.microsoft.com/download/symbols";

/// Named as PDBs and images are.
fn is_binary_name(path: &Path) -> bool {
    ["pdb", "sys", "exe", "dll"]
        .iter()
        .any(|kind| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(kind)))
}

/// What an empty place in a symbol path stands for.
fn default_store() -> PathBuf {
    default_cache().join("symbols")
}

/// This program's folder where the system keeps caches.
pub fn default_cache() -> PathBuf {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("LOCALAPPDATA")
        .or_else(|| folder("XDG_CACHE_HOME"))
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("stopcode")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Pointer;
    use crate::testing::Folder;
    use std::ops::ControlFlow;

    const KEY: &str = "00000000000000000000000000000ABC-1";
    const JSON: &str = r#"{"metadata": {"windows": {"pdb": {"GUID": "00000000000000000000000000000abc", "age": 1}}},
        "symbols": {"A": {"address": 1}}}"#;

    #[test]
    fn a_folder_is_searched_by_name() {
        let folder = Folder::new("by-name");
        folder.write("a/b/readme.txt", "no symbols");
        folder.write("a/other.json", JSON);
        let path = folder.write(&format!("a/b/{KEY}.json"), JSON);
        let source = SymbolSource::new([folder.0.clone(), folder.0.join("a")]);
        assert_eq!(source.candidates().len(), 2, "{:?}", source.candidates());
        let key = PdbKey::parse(KEY).unwrap();
        let (found, isf) = source.find(key).unwrap().unwrap();
        assert_eq!((found, isf.symbols.address_of("A")), (path, Some(1)));
        assert!(source.find(PdbKey { guid: 1, age: 1 }).unwrap().is_none());
    }

    #[test]
    fn a_file_named_outright_is_read_whatever_its_name() {
        let folder = Folder::new("outright");
        let path = folder.write("symbols of nt", JSON);
        let source = SymbolSource::new([path.clone()]);
        assert_eq!(source.find(PdbKey::parse(KEY).unwrap()).unwrap().unwrap().0, path);
    }

    #[test]
    fn what_is_wrong_with_the_only_file_is_said() {
        let folder = Folder::new("wrong");
        let key = PdbKey { guid: 7, age: 1 };
        folder.write(&format!("{key}.json"), JSON);
        let source = SymbolSource::new([folder.0.clone()]);
        assert!(matches!(source.find(key), Err(SourceError::OtherPdb { .. })));
        folder.write(&format!("{key}.json"), "{");
        assert!(matches!(source.find(key), Err(SourceError::Isf { .. })));
        let missing = SymbolSource::new([folder.0.join(format!("{key}.json.xz"))]);
        assert!(matches!(missing.find(key), Err(SourceError::Io { .. })));
    }

    #[test]
    #[cfg(unix)]
    fn a_loop_of_links_ends() {
        let folder = Folder::new("loop");
        folder.write("sub/x.json", JSON);
        std::os::unix::fs::symlink(&folder.0, folder.0.join("sub/up")).unwrap();
        assert_eq!(SymbolSource::new([folder.0.clone()]).candidates().len(), 1);
    }

    #[test]
    fn what_lies_too_deep_is_told() {
        let folder = Folder::new("deep");
        folder.write("1/2/3/4/5/6/7/8/x.json", JSON);
        let source = SymbolSource::new([folder.0.clone()]);
        assert!(source.candidates().is_empty());
        assert_eq!(source.problems().len(), 1);
    }

    #[test]
    fn an_unknown_kernel_is_recognized_by_its_pointers() {
        let folder = Folder::new("recognize");
        let names = [
            "PsLoadedModuleList",
            "PsActiveProcessHead",
            "PspCidTable",
            "ExpSystemResourcesList",
            "KiBugCheckData",
            "IopErrorLogListHead",
            "MmPfnDatabase",
            "PoolTrackTable",
            "KeBugCheckEx",
            "MmUnloadedDrivers",
            "NtBuildLabEx",
        ];
        let table = |shift: usize| {
            let symbols: Vec<String> = (0..names.len())
                .map(|i| format!("\"{}\": {{\"address\": {}}}", names[i], (i + 1) * 4096 + shift))
                .collect();
            format!("{{\"symbols\": {{{}}}}}", symbols.join(", "))
        };
        folder.write("old.json", &table(16));
        let right = folder.write("right.json", &table(0));
        let pointers: Vec<Pointer<'_>> = (0..names.len())
            .map(|i| (if i == 10 { "NtBuildLab" } else { names[i] }, (i as u64 + 1) * 4096))
            .collect();
        let source = SymbolSource::new([folder.0.clone()]);
        let mut told = 0;
        let found = source.recognize(&pointers, 19041, |progress| {
            told += 1;
            assert_eq!(progress.of, 2);
            ControlFlow::Continue(())
        });
        let found = found.unwrap();
        assert_eq!((found.path, found.matched, found.of, told), (right, 11, 11, 2));
        assert!(found.certain);
        // With a cache the globals are kept, and the second time no file is read but the one that fits.
        let kept = || SymbolSource::new([folder.0.clone()]).with_cache(folder.0.join("cache"));
        for _ in 0..2 {
            let found = kept().recognize(&pointers, 19041, |_| ControlFlow::Continue(())).unwrap();
            assert_eq!((found.matched, found.of, found.certain), (11, 11, true));
        }
        assert!(folder.0.join("cache/globals.names").is_file());
        let alike = source.recognize(&pointers, 17763, |_| ControlFlow::Continue(()));
        assert!(!alike.unwrap().certain);
        assert!(source.recognize(&pointers, 19041, |_| ControlFlow::Break(())).is_none());
        assert!(source.recognize(&pointers[..9], 19041, |_| ControlFlow::Continue(())).is_none());
    }

    #[test]
    fn what_was_read_once_is_there_the_next_time() {
        let folder = Folder::new("memory");
        let key = PdbKey::parse(KEY).unwrap();
        let path = folder.write(&format!("{KEY}.json"), JSON);
        let changed = fs::metadata(&path).unwrap().modified().unwrap();
        let cache = Folder::new("memory-cache");
        let source = || SymbolSource::new([folder.0.clone()]).with_cache(cache.0.join("c"));
        assert!(SymbolSource::new([folder.0.clone()]).names_by_key(key).is_some());
        assert!(!cache.0.join("c").exists(), "without a cache nothing is written");
        assert_eq!(source().names_by_key(key).unwrap().1.address_of("A"), Some(1));
        // Nobody can tell from outside that the content was replaced: if it were read, there would be no names.
        folder.write(&format!("{KEY}.json"), &" ".repeat(JSON.len()));
        fs::File::options().write(true).open(&path).unwrap().set_modified(changed).unwrap();
        assert_eq!(source().names_by_key(key).unwrap().1.address_of("A"), Some(1));
        assert!(SymbolSource::new([folder.0.clone()]).names_by_key(key).is_none());
        folder.write(&format!("{KEY}.json"), &JSON.replace("\"A\"", "\"B\""));
        assert_eq!(source().names_by_key(key).unwrap().1.address_of("A"), None);
    }

    #[test]
    fn a_pack_serves_where_symbol_files_do() {
        let folder = Folder::new("pack");
        let key = PdbKey { guid: 9, age: 3 };
        let table: SymbolTable = [("A".to_owned(), 16)].into_iter().collect();
        let mut writer = crate::NamePackWriter::default();
        writer.add(key, "nine", &table);
        let path = folder.write_bytes("k.names", &writer.finish(crate::Packing::Xz).unwrap());
        for given in [path.clone(), folder.0.clone()] {
            let source = SymbolSource::new([given]);
            let (found, names) = source.names_by_key(key).unwrap();
            assert_eq!((found, names.address_of("A")), (path.clone(), Some(16)));
            assert!(source.names_by_key(PdbKey { guid: 9, age: 4 }).is_none());
        }
    }
}
