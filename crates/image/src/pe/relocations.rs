//! What the loader changes in an image: places that move with its base, and places it writes anew.
//!
//! Format facts: Microsoft's "PE Format" for base relocations; `IMAGE_DYNAMIC_RELOCATION_TABLE` and
//! `IMAGE_LOAD_CONFIG_DIRECTORY64` of the SDK's `winnt.h`.

use super::{Image, u16_at, u32_at};
use std::ops::Range;

const DIRECTORY_RELOCATIONS: usize = 5;
const DIRECTORY_LOAD_CONFIG: usize = 10;
const DIRECTORY_IMPORT_ADDRESSES: usize = 12;
/// More bytes than this are not read of a table: the kernel's have some hundred thousand.
const LARGEST_TABLE: usize = 16 << 20;
/// `IMAGE_REL_BASED_HIGHLOW` and `_DIR64`: a word of four or eight bytes that holds an address.
const HIGHLOW: u16 = 3;
const DIR64: u16 = 10;

/// A word that holds an address inside the image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Relocation {
    /// Where it lies.
    pub rva: u32,
    /// Its bytes: 4 or 8.
    pub size: u8,
}

/// What the loader may write over, beyond relocations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rewritten {
    /// RVAs, in no order; they may overlap.
    pub ranges: Vec<Range<u32>>,
    /// Kinds of dynamic relocations whose places are not known here.
    pub unknown: Vec<u64>,
}

impl Image<'_> {
    /// Words that hold addresses, in the table's order. What of the table is not there is left out.
    pub fn relocations(&self) -> Vec<Relocation> {
        let Some((rva, size)) = self.directory(DIRECTORY_RELOCATIONS) else { return Vec::new() };
        let table = self.bytes(rva, (size as usize).min(LARGEST_TABLE));
        let mut found = Vec::new();
        for (page, entries) in blocks(&table) {
            for entry in entries.as_chunks().0.iter().map(|raw| u16::from_le_bytes(*raw)) {
                let size = match entry >> 12 {
                    HIGHLOW => 4,
                    DIR64 => 8,
                    // Padding, and forms that no 64-bit Windows loads.
                    _ => continue,
                };
                found.extend(page.checked_add(u32::from(entry & 0xfff)).map(|rva| Relocation { rva, size }));
            }
        }
        found
    }

    /// What the loader writes over when it binds imports, and what the kernel patches by the image's table of dynamic
    /// relocations: calls and jumps it makes direct or safe against speculation, and its own randomized addresses.
    pub fn rewritten(&self) -> Rewritten {
        let imports = self.directory(DIRECTORY_IMPORT_ADDRESSES);
        let imports = imports.and_then(|(rva, size)| Some(rva..rva.checked_add(size)?));
        let mut rewritten = Rewritten { ranges: imports.into_iter().collect(), unknown: Vec::new() };
        if let Some(table) = self.dynamic_relocations() {
            read_dynamic(&table, &mut rewritten);
        }
        rewritten
    }

    /// The entries of the table of dynamic relocations, which lies in a section that the load configuration names.
    fn dynamic_relocations(&self) -> Option<Vec<u8>> {
        const VERSION_1: u32 = 1;
        if !self.headers().is_64 {
            return None;
        }
        let (config, size) = self.directory(DIRECTORY_LOAD_CONFIG)?;
        // `DynamicValueRelocTableOffset` and `DynamicValueRelocTableSection`; the first word is the structure's own size.
        let raw = self.bytes(config, 0xe6);
        let own = u32_at(&raw, 0)?.max(size);
        let (offset, section) = (u32_at(&raw, 0xe0)?, u16_at(&raw, 0xe4)?);
        if own < 0xe6 || offset == 0 {
            return None;
        }
        let section = self.headers().sections.get(usize::from(section.checked_sub(1)?))?;
        let table = section.rva.checked_add(offset)?;
        let head = self.bytes(table, 8);
        let size = (u32_at(&head, 4)? as usize).min(LARGEST_TABLE);
        (u32_at(&head, 0)? == VERSION_1).then(|| self.bytes(table.saturating_add(8), size))
    }
}

/// The blocks of a relocation table: the page, and the entries for it.
fn blocks(table: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut rest = table;
    std::iter::from_fn(move || {
        let (page, size) = (u32_at(rest, 0)?, u32_at(rest, 4)? as usize);
        let entries = rest.get(8..size.min(rest.len()))?;
        rest = rest.get(size..).unwrap_or_default();
        Some((page, entries))
    })
}

/// `IMAGE_DYNAMIC_RELOCATION_*`: which sort of code its places are.
const IMPORT_CALL: u64 = 3;
const INDIRECT_CALL: u64 = 4;
const SWITCH_JUMP: u64 = 5;
/// Smaller numbers are kinds, larger ones the addresses that a value is to be replaced for.
const FIRST_ADDRESS: u64 = 0x100;

/// A call through the import table and the nop behind it, which the compiler left for the patch.
const IMPORT_CALL_BYTES: u32 = 12;
/// An indirect call with the nop behind it.
const INDIRECT_CALL_BYTES: u32 = 6;
/// A jump by a register and the breakpoints behind it.
const SWITCH_JUMP_BYTES: u32 = 5;

fn read_dynamic(mut rest: &[u8], into: &mut Rewritten) {
    while let Some((symbol, size)) = u64_at(rest, 0).zip(u32_at(rest, 8)) {
        let Some(table) = rest.get(12..).map(|table| table.get(..size as usize).unwrap_or(table)) else {
            return;
        };
        rest = rest.get(12 + size as usize..).unwrap_or_default();
        // Bytes of an entry, bits of it that are the place in its page, and bytes of code that may be patched there.
        let (entry, length) = match symbol {
            IMPORT_CALL => (4, IMPORT_CALL_BYTES),
            INDIRECT_CALL => (2, INDIRECT_CALL_BYTES),
            SWITCH_JUMP => (2, SWITCH_JUMP_BYTES),
            FIRST_ADDRESS.. => (2, 8),
            other => {
                into.unknown.push(other);
                continue;
            }
        };
        for (page, entries) in blocks(table) {
            for place in entries.chunks_exact(entry).filter_map(|raw| u16_at(raw, 0)) {
                let start = page.checked_add(u32::from(place & 0xfff));
                into.ranges.extend(start.and_then(|start| Some(start..start.checked_add(length)?)));
            }
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(page: u32, entries: &[u16]) -> Vec<u8> {
        let size = 8 + 2 * entries.len() as u32;
        let entries = entries.iter().flat_map(|entry| entry.to_le_bytes());
        page.to_le_bytes().into_iter().chain(size.to_le_bytes()).chain(entries).collect()
    }

    #[test]
    fn blocks_end_where_the_table_does() {
        let mut table = block(0x1000, &[0xa010, 0x0000]);
        table.extend(block(0x3000, &[0x3ffc]));
        let found: Vec<_> = blocks(&table).map(|(page, entries)| (page, entries.len())).collect();
        assert_eq!(found, [(0x1000, 4), (0x3000, 2)]);
        // A block of no bytes would never end.
        assert_eq!(blocks(&[0; 64]).count(), 0);
    }

    #[test]
    fn dynamic_relocations_by_kind() {
        let entry = |symbol: u64, table: Vec<u8>| {
            let size = table.len() as u32;
            symbol.to_le_bytes().into_iter().chain(size.to_le_bytes()).chain(table).collect::<Vec<u8>>()
        };
        let mut all = entry(INDIRECT_CALL, block(0x2000, &[0x1020]));
        all.extend(entry(7, vec![1, 2, 3]));
        all.extend(entry(0xffff_f680_0000_0000, block(0x5000, &[0xa008])));
        let mut found = Rewritten::default();
        read_dynamic(&all, &mut found);
        assert_eq!(found, Rewritten { ranges: vec![0x2020..0x2026, 0x5008..0x5010], unknown: vec![7] });
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(blocks(&bytes).count() <= bytes.len() / 8);
            let mut found = Rewritten::default();
            read_dynamic(&bytes, &mut found);
            prop_assert!(found.ranges.len() <= bytes.len());
        }
    }
}
