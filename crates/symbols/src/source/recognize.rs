//! A kernel that is known by nothing but where its globals lie, among the symbol files at hand.

use super::{Candidate, SymbolSource, load};
use crate::fingerprint::{self, Pointer, Votes};
use crate::{PdbKey, SymbolTable, cache, kernel_builds};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// How far a search that loads files has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Files looked at so far.
    pub done: usize,
    /// Files to look at.
    pub of: usize,
    /// The file looked at next.
    pub next: &'a Path,
}

/// Symbols found by where a dump's pointers point.
#[derive(Clone, Debug)]
pub struct Recognized {
    /// The file.
    pub path: PathBuf,
    /// The PDB it says it was made of.
    pub key: Option<PdbKey>,
    /// Its names.
    pub symbols: Arc<SymbolTable>,
    /// How many pointers hit their symbol.
    pub matched: usize,
    /// How many pointers the vote was over.
    pub of: usize,
    /// False if another kernel may fit as well: another file does, or updates of this build are often laid out alike.
    pub certain: bool,
}

/// The globals that vote, by what file they are of.
pub(super) type Globals = HashMap<String, (Option<PdbKey>, Arc<SymbolTable>)>;

/// What fits best so far.
struct Best<'c> {
    candidate: &'c Candidate,
    key: Option<PdbKey>,
    votes: Votes,
    certain: bool,
}

impl SymbolSource {
    /// Finds the symbols that fit the pointers: for a kernel [`crate::identify`] does not know. `build` is the kernel's,
    /// 19041.
    ///
    /// Files for kernels of the built-in pack are passed over, since that vote has already gone against them. Others are
    /// loaded once: with a cache ([`Self::with_cache`]) their globals are there the next time. `progress` is told before
    /// each file and may break off.
    pub fn recognize(
        &self,
        pointers: &[Pointer<'_>],
        build: u32,
        mut progress: impl FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Option<Recognized> {
        let unknown = |candidate: &&Candidate| {
            !candidate.key.is_some_and(|key| kernel_builds().iter().any(|build| build.key == key))
        };
        let all: Vec<&Candidate> = self.candidates().iter().filter(unknown).take(Self::MAX_LOADED).collect();
        let mut best: Option<Best<'_>> = None;
        let mut loaded = false;
        for (done, candidate) in all.iter().enumerate() {
            if progress(Progress { done, of: all.len(), next: &candidate.path }).is_break() {
                break;
            }
            let Some((key, globals)) = self.globals_of(&candidate.path, &mut loaded) else { continue };
            let votes = Votes::of_table(&globals, pointers);
            if !votes.fit() {
                continue;
            }
            match &mut best {
                // The same PDB twice is no competition.
                Some(other) if other.key.is_some() && other.key == key => {}
                Some(other) if votes.matched <= other.votes.matched => other.certain = false,
                _ => {
                    let certain = best.is_none() && fingerprint::separable(build);
                    best = Some(Best { candidate, key, votes, certain });
                }
            }
        }
        if loaded {
            self.keep_globals();
        }
        let Best { candidate, key, votes, certain } = best?;
        let symbols = self.names_in(&candidate.path)?.1;
        let (matched, of) = (votes.matched, votes.of);
        Some(Recognized { path: candidate.path.clone(), key, symbols, matched, of, certain })
    }

    /// The globals of one file, out of the cache if it has them; `loaded` is set if the file had to be read.
    fn globals_of(&self, path: &Path, loaded: &mut bool) -> Option<(Option<PdbKey>, Arc<SymbolTable>)> {
        let label = cache::label(path)?;
        let index = || {
            let kept = self.cache.iter().flat_map(cache::Cache::globals);
            // Without a key there is 0 in its place.
            let key = |key: PdbKey| (key.guid != 0).then_some(key);
            kept.map(|(label, pdb, table)| (label, (key(pdb), Arc::new(table)))).collect()
        };
        let mut globals = self.memo.globals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = globals.get_or_insert_with(index).get(&label) {
            return Some(known.clone());
        }
        let isf = load(path).ok()?;
        *loaded = true;
        if let (Some(cache), Some(key), None) = (&self.cache, isf.key, &isf.damage) {
            cache.keep_names(&label, key, &isf.symbols);
        }
        let entry = (isf.key, Arc::new(fingerprint::globals(&isf.symbols)));
        globals.get_or_insert_default().insert(label, entry.clone());
        Some(entry)
    }

    fn keep_globals(&self) {
        let Some(cache) = &self.cache else { return };
        let globals = self.memo.globals.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(label, (key, table)): (&String, &(Option<PdbKey>, Arc<SymbolTable>))| {
            (label.clone(), key.unwrap_or(PdbKey { guid: 0, age: 0 }), SymbolTable::clone(table))
        };
        let mut all: Vec<_> = globals.iter().flatten().map(of).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        cache.keep_globals(&all);
    }
}
