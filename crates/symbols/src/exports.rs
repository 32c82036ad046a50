//! What an image alone tells of names: its exports, and through its function table which function a part is of.

use crate::kind::SymbolKind;
use crate::table::{How, NewSymbol, Reach, SymbolTable, TableBuilder};
use std::collections::BTreeMap;
use stopcode_image::Image;

/// The exports as names, with sizes where the function table tells them. They are few: between two of them lie many
/// functions without a name.
pub fn exports(image: &Image<'_>) -> SymbolTable {
    let mut builder = TableBuilder::new(How::Export);
    for export in image.exports().entries.iter().filter(|export| export.forward.is_none()) {
        for name in &export.names {
            builder.add(name, export.rva.into());
        }
    }
    builder.finish().with_functions(image)
}

impl SymbolTable {
    /// The same names with what the image's function table adds: where functions end that had no size, and the parts
    /// of functions that lie apart, under their function's name. Only these name an address behind a string literal in
    /// code ([`crate::Reach::BehindLiteral`]). The image must be the one the names are for.
    #[must_use]
    pub fn with_functions(&self, image: &Image<'_>) -> Self {
        let mut ends: BTreeMap<u32, u32> = BTreeMap::new();
        let mut apart = Vec::new();
        for function in image.functions() {
            let (Some(whole), Some(size)) = (image.whole(function), function.size) else { continue };
            let end = function.start.saturating_add(size);
            match ends.get_mut(&whole.start) {
                // Pieces that follow each other are one to the reader.
                Some(before) if *before == function.start => *before = end,
                _ if whole.start == function.start => _ = ends.insert(function.start, end),
                _ => apart.push((function, size, whole.start)),
            }
        }
        let mut builder = self.reopen();
        builder.set_sizes(&ends.iter().map(|(start, end)| (*start, end - start)).collect());
        for (part, size, whole) in apart {
            // A PDB with sizes tells itself which parts lie in and which apart.
            let known = self
                .lookup(part.start)
                .is_some_and(|found| found.size.is_some() && found.reach.names_the_place());
            let named = self.lookup(whole).filter(|found| found.reach == Reach::Start && !known);
            if let Some(found) = named {
                builder.add_symbol(NewSymbol {
                    name: found.name,
                    rva: part.start.into(),
                    size,
                    kind: Some(SymbolKind::Code),
                    how: found.how,
                    cold: true,
                });
            }
        }
        builder.finish()
    }
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
        let names = [("KiWork".to_owned(), 0x1100), ("??_C@_1A@x@FNODOBFM@".to_owned(), 0x11c0)];
        let table: SymbolTable = names.into_iter().collect();
        assert_eq!(table.lookup(0x1210).unwrap().reach, Reach::BehindLiteral);
        let table = table.with_functions(&image);
        let found = table.lookup(0x1210).unwrap();
        assert_eq!((found.name, found.rva, found.offset, found.size), ("KiWork", 0x1200, 0x10, Some(0x20)));
        assert!(found.cold && found.reach == Reach::Within);
        let whole = table.lookup(0x117f).unwrap();
        assert_eq!(
            (whole.name, whole.cold, whole.size, whole.reach),
            ("KiWork", false, Some(0x80), Reach::Within)
        );
        assert_eq!(table.lookup(0x1180).unwrap().reach, Reach::PastEnd);
        assert_eq!(table.lookup(0x1220).unwrap().reach, Reach::PastEnd);
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
