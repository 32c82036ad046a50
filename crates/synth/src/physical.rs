//! The described machine in physical memory: pages, and the page tables that lead to them.
//!
//! Entries that the description gives are written as they are, so that the tables and pages they name come to lie at
//! those frames; whatever else is to be reachable gets tables and frames of its own, counted up from a fixed one.
//! The tables map themselves at the described place, as Windows' do.

use crate::layout::Layout;
use crate::machine::{Arch, Installed, Machine};
use crate::memory::Image;
use crate::{Error, modules, objects, tables, vary};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a page.
pub(crate) const PAGE_SIZE: usize = 0x1000;
/// The first frame that is given out: 16 MiB, above what firmware and loader keep.
const FIRST_FREE: u64 = 0x1000;
/// Frames of an x64 entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const VALID: u64 = 1;
/// The bits of an entry that is made here.
struct Bits {
    /// Valid, writable, accessed, dirty; of ARM64 a table or page, accessed, inner shareable.
    kernel: u64,
    /// The same for user mode.
    user: u64,
    /// What the entry has that maps the tables themselves: it is never executed.
    tables: u64,
    /// A large page above the lowest level: which bits say so, and what they are then.
    large: (u64, u64),
}

impl Bits {
    const fn of(arch: Arch) -> Self {
        match arch {
            Arch::X64 => Self { kernel: 0x63, user: 0x67, tables: 1 << 63 | 0x63, large: (1 << 7, 1 << 7) },
            Arch::Arm64 => Self { kernel: 0x703, user: 0x743, tables: 0x0060_0000_0000_0703, large: (3, 1) },
        }
    }
}

/// Software entries of x64: the bits that tell a page in transition, and those of a prototype.
const TRANSITION_MASK: u64 = 0xc01;
const TRANSITION: u64 = 0x800;
const PROTOTYPE: u64 = 1 << 10;
/// Runs that are counted: those of half of 64 GiB.
const MOST_RUNS: usize = 1 << 23;
/// `call rax`.
const INDIRECT_CALL: [u8; 2] = [0xff, 0xd0];

/// Pages by their frame number.
pub(crate) struct Physical {
    pages: BTreeMap<u64, Vec<u8>>,
    next: u64,
    /// Frames that described entries name, which are not given out.
    taken: BTreeSet<u64>,
    top: u64,
    installed: Installed,
    bits: Bits,
}

/// All that the machine's memory holds, in pages.
pub(crate) fn build(
    machine: &Machine,
    layout: &Layout,
    image: &Image,
    kdbg: &[u8],
) -> Result<Physical, Error> {
    let process = machine.process(machine.thread(machine.crashed()?.thread)?.process)?;
    let mut physical = Physical {
        pages: BTreeMap::new(),
        next: FIRST_FREE,
        taken: taken(machine),
        top: process.directory_table_base.0 & FRAME,
        installed: machine.installed,
        bits: Bits::of(machine.arch),
    };
    physical.map_tables(machine, physical.top);
    physical.describe(machine)?;
    for image in modules::images(machine) {
        let (at, bytes) = image?;
        physical.write(at, &bytes)?;
    }
    for (at, bytes) in modules::list(machine)?.into_iter().chain(modules::unloaded(machine)?) {
        physical.write(at, &bytes)?;
    }
    for cpu in &machine.processors {
        for (at, bytes) in tables::of(machine, layout, cpu)? {
            physical.write(at, &bytes)?;
        }
    }
    if let Some(keys) = machine.kernel.encoding {
        let encoded = kdbg.get(0x10..0x14) != Some(b"KDBG".as_slice());
        let base = machine.kernel_base()?;
        physical.write(base.wrapping_add(keys.flag_at.0), &[u8::from(encoded)])?;
        physical.write(base.wrapping_add(keys.never_at.0), &keys.never.0.to_le_bytes())?;
        physical.write(base.wrapping_add(keys.always_at.0), &keys.always.0.to_le_bytes())?;
    }
    physical.write(objects::SHARED_DATA, &objects::shared_data(machine))?;
    let (head, links) = objects::process_head(machine, layout)?;
    physical.write(head, &links)?;
    for at in returns(machine) {
        physical.write(at.wrapping_sub(INDIRECT_CALL.len() as u64), &INDIRECT_CALL)?;
    }
    for stack in &image.stacks {
        physical.write(stack.at, &stack.bytes)?;
    }
    // The tables hold the described entries already.
    let is_table = |at: u64| at.wrapping_sub(machine.pte_base.0) < 1 << 39;
    for block in image.blocks.iter().filter(|block| !is_table(block.at)) {
        physical.write(block.at, &block.bytes)?;
    }
    physical.write(image.call_stack.at, &image.call_stack.bytes)?;
    let at = machine.kernel_base()?.wrapping_add(machine.kernel.debugger_data.0);
    physical.write(at, kdbg)?;
    physical.share_kernel(machine);
    Ok(physical)
}

/// Where described frames return to in the kernel. A page holds what surrounds the code that is described, and before
/// a return address that is always a call: which one, the description need not say.
fn returns(machine: &Machine) -> impl Iterator<Item = u64> {
    let described = machine.stacks.iter().filter(|_| machine.arch == Arch::X64);
    let frames = described.flat_map(|stack| &stack.frames).filter(|frame| !frame.trap);
    let in_file =
        |at: u64| machine.modules.iter().any(|module| !module.contents.is_empty() && module.holds(at));
    frames.map(|frame| frame.ret.0).filter(move |ret| ret >> 47 == 0x1_ffff && !in_file(*ret))
}

/// Frames that the description speaks of.
fn taken(machine: &Machine) -> BTreeSet<u64> {
    let entries = machine.pages.iter().flat_map(|page| &page.entries).map(|entry| (entry.0 & FRAME) >> 12);
    let tops = machine.processes.iter().map(|process| process.directory_table_base.0 >> 12);
    entries.chain(tops).collect()
}

impl Physical {
    /// How many pages the dump holds.
    pub(crate) fn count(&self) -> u64 {
        self.words().map(|word| u64::from(word.count_ones())).sum()
    }

    /// One more than the highest frame that the dump holds.
    pub(crate) fn end(&self) -> u64 {
        let written = self.pages.keys().next_back().map_or(0, |pfn| pfn + 1);
        written.max(self.installed.bytes.0 / PAGE_SIZE as u64)
    }

    /// Which frames the dump holds: 64 in a word, the lowest in the lowest bit.
    pub(crate) fn words(&self) -> impl Iterator<Item = u64> {
        let frames = self.installed.bytes.0 / PAGE_SIZE as u64;
        let mut written = self.pages.keys().copied().peekable();
        (0..self.end().div_ceil(64)).map(move |n| {
            let low = match (frames.saturating_sub(n * 64), self.installed.half) {
                (0, _) => 0,
                (count, half) => {
                    let all = if count >= 64 { u64::MAX } else { (1 << count) - 1 };
                    if half { all & vary::mix(n) } else { all }
                }
            };
            let mut word = low;
            while let Some(pfn) = written.next_if(|pfn| pfn / 64 == n) {
                word |= 1 << (pfn % 64);
            }
            word
        })
    }

    /// Gives every page that was written to, in ascending order: how many pages of the dump lie before it, its frame,
    /// and its bytes.
    pub(crate) fn for_each_written(
        &self,
        mut each: impl FnMut(u64, u64, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut written = self.pages.iter().peekable();
        let mut before = 0;
        for (n, word) in (0..).zip(self.words()) {
            while let Some((pfn, page)) = written.next_if(|(pfn, _)| **pfn / 64 == n) {
                let lower = word & ((1 << (pfn % 64)) - 1);
                each(before + u64::from(lower.count_ones()), *pfn, page)?;
            }
            before += u64::from(word.count_ones());
        }
        Ok(())
    }

    /// First frame and count of every run of pages.
    pub(crate) fn runs(&self) -> Result<Vec<(u64, u64)>, Error> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (n, word) in (0..).zip(self.words()) {
            for (start, length) in ones(word) {
                let first = n * 64 + start;
                match runs.last_mut() {
                    Some((before, count)) if *before + *count == first => *count += length,
                    _ => runs.push((first, length)),
                }
            }
            if runs.len() > MOST_RUNS {
                return Err(Error::TooLarge("the number of runs".to_owned()));
            }
        }
        Ok(runs)
    }

    /// The top table at `top`, which maps itself.
    fn map_tables(&mut self, machine: &Machine, top: u64) {
        let index = machine.pte_base.0 >> 39 & 0x1ff;
        self.page(top >> 12);
        self.put(top + index * 8, &(top | self.bits.tables).to_le_bytes());
    }

    /// Writes the described entries into their tables.
    fn describe(&mut self, machine: &Machine) -> Result<(), Error> {
        for page in &machine.pages {
            let mut table = self.top;
            for (level, entry) in (1..=4).rev().zip(&page.entries) {
                let at = table + index(level, page.of.0) * 8;
                let earlier = self.word(at);
                if earlier != 0 && earlier != entry.0 {
                    return Err(Error::Contradiction(format!("two page-table entries for {:?}", page.of)));
                }
                self.put(at, &entry.0.to_le_bytes());
                table = entry.0 & FRAME;
                if level > 1 && entry.0 & VALID != 0 && entry.0 & self.bits.large.0 != self.bits.large.1 {
                    self.page(table >> 12);
                }
            }
        }
        Ok(())
    }

    /// Writes `bytes` at a virtual address, and makes the tables and pages for it.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = PAGE_SIZE - at as usize % PAGE_SIZE;
            let (here, later) = rest.split_at(room.min(rest.len()));
            let place = self.translate(at)?;
            self.put(place, here);
            at = at.wrapping_add(here.len() as u64);
            rest = later;
        }
        Ok(())
    }

    /// The physical address of a virtual one, which is mapped if it is not yet.
    fn translate(&mut self, at: u64) -> Result<u64, Error> {
        let mut table = self.top;
        for level in (1..=4).rev() {
            let slot = table + index(level, at) * 8;
            let mut entry = self.word(slot);
            if entry == 0 {
                let bits = if at >> 63 == 0 { self.bits.user } else { self.bits.kernel };
                entry = self.free_frame() << 12 | bits;
                self.put(slot, &entry.to_le_bytes());
            }
            if entry & VALID == 0 {
                entry = self.resident(entry).filter(|_| level == 1).ok_or_else(|| {
                    Error::Contradiction(format!("memory at {at:#x}, whose page is described as absent"))
                })?;
            }
            table = entry & FRAME;
            if level > 1 && entry & self.bits.large.0 == self.bits.large.1 {
                let size = 1 << (12 + 9 * (level - 1));
                return Ok((table & !(size - 1)) + (at & (size - 1)));
            }
        }
        Ok(table + at % PAGE_SIZE as u64)
    }

    /// What an entry that is not valid leads to, if the page is in memory all the same: in transition, or by way of a
    /// prototype entry that lies in memory already.
    fn resident(&self, entry: u64) -> Option<u64> {
        if entry & TRANSITION_MASK == TRANSITION {
            return Some(entry);
        }
        let prototype = ((entry as i64) >> 16) as u64;
        let place = Some(prototype).filter(|_| entry & PROTOTYPE != 0).and_then(|at| self.find(at))?;
        let real = self.word(place);
        (real & VALID != 0 || real & TRANSITION_MASK == TRANSITION).then_some(real)
    }

    /// The physical address of a virtual one that is mapped, without making anything.
    fn find(&self, at: u64) -> Option<u64> {
        let mut table = self.top;
        for level in (1..=4).rev() {
            let entry = self.word(table + index(level, at) * 8);
            table = Some(entry & FRAME).filter(|_| entry & VALID != 0)?;
        }
        Some(table + at % PAGE_SIZE as u64)
    }

    /// Gives every other process a top table with the same kernel half.
    fn share_kernel(&mut self, machine: &Machine) {
        let half: Vec<u8> = self
            .pages
            .get(&(self.top >> 12))
            .and_then(|page| page.get(PAGE_SIZE / 2..))
            .unwrap_or_default()
            .to_vec();
        for process in &machine.processes {
            let top = process.directory_table_base.0 & FRAME;
            if top != self.top {
                self.put(top + PAGE_SIZE as u64 / 2, &half);
                self.map_tables(machine, top);
            }
        }
    }

    /// A frame that no one has.
    fn free_frame(&mut self) -> u64 {
        while self.taken.contains(&self.next) || self.pages.contains_key(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.page(self.next - 1);
        self.next - 1
    }

    fn page(&mut self, pfn: u64) -> &mut Vec<u8> {
        self.pages.entry(pfn).or_insert_with(|| vec![0; PAGE_SIZE])
    }

    /// The entry at a physical address.
    fn word(&self, at: u64) -> u64 {
        let offset = at as usize % PAGE_SIZE;
        let bytes = self.pages.get(&(at >> 12)).and_then(|page| page.get(offset..offset + 8));
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    /// Writes inside one page.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let page = self.page(at >> 12).iter_mut().skip(at as usize % PAGE_SIZE);
        page.zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    }
}

/// The runs of ones in a word: where each starts, and how long it is.
fn ones(word: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut from = 0_u32;
    std::iter::from_fn(move || {
        let rest = word.checked_shr(from)?;
        let start = from + rest.trailing_zeros();
        let length = word.checked_shr(start)?.trailing_ones();
        from = start + length;
        Some((u64::from(start), u64::from(length)))
    })
}

/// The number of the entry of `level` for `address`.
const fn index(level: u32, address: u64) -> u64 {
    address >> (12 + 9 * (level - 1)) & 0x1ff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_ones() {
        let all = |word| ones(word).collect::<Vec<_>>();
        assert_eq!(all(0), []);
        assert_eq!(all(u64::MAX), [(0, 64)]);
        assert_eq!(all(0b1011), [(0, 2), (3, 1)]);
        assert_eq!(all(1 << 63), [(63, 1)]);
    }

    fn memory(installed: Installed, pfns: &[u64]) -> Physical {
        let pages = pfns.iter().map(|pfn| (*pfn, vec![1; PAGE_SIZE])).collect();
        Physical { pages, next: 0, taken: BTreeSet::new(), top: 0, installed, bits: Bits::of(Arch::X64) }
    }

    /// The rank a page is written at is the number of pages before it, whatever is installed.
    #[test]
    fn ranks_count_the_pages_before() {
        for half in [false, true] {
            let installed = Installed { bytes: crate::Hex(300 * 0x1000), half };
            let memory = memory(installed, &[0, 1, 63, 64, 200, 299, 500]);
            let mut present = Vec::new();
            for (n, word) in (0..).zip(memory.words()) {
                present.extend((0..64).filter(|bit| word >> bit & 1 == 1).map(|bit| n * 64 + bit));
            }
            assert_eq!(memory.count(), present.len() as u64);
            assert_eq!(memory.end(), 501);
            assert_eq!(half, present.len() < 200);
            memory
                .for_each_written(|rank, pfn, _| {
                    assert_eq!(present[rank as usize], pfn);
                    Ok(())
                })
                .unwrap();
            let runs = memory.runs().unwrap();
            let frames: Vec<u64> = runs.iter().flat_map(|(first, count)| *first..first + count).collect();
            assert_eq!(frames, present);
        }
    }
}
