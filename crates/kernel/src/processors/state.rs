//! One processor in depth: what its KPCR and KPRCB hold beyond the facts that a verdict needs.

use crate::core::Core;
use crate::processors::all;
use crate::reading::bytes::Bytes;
use crate::reading::object::Object;
use stopcode_base::{Arch, Fact, VirtAddr};

/// A processor's control structures. Which fields are known depends on the kernel; each says so itself.
#[derive(Clone, PartialEq, Debug)]
pub struct ProcessorState {
    /// Its place in `KiProcessorBlock`, which is its number.
    pub number: u32,
    /// KPRCB.
    pub prcb: VirtAddr,
    /// KPCR, which holds the KPRCB.
    pub pcr: Fact<VirtAddr>,
    /// The thread it ran.
    pub current_thread: Fact<VirtAddr>,
    /// The thread chosen to run next; null if none is.
    pub next_thread: Fact<VirtAddr>,
    /// Its idle thread.
    pub idle_thread: Fact<VirtAddr>,
    /// IRQL at which it entered the debugger or the bug check: `DebuggerSavedIRQL`. Of the crashed processor CR8 tells the
    /// same, where this kernel's place for that is not known; another one's CR8 is that of the freeze.
    pub saved_irql: Fact<u8>,
    /// What it said of its part in inter-processor interrupts.
    pub ipi: IpiState,
    /// Its deferred procedure calls.
    pub dpc: DpcState,
    /// Control, debug and descriptor registers as saved when it was stopped.
    pub special: Fact<SpecialRegisters>,
    /// Frequency in MHz.
    pub mhz: Fact<u32>,
    /// `GenuineIntel`.
    pub vendor: Fact<String>,
    /// Family, model, stepping as the kernel keeps them.
    pub model: Fact<CpuModel>,
    /// `UpdateSignature`: what the processor told of its microcode.
    pub update_signature: Fact<u64>,
}

/// Inter-processor interrupts, as `!ipi` shows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpiState {
    /// `IpiFrozen`; [`stopcode_knowledge::enums::ipi_frozen`] has the words.
    pub frozen: Fact<u32>,
    /// Processors that have not answered this one's last request.
    pub target_count: Fact<u32>,
    /// Nonzero while this processor waits for others to have taken a packet.
    pub packet_barrier: Fact<u32>,
}

/// Deferred procedure calls of a processor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DpcState {
    /// DPCs waiting in the normal queue.
    pub depth: Fact<u32>,
    /// DPCs waiting in the queue of threaded DPCs.
    pub threaded_depth: Fact<u32>,
    /// Nonzero while a DPC runs.
    pub routine_active: Fact<u8>,
    /// The DPC that runs, where this kernel notes it; null if none does.
    pub active: Fact<VirtAddr>,
    /// First address past the stack DPCs run on.
    pub stack: Fact<VirtAddr>,
    /// Ticks spent in the DPC that runs.
    pub time_count: Fact<u32>,
    /// Ticks that one DPC may take.
    pub time_limit: Fact<u32>,
    /// Ticks spent at DISPATCH_LEVEL or above.
    pub watchdog_count: Fact<u32>,
}

/// Family, model and stepping of a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuModel {
    /// Display family.
    pub family: u8,
    /// Display model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// A descriptor table's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableRegister {
    /// Where it is.
    pub base: VirtAddr,
    /// Its last byte's offset.
    pub limit: u16,
}

/// `KSPECIAL_REGISTERS` of x64. (Source: the public symbols; the part read here is the same from Windows 7 on.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpecialRegisters {
    /// CR0.
    pub cr0: u64,
    /// CR2: the address of the last page fault.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8 when the processor was stopped, which is not its IRQL before; `None` on x86, which has none.
    pub cr8: Option<u64>,
    /// DR0 to DR3, DR6, DR7 of the kernel.
    pub debug: [u64; 6],
    /// GDT.
    pub gdtr: TableRegister,
    /// IDT.
    pub idtr: TableRegister,
    /// Task register.
    pub tr: u16,
    /// Local descriptor table.
    pub ldtr: u16,
    /// MXCSR; `None` on x86, where these registers do not hold it.
    pub mxcsr: Option<u32>,
    /// Machine-specific registers; `None` where all are zero, because a bug check does not save them.
    pub msrs: Option<SavedMsrs>,
}

/// Machine-specific registers that `KSPECIAL_REGISTERS` has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavedMsrs {
    /// `IA32_GS_BASE`: the KPCR.
    pub gs_base: u64,
    /// `IA32_KERNEL_GS_BASE`.
    pub gs_swap: u64,
    /// `IA32_STAR`.
    pub star: u64,
    /// `IA32_LSTAR`: where system calls enter.
    pub lstar: u64,
    /// `IA32_CSTAR`.
    pub cstar: u64,
    /// `IA32_FMASK`.
    pub syscall_mask: u64,
}

/// Bytes of `KSPECIAL_REGISTERS` that every x64 kernel has.
const SPECIAL_SIZE: usize = 0xd8;
/// The same of x86, in every kernel from Windows XP to 10.
const SPECIAL_SIZE_X86: usize = 0x3c;
/// Where a KPCR has its own address and its KPRCB, in every kernel of an architecture.
const X64_PCR: (u64, u64) = (0x18, 0x180);
const X86_PCR: (u64, u64) = (0x1c, 0x120);

impl SpecialRegisters {
    fn of_bytes(bytes: &[u8; SPECIAL_SIZE]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let table = |at: usize| Some(TableRegister { limit: half(at + 6)?, base: VirtAddr(word(at + 8)?) });
        Some(Self {
            cr0: word(0)?,
            cr2: word(8)?,
            cr3: word(0x10)?,
            cr4: word(0x18)?,
            cr8: Some(word(0xa0)?),
            debug: [word(0x20)?, word(0x28)?, word(0x30)?, word(0x38)?, word(0x40)?, word(0x48)?],
            gdtr: table(0x50)?,
            idtr: table(0x60)?,
            tr: half(0x70)?,
            ldtr: half(0x72)?,
            mxcsr: Some(u32::from(half(0x74)?) | u32::from(half(0x76)?) << 16),
            msrs: bytes.get(0xa8..).is_some_and(|raw| raw.iter().any(|byte| *byte != 0)).then_some(
                SavedMsrs {
                    gs_base: word(0xa8)?,
                    gs_swap: word(0xb0)?,
                    star: word(0xb8)?,
                    lstar: word(0xc0)?,
                    cstar: word(0xc8)?,
                    syscall_mask: word(0xd0)?,
                },
            ),
        })
    }

    fn of_x86_bytes(bytes: &[u8; SPECIAL_SIZE_X86]) -> Option<Self> {
        let fields = Bytes(bytes);
        let word = |at: usize| fields.u32(at).map(u64::from);
        let table =
            |at: usize| Some(TableRegister { limit: fields.u16(at + 2)?, base: VirtAddr(word(at + 4)?) });
        Some(Self {
            cr0: word(0)?,
            cr2: word(4)?,
            cr3: word(8)?,
            cr4: word(0xc)?,
            cr8: None,
            debug: [word(0x10)?, word(0x14)?, word(0x18)?, word(0x1c)?, word(0x20)?, word(0x24)?],
            gdtr: table(0x28)?,
            idtr: table(0x30)?,
            tr: fields.u16(0x38)?,
            ldtr: fields.u16(0x3a)?,
            mxcsr: None,
            msrs: None,
        })
    }
}

/// Every processor whose KPRCB the dump leads to; empty with no list of them.
pub(crate) fn states(core: &Core) -> Vec<ProcessorState> {
    let listed: Vec<_> = all::prcbs(core).map(|(prcb, number)| state(core, prcb, number)).collect();
    if !listed.is_empty() {
        return listed;
    }
    let own = core.current().prcb_address;
    let number = |prcb| all::number(core, prcb).unwrap_or(0);
    own.map(|prcb| state(core, prcb, number(prcb))).into_iter().collect()
}

fn state(core: &Core, prcb: VirtAddr, number: u32) -> ProcessorState {
    let object = Object::new(core, "_KPRCB", prcb);
    let special = special(core, prcb);
    let current_thread = object
        .stated_word("OffsetPrcbCurrentThread", "CurrentThread")
        .unwrap_or_else(|| object.word("CurrentThread"))
        .map(VirtAddr);
    let crashed = current_thread.get().is_some() && current_thread.get() == core.thread().address.get();
    ProcessorState {
        number,
        prcb,
        pcr: pcr(core, prcb),
        current_thread,
        next_thread: object.pointer("NextThread"),
        idle_thread: object.pointer("IdleThread"),
        saved_irql: saved_irql(object.u8("DebuggerSavedIRQL"), &special, crashed),
        ipi: IpiState {
            frozen: object.u32("IpiFrozen"),
            target_count: object.u32("TargetCount"),
            packet_barrier: object.u32("PacketBarrier"),
        },
        dpc: dpc(core, &object),
        special,
        mhz: object.u32("MHz"),
        vendor: vendor(object.bytes("VendorString")),
        model: model(core, &object),
        update_signature: object.u64("UpdateSignature"),
    }
}

/// KeBugCheckEx saves CR8 and the IRQL at the same moment: on every real dump that has both they are equal.
fn saved_irql(noted: Fact<u8>, special: &Fact<SpecialRegisters>, crashed: bool) -> Fact<u8> {
    match (noted, special) {
        (Fact::Missing { reason }, Fact::Known { value, source }) if crashed => {
            match value.cr8.filter(|level| *level <= 15) {
                Some(level) => Fact::known(level as u8, format!("CR8, {source}")),
                None => Fact::Missing { reason },
            }
        }
        (noted, _) => noted,
    }
}

/// The KPCR around a KPRCB, if it says of itself where it is or cannot be asked.
fn pcr(core: &Core, prcb: VirtAddr) -> Fact<VirtAddr> {
    let known = match core.arch {
        Arch::X64 => Some(X64_PCR),
        Arch::X86 => Some(X86_PCR),
        _ => None,
    };
    let offset = core.kdbg_offset("OffsetPcrContainedPrcb").or(known.map(|(_, prcb)| prcb));
    let own_at = core.kdbg_offset("OffsetPcrSelfPcr").or(known.map(|(own, _)| own));
    let (Some(offset), Some(own_at)) = (offset, own_at) else {
        return Fact::missing("the debugger data of this dump do not say where a KPCR has its KPRCB");
    };
    let pcr = prcb.minus(offset);
    match core.pointer(pcr.plus(own_at)) {
        Ok(own) if own != pcr => {
            Fact::missing(format!("what lies before the KPRCB is no KPCR: its Self is {own:#}"))
        }
        Ok(_) => Fact::known(pcr, "KPCR.Self, which points to itself"),
        Err(_) => Fact::known(
            pcr,
            format!("{offset:#x} bytes before the KPRCB; the KPCR itself is not in this dump"),
        ),
    }
}

fn special(core: &Core, prcb: VirtAddr) -> Fact<SpecialRegisters> {
    let Some((offset, source)) = special_offset(core) else {
        return Fact::missing("the debugger data of this dump do not say where the special registers lie");
    };
    let at = prcb.plus(offset);
    let read = match core.arch {
        Arch::X64 => {
            let mut bytes = [0; SPECIAL_SIZE];
            core.memory().read(at, &mut bytes).map(|()| SpecialRegisters::of_bytes(&bytes))
        }
        Arch::X86 => {
            let mut bytes = [0; SPECIAL_SIZE_X86];
            core.memory().read(at, &mut bytes).map(|()| SpecialRegisters::of_x86_bytes(&bytes))
        }
        arch => {
            return Fact::missing(format!("the special registers of {arch} kernels have no public layout"));
        }
    };
    let special = match read {
        Ok(special) => special,
        Err(miss) => return Fact::missing(format!("KPRCB.ProcessorState.SpecialRegisters: {miss}")),
    };
    match special {
        // With protection and paging off no Windows ran: nothing was saved here.
        Some(special) if special.cr0 & 0x8000_0001 != 0x8000_0001 => {
            Fact::missing("no special registers were saved for this processor (CR0 has paging off)")
        }
        Some(special) => Fact::known(special, format!("KPRCB.ProcessorState.SpecialRegisters ({source})")),
        None => Fact::missing("the special registers are cut short"),
    }
}

/// Where a KPRCB has its special registers, and what says so. Windows XP's debugger data do not.
fn special_offset(core: &Core) -> Option<(u64, String)> {
    if let Some(offset) = core.kdbg_offset("OffsetPrcbProcStateSpecialReg") {
        return Some((offset, "offset from the debugger data".to_owned()));
    }
    let state = core.field("_KPRCB", "ProcessorState")?;
    let special = core.field("_KPROCESSOR_STATE", "SpecialRegisters")?;
    Some((state + special, core.layout_words().to_owned()))
}

fn dpc(core: &Core, prcb: &Object<'_>) -> DpcState {
    let normal = prcb.address_of("DpcData");
    let size = core.layout().ok().and_then(|layout| layout.size("_KDPC_DATA"));
    let threaded = match (&normal, size) {
        (Fact::Known { value, source }, Some(size)) => {
            Fact::known(value.plus(size.into()), source.as_str().to_owned())
        }
        (Fact::Missing { reason }, _) => Fact::missing(reason.clone()),
        (_, None) => Fact::missing("the size of KDPC_DATA in this kernel is not known"),
    };
    let inside = |queue: &Fact<VirtAddr>| -> Result<VirtAddr, String> {
        queue.get().ok_or_else(|| queue.reason().unwrap_or_default().to_owned())
    };
    let depth = |queue: &Fact<VirtAddr>| match inside(queue) {
        Ok(at) => Object::new(core, "_KDPC_DATA", at).u32("DpcQueueDepth"),
        Err(reason) => Fact::missing(reason),
    };
    DpcState {
        depth: depth(&normal),
        threaded_depth: depth(&threaded),
        routine_active: prcb.u8("DpcRoutineActive"),
        active: match inside(&normal) {
            Ok(at) => Object::new(core, "_KDPC_DATA", at).pointer("ActiveDpc"),
            Err(reason) => Fact::missing(reason),
        },
        stack: prcb.pointer("DpcStack"),
        time_count: prcb.u32("DpcTimeCount"),
        time_limit: prcb.u32("DpcTimeLimit"),
        watchdog_count: prcb.u32("DpcWatchdogCount"),
    }
}

fn vendor(bytes: Fact<[u8; 13]>) -> Fact<String> {
    let text = |raw: &[u8; 13]| -> Option<String> {
        let name = raw.split(|byte| *byte == 0).next()?;
        let plain = !name.is_empty() && name.iter().all(|byte| (0x20..0x7f).contains(byte));
        plain.then(|| String::from_utf8_lossy(name).into_owned())
    };
    match bytes {
        Fact::Known { value, source } => match text(&value) {
            Some(name) => Fact::Known { value: name, source },
            None => Fact::missing("KPRCB.VendorString is no text in this dump"),
        },
        Fact::Missing { reason } => Fact::Missing { reason },
    }
}

/// The kernel keeps the family in `CpuType`, model and stepping in the two bytes of `CpuStep`.
fn model(core: &Core, prcb: &Object<'_>) -> Fact<CpuModel> {
    if core.arch == Arch::Arm64 {
        return Fact::missing("family, model and stepping are those of x64 and x86");
    }
    let (family, step) = (prcb.u8("CpuType"), prcb.u16("CpuStep"));
    match (family, step) {
        (Fact::Known { value: family, source }, Fact::Known { value: step, .. }) => {
            let [stepping, model] = step.to_le_bytes();
            Fact::Known { value: CpuModel { family, model, stepping }, source }
        }
        (Fact::Missing { reason }, _) | (_, Fact::Missing { reason }) => Fact::Missing { reason },
    }
}
