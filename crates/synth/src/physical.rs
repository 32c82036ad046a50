//! The described machine in physical memory: pages, and the page tables that lead to them.
//!
//! Entries that the description gives are written as they are, so that the tables and pages they name come to lie at
//! those frames; whatever else is to be reachable gets tables and frames of its own, counted up from a fixed one.
//! The tables map themselves at the described place, as Windows' do.

use crate::layout::Layout;
use crate::machine::Machine;
use crate::memory::Image;
use crate::{Error, modules, objects, tables};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a page.
pub(crate) const PAGE_SIZE: usize = 0x1000;
/// The first frame that is given out: 16 MiB, above what firmware and loader keep.
const FIRST_FREE: u64 = 0x1000;
/// Frames of an x64 entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const VALID: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Valid, writable, accessed, dirty.
const KERNEL_ENTRY: u64 = 0x63;
/// The same for user mode.
const USER_ENTRY: u64 = 0x67;
/// `call rax`.
const INDIRECT_CALL: [u8; 2] = [0xff, 0xd0];

/// Pages by their frame number.
pub(crate) struct Physical {
    pages: BTreeMap<u64, Vec<u8>>,
    next: u64,
    /// Frames that described entries name, which are not given out.
    taken: BTreeSet<u64>,
    top: u64,
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
    physical.write(objects::SHARED_DATA, &objects::shared_data(machine))?;
    let (head, links) = objects::process_head(machine, layout)?;
    physical.write(head, &links)?;
    for at in returns(machine) {
        physical.write(at.wrapping_sub(INDIRECT_CALL.len() as u64), &INDIRECT_CALL)?;
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
    let frames = machine.stacks.iter().flat_map(|stack| &stack.frames).filter(|frame| !frame.trap);
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
    /// How many pages there are.
    pub(crate) fn count(&self) -> usize {
        self.pages.len()
    }

    /// Frame numbers in ascending order.
    pub(crate) fn frames(&self) -> impl Iterator<Item = u64> {
        self.pages.keys().copied()
    }

    /// Contents of the pages in the same order.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &[u8]> {
        self.pages.values().map(Vec::as_slice)
    }

    /// First frame and count of every run of pages.
    pub(crate) fn runs(&self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for pfn in self.frames() {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == pfn => *count += 1,
                _ => runs.push((pfn, 1)),
            }
        }
        runs
    }

    /// The top table at `top`, which maps itself.
    fn map_tables(&mut self, machine: &Machine, top: u64) {
        let index = machine.pte_base.0 >> 39 & 0x1ff;
        self.page(top >> 12);
        self.put(top + index * 8, &(1 << 63 | top | KERNEL_ENTRY).to_le_bytes());
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
                if level > 1 && entry.0 & VALID != 0 && entry.0 & LARGE == 0 {
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
                let bits = if at >> 63 == 0 { USER_ENTRY } else { KERNEL_ENTRY };
                entry = self.free_frame() << 12 | bits;
                self.put(slot, &entry.to_le_bytes());
            }
            if entry & VALID == 0 {
                return Err(Error::Contradiction(format!(
                    "memory at {at:#x}, whose page is described as absent"
                )));
            }
            table = entry & FRAME;
            if level > 1 && entry & LARGE != 0 {
                let size = 1 << (12 + 9 * (level - 1));
                return Ok((table & !(size - 1)) + (at & (size - 1)));
            }
        }
        Ok(table + at % PAGE_SIZE as u64)
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

/// The number of the entry of `level` for `address`.
const fn index(level: u32, address: u64) -> u64 {
    address >> (12 + 9 * (level - 1)) & 0x1ff
}
