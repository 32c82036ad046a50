//! Real images, and what is left of them when they are cut or damaged.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what failed and prints what it measured"
)]

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use stopcode_base::{Memory, MissReason, SliceMemory, VirtAddr};
use stopcode_image::{Exports, Function, Image, MACHINE_ARM64, MACHINE_X64, MACHINE_X86};

fn folder(test: &str) -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/pe"));
    if folder.is_dir() {
        return Some(folder.to_owned());
    }
    eprintln!("SKIPPED: {test}: ../shared is not beside the checkout");
    None
}

fn images(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(images(&entry));
        } else if entry.extension().is_some_and(|ext| ["sys", "dll", "exe"].iter().any(|want| ext == *want)) {
            found.push(entry);
        }
    }
    found
}

/// The image as the loader lays it out.
fn map(bytes: &[u8]) -> Vec<u8> {
    let image = Image::of_file(bytes).unwrap();
    let headers = image.headers();
    let mut mapped = vec![0; headers.size_of_image as usize];
    let mut put = |at: u32, from: &[u8]| mapped[at as usize..][..from.len()].copy_from_slice(from);
    put(0, &bytes[..headers.size_of_headers as usize]);
    for section in &headers.sections {
        let length = section.file_size.min(section.virtual_size.next_multiple_of(0x1000)) as usize;
        put(section.rva, &bytes[section.file_offset as usize..][..length]);
    }
    mapped
}

#[test]
fn figures_of_known_images() {
    let Some(folder) = folder("figures_of_known_images") else { return };
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let bytes = read("systeminformer/amd64/systeminformer.sys");
    let image = Image::of_file(&bytes).unwrap();
    assert_eq!((image.headers().machine, image.headers().is_64), (MACHINE_X64, true));
    assert!(image.codeview().unwrap().path.contains("SystemInformer"));
    assert_eq!(image.functions().len(), 447);
    let bytes = read("systeminformer/arm64/systeminformer.sys");
    let arm = Image::of_file(&bytes).unwrap();
    assert_eq!(arm.headers().machine, MACHINE_ARM64);
    assert!(arm.functions().iter().all(|function| function.size.is_some_and(|size| size > 0)));
    assert_eq!(arm.file_version(), image.file_version());
    let bytes = read("x86/vioser.sys");
    let x86 = Image::of_file(&bytes).unwrap();
    assert_eq!((x86.headers().machine, x86.headers().is_64, x86.functions().len()), (MACHINE_X86, false, 0));
}

/// Mapped or as a file, an image says the same; of each function table, entries lie in code and in order.
#[test]
fn mapped_images_say_what_their_files_say() {
    let Some(folder) = folder("mapped_images_say_what_their_files_say") else { return };
    let mut seen = 0;
    for path in images(&folder) {
        let bytes = fs::read(&path).unwrap();
        let mapped = map(&bytes);
        let memory = SliceMemory { base: VirtAddr(0xffff_f800_0000_0000), bytes: &mapped };
        let file = Image::of_file(&bytes).unwrap();
        let image = Image::mapped(&memory, memory.base).unwrap();
        assert_eq!(file.headers(), image.headers());
        assert_eq!(file.codeview(), image.codeview());
        assert_eq!(file.exports(), image.exports());
        assert_eq!(file.exports().missing, 0, "{}", path.display());
        assert_eq!(file.file_version(), image.file_version());
        assert_eq!(file.is_reproducible(), image.is_reproducible());
        let functions = file.functions();
        assert_eq!(functions, image.functions());
        assert!(functions.is_sorted_by_key(|function| function.start), "{}", path.display());
        for function in functions {
            assert!(file.section(function.start).is_some_and(stopcode_image::Section::is_code));
            let whole = file.whole(function).unwrap();
            assert_eq!(image.whole(function), Some(whole));
            assert!(file.section(whole.start).is_some_and(stopcode_image::Section::is_code));
        }
        println!(
            "{}: {} functions, {} exports, version {:?}, pdb {}, reproducible {}",
            path.strip_prefix(&folder).unwrap().display(),
            file.functions().len(),
            file.exports().entries.len(),
            file.file_version().map(|version| version.to_string()),
            file.codeview().is_some(),
            file.is_reproducible(),
        );
        seen += 1;
    }
    assert!(seen > 15);
}

/// Memory with one page missing.
struct Hole<'a>(SliceMemory<'a>, u64);

impl Memory for Hole<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let offset = at.offset_from(self.0.base).unwrap();
        if offset / 0x1000 == self.1 {
            return Err(MissReason::NotInDump);
        }
        let page = (0x1000 - offset % 0x1000) as usize;
        let end = page.min(buffer.len());
        self.0.read_some(at, &mut buffer[..end])
    }
}

/// Whichever page is missing, what lies in the others is told, and how much is not.
#[test]
fn a_missing_page_costs_what_lies_in_it_and_is_counted() {
    let Some(folder) = folder("a_missing_page_costs_what_lies_in_it_and_is_counted") else { return };
    let (mut holes, mut lost) = (0, 0);
    for path in images(&folder) {
        let bytes = fs::read(&path).unwrap();
        let mapped = map(&bytes);
        let memory = SliceMemory { base: VirtAddr(0xffff_f800_0000_0000), bytes: &mapped };
        let whole = Image::mapped(&memory, memory.base).unwrap();
        let (functions, exports) = (whole.functions(), whole.exports());
        assert_eq!((whole.functions_missing(), exports.missing), (0, 0), "{}", path.display());
        for page in 1..mapped.len() as u64 / 0x1000 {
            let hole = Hole(memory, page);
            let image = Image::mapped(&hole, memory.base).unwrap();
            let place = || format!("{} without page {page:#x}", path.display());
            let here = image.functions();
            let same = |a: &Function, b: &Function| (a.start, a.unwind) == (b.start, b.unwind);
            assert!(here.iter().all(|f| functions.iter().any(|g| same(f, g))), "{}", place());
            // Rows of zeros at the end of a table are no functions.
            assert!(here.len() + image.functions_missing() >= functions.len(), "{}", place());
            assert!(functions.len() - here.len() <= 0x1000 / 8 + 1, "{}", place());
            let told = image.exports();
            for export in &told.entries {
                let full = exports.entries.iter().find(|other| other.ordinal == export.ordinal).unwrap();
                assert_eq!(export.rva, full.rva, "{}", place());
                assert!(export.names.iter().all(|name| full.names.contains(name)), "{}", place());
            }
            let names = |exports: &Exports| exports.entries.iter().map(|e| e.names.len()).sum::<usize>();
            // Without the directory itself nothing says that there are any.
            assert!(
                told.entries.is_empty() || names(&told) + told.missing as usize >= names(&exports),
                "{}",
                place()
            );
            if let Some(codeview) = image.codeview() {
                assert_eq!(Some(codeview.guid), whole.codeview().map(|whole| whole.guid), "{}", place());
            }
            assert!(image.file_version().is_none_or(|version| Some(version) == whole.file_version()));
            holes += 1;
            lost += functions.len() - here.len();
        }
    }
    println!("{holes} pages missing in turn, {lost} functions lost with them");
    assert!(holes > 100 && lost > 0);
}

/// Memory that counts what is asked of it.
struct Counting<'a>(SliceMemory<'a>, Cell<usize>);

impl Memory for Counting<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        self.1.set(self.1.get() + buffer.len());
        self.0.read_some(at, buffer)
    }
}

fn everything(image: &Image<'_>) -> usize {
    let functions = image.functions();
    _ = (image.codeview(), image.file_version(), image.is_reproducible());
    let wholes = functions.iter().take(64).filter(|function| image.whole(**function).is_some()).count();
    functions.len() + image.exports().entries.len() + wholes
}

/// Cut or with any word of its headers wrong, an image is read in bounds or refused.
#[test]
fn damage_does_no_harm() {
    let Some(folder) = folder("damage_does_no_harm") else { return };
    let bytes = fs::read(folder.join("systeminformer/amd64/ksi.dll")).unwrap();
    for end in (0..bytes.len()).step_by(331) {
        if let Ok(image) = Image::of_file(&bytes[..end]) {
            assert!(everything(&image) <= everything(&Image::of_file(&bytes).unwrap()));
        }
    }
    let mapped = map(&bytes);
    let headers = Image::of_file(&bytes).unwrap().headers().size_of_headers as usize;
    for at in (0..headers).step_by(4) {
        for wrong in [0u32, u32::MAX, 0x7fff_ffff, 0x1000, 1] {
            let mut damaged = mapped.clone();
            damaged[at..at + 4].copy_from_slice(&wrong.to_le_bytes());
            let memory = Counting(SliceMemory { base: VirtAddr(0), bytes: &damaged }, Cell::new(0));
            if let Ok(image) = Image::mapped(&memory, VirtAddr(0)) {
                everything(&image);
            }
            assert!(memory.1.get() < 64 << 20, "{at:#x} {wrong:#x}: {} bytes asked for", memory.1.get());
        }
    }
}

#[test]
fn what_is_no_image_is_refused() {
    for wrong in [&b""[..], b"MZ", b"ELF", &[0; 4096]] {
        assert!(Image::of_file(wrong).is_err());
    }
    // A header that points at the end of the address space.
    let mut far = vec![0; 0x40];
    far[..2].copy_from_slice(b"MZ");
    far[0x3c..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(Image::of_file(&far).is_err());
}

/// Each word that the table of relocations names holds an address of the image.
#[test]
fn relocated_words_are_addresses_of_the_image() {
    let Some(folder) = folder("relocated_words_are_addresses_of_the_image") else { return };
    let mut words = 0;
    for path in images(&folder) {
        let bytes = fs::read(&path).unwrap();
        let image = Image::of_file(&bytes).unwrap();
        let headers = image.headers();
        for relocation in image.relocations() {
            let raw = image.bytes(relocation.rva, relocation.size.into());
            let word = raw.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
            let rva = word.wrapping_sub(headers.image_base);
            assert!(rva <= headers.size_of_image.into(), "{}: {:#x}", path.display(), relocation.rva);
            words += 1;
        }
        // Imports lie in the image; its patches in its code.
        for range in image.rewritten().ranges {
            assert!(range.end <= headers.size_of_image, "{}: {range:x?}", path.display());
        }
    }
    println!("{words} words");
    assert!(words > 1000);
}
