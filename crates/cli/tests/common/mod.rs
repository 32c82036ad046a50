//! What the end-to-end tests share: the binary, the files, and two judges of a report (its form, its facts).

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

pub(crate) mod form;
pub(crate) mod plain;
pub(crate) mod random;
pub(crate) mod server;

use serde_json::Value;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the checkout.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Real dumps and what is known of them; not part of the checkout.
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");

/// What a run of the binary gave.
pub(crate) struct Run {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Standard output as the one JSON value it must be.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

/// The binary, without what the surroundings may say about colours.
pub(crate) fn stopcode() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stopcode"));
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the binary with these arguments.
pub(crate) fn run<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Run {
    finish(stopcode().args(arguments))
}

/// `analyze --format json` of these paths.
pub(crate) fn analyze<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Run {
    let mut command = stopcode();
    command.args(["analyze", "--format", "json"]);
    for path in paths {
        command.arg(path.as_ref());
    }
    finish(&mut command)
}

/// Runs a command with `bytes` on its standard input.
pub(crate) fn feed(command: &mut Command, bytes: &[u8]) -> Run {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The child reads all before it writes anything: no thread is needed.
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Says that a test did not run.
pub(crate) fn skipped(test: &str, why: &str) {
    say(&format!("SKIPPED: {test}: {why}"));
}

/// Says a figure or a reason on standard error itself: what goes through `eprintln` the harness swallows.
pub(crate) fn say(line: &str) {
    let mut stderr = std::io::stderr().lock();
    stderr.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A place among the real data; `None`, loudly, where they are not there.
pub(crate) fn shared(test: &str, place: &str) -> Option<PathBuf> {
    let path = Path::new(SHARED).join(place);
    if path.exists() {
        return Some(path);
    }
    skipped(test, &format!("../shared/{place} is not beside the checkout"));
    None
}

/// The dumps that come with the checkout.
pub(crate) fn samples() -> Vec<PathBuf> {
    let samples = dumps(&Path::new(ROOT).join("samples"));
    assert!(samples.len() >= 3, "{samples:?}");
    samples
}

/// One of them.
pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(ROOT).join("samples").join(name)
}

/// The dumps in and below a folder, by path.
pub(crate) fn dumps(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(dumps(&path));
        } else if path.extension().is_some_and(|extension| extension == "dmp") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file's bytes.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// A file's name, for messages.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// A folder of its own for one test, removed when done.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stopcode-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}
