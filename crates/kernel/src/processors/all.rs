//! All processors: their PRCBs through `KiProcessorBlock`, their contexts, what they ran.

use crate::core::Core;
use crate::facts::Processor;
use stopcode_base::{Arch, VirtAddr};
use stopcode_dump::context;

/// No Windows has more.
const MOST_PROCESSORS: u32 = 2048;

/// Where the PRCBs are that `KiProcessorBlock` lists, with their places in it.
pub(crate) fn prcbs(core: &Core) -> impl Iterator<Item = (VirtAddr, u32)> {
    let count = core.dump.header().number_processors.min(MOST_PROCESSORS);
    let block = core.dump.kdbg().and_then(|kdbg| kdbg.get("KiProcessorBlock")).filter(|block| *block != 0);
    (0..count).filter_map(move |index| {
        let at = VirtAddr(block?).plus(core.arch.pointer_size() * u64::from(index));
        core.kernel_pointer(at).map(|prcb| (prcb, index))
    })
}

/// The PRCB of the processor that crashed, for dumps that do not single it out: the one whose saved context is the
/// header's, or stands where the header's breakpoint does; else the only one that was not frozen.
pub(crate) fn crashed_prcb(core: &Core) -> Option<VirtAddr> {
    let header = core.dump.header();
    let all: Vec<VirtAddr> = prcbs(core).map(|(prcb, _)| prcb).collect();
    let breakpoint = header.exception.as_ref().map(|record| record.address);
    let is_headers = |prcb: &VirtAddr| {
        registers(core, *prcb).is_some_and(|own| {
            let same = header.context.is_some_and(|it| it.stack_pointer() == own.stack_pointer());
            same || breakpoint == Some(own.instruction())
        })
    };
    let running = |prcb: &VirtAddr| ipi_frozen(core, *prcb).is_some_and(|state| state & 0xf != FROZEN);
    only(&all, is_headers).or_else(|| only(&all, running)).or_else(|| only(&all, |_| true))
}

/// The one that `fits`, if no other does.
fn only(all: &[VirtAddr], fits: impl Fn(&VirtAddr) -> bool) -> Option<VirtAddr> {
    let mut fitting = all.iter().filter(|prcb| fits(prcb));
    fitting.next().copied().filter(|_| fitting.next().is_none())
}

/// `KPRCB.IpiFrozen` of a processor that another one stopped.
const FROZEN: u32 = 2;

/// `KPRCB.IpiFrozen`. Values above 0x2f are no state: the layout does not fit.
fn ipi_frozen(core: &Core, prcb: VirtAddr) -> Option<u32> {
    let offset = core.field("_KPRCB", "IpiFrozen")?;
    core.memory().read_u32(prcb.plus(offset)).ok().filter(|state| *state <= 0x2f)
}

pub(crate) fn processors(core: &Core, crashed: Option<VirtAddr>) -> Vec<Processor> {
    let all: Vec<Processor> =
        prcbs(core).map(|(prcb, index)| processor(core, prcb, index, crashed)).collect();
    if !all.is_empty() {
        return all;
    }
    // Some minidumps hold the PRCB of the crashing processor and no list of them.
    let own = core.dump.triage().and_then(|triage| triage.prcb_address);
    own.map(|prcb| processor(core, prcb, 0, crashed)).into_iter().collect()
}

fn processor(core: &Core, prcb: VirtAddr, index: u32, crashed: Option<VirtAddr>) -> Processor {
    let memory = core.memory();
    let at = |offset: u64| prcb.plus(offset);
    let idle = core.field("_KPRCB", "IdleThread").unwrap_or(3 * core.arch.pointer_size());
    let thread = core.kernel_pointer(at(core.current_thread_offset()));
    let idle_thread = core.kernel_pointer(at(idle));
    Processor {
        number: number(core, prcb).unwrap_or(index),
        prcb: Some(prcb),
        thread,
        idle_thread,
        ipi_frozen: ipi_frozen(core, prcb),
        registers: registers(core, prcb),
        crashed: thread.is_some() && thread == crashed,
        irql: core
            .field("_KPRCB", "DebuggerSavedIRQL")
            .and_then(|offset| memory.read_u8(at(offset)).ok())
            .filter(|irql| *irql <= 15),
    }
}

/// `KPRCB.Number`, if the dump holds it and it can be one.
pub(crate) fn number(core: &Core, prcb: VirtAddr) -> Option<u32> {
    let place = core.field("_KPRCB", "Number").or((core.arch == Arch::X64).then_some(0x24))?;
    let at = prcb.plus(place);
    let number = if core.arch == Arch::X86 && core.has_short_processor_numbers() {
        core.memory().read_u8(at).map(u32::from)
    } else {
        core.memory().read_u32(at)
    };
    number.ok().filter(|number| *number < MOST_PROCESSORS)
}

/// `*KPRCB.Context` first; the inline frame, which newer kernels leave empty, second.
pub(crate) fn registers(core: &Core, prcb: VirtAddr) -> Option<stopcode_base::Registers> {
    let memory = core.memory();
    let read = |at: VirtAddr| {
        let (registers, flags) = context::read(memory, core.arch, at).ok()??;
        (flags != 0 && registers.instruction().0 != 0).then_some(registers)
    };
    let saved = core.field("_KPRCB", "Context").and_then(|offset| core.kernel_pointer(prcb.plus(offset)));
    saved.and_then(read).or_else(|| inline_context(core).and_then(|offset| read(prcb.plus(offset))))
}

/// Where a KPRCB has the context inside its processor state. Windows XP's debugger data do not say.
fn inline_context(core: &Core) -> Option<u64> {
    let by_layout = || {
        let state = core.field("_KPRCB", "ProcessorState")?;
        Some(state + core.field("_KPROCESSOR_STATE", "ContextFrame")?)
    };
    core.kdbg_offset("OffsetPrcbProcStateContext").or_else(by_layout)
}
