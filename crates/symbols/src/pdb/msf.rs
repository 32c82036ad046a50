//! The container of a PDB (MSF 7.00): numbered streams, each scattered over blocks of the file.

use super::PdbError;
use super::read_at::ReadAt;
use super::records::u32_at;
use std::ops::Range;

const MAGIC: &[u8; 32] = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0";
/// The size of a stream that was deleted.
const DELETED: u32 = u32::MAX;

/// A PDB's streams.
#[derive(Debug)]
pub(crate) struct Msf<S> {
    source: S,
    block: usize,
    /// Each stream's size, and where its block numbers lie in the directory.
    streams: Vec<(usize, usize)>,
    directory: Vec<u8>,
}

/// One stream's bytes.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    /// True if the file ends before the stream does.
    pub(crate) cut: bool,
}

impl<S: ReadAt> Msf<S> {
    pub(crate) fn parse(source: S) -> Result<Self, PdbError> {
        let mut head = [0; 0x38];
        let got = source.read_at(0, &mut head);
        if head.get(..32) != Some(MAGIC) {
            return Err(PdbError::NotPdb);
        }
        if got < head.len() {
            return Err(PdbError::Directory("cut off"));
        }
        let word = |at| u32_at(&head, at).map(|word| word as usize).ok_or(PdbError::Directory("cut off"));
        let (block, size, map) = (word(0x20)?, word(0x2c)?, word(0x34)?);
        if !block.is_power_of_two() || !(512..=0x1_0000).contains(&block) {
            return Err(PdbError::Directory("no such block size"));
        }
        if size as u64 > source.size() {
            return Err(PdbError::Directory("larger than the file"));
        }
        // The list of the directory's blocks is itself a run of blocks from here on.
        let mut list = vec![0; size.div_ceil(block) * 4];
        if source.read_at(map as u64 * block as u64, &mut list) < list.len() {
            return Err(PdbError::Directory("cut off"));
        }
        let directory = gather(&source, block, &list, 0..size);
        if directory.cut {
            return Err(PdbError::Directory("cut off"));
        }
        let blocks = usize::try_from(source.size().div_ceil(block as u64)).unwrap_or(usize::MAX);
        let streams = streams(&directory.bytes, block, blocks)?;
        Ok(Self { source, block, streams, directory: directory.bytes })
    }

    /// The bytes of a stream; `None` if there is no such stream.
    pub(crate) fn stream(&self, number: usize) -> Option<Stream> {
        self.part(number, 0..usize::MAX)
    }

    /// Some bytes of a stream, as far as it goes; `None` if there is no such stream.
    pub(crate) fn part(&self, number: usize, wanted: Range<usize>) -> Option<Stream> {
        let (size, at) = *self.streams.get(number)?;
        let list = self.directory.get(at..at.checked_add(size.div_ceil(self.block) * 4)?)?;
        Some(gather(&self.source, self.block, list, wanted.start.min(size)..wanted.end.min(size)))
    }
}

/// Reads the table of sizes. Streams share no blocks, so that all together are no larger than the file: what claims
/// otherwise could make a reader work without end.
fn streams(directory: &[u8], block: usize, blocks: usize) -> Result<Vec<(usize, usize)>, PdbError> {
    let cut = PdbError::Directory("cut off");
    let count = u32_at(directory, 0).ok_or(cut.clone())? as usize;
    let sizes = count.checked_mul(4).and_then(|length| directory.get(4..4_usize.checked_add(length)?));
    let sizes = sizes.ok_or(cut.clone())?;
    let mut at = 4 + sizes.len();
    let mut used = 0;
    let mut streams = Vec::with_capacity(count);
    for size in sizes.chunks_exact(4) {
        let size = match u32_at(size, 0) {
            Some(DELETED) | None => 0,
            Some(size) => size as usize,
        };
        let needs = size.div_ceil(block);
        used += needs;
        streams.push((size, at));
        at = at.checked_add(needs * 4).ok_or(cut.clone())?;
    }
    // A file cut short still has streams at its beginning: their directory is at its end in most, but not in all.
    if at > directory.len() {
        return Err(PdbError::Directory("too short for its streams"));
    }
    if used > blocks.saturating_mul(2) {
        return Err(PdbError::Directory("its streams are larger than the file"));
    }
    Ok(streams)
}

/// Puts a part of a stream together from its blocks, up to the first that the file does not have. Blocks that follow each
/// other in the file are read at once.
fn gather(source: &impl ReadAt, block: usize, list: &[u8], wanted: Range<usize>) -> Stream {
    let mut bytes = vec![0; wanted.len()];
    let mut done = 0;
    let number = |index: usize| u32_at(list, index * 4).map(u64::from);
    while done < bytes.len() {
        let at = wanted.start + done;
        let (index, inside) = (at / block, at % block);
        let Some(first) = number(index) else { break };
        let left = bytes.len() - done;
        let mut run = block - inside;
        let mut next = first + 1;
        while run < left && number(index + (next - first) as usize) == Some(next) {
            (run, next) = (run + block, next + 1);
        }
        let run = run.min(left);
        let Some(piece) = bytes.get_mut(done..done + run) else { break };
        let got = source.read_at(first * block as u64 + inside as u64, piece);
        done += got;
        if got < run {
            break;
        }
    }
    let cut = done < bytes.len();
    bytes.truncate(done);
    Stream { bytes, cut }
}
