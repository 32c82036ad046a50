//! The ELF core that QEMU's `dump-guest-memory` writes: a note for each processor, a segment for each run of memory.
//!
//! The layout of the `QEMU` note is that of QEMU's public `QEMUCPUState`.

use super::Out;
use crate::Error;
use crate::machine::{Machine, Processor};
use crate::physical::{PAGE_SIZE, Physical};
use crate::record::Record;
use std::io::{Seek, Write};

const EHDR: usize = 0x40;
const PHDR: usize = 0x38;
/// Bytes of `elf_prstatus` and of `QEMUCPUState` on x86-64.
const PRSTATUS: usize = 0x150;
const STATE: usize = 440;
const X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Program headers that a 16-bit count can say.
const MOST_SEGMENTS: usize = 0xfff0;

pub(super) fn write(
    machine: &Machine,
    pages: &Physical,
    out: &mut Out<'_, impl Write + Seek>,
) -> Result<(), Error> {
    let runs = pages.runs()?;
    if runs.len() > MOST_SEGMENTS {
        return Err(Error::TooLarge("the number of runs".to_owned()));
    }
    let notes = notes(machine)?;
    let headers = EHDR + PHDR * (runs.len() + 1);
    let first = ((headers + notes.len()) as u64).next_multiple_of(PAGE_SIZE as u64);
    let mut r = Record::zeroed(headers);
    r.put(0, b"\x7fELF\x02\x01\x01").u16(0x10, 4).u16(0x12, X86_64).u32(0x14, 1).u64(0x20, EHDR as u64);
    r.u16(0x34, EHDR as u16).u16(0x36, PHDR as u16).u16(0x38, runs.len() as u16 + 1);
    r.u32(EHDR, PT_NOTE).u64(EHDR + 8, headers as u64);
    r.u64(EHDR + 0x20, notes.len() as u64).u64(EHDR + 0x28, notes.len() as u64);
    let mut offset = first;
    for (n, (pfn, count)) in runs.iter().enumerate() {
        let (at, size) = (EHDR + PHDR * (n + 1), count * PAGE_SIZE as u64);
        r.u32(at, PT_LOAD).u64(at + 8, offset).u64(at + 0x18, pfn * PAGE_SIZE as u64);
        r.u64(at + 0x20, size).u64(at + 0x28, size);
        offset += size;
    }
    out.bytes(&r.into_bytes())?;
    out.bytes(&notes)?;
    pages.for_each_written(|rank, _, page| out.at(first + rank * PAGE_SIZE as u64, page))?;
    out.end(offset)
}

fn notes(machine: &Machine) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    for cpu in &machine.processors {
        note(&mut out, b"CORE\0", 1, &prstatus(cpu));
    }
    for cpu in &machine.processors {
        let process = machine.process(machine.thread(cpu.thread)?.process)?;
        note(&mut out, b"QEMU\0", 0, &state(cpu, process.directory_table_base.0));
    }
    Ok(out)
}

fn note(out: &mut Vec<u8>, name: &[u8], kind: u32, content: &[u8]) {
    for word in [name.len() as u32, content.len() as u32, kind] {
        out.extend(word.to_le_bytes());
    }
    for part in [name, content] {
        out.extend(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

fn prstatus(cpu: &Processor) -> Vec<u8> {
    let g = &cpu.registers;
    let mut r = Record::zeroed(PRSTATUS);
    r.u32(0x20, cpu.number + 1);
    let registers = [
        g.r15, g.r14, g.r13, g.r12, g.rbp, g.rbx, g.r11, g.r10, g.r9, g.r8, g.rax, g.rcx, g.rdx, g.rsi,
        g.rdi, g.rax, g.rip,
    ];
    for (n, value) in registers.into_iter().enumerate() {
        r.u64(0x70 + 8 * n, value.0);
    }
    r.u64(0xf8, 0x10).u64(0x100, g.eflags.0).u64(0x108, g.rsp.0).u64(0x110, 0x18);
    r.into_bytes()
}

fn state(cpu: &Processor, tables: u64) -> Vec<u8> {
    let g = &cpu.registers;
    let mut r = Record::zeroed(STATE);
    r.u32(0, 1).u32(4, STATE as u32);
    let registers = [
        g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.rsp, g.rbp, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13,
        g.r14, g.r15, g.rip, g.eflags,
    ];
    for (n, value) in registers.into_iter().enumerate() {
        r.u64(8 + 8 * n, value.0);
    }
    let pcr = cpu.prcb.0.wrapping_sub(0x180);
    // cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt.
    let segments = [
        (0x10, 0),
        (0x2b, 0),
        (0x2b, 0),
        (0x53, 0),
        (0x2b, pcr),
        (0x18, 0),
        (0, 0),
        (0x40, cpu.tss.0),
        (0, cpu.gdt.0),
        (0, cpu.idt.0),
    ];
    for (n, (selector, base)) in segments.into_iter().enumerate() {
        r.u32(0x98 + 24 * n, selector).u64(0xa8 + 24 * n, base);
    }
    for (n, value) in [cpu.cr0.0, 0, cpu.cr2.0, tables, cpu.cr4.0].into_iter().enumerate() {
        r.u64(0x188 + 8 * n, value);
    }
    r.into_bytes()
}
