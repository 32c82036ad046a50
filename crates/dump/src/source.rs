//! Where a dump's bytes come from: a file read by position, or bytes already in memory.

use std::fmt;
use std::fs::File;
use std::io;

/// Bytes that can be read from any position, by several threads at once.
///
/// [`crate::Dump`] reads a large dump through this, a page at a time; a memory map or a browser's `Blob` can stand
/// behind it as well as a file.
pub trait Source: Send + Sync + fmt::Debug {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Fills the start of `buffer` with the bytes from `offset` on and says how many: 0 at and past the end.
    ///
    /// # Errors
    /// What the system says; a caller takes it as bytes that are not there.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// Fills as much of `buffer` as there are bytes from `offset` on. An error ends the read: what came before it counts.
pub(crate) fn read_full(source: &dyn Source, offset: u64, buffer: &mut [u8]) -> usize {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match source.read_at(offset.saturating_add(got as u64), rest) {
            Ok(0) => break,
            Ok(read) => got += read.min(rest.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    got
}

/// The bytes in `offset..offset + size`, as far as there are any; nothing is allocated for what is past the end.
pub(crate) fn read_vec(source: &dyn Source, offset: u64, size: u64) -> Vec<u8> {
    let size = size.min(source.size().saturating_sub(offset));
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let got = read_full(source, offset, &mut bytes);
    bytes.truncate(got);
    bytes
}

impl Source for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

/// An open file and its size when it was opened.
#[derive(Debug)]
pub(crate) struct FileSource {
    file: File,
    size: u64,
    /// Where the system has no read by position, the file's own position is shared.
    #[cfg(not(any(unix, windows)))]
    turn: std::sync::Mutex<()>,
}

impl FileSource {
    pub(crate) fn new(file: File, size: u64) -> Self {
        Self {
            file,
            size,
            #[cfg(not(any(unix, windows)))]
            turn: std::sync::Mutex::new(()),
        }
    }
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)
    }

    #[cfg(not(any(unix, windows)))]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        use std::io::{Read, Seek, SeekFrom};
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read(buffer)
    }
}
