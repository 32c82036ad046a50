//! The driver list and the table of unloaded drivers of a triage dump.

use crate::bytes::{u16_at, u32_at, u64_at, utf16, utf16_until_nul};
use std::ops::Range;
use stopcode_base::{Problem, Severity, VirtAddr};

/// Bytes of an entry of the driver list: the name's offset in a slot of eight, then a `KLDR_DATA_TABLE_ENTRY`.
pub(crate) const DRIVER_SIZE: usize = 0x90;
/// Bytes of an entry of the unloaded table, and of the count before the first.
pub(crate) const UNLOADED_SIZE: usize = 0x38;
pub(crate) const UNLOADED_HEADER: usize = 8;
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
        .chunks_exact(DRIVER_SIZE)
        .filter_map(|entry| {
            // Windows 8.1 leaves garbage in the upper half of the offset's slot.
            let name = u32_at(entry, 0).and_then(|offset| pool_string(file, offset as usize, &pool));
            let name = name.filter(|name| name.len() <= budget && !name.is_empty());
            budget -= name.map_or(0, <[u8]>::len);
            unnamed += usize::from(name.is_none());
            Some(Driver {
                path: name.map(utf16).unwrap_or_default(),
                base: VirtAddr(u64_at(entry, 0x38)?),
                size: u32_at(entry, 0x48)?,
                checksum: u32_at(entry, 0x80)?,
                time_date_stamp: u32_at(entry, 0x88)?,
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
pub(crate) fn unloaded(file: &[u8], table: Range<usize>) -> Vec<UnloadedDriver> {
    let entries = file.get(table).unwrap_or_default().chunks_exact(UNLOADED_SIZE);
    entries.filter_map(unloaded_entry).collect()
}

fn unloaded_entry(entry: &[u8]) -> Option<UnloadedDriver> {
    let length = usize::from(u16_at(entry, 0)?);
    let text = entry.get(0x10..0x10 + length.min(UNLOADED_NAME))?;
    let name = utf16_until_nul(text);
    let ends_in_extension = text.get(16..18) == Some(&[b'.', 0][..]);
    Some(UnloadedDriver {
        start: VirtAddr(u64_at(entry, 0x28)?),
        end: VirtAddr(u64_at(entry, 0x30)?),
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
        let mut bytes = vec![0; UNLOADED_SIZE];
        bytes[..2].copy_from_slice(&length.to_le_bytes());
        for (to, unit) in bytes[0x10..0x28].chunks_mut(2).zip(name.encode_utf16()) {
            to.copy_from_slice(&unit.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn full_and_cut_names_are_told_apart() {
        let name = |length, text: &str| {
            let u = unloaded_entry(&entry(length, text)).unwrap();
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
