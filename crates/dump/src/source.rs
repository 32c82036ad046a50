//! Where a dump's bytes come from: a file, mapped or read by position, or bytes already in memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};
use stopcode_map::Map;

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
    // Nearly always one read does.
    match source.read_at(offset, buffer) {
        Ok(got) if got == buffer.len() => got,
        first => read_rest(source, offset, buffer, first),
    }
}

#[cold]
fn read_rest(source: &dyn Source, offset: u64, buffer: &mut [u8], first: io::Result<usize>) -> usize {
    let (mut got, mut last) = (0, first);
    loop {
        match last {
            Ok(0) => return got,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return got,
        }
        let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) else {
            return got.min(buffer.len());
        };
        last = source.read_at(offset.saturating_add(got as u64), rest);
    }
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

/// An open file and its size when it was opened: mapped where the system maps files, else read by position.
#[derive(Debug)]
pub(crate) struct FileSource {
    map: Option<Map>,
    file: File,
    size: u64,
    recent: Mutex<Recent>,
}

impl FileSource {
    pub(crate) fn new(file: File, size: u64) -> Self {
        Self { map: Map::new(&file, size).ok(), file, size, recent: Mutex::default() }
    }

    /// The same without a mapping.
    #[cfg(test)]
    fn by_position(file: File, size: u64) -> Self {
        Self { map: None, file, size, recent: Mutex::default() }
    }

    fn read_by_position(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let inside = (offset % CHUNK as u64) as usize;
        // What is as long as a page is not read twice; page-table entries are.
        if buffer.len() >= CHUNK || inside + buffer.len() > CHUNK {
            return read_file(&self.file, offset, buffer);
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let chunk = recent.get(&self.file, offset / CHUNK as u64)?;
        let rest = chunk.get(inside..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // Whole pages cost less by position than the faults that a mapping takes for them. A file that lost pages since
        // it was mapped is read by position, too, which tells where it ends now.
        let map = self.map.as_ref().filter(|_| buffer.len() < CHUNK);
        match map.and_then(|map| map.read(offset, buffer)) {
            Some(count) => Ok(count),
            None => self.read_by_position(offset, buffer),
        }
    }
}

#[cfg(unix)]
fn read_file(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_file(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(not(any(unix, windows)))]
fn read_file(mut file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    use std::io::{Read, Seek, SeekFrom};
    // The file's own position is shared between threads.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.read(buffer)
}

/// Bytes of a chunk of a file that is kept, and how many are: 1 MiB in all.
const CHUNK: usize = 0x1000;
const CHUNKS: u64 = 256;

/// Chunks of a file that were read lately, each in the place that its number gives.
#[derive(Debug, Default)]
struct Recent {
    chunks: Vec<Option<(u64, Vec<u8>)>>,
}

impl Recent {
    fn get(&mut self, file: &File, number: u64) -> io::Result<&[u8]> {
        if self.chunks.is_empty() {
            self.chunks.resize_with(CHUNKS as usize, || None);
        }
        let Some(place) = self.chunks.get_mut((number % CHUNKS) as usize) else { return Ok(&[]) };
        if place.as_ref().is_none_or(|(held, _)| *held != number) {
            let mut bytes = vec![0; CHUNK];
            let got = read_file(file, number.saturating_mul(CHUNK as u64), &mut bytes)?;
            bytes.truncate(got);
            *place = Some((number, bytes));
        }
        Ok(place.as_ref().map_or(&[], |(_, bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(size: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..size).map(|n| (n / 256) as u8).collect();
        file.write_all(&bytes).unwrap();
        file
    }

    fn read(source: &FileSource, offset: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let got = read_full(source, offset, &mut bytes);
        bytes.truncate(got);
        bytes
    }

    #[test]
    fn mapped_or_not_the_bytes_are_the_same() {
        const SIZE: usize = 0x2_0123;
        let mapped = FileSource::new(file(SIZE), SIZE as u64);
        let plain = FileSource::by_position(file(SIZE), SIZE as u64);
        assert_eq!(mapped.map.is_some(), cfg!(target_os = "linux"));
        for offset in [0, 1, 0xff8, 0xfff, 0x1000, 0x1_ffff, 0x2_0000, 0x2_0120, 0x2_0123, u64::MAX] {
            for size in [1, 8, 0x800, 0x1000, 0x1234] {
                assert_eq!(read(&mapped, offset, size), read(&plain, offset, size), "{size} at {offset:#x}");
            }
        }
        assert_eq!(read(&plain, 0x2_0120, 8).len(), 3);
    }

    #[test]
    fn a_file_that_shrinks_is_read_as_far_as_it_goes() {
        const SIZE: u64 = 0x10_0000;
        let source = FileSource::new(file(SIZE as usize), SIZE);
        assert_eq!(read(&source, 0x8_0000, 4), [0; 4]);
        assert_eq!(read(&source, 0x8_0300, 4), [3; 4]);
        source.file.set_len(0x2345).unwrap();
        assert_eq!(read(&source, 0x8_0000, 4), [0; 0], "what is gone is not taken for zeros");
        assert_eq!(read(&source, 0x1300, 4), [0x13; 4]);
        assert_eq!(read(&source, 0x2340, 64).len(), 5);
    }
}
