//! Where the bytes of a PDB are: in memory, or in a file of which only what is needed is read.

/// Bytes that can be read in any order.
pub trait ReadAt {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills the start of `buffer` with the bytes from `at` on and says how many: fewer at the end, or where reading fails.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> usize;
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> usize {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        count
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> usize {
        self.as_slice().read_at(at, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> usize {
        (**self).read_at(at, buffer)
    }
}

impl ReadAt for std::fs::File {
    fn size(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match read_file(self, rest, at.saturating_add(done as u64)) {
                Ok(count @ 1..) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        done
    }
}

#[cfg(unix)]
fn read_file(file: &std::fs::File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
fn read_file(file: &std::fs::File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

/// Elsewhere a file has one position only; a browser, where no two threads share it, has no files at all.
#[cfg(not(any(unix, windows)))]
fn read_file(mut file: &std::fs::File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(at))?;
    file.read(buffer)
}
