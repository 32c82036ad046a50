//! An image: as a file, and as mapped with pages missing. The first byte says which pages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_base::{Memory, MissReason, SliceMemory, VirtAddr};
use stopcode_image::Image;

const PAGE: u64 = 0x1000;

struct Holes<'a> {
    memory: SliceMemory<'a>,
    missing: u8,
}

impl Memory for Holes<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let offset = at.offset_from(self.memory.base).ok_or(MissReason::NotInDump)?;
        if self.missing >> (offset / PAGE % 8) & 1 != 0 {
            return Err(MissReason::NotInDump);
        }
        let page = (PAGE - offset % PAGE) as usize;
        let end = page.min(buffer.len());
        self.memory.read_some(at, buffer.get_mut(..end).unwrap_or_default())
    }
}

fn everything(image: &Image<'_>) {
    let functions = image.functions();
    for function in functions.iter().take(100) {
        let _ = image.whole(*function);
    }
    let _ = (image.exports(), image.codeview(), image.file_version(), image.is_reproducible());
}

fuzz_target!(|bytes: &[u8]| {
    let Some((missing, bytes)) = bytes.split_first() else { return };
    if let Ok(image) = Image::of_file(bytes) {
        everything(&image);
    }
    let memory = Holes { memory: SliceMemory { base: VirtAddr(0), bytes }, missing: *missing };
    if let Ok(image) = Image::mapped(&memory, VirtAddr(0)) {
        everything(&image);
    }
});
