//! All processors: their PRCBs through `KiProcessorBlock`, their contexts, what they ran.

use crate::core::Core;
use crate::facts::Processor;
use stopcode_base::VirtAddr;
use stopcode_dump::context;

/// No Windows has more.
const MOST_PROCESSORS: u32 = 2048;

pub(crate) fn processors(core: &Core, crashed: Option<VirtAddr>) -> Vec<Processor> {
    let memory = core.memory();
    let header = core.dump.header();
    let count = header.number_processors.min(MOST_PROCESSORS);
    let block = core.dump.kdbg().and_then(|kdbg| kdbg.get("KiProcessorBlock")).filter(|block| *block != 0);
    let all: Vec<Processor> = (0..count)
        .filter_map(|index| {
            let prcb = VirtAddr(memory.read_u64(VirtAddr(block?).plus(8 * u64::from(index))).ok()?);
            prcb.is_kernel().then(|| processor(core, prcb, index, crashed))
        })
        .collect();
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
    let pointer = |offset: Option<u64>| {
        let value = VirtAddr(memory.read_u64(at(offset?)).ok()?);
        value.is_kernel().then_some(value)
    };
    let number = memory.read_u32(at(core.kdbg_offset("OffsetPrcbNumber").unwrap_or(0x24))).unwrap_or(index);
    let thread = pointer(core.kdbg_offset("OffsetPrcbCurrentThread").or(Some(8)));
    let idle_thread = pointer(core.kdbg_offset("OffsetPrcbIdleThread").or(Some(0x18)));
    let frozen = core.field("_KPRCB", "IpiFrozen").and_then(|offset| memory.read_u32(at(offset)).ok());
    Processor {
        number: if number < MOST_PROCESSORS { number } else { index },
        prcb: Some(prcb),
        thread,
        idle_thread,
        // Values above 0x2f are no state: the layout does not fit.
        ipi_frozen: frozen.filter(|value| *value <= 0x2f),
        registers: registers(core, prcb),
        crashed: thread.is_some() && thread == crashed,
        irql: core
            .field("_KPRCB", "DebuggerSavedIRQL")
            .and_then(|offset| memory.read_u8(at(offset)).ok())
            .filter(|irql| *irql <= 15),
    }
}

/// `*KPRCB.Context` first; the inline frame, which newer kernels leave empty, second.
fn registers(core: &Core, prcb: VirtAddr) -> Option<stopcode_base::Registers> {
    let memory = core.memory();
    let read = |at: VirtAddr| {
        let (registers, flags) = context::read(memory, core.arch, at).ok()??;
        (flags != 0 && registers.instruction().0 != 0).then_some(registers)
    };
    let saved =
        core.kdbg_offset("OffsetPrcbContext").and_then(|offset| memory.read_u64(prcb.plus(offset)).ok());
    saved
        .filter(|at| VirtAddr(*at).is_kernel())
        .and_then(|at| read(VirtAddr(at)))
        .or_else(|| core.kdbg_offset("OffsetPrcbProcStateContext").and_then(|offset| read(prcb.plus(offset))))
}
