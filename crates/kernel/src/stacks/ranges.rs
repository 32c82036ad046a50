//! Where a kernel stack pointer may lie: the stacks of a thread and of a processor.
//!
//! Facts: `KTHREAD`, `KSTACK_CONTROL`, `KTSS64`, `KPRCB` and `KIST_BASE_FRAME` of the public type data. That a
//! `KSTACK_CONTROL` lies at `KTHREAD.InitialStack` was seen in a dump of 19041.

use crate::core::Core;
use crate::reading::bytes::word;
use stopcode_base::{Arch, VirtAddr};
use stopcode_unwind::{StackKind, StackRange};

const PAGE: u64 = 0x1000;
/// A kernel stack, expanded or of a DPC, is not larger than this (72 KiB, WDK).
pub(crate) const LARGEST_STACK: u64 = 0x1_2000;
/// Stacks of a processor reach this far down from their top, unless another one lies there.
const PROCESSOR_STACK: u64 = 0x6000;
/// A stack is expanded by a call that the same stack may make again; Windows does not nest it deeper.
const MOST_SEGMENTS: usize = 8;

/// A thread's kernel stack, as its `KTHREAD` has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadStack {
    /// Lowest valid address.
    pub(crate) limit: VirtAddr,
    /// First address past it.
    pub(crate) base: VirtAddr,
    /// Where its first frame begins.
    initial: Option<VirtAddr>,
    /// The stack pointer when the thread was switched out.
    pub(crate) switched_out_at: Option<VirtAddr>,
}

impl ThreadStack {
    /// `None` if the dump does not hold the thread or its limits contradict each other.
    pub(crate) fn read(core: &Core, thread: VirtAddr) -> Option<Self> {
        let current = core.current();
        let is_current = word(core.arch, &current.prcb, core.current_thread_offset()) == Some(thread.0);
        let own = is_current.then_some(current.thread.as_slice());
        let field = |name: &str| {
            let offset = core.field("_KTHREAD", name)?;
            let copied = own.and_then(|bytes| word(core.arch, bytes, offset)).map(VirtAddr);
            let value = copied.or_else(|| core.pointer(thread.plus(offset)).ok())?;
            Some(value).filter(|value| core.arch.is_kernel(*value))
        };
        let (limit, base) = (field("StackLimit")?, field("StackBase")?);
        let size = base.offset_from(limit)?;
        let initial = field("InitialStack");
        (size > 0 && size <= 16 * LARGEST_STACK).then(|| Self {
            limit,
            base,
            initial,
            switched_out_at: field("KernelStack"),
        })
    }

    /// With the guard page, where the pointer of a stack that ran out lies.
    fn range(&self, kind: StackKind) -> StackRange {
        StackRange { low: self.limit.page().minus(PAGE), high: self.base, kind }
    }

    /// The stack, and the segments that it took the place of.
    fn ranges(&self, core: &Core) -> Vec<StackRange> {
        let mut ranges = vec![self.range(StackKind::Thread)];
        let mut control = self.initial;
        while ranges.len() < MOST_SEGMENTS
            && let Some(previous) = control.and_then(|at| previous_segment(core, at, ranges.last()?.high))
        {
            // What has one before it is an expansion.
            if let Some(last) = ranges.last_mut() {
                last.kind = StackKind::Expanded;
            }
            control = previous.initial;
            ranges.push(previous.range(StackKind::Thread));
        }
        ranges
    }
}

/// `KSTACK_CONTROL.Previous` of the control at `at`, which is one if it knows its stack's base: base, limit, where it was
/// switched out, and where it began.
fn previous_segment(core: &Core, at: VirtAddr, base: VirtAddr) -> Option<ThreadStack> {
    let segment = core.field("_KSTACK_CONTROL", "Previous").unwrap_or(0x10);
    let word = |offset: u64| core.pointer(at.plus(offset)).ok();
    let of_segment = |index: u64| word(segment + index * core.arch.pointer_size());
    if word(0)? != base {
        return None;
    }
    let (previous, limit) = (of_segment(0)?, of_segment(1)?);
    let plausible = core.arch.is_kernel(previous)
        && previous != base
        && previous.offset_from(limit).is_some_and(|size| size > 0 && size <= 16 * LARGEST_STACK);
    plausible.then(|| ThreadStack {
        limit,
        base: previous,
        initial: of_segment(3).filter(|initial| core.arch.is_kernel(*initial)),
        switched_out_at: None,
    })
}

/// The stacks that a walk from `pointer` may enter: the thread's with its segments, the processor's own, what a small
/// dump saved of another, and around the pointer itself where nothing better is known.
pub(crate) fn ranges(
    core: &Core,
    thread: Option<VirtAddr>,
    prcb: Option<VirtAddr>,
    pointer: VirtAddr,
) -> Vec<StackRange> {
    let mut ranges = Vec::new();
    if let Some(stack) = thread.and_then(|thread| ThreadStack::read(core, thread)) {
        ranges.extend(stack.ranges(core));
    }
    ranges.extend(prcb.map(|prcb| of_processor(core, prcb)).unwrap_or_default());
    if let Some(triage) = core.dump.triage() {
        let high = triage.top_of_stack.plus(triage.call_stack.len() as u64);
        let known = ranges.iter().any(|range| range.low <= triage.top_of_stack && high <= range.high);
        if !known && high > triage.top_of_stack {
            ranges.push(StackRange { low: triage.top_of_stack.page(), high, kind: StackKind::Other });
        }
    }
    if !ranges.iter().any(|range| range.contains(pointer)) && core.arch.is_kernel(pointer) {
        ranges.push(StackRange {
            low: pointer.page(),
            high: pointer.page().plus(LARGEST_STACK),
            kind: StackKind::Other,
        });
    }
    ranges
}

/// The stacks of a processor: by its interrupt stack table, and its own for DPCs, interrupts and exceptions.
pub(crate) fn of_processor(core: &Core, prcb: VirtAddr) -> Vec<StackRange> {
    let mut tops: Vec<(VirtAddr, StackKind)> = interrupt_stacks(core, prcb);
    for (field, kind) in
        [("DpcStack", StackKind::Dpc), ("IsrStack", StackKind::Isr), ("ExceptionStack", StackKind::Exception)]
    {
        let pointer = core.field("_KPRCB", field).and_then(|offset| core.kernel_pointer(prcb.plus(offset)));
        // The pointer stands a little below the top; the top ends a page.
        tops.extend(
            pointer.map(|top| (VirtAddr(top.0.checked_next_multiple_of(PAGE).unwrap_or(top.0)), kind)),
        );
    }
    tops.retain(|(top, _)| core.arch.is_kernel(*top));
    let below = |top: VirtAddr| tops.iter().map(|(other, _)| *other).filter(|other| *other < top).max();
    let lowest = |top: VirtAddr| {
        let least = top.minus(PROCESSOR_STACK);
        below(top).map_or(least, |other| other.max(least))
    };
    tops.iter().map(|(top, kind)| StackRange { low: lowest(*top), high: *top, kind: *kind }).collect()
}

/// The interrupt vector whose handler runs on this entry of the interrupt stack table, by the processor's descriptor
/// table (`KIDTENTRY64`: 16 bytes, the entry in the low three bits at 4).
pub(crate) fn vector_on(core: &Core, prcb: VirtAddr, entry: u8) -> Option<u8> {
    /// Debug, NMI, double fault, machine check: what Windows gives stacks of their own.
    const VECTORS: [u8; 4] = [1, 2, 8, 0x12];
    if core.arch != Arch::X64 {
        return None;
    }
    let memory = core.memory();
    let pcr = prcb.minus(core.field("_KPCR", "Prcb")?);
    let table = memory.read_u64(pcr.plus(core.field("_KPCR", "IdtBase")?)).ok().map(VirtAddr)?;
    VECTORS.into_iter().find(|vector| {
        let at = table.plus(16 * u64::from(*vector) + 4);
        memory.read_u16(at).is_ok_and(|word| word & 7 == u16::from(entry))
    })
}

/// The stacks that the processor switches to by itself: `KPCR.TssBase` leads to the table of their tops. Where user
/// mode has page tables of its own (KVA shadow), such a top is the place of a `KIST_BASE_FRAME`, which leads on to
/// the stack that the handler runs on; both are given.
fn interrupt_stacks(core: &Core, prcb: VirtAddr) -> Vec<(VirtAddr, StackKind)> {
    const IST: u64 = 0x1c;
    const IST_STACK: u64 = 8;
    if core.arch != Arch::X64 {
        return Vec::new();
    }
    let memory = core.memory();
    let read = |at: VirtAddr| memory.read_u64(at).ok().map(VirtAddr).filter(|value| value.is_kernel());
    let pcr = core.field("_KPCR", "Prcb").map(|offset| prcb.minus(offset));
    let tss = pcr.zip(core.field("_KPCR", "TssBase")).and_then(|(pcr, offset)| read(pcr.plus(offset)));
    let (Some(pcr), Some(tss)) = (pcr, tss) else { return Vec::new() };
    let mut tops = Vec::new();
    for entry in 1..=7u8 {
        let Some(top) = read(tss.plus(IST + 8 * u64::from(entry))) else { continue };
        let kind = StackKind::Ist(entry);
        tops.push((top, kind));
        // The base frame begins with the address of the KPCR: that makes it one.
        if read(top) == Some(pcr) {
            tops.extend(read(top.plus(IST_STACK)).map(|stack| (stack, kind)));
        }
    }
    tops
}
