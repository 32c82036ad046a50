//! What the processor itself reads: KPCR, segment descriptors, interrupt descriptors, task state.

use crate::Error;
use crate::layout::Layout;
use crate::machine::{Arch, Machine, Processor};
use crate::record::{Record, Structure};

/// Selector of the task state segment, and of kernel code.
const TSS: usize = 0x40;
const KERNEL_CODE: u16 = 0x10;
/// Bytes of the descriptor tables: eleven segments, 256 interrupts.
const GDT_SIZE: usize = 0x58;
const IDT_SIZE: usize = 0x1000;
/// Bytes of KTSS64.
const TSS_SIZE: usize = 0x68;
/// A present interrupt gate.
const GATE: u16 = 0x8e00;

/// The tables of one processor that the description places, as addresses and bytes.
pub(crate) fn of(machine: &Machine, layout: &Layout, cpu: &Processor) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let pcr_at = cpu.prcb.0.wrapping_sub(u64::from(layout.pcr_prcb()));
    let mut parts = vec![(pcr_at, pcr(machine, layout, cpu)?)];
    if cpu.tss.0 != 0 && machine.arch == Arch::X64 {
        parts.push((cpu.gdt.0, gdt(cpu)));
        parts.push((cpu.idt.0, idt(cpu)));
        parts.push((cpu.tss.0, tss(cpu)));
    }
    Ok(parts)
}

/// The KPCR up to where its KPRCB starts.
fn pcr(machine: &Machine, layout: &Layout, cpu: &Processor) -> Result<Vec<u8>, Error> {
    let mut s = Structure::new(layout, "_KPCR")?;
    let own = cpu.prcb.0.wrapping_sub(u64::from(layout.pcr_prcb()));
    // Each architecture has the fields of its own names.
    let (own_field, prcb_field) =
        if machine.arch == Arch::X86 { ("SelfPcr", "Prcb") } else { ("Self", "CurrentPrcb") };
    s.pointer(own_field, own).pointer(prcb_field, cpu.prcb.0);
    let (gdt, idt, tss) =
        if machine.arch == Arch::X86 { ("GDT", "IDT", "TSS") } else { ("GdtBase", "IdtBase", "TssBase") };
    s.pointer(gdt, cpu.gdt.0).pointer(tss, cpu.tss.0).pointer(idt, cpu.idt.0);
    if machine.arch == Arch::X86 {
        s.u8("Number", cpu.number as u8);
    }
    s.u8("Irql", cpu.cr8.0 as u8).put("MajorVersion", &[1, 0, 1, 0]);
    s.put("StallScaleFactor", &machine.cpu.mhz.to_le_bytes());
    let mut bytes = s.into_bytes()?;
    bytes.truncate(usize::from(layout.pcr_prcb()));
    Ok(bytes)
}

/// The segments of x64 Windows: flat code and data of both rings, and the task state.
fn gdt(cpu: &Processor) -> Vec<u8> {
    let mut r = Record::zeroed(GDT_SIZE);
    for (selector, descriptor) in [
        (0x10, 0x0020_9b00_0000_0000),
        (0x18, 0x00cf_9300_0000_ffff),
        (0x20, 0x00cf_fb00_0000_ffff),
        (0x28, 0x00cf_f300_0000_ffff),
        (0x30, 0x0020_fb00_0000_0000),
        (0x50, 0x0040_f300_0000_3c00),
    ] {
        r.u64(selector, descriptor);
    }
    let base = cpu.tss.0;
    let low = (TSS_SIZE as u64 - 1) | (base & 0xff_ffff) << 16 | 0x8b << 40 | (base >> 24 & 0xff) << 56;
    r.u64(TSS, low).u64(TSS + 8, base >> 32);
    r.into_bytes()
}

/// The described gates; all others are not present.
fn idt(cpu: &Processor) -> Vec<u8> {
    let mut r = Record::zeroed(IDT_SIZE);
    for gate in &cpu.gates {
        let (at, handler) = (16 * usize::from(gate.vector), gate.handler.0);
        r.u16(at, handler as u16).u16(at + 2, KERNEL_CODE).u16(at + 4, GATE | u16::from(gate.ist & 7));
        r.u16(at + 6, (handler >> 16) as u16).u32(at + 8, (handler >> 32) as u32);
    }
    r.into_bytes()
}

/// KTSS64: the stack of ring 0 and the stacks of the interrupt stack table.
fn tss(cpu: &Processor) -> Vec<u8> {
    let mut r = Record::zeroed(TSS_SIZE);
    r.u64(4, cpu.rsp0.0).u16(0x66, TSS_SIZE as u16);
    for (n, top) in cpu.ist.iter().take(7).enumerate() {
        // Ist[0] is reserved: a gate counts its stacks from one.
        r.u64(0x24 + 8 * n, top.0);
    }
    r.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hex;
    use crate::machine::Gate;

    /// The double-fault gate leads to its handler, and its stack is the first of the task state.
    #[test]
    fn a_gate_names_handler_and_stack() {
        let cpu = Processor {
            tss: Hex(0xfffff880_009b1080),
            ist: vec![Hex(0xfffff880_009ba000), Hex(0xfffff880_009bc000)],
            gates: vec![Gate { vector: 8, handler: Hex(0xfffff800_03289580), ist: 1 }],
            ..Processor::default()
        };
        let table = idt(&cpu);
        let gate = &table[0x80..0x90];
        assert_eq!(gate, [0x80, 0x95, 0x10, 0, 1, 0x8e, 0x28, 3, 0, 0xf8, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(tss(&cpu)[0x24..0x2c], 0xfffff880_009ba000_u64.to_le_bytes());
        let segments = gdt(&cpu);
        assert_eq!(
            segments[0x40..0x50],
            [0x67, 0, 0x80, 0x10, 0x9b, 0x8b, 0, 0, 0x80, 0xf8, 0xff, 0xff, 0, 0, 0, 0]
        );
    }
}
