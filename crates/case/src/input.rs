//! From paths to inputs: files, what folders hold, what archives hold.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use stopcode_base::{Problem, Severity};

/// Folders are followed this deep.
const MOST_DEPTH: usize = 16;
/// A folder or archive gives at most this many inputs.
const MOST_INPUTS: usize = 100_000;
/// A member of an archive, a text or standard input is read up to this size.
const MOST_BYTES: u64 = 512 << 20;
/// All members of one archive together.
const MOST_ARCHIVE_BYTES: u64 = 4 << 30;

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
        } else if is_zip(path) {
            archive(path, &mut inputs);
        } else {
            inputs.push(Input { name: path.display().to_string(), content: Content::File(path.clone()) });
        }
    }
    let single = match paths {
        [only] => !only.is_dir() && !is_zip(only),
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
        .with_hint("files ending in .dmp, .mdmp, .hdmp, .kdmp, .zip, .txt or .log are read; Windows writes minidumps to C:\\Windows\\Minidump");
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
        } else if has_extension(&entry, &["zip"]) && is_zip(&entry) {
            archive(&entry, inputs);
        } else if is_wanted(&entry) {
            inputs.push(Input { name: entry.display().to_string(), content: Content::File(entry) });
        }
    }
}

fn is_wanted(path: &Path) -> bool {
    has_extension(path, &["dmp", "mdmp", "hdmp", "kdmp", "txt", "log"])
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension()
        .is_some_and(|extension| wanted.iter().any(|wanted| extension.eq_ignore_ascii_case(wanted)))
}

fn is_zip(path: &Path) -> bool {
    let mut magic = [0; 4];
    path.is_file()
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && &magic == b"PK\x03\x04"
}

/// Members of an archive; the archive is opened again for each when it is read, so that members can be read side by side.
fn archive(path: &Path, inputs: &mut Vec<Input>) {
    let shown = path.display();
    let mut archive = match open_archive(path) {
        Ok(archive) => archive,
        Err(problem) => {
            inputs.push(Input { name: shown.to_string(), content: Content::Failed(problem) });
            return;
        }
    };
    let mut total = 0u64;
    for index in 0..archive.len().min(MOST_INPUTS.saturating_sub(inputs.len())) {
        let Ok(member) = archive.by_index_raw(index) else { continue };
        let inner = member.name().map_or_else(|_| format!("member {index}"), std::borrow::Cow::into_owned);
        if member.is_dir() || !is_wanted(Path::new(&inner)) {
            continue;
        }
        let name = format!("{shown}!{}", stopcode_base::visible(&inner));
        let size = member.size();
        total = total.saturating_add(size);
        let content = if size > MOST_BYTES || total > MOST_ARCHIVE_BYTES {
            Content::Failed(
                Problem::new(
                    Severity::Error,
                    "archive",
                    format!("a member of {size} bytes is more than is unpacked here"),
                )
                .with_hint("unpack the archive and analyse the folder"),
            )
        } else {
            Content::Member { archive: path.to_owned(), index, size }
        };
        inputs.push(Input { name, content });
    }
}

fn open_archive(path: &Path) -> Result<zip::ZipArchive<File>, Problem> {
    let damaged = |error: String| {
        Problem::new(Severity::Error, "archive", format!("cannot be read: {error}"))
            .with_hint("the download may be incomplete: fetch it again, or unpack it and analyse the folder")
    };
    let file = File::open(path).map_err(|error| damaged(error.to_string()))?;
    zip::ZipArchive::new(file).map_err(|error| damaged(error.to_string()))
}

/// A member's bytes. The size in the archive's directory is a claim: reading stops at the limit all the same.
pub(crate) fn read_member(archive: &Path, index: usize, size: u64) -> Result<Vec<u8>, Problem> {
    let failed = |error: String| {
        Problem::new(Severity::Error, "archive member", format!("cannot be unpacked: {error}"))
            .with_hint("it may be encrypted or damaged: unpack the archive and analyse the folder")
    };
    let mut archive = open_archive(archive)?;
    let member = archive.by_index(index).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::with_capacity(usize::try_from(size.min(64 << 20)).unwrap_or(0));
    member.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    Ok(bytes)
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
