//! The described machine in physical memory: pages, and the page tables that lead to them.
//!
//! Entries that the description gives are written as they are, so that the tables and pages they name come to lie at
//! those frames; whatever else is to be reachable gets tables and frames of its own, counted up from a fixed one.
//! The tables map themselves at the described place, as Windows' do.

pub(crate) mod shape;

use crate::layout::Layout;
use crate::machine::{Arch, Installed, Machine};
use crate::memory::Image;
use crate::{Error, modules, objects, tables, vary};
use shape::Shape;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a page.
pub(crate) const PAGE_SIZE: usize = 0x1000;
/// The first frame that is given out: 16 MiB, above what firmware and loader keep.
const FIRST_FREE: u64 = 0x1000;
const VALID: u64 = 1;
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
    shape: Shape,
}

/// All that the machine's memory holds, in pages.
pub(crate) fn build(
    machine: &Machine,
    layout: &Layout,
    image: &Image,
    kdbg: &[u8],
) -> Result<Physical, Error> {
    let process = machine.process(machine.thread(machine.crashed()?.thread)?.process)?;
    let shape = Shape::of(machine);
    let mut physical = Physical {
        pages: BTreeMap::new(),
        next: FIRST_FREE,
        taken: taken(machine),
        top: process.directory_table_base.0 & shape.base,
        installed: machine.installed,
        shape,
    };
    physical.describe(machine)?;
    physical.map_tables(machine, physical.top);
    let lists = modules::list(machine)?.into_iter().chain(modules::unloaded(machine)?);
    for (at, bytes) in modules::images(machine)?.into_iter().chain(lists) {
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
    physical.write(objects::shared_data_at(machine.arch), &objects::shared_data(machine))?;
    let (head, links) = objects::process_head(machine, layout)?;
    physical.write(head, &links)?;
    for at in returns(machine) {
        physical.write(at.wrapping_sub(INDIRECT_CALL.len() as u64), &INDIRECT_CALL)?;
    }
    for stack in &image.stacks {
        physical.write(stack.at, &stack.bytes)?;
    }
    // The tables hold the described entries already; other bytes would change what the tables say.
    let is_table = |at: u64| at.wrapping_sub(machine.pte_base.0) < shape.self_map_size();
    let mut described = machine.memory.iter().chain(&machine.code);
    if let Some(inside) = described.find(|block| is_table(block.at.0)) {
        return Err(Error::Contradiction(format!(
            "memory at {:?}, where the page tables show themselves: their entries are described as pages",
            inside.at
        )));
    }
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
    let described = machine.stacks.iter().filter(|_| machine.arch != Arch::Arm64);
    let frames = described.flat_map(|stack| &stack.frames).filter(|frame| !frame.trap);
    let in_file =
        |at: u64| machine.modules.iter().any(|module| !module.contents.is_empty() && module.holds(at));
    frames.map(|frame| frame.ret.0).filter(move |ret| machine.arch.is_kernel(*ret) && !in_file(*ret))
}

/// Frames that the description speaks of.
fn taken(machine: &Machine) -> BTreeSet<u64> {
    let frame = Shape::of(machine).frame;
    let entries = machine.pages.iter().flat_map(|page| &page.entries).map(|entry| (entry.0 & frame) >> 12);
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

    /// The top table at `top`, which maps itself, unless the description has it otherwise.
    fn map_tables(&mut self, machine: &Machine, top: u64) {
        self.page(top >> 12);
        if self.shape.has_pointer_table() {
            return self.map_directories(machine, top);
        }
        let at = top + self.shape.index(self.shape.levels(), machine.pte_base.0) * self.shape.size;
        if self.word(at) == 0 {
            self.put_entry(at, top | self.shape.tables);
        }
    }

    /// The four page directories under `top`. The last of them maps all four.
    fn map_directories(&mut self, machine: &Machine, top: u64) {
        let directories = [0, 1, 2, 3].map(|n| {
            let at = top + n * self.shape.size;
            if self.word(at) == 0 {
                let frame = self.free_frame();
                self.put_entry(at, frame << 12 | VALID);
            }
            self.word(at) & self.shape.frame
        });
        let first = directories[3] + self.shape.index(2, machine.pte_base.0) * self.shape.size;
        for (n, directory) in (0..).zip(directories) {
            let at = first + n * self.shape.size;
            if self.word(at) == 0 {
                self.put_entry(at, directory | self.shape.tables);
            }
        }
    }

    /// Writes the described entries into their tables.
    fn describe(&mut self, machine: &Machine) -> Result<(), Error> {
        self.page(self.top >> 12);
        for page in &machine.pages {
            let mut table = self.top;
            for (level, entry) in (1..=self.shape.levels()).rev().zip(&page.entries) {
                let at = table + self.shape.index(level, page.of.0) * self.shape.size;
                let earlier = self.word(at);
                if earlier != 0 && earlier != entry.0 {
                    return Err(Error::Contradiction(format!("two page-table entries for {:?}", page.of)));
                }
                self.put_entry(at, entry.0);
                table = entry.0 & self.shape.frame;
                if level > 1 && entry.0 & VALID != 0 && !self.shape.is_large(entry.0) {
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
        for level in (1..=self.shape.levels()).rev() {
            let slot = table + self.shape.index(level, at) * self.shape.size;
            let mut entry = self.word(slot);
            if entry == 0 {
                entry = self.free_frame() << 12 | self.shape.bits(level, at);
                self.put_entry(slot, entry);
            }
            if entry & VALID == 0 {
                entry = self.resident(entry).filter(|_| level == 1).ok_or_else(|| {
                    Error::Contradiction(format!("memory at {at:#x}, whose page is described as absent"))
                })?;
            }
            table = entry & self.shape.frame;
            if level > 1 && self.shape.is_large(entry) {
                let size = self.shape.reach(level);
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
        let prototype = self.shape.prototype(entry);
        let place = prototype.filter(|_| entry & PROTOTYPE != 0).and_then(|at| self.find(at))?;
        let real = self.word(place);
        (real & VALID != 0 || real & TRANSITION_MASK == TRANSITION).then_some(real)
    }

    /// The physical address of a virtual one that is mapped, without making anything.
    fn find(&self, at: u64) -> Option<u64> {
        let mut table = self.top;
        for level in (1..=self.shape.levels()).rev() {
            let entry = self.word(table + self.shape.index(level, at) * self.shape.size);
            table = Some(entry & self.shape.frame).filter(|_| entry & VALID != 0)?;
        }
        Some(table + at % PAGE_SIZE as u64)
    }

    /// Gives every other process a top table with the same kernel half.
    fn share_kernel(&mut self, machine: &Machine) {
        for process in &machine.processes {
            let top = process.directory_table_base.0 & self.shape.base;
            if top == self.top {
                continue;
            }
            self.map_tables(machine, top);
            if self.shape.has_pointer_table() {
                for n in [2, 3].map(|n| n * self.shape.size) {
                    let [from, to] = [self.top, top].map(|top| self.word(top + n) & self.shape.frame);
                    self.copy_empty(from, to, 0);
                }
            } else {
                self.copy_empty(self.top, top, PAGE_SIZE / 2);
            }
        }
    }

    /// Copies the entries of a table from `offset` on to another one, where that has none yet.
    fn copy_empty(&mut self, from: u64, to: u64, offset: usize) {
        for offset in (offset as u64..PAGE_SIZE as u64).step_by(self.shape.size as usize) {
            let entry = self.word(from + offset);
            if entry != 0 && self.word(to + offset) == 0 {
                self.put_entry(to + offset, entry);
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
        let bytes =
            self.pages.get(&(at >> 12)).and_then(|page| page.get(offset..offset + self.shape.size as usize));
        bytes.unwrap_or_default().iter().rev().fold(0, |entry, byte| entry << 8 | u64::from(*byte))
    }

    fn put_entry(&mut self, at: u64, entry: u64) {
        let bytes = self.shape.entry(entry);
        self.put(at, &bytes);
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
        let shape = Shape::of_arch(Arch::X64, false);
        Physical { pages, next: 0, taken: BTreeSet::new(), top: 0, installed, shape }
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
