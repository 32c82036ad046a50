//! The form that firmware writes where Windows cannot: a header, a table of sections, and the sections.
//!
//! After the public `OfflineDumpHeaders.h`; its structures are packed.

use super::Out;
use crate::machine::Machine;
use crate::physical::{PAGE_SIZE, Physical};
use crate::record::Record;
use crate::{Error, context};
use std::io::{Seek, Write};

const HEADER: usize = 0x38;
const SECTION: usize = 0x40;
const VALID: u32 = 1;
const DDR_RANGE: u32 = 1;
const CPU_CONTEXT: u32 = 2;
/// Sections that are written; real files have a few dozen.
const MOST_SECTIONS: usize = 0x1_0000;
/// `ARCH_X64` of the header file.
const ARCH_X64: u16 = 2;

pub(super) fn write(
    machine: &Machine,
    pages: &Physical,
    out: &mut Out<'_, impl Write + Seek>,
) -> Result<(), Error> {
    let runs = pages.runs()?;
    if runs.len() >= MOST_SECTIONS {
        return Err(Error::TooLarge("the number of runs".to_owned()));
    }
    let count = runs.len() + 1;
    let contexts: Vec<u8> = machine
        .processors
        .iter()
        .flat_map(|cpu| context::of(machine.arch, &cpu.registers, context::FLAGS_FROZEN))
        .collect();
    let head = (HEADER + SECTION * count) as u64;
    let first = (head + contexts.len() as u64).next_multiple_of(PAGE_SIZE as u64);
    let size = first + pages.count() * PAGE_SIZE as u64;
    let mut r = Record::zeroed(head as usize);
    r.put(0, b"Raw_Dmp!").u16(8, 1).u16(0xa, 0).u32(0xc, VALID);
    r.u64(0x24, size).u64(0x2c, size).u32(0x34, count as u32);
    let mut section = |n: usize, kind: u32, offset: u64, size: u64, name: &[u8]| {
        let at = HEADER + SECTION * n;
        r.u32(at, VALID).u16(at + 4, 1).u32(at + 8, kind).u64(at + 0xc, offset).u64(at + 0x14, size);
        r.put(at + 0x2c, name);
        at + 0x1c
    };
    let mut information = Vec::new();
    let mut offset = first;
    for (n, (pfn, pages)) in runs.iter().enumerate() {
        let size = pages * PAGE_SIZE as u64;
        information.push((section(n, DDR_RANGE, offset, size, b"DDR"), pfn * PAGE_SIZE as u64));
        offset += size;
    }
    let at = section(runs.len(), CPU_CONTEXT, head, contexts.len() as u64, b"CPU");
    for (at, base) in information {
        r.u64(at, base);
    }
    r.u16(at, ARCH_X64)
        .u32(at + 2, machine.processors.len() as u32)
        .u32(at + 6, context::CONTEXT_SIZE as u32);
    out.bytes(&r.into_bytes())?;
    out.bytes(&contexts)?;
    pages.for_each_written(|rank, _, page| out.at(first + rank * PAGE_SIZE as u64, page))?;
    out.end(size)
}
