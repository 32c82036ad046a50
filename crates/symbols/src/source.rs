//! Symbol files on disk: what `--symbols PATH…` names. The only module that touches files.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use stopcode_base::{Problem, Severity};

use crate::fingerprint::{self, Pointer, Votes};
use crate::isf::{Isf, IsfError, unpack_xz};
use crate::names::Given;
use crate::store::SymbolPath;
use crate::{Online, PdbKey, kernel_builds};

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

/// How far a search that loads files has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Files loaded so far.
    pub done: usize,
    /// Files to load at most.
    pub of: usize,
    /// The file loaded next.
    pub next: &'a Path,
}

/// Symbols found by where a dump's pointers point.
#[derive(Clone, Debug)]
pub struct Recognized {
    /// The file.
    pub path: PathBuf,
    /// Its symbols.
    pub isf: Isf,
    /// How many pointers hit their symbol.
    pub matched: usize,
    /// How many pointers the vote was over.
    pub of: usize,
    /// False if another kernel may fit as well: another file does, or updates of this build are often laid out alike.
    pub certain: bool,
}

/// The symbol files under some paths, listed when first needed and loaded one by one. Clones share what was listed.
#[derive(Clone, Debug)]
pub struct SymbolSource {
    /// Files and folders.
    paths: Vec<PathBuf>,
    /// Folders and symbol paths, in the order given.
    searched: Vec<SymbolPath>,
    listing: Arc<OnceLock<(Vec<Candidate>, Vec<Problem>)>>,
    given: Arc<OnceLock<Vec<(PathBuf, Given)>>>,
    /// Set where the host allows the network.
    pub(crate) online: Option<Arc<Online>>,
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
        &self.listing().0
    }

    /// What could not be searched, and why.
    pub fn problems(&self) -> &[Problem] {
        &self.listing().1
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

    /// Finds the symbols that fit the pointers by loading files: for a kernel [`crate::identify`] does not know.
    /// `build` is the kernel's, 19041.
    ///
    /// Files for kernels of the built-in pack are passed over, since that vote has already gone against them.
    /// `progress` is told before each file and may break off.
    pub fn recognize(
        &self,
        pointers: &[Pointer<'_>],
        build: u32,
        mut progress: impl FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Option<Recognized> {
        let unknown = |candidate: &&Candidate| {
            !candidate.key.is_some_and(|key| kernel_builds().iter().any(|build| build.key == key))
        };
        let to_load: Vec<&Candidate> =
            self.candidates().iter().filter(unknown).take(Self::MAX_LOADED).collect();
        let mut best: Option<Recognized> = None;
        for (done, candidate) in to_load.iter().enumerate() {
            if progress(Progress { done, of: to_load.len(), next: &candidate.path }).is_break() {
                break;
            }
            let Ok(isf) = load(&candidate.path) else { continue };
            let votes = Votes::of_table(&isf.symbols, pointers);
            if !votes.fit() {
                continue;
            }
            match &mut best {
                // The same PDB twice is no competition.
                Some(other) if other.isf.key.is_some() && other.isf.key == isf.key => {}
                Some(other) if votes.matched <= other.matched => other.certain = false,
                _ => {
                    best = Some(Recognized {
                        path: candidate.path.clone(),
                        isf,
                        matched: votes.matched,
                        of: votes.of,
                        certain: best.is_none() && fingerprint::separable(build),
                    });
                }
            }
        }
        best
    }

    fn listing(&self) -> &(Vec<Candidate>, Vec<Problem>) {
        self.listing.get_or_init(|| {
            let mut walk = Walk::default();
            for path in &self.paths {
                if path.is_dir() {
                    walk.folder(path, 0);
                } else if !is_binary_name(path) {
                    walk.file(path.clone());
                }
            }
            walk.candidates.sort_by(|a, b| a.path.cmp(&b.path));
            walk.candidates.dedup();
            (walk.candidates, walk.problems)
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

/// A bounded walk over folders; links to folders already seen are not followed again.
#[derive(Default)]
struct Walk {
    candidates: Vec<Candidate>,
    problems: Vec<Problem>,
    seen: BTreeSet<PathBuf>,
    entries: usize,
}

impl Walk {
    fn folder(&mut self, folder: &Path, depth: usize) {
        if !fs::canonicalize(folder).is_ok_and(|real| self.seen.insert(real)) {
            return;
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.problem(folder, &format!("cannot be searched: {error}")),
        };
        let mut folders = Vec::new();
        for entry in entries.flatten() {
            if self.entries >= SymbolSource::MAX_ENTRIES {
                let most = SymbolSource::MAX_ENTRIES;
                return self.problem(folder, &format!("only the first {most} files were looked at"));
            }
            self.entries += 1;
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if is_isf_name(&path) {
                self.file(path);
            }
        }
        folders.sort();
        for path in folders {
            if depth < SymbolSource::MAX_DEPTH {
                self.folder(&path, depth + 1);
            } else {
                self.problem(&path, "lies too deep and was not searched");
            }
        }
    }

    fn file(&mut self, path: PathBuf) {
        let key = path.file_name().and_then(|name| PdbKey::of_file_name(&name.to_string_lossy()));
        self.candidates.push(Candidate { path, key });
    }

    /// The first of each kind is enough: a bad folder may hold thousands.
    fn problem(&mut self, place: &Path, what: &str) {
        if self.problems.iter().all(|problem| problem.what != what) {
            let place = stopcode_base::visible(&place.to_string_lossy());
            let problem = Problem::new(Severity::Warning, place, what);
            self.problems.push(problem.with_hint("name the folder or file that holds the symbols itself"));
        }
    }
}

/// Where Microsoft publishes the symbols of Windows.
pub const MICROSOFT: &str = "https://msdl.microsoft.com/download/symbols";

/// Named as PDBs and images are.
fn is_binary_name(path: &Path) -> bool {
    ["pdb", "sys", "exe", "dll"]
        .iter()
        .any(|kind| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(kind)))
}

/// What an empty place in a symbol path stands for: this program's cache, where the system keeps caches.
fn default_store() -> PathBuf {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("LOCALAPPDATA")
        .or_else(|| folder("XDG_CACHE_HOME"))
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("stopcode")
        .join("symbols")
}

fn is_isf_name(path: &Path) -> bool {
    let ends_in = |path: &Path, what| path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case(what));
    ends_in(path, "json") || (ends_in(path, "xz") && ends_in(&path.with_extension(""), "json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

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
        let alike = source.recognize(&pointers, 17763, |_| ControlFlow::Continue(()));
        assert!(!alike.unwrap().certain);
        assert!(source.recognize(&pointers, 19041, |_| ControlFlow::Break(())).is_none());
        assert!(source.recognize(&pointers[..9], 19041, |_| ControlFlow::Continue(())).is_none());
    }
}
