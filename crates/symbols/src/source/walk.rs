//! Looking through folders for symbol files.

use super::{Candidate, SymbolSource};
use crate::PdbKey;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use stopcode_base::{Problem, Severity};

/// A bounded walk over folders; links to folders already seen are not followed again.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) candidates: Vec<Candidate>,
    /// Packs of names (`.names`).
    pub(super) packs: Vec<PathBuf>,
    pub(super) problems: Vec<Problem>,
    seen: BTreeSet<PathBuf>,
    entries: usize,
}

impl Walk {
    pub(super) fn folder(&mut self, folder: &Path, depth: usize) {
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
            } else if is_isf_name(&path) || is_pack_name(&path) {
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

    pub(super) fn file(&mut self, path: PathBuf) {
        if is_pack_name(&path) {
            return self.packs.push(path);
        }
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

fn is_isf_name(path: &Path) -> bool {
    let ends_in = |path: &Path, what| path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case(what));
    ends_in(path, "json") || (ends_in(path, "xz") && ends_in(&path.with_extension(""), "json"))
}

fn is_pack_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("names"))
}
