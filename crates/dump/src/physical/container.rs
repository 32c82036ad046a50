//! Finds the pages of a container. Nothing of the file is believed further than its size bears it out; what is
//! damaged is named in words and pages, and the rest is read.

use super::bitmap::{self, Bitmap};
use super::runs::Runs;
use super::{Index, PAGE_SIZE, Pages, PhysicalMemory};
use crate::bytes::{is_filler, is_filler64, u32_at, u64_at};
use crate::kind::{Bits, Kind};
use crate::source::{Source, read_vec};
use std::sync::Arc;
use stopcode_base::{Problem, Severity};

/// Largest bitmap that is read: 128 MiB, for 4 TiB of memory.
const MOST_BITMAP_BYTES: u64 = 128 << 20;
/// Most bytes of RDMP page ranges that are read: a million ranges.
const MOST_RANGE_BYTES: u64 = 16 << 20;
/// Bytes of the bitmap header before its bits.
const BITMAP_HEADER: u64 = 0x38;

/// One container on its way to its pages.
struct Reader<'a> {
    source: &'a Arc<dyn Source>,
    bits: Bits,
    /// The file's first bytes: the header and what follows it.
    head: &'a [u8],
    problems: &'a mut Vec<Problem>,
}

/// The pages of a dump of this kind whose file starts with `head`; `None` where it holds none that can be found.
pub(crate) fn parse(
    source: &Arc<dyn Source>,
    kind: Kind,
    bits: Bits,
    head: &[u8],
    problems: &mut Vec<Problem>,
) -> Option<Pages> {
    let mut reader = Reader { source, bits, head, problems };
    let index = match kind {
        Kind::Triage | Kind::HeaderOnly | Kind::Plain | Kind::ElfCore | Kind::UefiRaw => return None,
        Kind::Rdmp(number) => reader.rdmp(number)?,
        Kind::Full => reader.runs()?,
        Kind::Summary | Kind::BitmapFull | Kind::BitmapKernel | Kind::Automatic | Kind::Unknown(_) => {
            if reader.is_bitmap() {
                reader.bitmap()?
            } else if crate::kind::has_runs(head, bits) {
                let what = "not the bitmap that this kind has; the pages are taken as the header's runs tell";
                reader.warn("bitmap header", what.to_owned());
                reader.runs()?
            } else {
                let what = "neither a bitmap nor runs of pages: where its memory lies is not known";
                reader.warn("dump body", what.to_owned());
                return None;
            }
        }
    };
    let pages = Pages::new(source, index);
    reader.check_end(&pages);
    Some(pages)
}

impl Reader<'_> {
    fn warn(&mut self, place: &str, what: String) {
        self.problems.push(Problem::new(Severity::Warning, place, what));
    }

    /// Where the container's own header starts: behind the dump header.
    const fn body(&self) -> usize {
        self.bits.header_size()
    }

    fn word(&self, offset: usize) -> Option<u32> {
        u32_at(self.head, self.body() + offset)
    }

    fn long(&self, offset: usize) -> Option<u64> {
        u64_at(self.head, self.body() + offset)
    }

    /// `PHYSICAL_MEMORY_DESCRIPTOR` in the dump header: a count of runs, a count of pages, the runs.
    fn runs(&mut self) -> Option<Index> {
        let at = self.bits.physical_memory_offset();
        let place = "dump header, PhysicalMemoryBlock";
        let (table, size, most) = match self.bits {
            Bits::B32 => (at + 8, 8, 86),
            Bits::B64 => (at + 0x10, 16, 42),
        };
        let count = u32_at(self.head, at)?;
        if is_filler(count) || count == 0 {
            self.warn(place, "no runs of pages: where the dump's memory lies is not known".to_owned());
            return None;
        }
        if count > most {
            self.warn(place, format!("{count} runs, of which {most} at most fit into the header"));
        }
        let head = self.head;
        let bits = self.bits;
        let run = |n: u32| {
            let entry = table + n as usize * size;
            match bits {
                Bits::B32 => Some((u32_at(head, entry)?.into(), u32_at(head, entry + 4)?.into())),
                Bits::B64 => Some((u64_at(head, entry)?, u64_at(head, entry + 8)?)),
            }
        };
        // A count that is too large runs into the filler behind the last run.
        let filled = |&(start, pages): &(u64, u64)| match bits {
            Bits::B32 => is_filler(start as u32) && is_filler(pages as u32),
            Bits::B64 => is_filler64(start) && is_filler64(pages),
        };
        let stored: Vec<_> = (0..count.min(most)).map_while(run).take_while(|run| !filled(run)).collect();
        if (stored.len() as u32) < count.min(most) {
            self.warn(place, format!("{count} runs are stated, only {} are there", stored.len()));
        }
        let stated = match self.bits {
            Bits::B32 => u32_at(self.head, at + 4).map(u64::from),
            Bits::B64 => u64_at(self.head, at + 8),
        };
        let total = stored.iter().fold(0_u64, |sum, run| sum.saturating_add(run.1));
        if stated != Some(total) {
            let stated = stated.unwrap_or(0);
            self.warn(place, format!("NumberOfPages is {stated:#x}, the runs have {total:#x} pages"));
        }
        Some(self.checked_runs(place, &stored, self.bits.header_size() as u64))
    }

    fn checked_runs(&mut self, place: &str, stored: &[(u64, u64)], first_page: u64) -> Index {
        let (runs, faults) = Runs::new(stored.iter().copied(), first_page);
        if faults.overlapping > 0 {
            let what = format!(
                "{} runs overlap others: which page is the right one is in doubt",
                faults.overlapping
            );
            self.warn(place, what);
        }
        if faults.outside > 0 {
            let what = format!("{} runs reach past the end of the physical address space", faults.outside);
            self.warn(place, what);
        }
        Index::Runs(runs)
    }

    fn is_bitmap(&self) -> bool {
        let at = self.body();
        let signature = self.head.get(at..at + 8).unwrap_or_default();
        matches!(signature, b"SDMPDUMP" | b"FDMPDUMP")
    }

    /// `SUMMARY_DUMP`, in the form of Windows 8 and later, or in the older one with 32-bit fields: that has a page
    /// offset where the later form is reserved.
    fn bitmap(&mut self) -> Option<Index> {
        let old = self.word(0xc).filter(|offset| *offset != 0 && u64::from(*offset) % PAGE_SIZE == 0);
        match old.filter(|offset| !is_filler(*offset) && self.long(0x20) != Some(u64::from(*offset))) {
            Some(first_page) => self.summary(first_page.into()),
            None => self.bitmap_of_windows_8(),
        }
    }

    fn bitmap_of_windows_8(&mut self) -> Option<Index> {
        let place = "bitmap header";
        let (Some(first_page), Some(stated), Some(bits)) =
            (self.long(0x20), self.long(0x28), self.long(0x30))
        else {
            self.warn(place, "the file ends inside it: where the dump's memory lies is not known".to_owned());
            return None;
        };
        let start = self.body() as u64 + BITMAP_HEADER;
        let bytes = self.bits_at(start, bits, first_page);
        let index = Bitmap::new(&bytes, bits, first_page);
        if index.page_count() != stated {
            let what = format!(
                "TotalPresentPages is {stated:#x}, the bitmap has {:#x} bits set",
                index.page_count()
            );
            self.warn(place, what);
        }
        Some(Index::Bitmap(index))
    }

    /// The bytes of a bitmap of `bits` bits at `start`, which must end before the pages and the file do.
    fn bits_at(&mut self, start: u64, bits: u64, first_page: u64) -> Vec<u8> {
        let place = "bitmap";
        let wanted = bits.div_ceil(8);
        let mut size = wanted;
        let room = first_page.saturating_sub(start);
        if size > room {
            let what =
                format!("{size:#x} bytes are stated, there is room for {room:#x} before the first page");
            self.warn(place, what);
            size = room;
        }
        if size > MOST_BITMAP_BYTES {
            let what = format!("{size:#x} bytes: only {MOST_BITMAP_BYTES:#x} are read, for 4 TiB of memory");
            self.warn(place, what);
            size = MOST_BITMAP_BYTES;
        }
        let bytes = read_vec(self.source.as_ref(), start, size);
        if (bytes.len() as u64) < size {
            let missing = size - bytes.len() as u64;
            self.warn(place, format!("the file ends {missing:#x} bytes before its {wanted:#x} do"));
        }
        bytes
    }

    /// The kernel dump of Windows XP to 7. Whether the buffer of its 64-bit bitmap is aligned, no document tells:
    /// the count of bits decides.
    fn summary(&mut self, first_page: u64) -> Option<Index> {
        let place = "summary header";
        let (Some(bits), Some(stated)) = (self.word(0x10).map(u64::from), self.word(0x14).map(u64::from))
        else {
            self.warn(place, "the file ends inside it: where the dump's memory lies is not known".to_owned());
            return None;
        };
        let starts: &[u64] = match self.bits {
            Bits::B32 => &[0x20],
            Bits::B64 => &[0x28, 0x24],
        };
        let body = self.body() as u64;
        let longest = bits.div_ceil(8).min(first_page.saturating_sub(body)).min(MOST_BITMAP_BYTES);
        let fits = |start: &&u64| {
            let bytes = read_vec(self.source.as_ref(), body + **start, longest);
            bitmap::count(&bytes, bits) == stated
        };
        let (start, agreed) = match starts.iter().find(fits) {
            Some(start) => (*start, true),
            None => (starts.first().copied().unwrap_or(0x28), false),
        };
        let bytes = self.bits_at(body + start, bits, first_page);
        let index = Bitmap::new(&bytes, bits, first_page);
        if !agreed {
            let what =
                format!("{stated:#x} pages are stated, the bitmap has {:#x} bits set", index.page_count());
            self.warn(place, what);
        }
        Some(Index::Bitmap(index))
    }

    /// RDMP, as newer debuggers write it: ranges of first page and count up to the first page's place in the file.
    /// A complete one (10) ends with its count of pages, the others with a range that starts at page 0.
    fn rdmp(&mut self, number: u32) -> Option<Index> {
        let place = "RDMP header";
        let at = self.body();
        let signature = self.head.get(at + 4..at + 12).unwrap_or_default();
        let (Some(size), Some(first_page)) = (self.long(0x10), self.long(0x18)) else {
            self.warn(place, "the file ends inside it: where the dump's memory lies is not known".to_owned());
            return None;
        };
        if signature != b"RDMPDUMP" {
            self.warn(
                place,
                "its signature is not there: where the dump's memory lies is not known".to_owned(),
            );
            return None;
        }
        let start = at as u64 + 0x30;
        if size.wrapping_add(at as u64).wrapping_add(0x20) != first_page {
            let what =
                format!("MetadataSize {size:#x} and FirstPageOffset {first_page:#x} do not fit each other");
            self.warn(place, what);
        }
        let room = first_page.saturating_sub(start);
        if room > MOST_RANGE_BYTES {
            let what = format!("{room:#x} bytes of page ranges: only {MOST_RANGE_BYTES:#x} are read");
            self.warn(place, what);
        }
        let table = read_vec(self.source.as_ref(), start, room.min(MOST_RANGE_BYTES));
        let total = if number == 10 { self.long(0x28) } else { None };
        let mut pages = 0_u64;
        let ranges: Vec<(u64, u64)> = table
            .chunks_exact(16)
            .filter_map(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?)))
            .take_while(|(pfn, count)| {
                let more = total.map_or(*pfn != 0, |total| pages < total);
                pages = pages.saturating_add(if more { *count } else { 0 });
                more
            })
            .collect();
        if let Some(total) = total.filter(|total| *total != pages) {
            self.warn(place, format!("TotalNumberOfPages is {total:#x}, the ranges have {pages:#x} pages"));
        }
        Some(self.checked_runs(place, &ranges, first_page))
    }

    /// Names the pages that lie past the end of the file, in bytes and in pages.
    fn check_end(&mut self, pages: &Pages) {
        let (end, size) = (pages.end(), self.source.size());
        if end > size {
            let missing = end - size;
            let what = format!(
                "the file ends {missing:#x} bytes early: {} of {} pages are not, or not wholly, in it",
                missing.div_ceil(PAGE_SIZE).min(pages.page_count()),
                pages.page_count()
            );
            let problem = Problem::new(Severity::Warning, "dump body", what);
            self.problems.push(problem.with_hint("If this is a copy, copy the original again."));
        }
    }
}
