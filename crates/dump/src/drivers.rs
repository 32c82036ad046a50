//! The driver list and the table of unloaded drivers of a triage dump.

use crate::bytes::{u16_at, u32_at, u64_at, utf16, utf16_until_nul};
use crate::kind::Bits;
use std::ops::Range;
use stopcode_base::{Problem, Severity, VirtAddr};

/// Where the fields of both tables' entries are.
///
/// An entry of the driver list is the offset of a name and a `KLDR_DATA_TABLE_ENTRY`, of which Windows keeps the first
/// part; how much of it, differs between 32-bit versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    bits: Bits,
    pub(crate) driver_size: usize,
    base: usize,
    image_size: usize,
    checksum: usize,
    stamp: usize,
    pub(crate) unloaded_size: usize,
    /// Of an unloaded driver: its name, its start, its end.
    name: usize,
    start: usize,
    end: usize,
}

impl Entries {
    pub(crate) const fn of(bits: Bits) -> Self {
        match bits {
            Bits::B64 => Self {
                bits,
                driver_size: 0x90,
                base: 0x38,
                image_size: 0x48,
                checksum: 0x80,
                stamp: 0x88,
                unloaded_size: 0x38,
                name: 0x10,
                start: 0x28,
                end: 0x30,
            },
            Bits::B32 => Self {
                bits,
                driver_size: 0x50,
                base: 0x1c,
                image_size: 0x24,
                checksum: 0x44,
                stamp: 0x4c,
                unloaded_size: 0x28,
                name: 8,
                start: 0x20,
                end: 0x24,
            },
        }
    }

    /// With the size of an entry that the tables' places tell, where 32-bit entries come right before the names.
    pub(crate) fn fitted(self, table: usize, count: usize, pool: usize) -> Self {
        let room = pool.checked_sub(table).filter(|_| self.bits == Bits::B32 && count > 0);
        let told = room.and_then(|room| room.checked_div(count));
        // The table may be padded to eight bytes.
        match told.filter(|size| (0x50..=0x64).contains(size)) {
            Some(size) => Self { driver_size: size & !3, ..self },
            None => self,
        }
    }

    fn pointer(&self, bytes: &[u8], offset: usize) -> Option<VirtAddr> {
        Some(VirtAddr(match self.bits {
            Bits::B64 => u64_at(bytes, offset)?,
            Bits::B32 => u32_at(bytes, offset)?.into(),
        }))
    }
}

/// Bytes that an unloaded driver's name has room for: twelve characters.
const UNLOADED_NAME: usize = 24;
/// Longest name believed: no UNICODE_STRING is longer.
const LONGEST_NAME: usize = 0x7fff;

/// A driver that was loaded when the system crashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Driver {
    /// Path as the loader knows it, or the bare file name since 24H2; empty if it could not be read.
    pub path: String,
    /// Where it is loaded.
    pub base: VirtAddr,
    /// SizeOfImage, in bytes.
    pub size: u32,
    /// CheckSum of its PE header.
    pub checksum: u32,
    /// TimeDateStamp of its PE header; on newer images a hash and no date.
    pub time_date_stamp: u32,
}

/// A driver that had been unloaded before the crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnloadedDriver {
    /// Its file name, at most twelve characters.
    pub name: String,
    /// Where it began.
    pub start: VirtAddr,
    /// The first address after it.
    pub end: VirtAddr,
    /// The name fills its room and does not end in an extension of three letters: more of it was probably cut off.
    pub name_truncated: bool,
}

/// Reads the entries in `table`, whose names lie in `pool`.
pub(crate) fn drivers(
    file: &[u8],
    entries: &Entries,
    table: Range<usize>,
    pool: Range<usize>,
    problems: &mut Vec<Problem>,
) -> Vec<Driver> {
    let mut unnamed = 0_usize;
    // Names may be shared; without a limit, a small file could ask for the same long name a million times.
    let mut budget = file.len();
    let drivers: Vec<Driver> = file
        .get(table.clone())
        .unwrap_or_default()
        .chunks_exact(entries.driver_size)
        .filter_map(|entry| {
            // Windows 8.1 leaves garbage in the upper half of the offset's slot.
            let name = u32_at(entry, 0).and_then(|offset| pool_string(file, offset as usize, &pool));
            let name = name.filter(|name| name.len() <= budget && !name.is_empty());
            budget -= name.map_or(0, <[u8]>::len);
            unnamed += usize::from(name.is_none());
            Some(Driver {
                path: name.map(utf16).unwrap_or_default(),
                base: entries.pointer(entry, entries.base)?,
                size: u32_at(entry, entries.image_size)?,
                checksum: u32_at(entry, entries.checksum)?,
                time_date_stamp: u32_at(entry, entries.stamp)?,
            })
        })
        .collect();
    if unnamed > 0 {
        let what = format!("{unnamed} of {} drivers have no readable name", drivers.len());
        problems.push(Problem::new(
            Severity::Warning,
            format!("driver list, offset {:#x}", table.start),
            what,
        ));
    }
    drivers
}

/// Reads the entries in `table`, which starts after the count.
pub(crate) fn unloaded(file: &[u8], entries: &Entries, table: Range<usize>) -> Vec<UnloadedDriver> {
    let table = file.get(table).unwrap_or_default().chunks_exact(entries.unloaded_size);
    table.filter_map(|entry| unloaded_entry(entry, entries)).collect()
}

fn unloaded_entry(entry: &[u8], entries: &Entries) -> Option<UnloadedDriver> {
    let length = usize::from(u16_at(entry, 0)?);
    let text = entry.get(entries.name..entries.name + length.min(UNLOADED_NAME))?;
    let name = utf16_until_nul(text);
    let ends_in_extension = text.get(16..18) == Some(&[b'.', 0][..]);
    Some(UnloadedDriver {
        start: entries.pointer(entry, entries.start)?,
        end: entries.pointer(entry, entries.end)?,
        name_truncated: length > UNLOADED_NAME || (length == UNLOADED_NAME && !ends_in_extension),
        name,
    })
}

/// The UTF-16 text of the `DUMP_STRING` at `offset`: a length in characters, then the text and a NUL.
pub(crate) fn pool_string<'a>(file: &'a [u8], offset: usize, pool: &Range<usize>) -> Option<&'a [u8]> {
    let length =
        u32_at(file, offset).map(|length| length as usize).filter(|length| *length <= LONGEST_NAME)?;
    let start = offset.checked_add(4)?;
    let text = start..start.checked_add(2 * length)?;
    (pool.contains(&offset) && text.end <= pool.end).then(|| file.get(text))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(length: u16, name: &str) -> Vec<u8> {
        let mut bytes = vec![0; Entries::of(Bits::B64).unloaded_size];
        bytes[..2].copy_from_slice(&length.to_le_bytes());
        for (to, unit) in bytes[0x10..0x28].chunks_mut(2).zip(name.encode_utf16()) {
            to.copy_from_slice(&unit.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn full_and_cut_names_are_told_apart() {
        let name = |length, text: &str| {
            let u = unloaded_entry(&entry(length, text), &Entries::of(Bits::B64)).unwrap();
            (u.name, u.name_truncated)
        };
        assert_eq!(name(14, "dam.sys"), ("dam.sys".to_owned(), false));
        assert_eq!(name(24, "mcupdate.dll"), ("mcupdate.dll".to_owned(), false));
        assert_eq!(name(24, "dump_storpor"), ("dump_storpor".to_owned(), true));
        assert_eq!(name(0xffff, "mcupdate.dll"), ("mcupdate.dll".to_owned(), true));
        assert_eq!(name(0, ""), (String::new(), false));
    }

    #[test]
    fn a_string_must_lie_in_its_pool() {
        let file = b"....\x02\0\0\0a\0b\0\0\0";
        assert_eq!(pool_string(file, 4, &(4..14)), Some(&b"a\0b\0"[..]));
        assert_eq!(pool_string(file, 4, &(5..14)), None);
        assert_eq!(pool_string(file, 4, &(4..11)), None);
        assert_eq!(pool_string(file, usize::MAX, &(0..usize::MAX)), None);
    }
}
