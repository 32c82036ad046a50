//! From paths to inputs: files, what folders hold, what archives hold.

use crate::archive::{self, Format, MOST_BYTES, has_extension, is_wanted};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use stopcode_base::{Problem, Severity};

/// Folders are followed this deep.
const MOST_DEPTH: usize = 16;
/// A folder or archive gives at most this many inputs.
const MOST_INPUTS: usize = 100_000;

/// One thing to read.
pub(crate) struct Input {
    /// How the report calls it.
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// Where its bytes are.
pub(crate) enum Content {
    /// A file, not opened yet.
    File(PathBuf),
    /// A member of a zip archive, by its index.
    Member { archive: PathBuf, index: usize, size: u64 },
    /// An archive that is unpacked as a whole.
    Archive { path: PathBuf, format: Format },
    /// Bytes at hand (standard input).
    Bytes(Vec<u8>),
    /// It could not be had.
    Failed(Problem),
}

/// What the paths gave.
pub(crate) struct Found {
    pub(crate) inputs: Vec<Input>,
    /// One file that is no archive was named.
    pub(crate) single: bool,
}

/// Finds the inputs that the paths name.
pub(crate) fn find(paths: &[PathBuf]) -> Found {
    let mut inputs = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(standard_input());
        } else if path.is_dir() {
            let before = inputs.len();
            folder(path, 0, &mut inputs);
            if inputs.len() == before {
                inputs.push(nothing_in(path));
            }
        } else if let Some(format) = Format::of_file(path) {
            archive(path, format, &mut inputs);
        } else {
            inputs.push(Input { name: path.display().to_string(), content: Content::File(path.clone()) });
        }
    }
    let single = match paths {
        [only] => !only.is_dir() && Format::of_file(only).is_none(),
        _ => false,
    };
    Found { inputs, single }
}

fn standard_input() -> Input {
    let mut bytes = Vec::new();
    let content = match io::stdin().lock().take(MOST_BYTES).read_to_end(&mut bytes) {
        Ok(_) => Content::Bytes(bytes),
        Err(error) => Content::Failed(Problem::new(Severity::Error, "standard input", error.to_string())),
    };
    Input { name: "-".to_owned(), content }
}

/// A folder without anything to read is an answer too.
fn nothing_in(path: &Path) -> Input {
    let problem = Problem::new(Severity::Error, "folder", "holds no dump, archive or text")
        .with_hint("files ending in .dmp, .mdmp, .hdmp, .kdmp, .zip, .cab, .gz, .xz, .7z, .txt or .log are read; Windows writes minidumps to C:\\Windows\\Minidump");
    Input { name: path.display().to_string(), content: Content::Failed(problem) }
}

/// Files of a folder in the order of their names: dumps, archives and texts by what they are called. Others, and links to
/// folders, are passed over: a folder may hold anything.
fn folder(path: &Path, depth: usize, inputs: &mut Vec<Input>) {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            let problem = Problem::new(Severity::Error, "folder", format!("cannot be read: {error}"))
                .with_hint("check the permissions of the folder");
            inputs.push(Input { name: path.display().to_string(), content: Content::Failed(problem) });
            return;
        }
    };
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for entry in entries {
        if inputs.len() >= MOST_INPUTS {
            return;
        }
        let is_link = entry.is_symlink();
        if entry.is_dir() {
            if depth < MOST_DEPTH && !is_link {
                folder(&entry, depth + 1, inputs);
            }
        } else if let Some(format) = archive_format(&entry) {
            archive(&entry, format, inputs);
        } else if is_wanted(&entry) && !has_extension(&entry, &archive::EXTENSIONS) {
            inputs.push(Input { name: entry.display().to_string(), content: Content::File(entry) });
        }
    }
}

/// An archive by what it is called and by what it is.
fn archive_format(path: &Path) -> Option<Format> {
    if has_extension(path, &archive::EXTENSIONS) { Format::of_file(path) } else { None }
}

/// Members of a zip archive each become an input: the archive is opened again for each, so that they can be read side by
/// side. Any other archive is one input, as it is unpacked from its start to its end.
fn archive(path: &Path, format: Format, inputs: &mut Vec<Input>) {
    let shown = path.display();
    if format != Format::Zip {
        let content = Content::Archive { path: path.to_owned(), format };
        inputs.push(Input { name: shown.to_string(), content });
        return;
    }
    match archive::list_zip(path) {
        Ok(members) => {
            let room = MOST_INPUTS.saturating_sub(inputs.len());
            inputs.extend(members.into_iter().take(room).map(|member| Input {
                name: format!("{shown}!{}", member.name),
                content: match member.index {
                    Ok(index) => Content::Member { archive: path.to_owned(), index, size: member.size },
                    Err(problem) => Content::Failed(problem),
                },
            }));
        }
        Err(problem) => {
            inputs.push(Input { name: shown.to_string(), content: Content::Failed(problem) });
        }
    }
}

/// A whole file, up to the limit; `None` if it is larger.
pub(crate) fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MOST_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
