//! Processors and what their registers held.

use crate::Hex;
use serde::{Deserialize, Serialize};

/// A model of processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// Twelve letters: `GenuineIntel`, `AuthenticAMD`.
    pub vendor: String,
    /// The name it gives itself.
    pub name: String,
    /// Family as Windows counts it.
    pub family: u8,
    /// Model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
    /// Megahertz.
    pub mhz: u32,
    /// Microcode revision.
    pub microcode: Hex,
    /// What `cpuid` answers: leaf, eax, ebx, ecx, edx.
    #[serde(default)]
    pub cpuid: Vec<[Hex; 5]>,
}

/// Registers of a processor; those left out are zero. Of ARM64 `pc`, `sp`, `fp` and `cpsr` are other names of the first
/// ones, and `x` and `lr` are its alone. Of x86 they have its own names: `eip`, `esp`, `eax`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "the names are the processor's own")]
pub struct Registers {
    #[serde(alias = "pc", alias = "eip")]
    pub rip: Hex,
    #[serde(alias = "sp", alias = "esp")]
    pub rsp: Hex,
    #[serde(alias = "eax")]
    pub rax: Hex,
    #[serde(alias = "ecx")]
    pub rcx: Hex,
    #[serde(alias = "edx")]
    pub rdx: Hex,
    #[serde(alias = "ebx")]
    pub rbx: Hex,
    #[serde(alias = "fp", alias = "ebp")]
    pub rbp: Hex,
    #[serde(alias = "esi")]
    pub rsi: Hex,
    #[serde(alias = "edi")]
    pub rdi: Hex,
    pub r8: Hex,
    pub r9: Hex,
    pub r10: Hex,
    pub r11: Hex,
    pub r12: Hex,
    pub r13: Hex,
    pub r14: Hex,
    pub r15: Hex,
    #[serde(alias = "cpsr")]
    pub eflags: Hex,
    #[serde(skip_serializing_if = "Hex::is_zero")]
    pub lr: Hex,
    #[serde(skip_serializing_if = "all_zero")]
    pub x: [Hex; 29],
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn all_zero(registers: &[Hex; 29]) -> bool {
    registers.iter().all(Hex::is_zero)
}

impl Registers {
    /// Gives a general register its value, by the processor's own number of it.
    pub(crate) fn set(&mut self, number: u8, value: u64) {
        let slot = match number {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => &mut self.rsp,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        };
        *slot = Hex(value);
    }

    /// General registers in the processor's own numbering: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub(crate) fn general(&self) -> [u64; 16] {
        [
            self.rax, self.rcx, self.rdx, self.rbx, self.rsp, self.rbp, self.rsi, self.rdi, self.r8, self.r9,
            self.r10, self.r11, self.r12, self.r13, self.r14, self.r15,
        ]
        .map(|r| r.0)
    }
}

/// An exception that the stop code reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// `0xc0000005`.
    pub code: Hex,
    /// `EXCEPTION_RECORD.ExceptionInformation`; at most 15.
    pub information: Vec<Hex>,
    /// Where its `EXCEPTION_RECORD` lies: inside a described stack.
    pub record_at: Hex,
    /// Where its `CONTEXT` lies: inside a described stack.
    pub context_at: Hex,
    /// Registers at the exception.
    pub registers: Registers,
}

/// An entry of the interrupt descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Interrupt or exception: 8 is the double fault, 14 the page fault.
    pub vector: u8,
    /// Where it leads.
    pub handler: Hex,
    /// Number of the stack in the interrupt stack table, counted from one; zero keeps the stack.
    #[serde(default)]
    pub ist: u8,
}

/// One processor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// Number in its group.
    pub number: u32,
    /// Where its KPRCB lies.
    pub prcb: Hex,
    /// Where its saved `CONTEXT` lies.
    pub context_at: Hex,
    /// `KPRCB.IpiFrozen`: 2 frozen, 0 running.
    pub ipi_frozen: u32,
    /// Thread it runs.
    pub thread: Hex,
    /// Its idle thread.
    pub idle_thread: Hex,
    /// What it was doing when it was stopped.
    pub registers: Registers,
    /// Control register 0.
    pub cr0: Hex,
    /// Control register 2: address of the last page fault.
    #[serde(default)]
    pub cr2: Hex,
    /// Control register 4.
    pub cr4: Hex,
    /// Control register 8: the interrupt level; 15 on a frozen processor.
    pub cr8: Hex,
    /// Interrupt level before the kernel raised it to write the dump.
    #[serde(default)]
    pub saved_irql: u8,
    /// Top of its DPC stack.
    pub dpc_stack: Hex,
    /// Top of its interrupt stack; Windows 7 has none.
    #[serde(default)]
    pub isr_stack: Hex,
    /// True while it runs a DPC.
    #[serde(default)]
    pub dpc_active: bool,
    /// Base of its interrupt descriptor table.
    pub idt: Hex,
    /// Base of its segment descriptor table.
    pub gdt: Hex,
    /// Its task state; where there is none, the descriptor tables are not written.
    #[serde(default, skip_serializing_if = "Hex::is_zero")]
    pub tss: Hex,
    /// Stack on which it enters the kernel, as its task state says.
    #[serde(default, skip_serializing_if = "Hex::is_zero")]
    pub rsp0: Hex,
    /// Tops of the stacks in its interrupt stack table, from the first; at most seven.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ist: Vec<Hex>,
    /// Entries of its interrupt descriptor table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
}

/// A `KTRAP_FRAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trap {
    /// Where it lies: inside a described stack.
    pub at: Hex,
    /// Registers at the trap.
    pub registers: Registers,
    /// Error code that the processor pushed; of ARM64 the exception's syndrome (`ESR_EL1`).
    #[serde(default)]
    pub error_code: Hex,
    /// Address of the page fault.
    #[serde(default)]
    pub fault_address: Hex,
    /// Interrupt level before the trap.
    #[serde(default)]
    pub previous_irql: u8,
    /// True for a trap out of user mode.
    #[serde(default)]
    pub user: bool,
}
