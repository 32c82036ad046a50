//! Images of `../shared/data/pe`, laid out as a loader would.

use std::path::PathBuf;
use stopcode_base::{Memory, MissReason, SliceMemory, VirtAddr};
use stopcode_unwind::ImageView;

/// A PE image, its sections where they are loaded.
pub(crate) struct LoadedImage {
    pub(crate) base: u64,
    pub(crate) pdata: (u32, u32),
    pub(crate) bytes: Vec<u8>,
}

impl LoadedImage {
    /// The image of this name below `../shared/data/pe`; none, and a word about it, if that is not there.
    pub(crate) fn open(test: &str, name: &str) -> Option<Self> {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/pe"));
        let Ok(raw) = std::fs::read(root.join(name)) else {
            eprintln!("SKIPPED: {test} ({name}): ../shared is not beside the checkout");
            return None;
        };
        Some(Self::of_file(&raw))
    }

    fn of_file(raw: &[u8]) -> Self {
        let u16_at = |at: usize| u16::from_le_bytes(raw[at..at + 2].try_into().unwrap());
        let u32_at = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().unwrap());
        let pe = u32_at(60) as usize;
        let optional = pe + 24;
        let base = u64::from(u32_at(optional + 24)) | u64::from(u32_at(optional + 28)) << 32;
        let mut bytes = vec![0; u32_at(optional + 56) as usize];
        let headers = u32_at(optional + 60) as usize;
        bytes[..headers].copy_from_slice(&raw[..headers]);
        for section in 0..usize::from(u16_at(pe + 6)) {
            let at = optional + usize::from(u16_at(pe + 20)) + 40 * section + 8;
            let [size, rva, stored, offset] = [0, 4, 8, 12].map(|field| u32_at(at + field) as usize);
            let length = size.min(stored);
            bytes[rva..rva + length].copy_from_slice(&raw[offset..offset + length]);
        }
        let directory = optional + 112 + 3 * 8;
        Self { base, pdata: (u32_at(directory), u32_at(directory + 4)), bytes }
    }

    #[allow(dead_code, reason = "one of the tests that share this hides the image")]
    pub(crate) fn view(&self) -> ImageView<'_> {
        ImageView { base: VirtAddr(self.base), pdata: self.pdata, memory: self }
    }
}

impl Memory for LoadedImage {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        SliceMemory { base: VirtAddr(self.base), bytes: &self.bytes }.read_some(at, buffer)
    }
}
