//! The version resource.

use super::{Image, u16_at, u32_at};
use std::fmt;

const DIRECTORY_RESOURCE: usize = 2;
/// `RT_VERSION`.
const VERSION: u32 = 16;
/// `VS_FIXEDFILEINFO.dwSignature`.
const SIGNATURE: u32 = 0xfeef_04bd;
/// Bit 31 of an entry's offset: it leads to another directory.
const SUBDIRECTORY: u32 = 0x8000_0000;
/// Entries of one directory that are looked at.
const MAX_ENTRIES: usize = 4096;

/// A version of four parts. Displayed as `10.0.19041.804`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileVersion(pub [u16; 4]);

impl fmt::Display for FileVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, build, revision] = self.0;
        write!(f, "{major}.{minor}.{build}.{revision}")
    }
}

impl Image<'_> {
    /// `FileVersion` of the version resource, if that part of the image is there.
    pub fn file_version(&self) -> Option<FileVersion> {
        let (root, _) = self.directory(DIRECTORY_RESOURCE)?;
        // Three levels: type, name, language.
        let names = self.resource_entry(root, 0, Some(VERSION))?;
        let languages = self.resource_entry(root, names.checked_sub(SUBDIRECTORY)?, None)?;
        let data = self.resource_entry(root, languages.checked_sub(SUBDIRECTORY)?, None)?;
        let entry = self.bytes(root.checked_add(data)?, 8);
        let (rva, size) = (u32_at(&entry, 0)?, u32_at(&entry, 4)?);
        // Three lengths, the key `VS_VERSION_INFO` in UTF-16, padding to a multiple of four, then the fixed part.
        let raw = self.bytes(rva, (size as usize).min(0x100));
        if u32_at(&raw, 40)? != SIGNATURE {
            return None;
        }
        let part = |at| u16_at(&raw, at);
        Some(FileVersion([part(50)?, part(48)?, part(54)?, part(52)?]))
    }

    /// What the entry with this number leads to; without a number, the first.
    fn resource_entry(&self, root: u32, directory: u32, id: Option<u32>) -> Option<u32> {
        let at = root.checked_add(directory)?;
        let head = self.bytes(at, 16);
        let count = usize::from(u16_at(&head, 12)?) + usize::from(u16_at(&head, 14)?);
        let raw = self.bytes(at.checked_add(16)?, count.min(MAX_ENTRIES) * 8);
        let wanted = |raw: &&[u8]| id.is_none() || u32_at(raw, 0) == id;
        raw.chunks_exact(8).find(wanted).and_then(|raw| u32_at(raw, 4))
    }
}
