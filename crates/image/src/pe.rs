//! PE images: as the loader mapped them into some [`Memory`], or as a file has them. Whole or in part: what is not
//! there is missing from the answer, never made up.
//!
//! Format facts: Microsoft's "PE Format". The reader is this crate's own, because a dump holds images with pages
//! missing, and a reader over slices would need them whole.

mod codeview;
mod exports;
mod functions;
mod relocations;
mod resources;

pub use codeview::{CodeView, DebugEntry};
pub use exports::{Export, Exports};
pub use functions::Function;
pub use relocations::{Relocation, Rewritten};
pub use resources::FileVersion;

use stopcode_base::{Memory, VirtAddr};

/// `IMAGE_FILE_MACHINE_AMD64`.
pub const MACHINE_X64: u16 = 0x8664;
/// `IMAGE_FILE_MACHINE_ARM64`.
pub const MACHINE_ARM64: u16 = 0xaa64;
/// `IMAGE_FILE_MACHINE_I386`.
pub const MACHINE_X86: u16 = 0x14c;

/// Why bytes are no image.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PeError {
    /// The headers are not all there.
    #[error("the headers are cut off at offset {at:#x}")]
    Cut {
        /// Offset of the structure that is not there whole.
        at: u32,
    },
    /// They begin otherwise than an image does.
    #[error("no PE image: {0}")]
    NotPe(&'static str),
}

/// What the headers say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Headers {
    /// `IMAGE_FILE_MACHINE_*`.
    pub machine: u16,
    /// `TimeDateStamp`: seconds since 1970, or a hash (see [`Image::is_reproducible`]).
    pub time_date_stamp: u32,
    /// `IMAGE_FILE_*` flags.
    pub characteristics: u16,
    /// PE32+ (64-bit) rather than PE32.
    pub is_64: bool,
    /// `AddressOfEntryPoint`, an RVA; 0 if there is none.
    pub entry_point: u32,
    /// Preferred load address.
    pub image_base: u64,
    /// Bytes of address space the image takes.
    pub size_of_image: u32,
    /// Bytes of the headers.
    pub size_of_headers: u32,
    /// `CheckSum`.
    pub checksum: u32,
    /// Sections, in the order of the table.
    pub sections: Vec<Section>,
    /// How many more sections the headers announce than could be read.
    pub sections_missing: u16,
    /// Data directories: RVA and size.
    directories: Vec<(u32, u32)>,
}

/// One section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// Its name, as bytes up to the first NUL; not always text.
    pub name: String,
    /// Where it is mapped.
    pub rva: u32,
    /// Bytes mapped.
    pub virtual_size: u32,
    /// Where its bytes lie in the file.
    pub file_offset: u32,
    /// How many of them the file has.
    pub file_size: u32,
    /// `IMAGE_SCN_*` flags.
    pub characteristics: u32,
}

impl Section {
    /// True if code may be executed in it (`IMAGE_SCN_MEM_EXECUTE`).
    pub fn is_code(&self) -> bool {
        self.characteristics & 0x2000_0000 != 0
    }

    /// True if it may be written to (`IMAGE_SCN_MEM_WRITE`).
    pub fn is_writable(&self) -> bool {
        self.characteristics & 0x8000_0000 != 0
    }

    /// True if it is given back once the image has started (`IMAGE_SCN_MEM_DISCARDABLE`).
    pub fn is_discardable(&self) -> bool {
        self.characteristics & 0x0200_0000 != 0
    }

    /// True if the address lies in it as mapped.
    pub fn contains(&self, rva: u32) -> bool {
        rva.checked_sub(self.rva).is_some_and(|offset| offset < self.virtual_size.max(self.file_size))
    }
}

/// The loader refuses more.
const MAX_SECTIONS: u16 = 96;
const MAX_DIRECTORIES: u32 = 16;

/// Where an image's bytes are.
#[derive(Clone, Copy)]
enum View<'m> {
    Mapped { memory: &'m dyn Memory, base: VirtAddr },
    File(&'m [u8]),
}

/// An image whose headers have been read; all else is read when asked for.
#[derive(Clone)]
pub struct Image<'m> {
    view: View<'m>,
    headers: Headers,
}

impl<'m> Image<'m> {
    /// The image mapped at `base`.
    ///
    /// # Errors
    /// If there are no whole headers of an image there.
    pub fn mapped(memory: &'m dyn Memory, base: VirtAddr) -> Result<Self, PeError> {
        let view = View::Mapped { memory, base };
        Ok(Self { view, headers: headers(|at, length| view_bytes(view, at, length))? })
    }

    /// The image in a file's bytes, which may be cut off behind the headers.
    ///
    /// # Errors
    /// If the bytes do not start with whole headers of an image.
    pub fn of_file(bytes: &'m [u8]) -> Result<Self, PeError> {
        let view = View::File(bytes);
        Ok(Self { view, headers: headers(|at, length| view_bytes(view, at, length))? })
    }

    /// The headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The bytes at an RVA, up to `length`, as many as are there without a gap. Bytes of a section that the file does
    /// not store are zero in memory and absent here if the image is a file.
    pub fn bytes(&self, rva: u32, length: usize) -> Vec<u8> {
        match self.view {
            View::Mapped { .. } => view_bytes(self.view, rva, length),
            View::File(_) => {
                let Some((offset, room)) = self.file_place(rva) else { return Vec::new() };
                view_bytes(self.view, offset, length.min(room as usize))
            }
        }
    }

    /// Entries of a table, each as far as it is there: where pages are missing, those after them are read all the same.
    /// Of a file, entries behind its end are left out.
    fn table<const N: usize>(&self, at: u32, count: usize) -> Vec<Option<[u8; N]>> {
        const PAGE: usize = 0x1000;
        let length = count.saturating_mul(N);
        let mut entries = Vec::new();
        let mut done = 0;
        while done < length {
            let Some(here) = u32::try_from(done).ok().and_then(|done| at.checked_add(done)) else { break };
            // Little at a time: where whole tables are missing, each try asks for as much.
            let wanted = (length - done).min(PAGE / N * N);
            let piece = self.bytes(here, wanted);
            entries.extend(piece.as_chunks().0.iter().copied().map(Some));
            done += piece.len() / N * N;
            if piece.len() == wanted {
                continue;
            }
            if matches!(self.view, View::File(_)) {
                break;
            }
            // On to the first entry that is in the next page whole.
            let missing = at as usize + done + piece.len() % N;
            let next = (missing / PAGE + 1) * PAGE - at as usize;
            let skipped = next.div_ceil(N).min(count) - done / N;
            entries.extend(std::iter::repeat_n(None, skipped));
            done += skipped * N;
        }
        entries
    }

    /// The section at an RVA.
    pub fn section(&self, rva: u32) -> Option<&Section> {
        self.headers.sections.iter().find(|section| section.contains(rva))
    }

    /// Offset in the file of an RVA and the bytes from there to the section's end.
    fn file_place(&self, rva: u32) -> Option<(u32, u32)> {
        for section in &self.headers.sections {
            if let Some(offset) = rva.checked_sub(section.rva).filter(|offset| *offset < section.file_size) {
                return Some((section.file_offset.checked_add(offset)?, section.file_size - offset));
            }
        }
        let room = self.headers.size_of_headers.checked_sub(rva).filter(|room| *room > 0)?;
        Some((rva, room))
    }

    /// A data directory's RVA and size, if it is there.
    fn directory(&self, index: usize) -> Option<(u32, u32)> {
        self.headers.directories.get(index).copied().filter(|(rva, size)| *rva != 0 && *size != 0)
    }

    fn u32(&self, rva: u32) -> Option<u32> {
        u32_at(&self.bytes(rva, 4), 0)
    }

    /// Text up to its NUL; `None` if there is none within `limit` bytes.
    fn text(&self, rva: u32, limit: usize) -> Option<String> {
        // Most names are short, and what follows them may be missing.
        for length in [64, limit] {
            let bytes = self.bytes(rva, length);
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                return Some(String::from_utf8_lossy(bytes.get(..end)?).into_owned());
            }
            if bytes.len() < length {
                return None;
            }
        }
        None
    }
}

/// Bytes of a view in its own offsets. Read in pieces, so that a length out of the image is no allocation.
fn view_bytes(view: View<'_>, at: u32, length: usize) -> Vec<u8> {
    const PIECE: usize = 0x1_0000;
    match view {
        View::File(bytes) => {
            let rest = bytes.get(at as usize..).unwrap_or_default();
            rest.get(..length).unwrap_or(rest).to_vec()
        }
        View::Mapped { memory, base } => {
            let mut bytes = Vec::new();
            while bytes.len() < length {
                let wanted = (length - bytes.len()).min(PIECE);
                let piece = memory.read_available(base.plus(u64::from(at) + bytes.len() as u64), wanted);
                bytes.extend_from_slice(&piece);
                if piece.len() < wanted {
                    break;
                }
            }
            bytes
        }
    }
}

/// Reads DOS header, file header, optional header and section table.
fn headers(bytes: impl Fn(u32, usize) -> Vec<u8>) -> Result<Headers, PeError> {
    let dos = bytes(0, 0x40);
    if dos.get(..2).is_some_and(|magic| magic != b"MZ") {
        return Err(PeError::NotPe("it does not begin with MZ"));
    }
    let pe = u32_at(&dos, 0x3c).ok_or(PeError::Cut { at: 0 })?;
    let file = bytes(pe, 24);
    if file.get(..4).is_some_and(|magic| magic != b"PE\0\0") {
        return Err(PeError::NotPe("no PE signature where the DOS header points"));
    }
    let cut = PeError::Cut { at: pe };
    let file_header = |at| u16_at(&file, at).ok_or(cut.clone());
    let (machine, section_count) = (file_header(4)?, file_header(6)?);
    let (optional_size, characteristics) = (file_header(20)?, file_header(22)?);
    let time_date_stamp = u32_at(&file, 8).ok_or(cut)?;
    let optional_at = pe.checked_add(24).ok_or(PeError::NotPe("its header lies at the end of memory"))?;
    let optional = bytes(optional_at, usize::from(optional_size));
    let is_64 = match u16_at(&optional, 0) {
        Some(0x20b) => true,
        Some(0x10b) => false,
        Some(_) => return Err(PeError::NotPe("neither PE32 nor PE32+")),
        None => return Err(PeError::Cut { at: optional_at }),
    };
    let word = |at| u32_at(&optional, at).ok_or(PeError::Cut { at: optional_at });
    let image_base = if is_64 { u64::from(word(24)?) | u64::from(word(28)?) << 32 } else { word(28)?.into() };
    let directories_at = if is_64 { 112 } else { 96 };
    let directory_count = word(directories_at - 4)?.min(MAX_DIRECTORIES) as usize;
    let directories = (0..directory_count)
        .map_while(|index| {
            let at = directories_at + index * 8;
            Some((u32_at(&optional, at)?, u32_at(&optional, at + 4)?))
        })
        .collect();
    let table = optional_at
        .checked_add(u32::from(optional_size))
        .map(|at| bytes(at, usize::from(section_count.min(MAX_SECTIONS)) * 40))
        .unwrap_or_default();
    let sections: Vec<Section> = table.chunks_exact(40).filter_map(section).collect();
    Ok(Headers {
        machine,
        time_date_stamp,
        characteristics,
        is_64,
        entry_point: word(16)?,
        image_base,
        size_of_image: word(56)?,
        size_of_headers: word(60)?,
        checksum: word(64)?,
        sections_missing: section_count.saturating_sub(sections.len() as u16),
        sections,
        directories,
    })
}

fn section(raw: &[u8]) -> Option<Section> {
    let name = raw.get(..8)?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(8);
    Some(Section {
        name: String::from_utf8_lossy(name.get(..end)?).into_owned(),
        virtual_size: u32_at(raw, 8)?,
        rva: u32_at(raw, 12)?,
        file_size: u32_at(raw, 16)?,
        file_offset: u32_at(raw, 20)?,
        characteristics: u32_at(raw, 36)?,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}
