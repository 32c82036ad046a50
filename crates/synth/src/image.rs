//! Module images as the loader leaves them in memory: those of real files, mapped and relocated, and made-up ones that
//! have what a debugger looks for, which is headers, a `.pdata` and the RSDS record that names the PDB.

use crate::Error;
use crate::machine::{Arch, Module, Pdb};
use crate::record::Record;
use std::iter;
use std::ops::Range;

/// The largest image that is taken.
const MAX_IMAGE: usize = 256 << 20;
/// Relocations of 32 and of 64 bits (`IMAGE_REL_BASED_HIGHLOW`, `_DIR64`).
const HIGHLOW: u16 = 3;
const DIR64: u16 = 10;

/// What of a PE file's headers a module list repeats, and what mapping needs.
pub(crate) struct Headers {
    pub(crate) size_of_image: u32,
    pub(crate) time_stamp: u32,
    pub(crate) checksum: u32,
    image_base: u64,
    /// Where `ImageBase` lies in the file, and its bytes: four or eight.
    image_base_at: (usize, usize),
    end: usize,
    /// RVA and size.
    relocations: (usize, usize),
    sections: Vec<Section>,
}

struct Section {
    rva: usize,
    file: usize,
    /// Bytes the file has of it, and bytes it has in memory.
    size: usize,
    span: usize,
}

/// Reads the headers of a PE file.
pub(crate) fn headers(file: &[u8]) -> Option<Headers> {
    let pe = u32_at(file, 0x3c)? as usize;
    if file.get(..2)? != b"MZ" || file.get(pe..pe.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let optional = pe + 0x18;
    let wide = u16_at(file, optional)? == 0x20b;
    let (base_at, base_size, directories) =
        if wide { (optional + 0x18, 8, optional + 0x70) } else { (optional + 0x1c, 4, optional + 0x60) };
    let base = file.get(base_at..base_at + base_size)?.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    let table = optional + usize::from(u16_at(file, pe + 0x14)?);
    let sections = (0..usize::from(u16_at(file, pe + 6)?)).map(|n| {
        let at = table + 0x28 * n;
        let field = |offset| u32_at(file, at + offset).map(|value| value as usize);
        // What the file holds beyond the section's size in memory is padding.
        let (memory, raw) = (field(8)?, field(0x10)?);
        let size = if memory == 0 { raw } else { raw.min(memory.next_multiple_of(0x1000)) };
        Some(Section { rva: field(0xc)?, file: field(0x14)?, size, span: memory.max(size) })
    });
    let has = |n: u32| u32_at(file, directories - 4).is_some_and(|count| count > n);
    let relocations = directories + 8 * 5;
    Some(Headers {
        size_of_image: u32_at(file, optional + 0x38)?,
        time_stamp: u32_at(file, pe + 8)?,
        checksum: u32_at(file, optional + 0x40)?,
        image_base: base,
        image_base_at: (base_at, base_size),
        end: u32_at(file, optional + 0x3c)? as usize,
        relocations: if has(5) {
            (u32_at(file, relocations)? as usize, u32_at(file, relocations + 4)? as usize)
        } else {
            (0, 0)
        },
        sections: sections.collect::<Option<_>>()?,
    })
}

/// The image of a file, loaded at `base`.
pub(crate) fn load(file: &[u8], base: u64, name: &str) -> Result<Vec<u8>, Error> {
    let bad = |reason: &str| Error::File { path: name.to_owned(), reason: reason.to_owned() };
    let headers = headers(file).ok_or_else(|| bad("not a PE file"))?;
    let size = headers.size_of_image as usize;
    if size > MAX_IMAGE {
        return Err(Error::TooLarge(format!("the image `{name}`")));
    }
    let mut image = vec![0; size];
    let mut copy = |rva: usize, from: usize, size: usize| {
        let bytes = file.get(from..from.checked_add(size)?.min(file.len()))?;
        image.get_mut(rva..rva.checked_add(bytes.len())?)?.copy_from_slice(bytes);
        Some(())
    };
    copy(0, 0, headers.end).ok_or_else(|| bad("headers larger than the image"))?;
    for section in headers.sections.iter().filter(|section| section.size > 0) {
        copy(section.rva, section.file, section.size).ok_or_else(|| bad("a section outside the image"))?;
    }
    let delta = base.wrapping_sub(headers.image_base);
    relocate(&mut image, headers.relocations, delta).ok_or_else(|| bad("a relocation outside the image"))?;
    // The loader writes where the image really lies.
    let (at, bytes) = headers.image_base_at;
    let field = image.get_mut(at..at + bytes).ok_or_else(|| bad("headers outside the image"))?;
    field.iter_mut().zip(base.to_le_bytes()).for_each(|(slot, byte)| *slot = byte);
    Ok(image)
}

/// What of a file's image is mapped: its headers and its sections. A linker that was told where to put what can leave
/// room between them.
pub(crate) fn mapped(file: &[u8]) -> Vec<Range<usize>> {
    let Some(headers) = headers(file) else { return Vec::new() };
    let size = headers.size_of_image as usize;
    let sections = headers.sections.iter().map(|s| s.rva.min(size)..s.rva.saturating_add(s.span).min(size));
    iter::once(0..headers.end.min(size)).chain(sections).collect()
}

/// Adds `delta` wherever the relocation directory says.
fn relocate(image: &mut [u8], (start, size): (usize, usize), delta: u64) -> Option<()> {
    let end = start.checked_add(size)?;
    let mut block = start;
    while block + 8 <= end {
        let (page, bytes) = (u32_at(image, block)? as usize, u32_at(image, block + 4)? as usize);
        if bytes < 8 {
            break;
        }
        for at in (block + 8..block + bytes).step_by(2) {
            let entry = u16_at(image, at)?;
            let place = page + usize::from(entry & 0xfff);
            let width = match entry >> 12 {
                HIGHLOW => 4,
                DIR64 => 8,
                _ => continue,
            };
            let field = image.get_mut(place..place + width)?;
            let value = field.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b)).wrapping_add(delta);
            field.iter_mut().zip(value.to_le_bytes()).for_each(|(slot, byte)| *slot = byte);
        }
        block += bytes;
    }
    Some(())
}

/// Where the parts of a made-up image lie.
const PE: usize = 0x80;
const OPTIONAL: usize = PE + 0x18;
/// The read-only data, with the debug directory, and the table of functions, each in a page behind the headers.
const RDATA: usize = 0x1000;
const PDATA: usize = 0x2000;
pub(crate) const TEXT: usize = 0x3000;
/// Where unwind data starts, behind the record that names the PDB.
const UNWIND: usize = RDATA + 0x200;

/// A function of an assembled image: its place, and how many bytes its `sub rsp` takes.
pub(crate) struct Function {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) frame: u8,
}

/// What an assembled image is made of.
pub(crate) struct Assembly<'a> {
    /// Its code, from [`TEXT`] on.
    pub(crate) text: &'a [u8],
    pub(crate) functions: &'a [Function],
}

/// A PE file with code and unwind data, laid out in the file as in memory.
pub(crate) fn assemble(module: &Module, assembly: &Assembly<'_>) -> Vec<u8> {
    let size = (module.size.0 as usize).max(TEXT + assembly.text.len()).next_multiple_of(0x1000);
    let mut r = Record::zeroed(size);
    r.put(0, &invent(module, Arch::X64, None));
    r.u32(OPTIONAL + 0x70 + 8 * 3, PDATA as u32);
    r.u32(OPTIONAL + 0x70 + 8 * 3 + 4, 12 * assembly.functions.len() as u32);
    for (n, function) in assembly.functions.iter().enumerate() {
        let (entry, unwind) = (PDATA + 12 * n, UNWIND + 8 * n);
        r.u32(entry, function.start).u32(entry + 4, function.end).u32(entry + 8, unwind as u32);
        // Version 1, a prolog of four bytes, one code: behind byte 4, UWOP_ALLOC_SMALL.
        let code = 2 | (function.frame / 8).saturating_sub(1) << 4;
        r.put(unwind, &[1, 4, 1, 0, 4, code, 0, 0]);
    }
    r.put(TEXT, &vec![0xcc; size - TEXT]).put(TEXT, assembly.text);
    r.into_bytes()
}

/// A function of ARM64 that keeps a frame record at the lower end of its frame.
pub(crate) struct Packed {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Bytes it takes off the stack: a multiple of 16 up to 0x200.
    pub(crate) frame: u32,
}

/// The same of ARM64, whose entries hold in themselves how such a function is unwound.
pub(crate) fn assemble_arm64(module: &Module, text: &[u8], functions: &[Packed]) -> Vec<u8> {
    /// A packed entry, and in it a function that keeps x29 and x30 and lets x29 point to them.
    const PACKED: u32 = 1;
    const CHAINED: u32 = 3 << 21;
    let size = (module.size.0 as usize).max(TEXT + text.len()).next_multiple_of(0x1000);
    let mut r = Record::zeroed(size);
    r.put(0, &invent(module, Arch::Arm64, None));
    r.u32(OPTIONAL + 0x70 + 8 * 3, PDATA as u32);
    r.u32(OPTIONAL + 0x70 + 8 * 3 + 4, 8 * functions.len() as u32);
    for (n, function) in functions.iter().enumerate() {
        let length = (function.end - function.start) / 4;
        let entry = PACKED | length << 2 | CHAINED | (function.frame / 16) << 23;
        r.u32(PDATA + 8 * n, function.start).u32(PDATA + 8 * n + 4, entry);
    }
    r.put(TEXT, text);
    r.into_bytes()
}

/// What the kernel's image has beyond others': its own name among its exports, and its debugger data in a section that
/// is written to, where a search of memory looks for it.
pub(crate) struct Own<'a> {
    pub(crate) name: &'a str,
    pub(crate) debugger_data: u32,
}

/// Where a kernel's export directory and its name lie.
const EXPORTS: usize = RDATA + 0x180;
const EXPORT_NAME: usize = EXPORTS + 0x28;

/// The first bytes of an image that is described by its list entry alone: headers and, where the PDB is described, the
/// record that names it.
pub(crate) fn invent(module: &Module, arch: Arch, own: Option<&Own<'_>>) -> Vec<u8> {
    let narrow = arch == Arch::X86;
    // Bytes of the optional header, where its directories start, and where the sections do.
    let (header, directories) = if narrow { (0xe0, OPTIONAL + 0x60) } else { (0xf0, OPTIONAL + 0x70) };
    let size = module.size.0 as u32;
    let whole = module.size.0 as usize > TEXT;
    let has_rdata = module.pdb.is_some() || own.is_some();
    let mut r = Record::zeroed(if whole && has_rdata { RDATA + 0x200 } else { 0x400 });
    r.put(0, b"MZ").u32(0x3c, PE as u32).put(PE, b"PE\0\0").u16(PE + 4, arch.machine());
    r.u32(PE + 8, module.time_stamp.0 as u32).u16(PE + 0x14, header);
    if narrow {
        r.u16(PE + 0x16, 0x102).u16(OPTIONAL, 0x10b).u32(OPTIONAL + 0x1c, module.base.0 as u32);
    } else {
        r.u16(PE + 0x16, 0x22).u16(OPTIONAL, 0x20b).u64(OPTIONAL + 0x18, module.base.0);
    }
    r.u32(OPTIONAL + 0x20, 0x1000).u32(directories - 4, 16);
    r.u32(OPTIONAL + 0x24, 0x200).u32(OPTIONAL + 0x38, size).u32(OPTIONAL + 0x3c, 0x400);
    r.u32(OPTIONAL + 0x40, module.checksum.0 as u32).u16(OPTIONAL + 0x44, 1);
    // Versions of the system, as drivers carry them.
    r.u16(OPTIONAL + 0x28, 10).u16(OPTIONAL + 0x30, 10);
    if !whole {
        return r.into_bytes();
    }
    let sections = sections(size, own);
    r.u16(PE + 6, sections.len() as u16);
    for (n, (name, rva, length, flags)) in sections.into_iter().enumerate() {
        let at = OPTIONAL + usize::from(header) + 0x28 * n;
        r.put(at, name).u32(at + 8, length).u32(at + 0xc, rva).u32(at + 0x10, length);
        r.u32(at + 0x14, rva).u32(at + 0x24, flags);
    }
    if let Some(own) = own {
        let name: Vec<u8> = own.name.bytes().take(0x20).collect();
        r.u32(directories, EXPORTS as u32).u32(directories + 4, 0x28);
        r.u32(EXPORTS + 0xc, EXPORT_NAME as u32).put(EXPORT_NAME, &name);
    }
    if let Some(pdb) = &module.pdb {
        debug_directory(&mut r, directories + 8 * 6, module, pdb);
    }
    r.into_bytes()
}

/// Name, place, size and flags of each section.
fn sections(size: u32, own: Option<&Own<'_>>) -> Vec<(&'static [u8], u32, u32, u32)> {
    const READ_ONLY: u32 = 0x4800_0040;
    const WRITABLE: u32 = 0xc800_0040;
    const CODE: u32 = 0x6800_0020;
    let text = TEXT as u32;
    let mut sections: Vec<(&[u8], u32, u32, u32)> =
        vec![(b".rdata", RDATA as u32, 0x1000, READ_ONLY), (b".pdata", PDATA as u32, 0x1000, READ_ONLY)];
    // The block may cross the end of a page.
    let data = own.map(|own| own.debugger_data & !0xfff).filter(|at| (text..size).contains(at));
    let Some(data) = data else {
        sections.push((b".text", text, size.saturating_sub(text), CODE));
        return sections;
    };
    let end = data.saturating_add(0x2000).min(size);
    sections.push((b".text", text, data - text, CODE));
    sections.push((b".data", data, end - data, WRITABLE));
    sections.push((b"PAGE", end, size - end, CODE));
    sections
}

/// The debug directory, to which the entry at `entry` leads, and its `RSDS` record.
fn debug_directory(r: &mut Record, entry: usize, module: &Module, pdb: &Pdb) {
    const RECORD: usize = RDATA + 0x20;
    let name: Vec<u8> = pdb.name.bytes().take(0x100).collect();
    let length = 0x18 + name.len() + 1;
    r.u32(entry, RDATA as u32).u32(entry + 4, 0x1c);
    r.u32(RDATA + 4, module.time_stamp.0 as u32).u32(RDATA + 0xc, 2).u32(RDATA + 0x10, length as u32);
    r.u32(RDATA + 0x14, RECORD as u32).u32(RDATA + 0x18, RECORD as u32);
    r.put(RECORD, b"RSDS").put(RECORD + 4, &pdb.stored_guid()).u32(RECORD + 0x14, pdb.age);
    r.put(RECORD + 0x18, &name);
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hex;

    fn module() -> Module {
        Module {
            path: "x.sys".to_owned(),
            base: Hex(0xfffff800_10000000),
            size: Hex(0x8000),
            time_stamp: Hex(0x1234),
            pdb: Some(Pdb {
                name: "x.pdb".to_owned(),
                guid: "00112233445566778899aabbccddeeff".to_owned(),
                age: 2,
            }),
            ..Module::default()
        }
    }

    /// A made-up image is one that this crate's own loader maps, and its record is where it says.
    #[test]
    fn an_invented_image_is_sound() {
        for (arch, directories) in [(Arch::X64, 0x70), (Arch::Arm64, 0x70), (Arch::X86, 0x60)] {
            let bytes = invent(&module(), arch, None);
            let headers = headers(&bytes).unwrap();
            assert_eq!((headers.size_of_image, headers.time_stamp), (0x8000, 0x1234));
            assert_eq!(headers.sections.len(), 3);
            let directory = u32_at(&bytes, OPTIONAL + directories + 48).unwrap() as usize;
            let record = u32_at(&bytes, directory + 0x14).unwrap() as usize;
            assert_eq!(&bytes[record..record + 8], b"RSDS\x33\x22\x11\x00");
            assert_eq!(&bytes[record + 0x18..record + 0x1e], b"x.pdb\0");
        }
    }

    /// A relocation moves the pointer it names, and nothing else.
    #[test]
    fn relocations_move_pointers() {
        let mut file = invent(&Module { pdb: None, ..module() }, Arch::X64, None);
        file.resize(0x3400, 0);
        // .rdata holds a block with one 64-bit relocation of the word at 1100.
        for (at, value) in [(0x1000_usize, 0x1000_u32), (0x1004, 12), (0x1008, 0xa100)] {
            file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        file[0x1100..0x1108].copy_from_slice(&0xfffff800_10000123_u64.to_le_bytes());
        let directory = OPTIONAL + 0x70 + 40;
        file[directory..directory + 8].copy_from_slice(&[0, 0x10, 0, 0, 12, 0, 0, 0]);
        let image = load(&file, 0xfffff800_20000000, "x.sys").unwrap();
        assert_eq!(image.len(), 0x8000);
        assert_eq!(mapped(&file), [0..0x400, 0x1000..0x2000, 0x2000..0x3000, 0x3000..0x8000]);
        let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
        assert_eq!((word(0x1100), word(0x1108)), (0xfffff800_20000123, 0));
        assert_eq!(word(OPTIONAL + 0x18), 0xfffff800_20000000, "ImageBase");
        assert!(load(&file[..0x100], 0, "x.sys").is_err());
    }
}
