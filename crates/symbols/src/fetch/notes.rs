//! What this program keeps in a store besides symbols: locks, and what servers said they do not have.
//!
//! All of it lies in one folder, `.stopcode`, that no other debugger looks at.

use crate::store::{Store, StoreFile};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// For so long a server is not asked again for a file it did not have: symbols of a new update may come later.
const ABSENT_FOR: Duration = Duration::from_hours(24);
/// The list of servers in such a note is a few lines.
const MAX_NOTE: u64 = 16 * 1024;

/// The notes of one store on one file.
pub(super) struct Notes {
    folder: PathBuf,
    name: String,
}

impl Notes {
    pub(super) fn new(store: &Store, file: &StoreFile) -> Self {
        let name = format!("{}-{}", file.name().to_ascii_lowercase(), file.key().to_ascii_lowercase());
        Self { folder: store.root().join(".stopcode"), name }
    }

    /// True if this server said not long ago that it does not have the file.
    pub(super) fn is_absent(&self, server: &str) -> bool {
        self.absent_from().iter().any(|line| line == server)
    }

    /// Notes that this server does not have it. Where that cannot be written, it is asked again next time.
    pub(super) fn set_absent(&self, server: &str) {
        let mut servers = self.absent_from();
        servers.push(server.to_owned());
        let path = self.absent();
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        _ = made.and_then(|()| fs::write(&path, servers.join("\n")));
    }

    /// Servers that said so not long ago.
    fn absent_from(&self) -> Vec<String> {
        let path = self.absent();
        let written = fs::metadata(&path).and_then(|metadata| metadata.modified());
        // A time in the future is a clock that was set back: the note then counts as old.
        let age = written.ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_none_or(|age| age >= ABSENT_FOR) {
            return Vec::new();
        }
        let text = crate::store::read(&path, MAX_NOTE).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Forgets such a note.
    pub(super) fn clear_absent(&self) {
        _ = fs::remove_file(self.absent());
    }

    fn absent(&self) -> PathBuf {
        self.folder.join("absent").join(&self.name)
    }

    /// The lock by which one process at a time fetches this file; the system frees it with the process. `Ok(None)` while
    /// another has it.
    pub(super) fn try_lock(&self) -> io::Result<Option<File>> {
        let folder = self.folder.join("lock");
        fs::create_dir_all(&folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join(&self.name))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
