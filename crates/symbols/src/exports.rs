//! What an image alone tells of names: its exports, and through its function table which function a part is of.

use crate::table::{Found, How, Reach, SymbolTable, TableBuilder};
use stopcode_image::{Function, Image};

/// The exports as names. They are few: between two of them lie many functions without a name.
pub fn exports(image: &Image<'_>) -> SymbolTable {
    let mut builder = TableBuilder::new(How::Export);
    for export in image.exports().entries.iter().filter(|export| export.forward.is_none()) {
        for name in &export.names {
            builder.add(name, export.rva.into());
        }
    }
    builder.finish()
}

/// The function whose part lies at `rva`, by the image's function table ([`Image::functions`], in order): what names
/// an address behind [`crate::Reach::BehindLiteral`]. [`Found::offset`] then counts from the part's beginning.
///
/// `None` if the address lies in no part of a function that lies apart, or the whole has no name.
pub fn cold_part<'t>(
    image: &Image<'_>,
    functions: &[Function],
    table: &'t SymbolTable,
    rva: u32,
) -> Option<Found<'t>> {
    let after = functions.partition_point(|function| function.start <= rva);
    let part = functions.get(..after)?.last().copied().filter(|function| function.contains(rva))?;
    let whole = image.whole(part).filter(|whole| whole.start != part.start)?;
    let found = table.lookup(whole.start).filter(|found| found.reach.names_the_place())?;
    // A function whose parts follow each other is one piece to the reader.
    if found.size.is_some_and(|size| part.start.checked_sub(found.rva).is_some_and(|offset| offset < size)) {
        return None;
    }
    Some(Found {
        rva: part.start,
        offset: rva - part.start,
        size: part.size,
        cold: true,
        reach: reach(rva, part),
        ..found
    })
}

fn reach(rva: u32, part: Function) -> Reach {
    if rva == part.start { Reach::Start } else { Reach::Within }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An x64 image of one section with two entries in its function table: the second is a part of the first.
    fn image() -> Vec<u8> {
        let mut bytes = vec![0; 0x600];
        let mut put = |at: usize, words: &[u32]| {
            for (index, word) in words.iter().enumerate() {
                bytes[at + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
            }
        };
        put(0, &[0x5a4d]);
        put(0x3c, &[0x40]);
        // Signature, x64 with one section, optional header of 0xf0 bytes.
        put(0x40, &[0x4550, 0x1_8664]);
        put(0x54, &[0xf0]);
        put(0x58, &[0x20b]);
        put(0x58 + 56, &[0x3000, 0x200]);
        put(0x58 + 108, &[16]);
        put(0x58 + 112 + 3 * 8, &[0x1000, 24]);
        // Section at 0x1000, 0x2000 bytes, of which the file has 0x400 from 0x200 on; code.
        put(0x148 + 8, &[0x2000, 0x1000, 0x400, 0x200]);
        put(0x148 + 36, &[0x2000_0000]);
        // Function table; unwind data at 0x1080 (none) and at 0x1090 (chained to the first).
        put(0x200, &[0x1100, 0x1180, 0x1080, 0x1200, 0x1220, 0x1090]);
        put(0x280, &[1]);
        put(0x290, &[1 | 4 << 3, 0x1100, 0x1180, 0x1080]);
        bytes
    }

    #[test]
    fn a_part_is_named_by_its_function() {
        let bytes = image();
        let image = Image::of_file(&bytes).unwrap();
        let functions = image.functions();
        let names = [("KiWork".to_owned(), 0x1100), ("??_C@_1A@x@FNODOBFM@".to_owned(), 0x11c0)];
        let table: SymbolTable = names.into_iter().collect();
        assert_eq!(table.lookup(0x1210).unwrap().reach, Reach::BehindLiteral);
        let found = cold_part(&image, &functions, &table, 0x1210).unwrap();
        assert_eq!((found.name, found.rva, found.offset, found.size), ("KiWork", 0x1200, 0x10, Some(0x20)));
        assert!(found.cold && found.reach.names_the_place());
        for elsewhere in [0x10ff, 0x1100, 0x117f, 0x1180, 0x1220, u32::MAX] {
            assert_eq!(cold_part(&image, &functions, &table, elsewhere), None, "{elsewhere:#x}");
        }
    }

    #[test]
    fn a_chain_that_leads_in_a_circle_ends() {
        let mut bytes = image();
        // The first is chained to itself.
        bytes[0x280] = 1 | 4 << 3;
        bytes[0x284..0x290].copy_from_slice(&[0, 0x11, 0, 0, 0x80, 0x11, 0, 0, 0x80, 0x10, 0, 0]);
        let image = Image::of_file(&bytes).unwrap();
        assert_eq!(image.whole(image.functions()[1]), None);
    }
}
