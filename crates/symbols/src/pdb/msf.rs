//! The container of a PDB (MSF 7.00): numbered streams, each scattered over blocks of the file.

use super::PdbError;
use super::records::u32_at;

const MAGIC: &[u8; 32] = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0";
/// The size of a stream that was deleted.
const DELETED: u32 = u32::MAX;

/// A PDB's streams.
pub(crate) struct Msf<'b> {
    bytes: &'b [u8],
    block: usize,
    /// Each stream's size, and where its block numbers lie in the directory.
    streams: Vec<(usize, usize)>,
    directory: Vec<u8>,
}

/// One stream's bytes.
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    /// True if the file ends before the stream does.
    pub(crate) cut: bool,
}

impl<'b> Msf<'b> {
    pub(crate) fn parse(bytes: &'b [u8]) -> Result<Self, PdbError> {
        if bytes.get(..32) != Some(MAGIC) {
            return Err(PdbError::NotPdb);
        }
        let word = |at| u32_at(bytes, at).map(|word| word as usize).ok_or(PdbError::Directory("cut off"));
        let (block, size, map) = (word(0x20)?, word(0x2c)?, word(0x34)?);
        if !block.is_power_of_two() || !(512..=0x1_0000).contains(&block) {
            return Err(PdbError::Directory("no such block size"));
        }
        if size > bytes.len() {
            return Err(PdbError::Directory("larger than the file"));
        }
        // The list of the directory's blocks is itself a run of blocks from here on.
        let list = map.checked_mul(block).and_then(|at| bytes.get(at..)).unwrap_or_default();
        let list = list.get(..size.div_ceil(block) * 4).ok_or(PdbError::Directory("cut off"))?;
        let directory = gather(bytes, block, list, size);
        if directory.cut {
            return Err(PdbError::Directory("cut off"));
        }
        let streams = streams(&directory.bytes, block, bytes.len().div_ceil(block))?;
        Ok(Self { bytes, block, streams, directory: directory.bytes })
    }

    /// The bytes of a stream; `None` if there is no such stream.
    pub(crate) fn stream(&self, number: usize) -> Option<Stream> {
        let (size, at) = *self.streams.get(number)?;
        let list = self.directory.get(at..at.checked_add(size.div_ceil(self.block) * 4)?)?;
        Some(gather(self.bytes, self.block, list, size))
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

/// Puts a stream together from its blocks, up to the first that the file does not have.
fn gather(bytes: &[u8], block: usize, list: &[u8], size: usize) -> Stream {
    let mut out = Vec::new();
    for number in list.chunks_exact(4).filter_map(|raw| u32_at(raw, 0)) {
        let start = (number as usize).checked_mul(block);
        let rest = start.and_then(|start| bytes.get(start..)).unwrap_or_default();
        let wanted = block.min(size - out.len());
        let Some(piece) = rest.get(..wanted) else {
            out.extend_from_slice(rest);
            return Stream { bytes: out, cut: true };
        };
        out.extend_from_slice(piece);
    }
    let cut = out.len() < size;
    Stream { bytes: out, cut }
}
