//! What an address of the kernel's half belongs to.

use crate::core::Core;
use crate::facts::Processor;
use crate::paging;
use crate::processors::all;
use crate::stacks::ranges::of_processor;
use crate::threads::crashing;
use stopcode_base::{Arch, Fact, VirtAddr};
use stopcode_unwind::StackKind;

/// A part of the address space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// What it is.
    pub kind: RegionKind,
    /// Where it begins.
    pub start: VirtAddr,
    /// The first address past it.
    pub end: VirtAddr,
    /// What is more to say: the module's name, whose stack.
    pub name: Option<String>,
    /// The processor that it belongs to, where it does to one.
    pub processor: Option<u32>,
}

/// What a part of the address space is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// Below the kernel's half.
    User,
    /// No address the processor takes.
    NotCanonical,
    /// A loaded image.
    Image,
    /// Where an image was before it was unloaded; may be used for something else since.
    UnloadedImage,
    /// The kernel stack of a thread, or one of a processor's own.
    Stack,
    /// The page tables, seen through themselves.
    PageTables,
    /// `KUSER_SHARED_DATA`, as the kernel sees it.
    SharedUserData,
    /// A processor's KPCR and KPRCB.
    Processor,
    /// Paged pool.
    PagedPool,
    /// Nonpaged pool.
    NonPagedPool,
    /// The file cache.
    SystemCache,
    /// System PTEs: stacks, mapped memory, images.
    SystemPtes,
    /// Session space.
    Session,
    /// Hyperspace.
    Hyperspace,
}

impl RegionKind {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user space",
            Self::NotCanonical => "not a canonical address",
            Self::Image => "loaded image",
            Self::UnloadedImage => "where an unloaded image was",
            Self::Stack => "kernel stack",
            Self::PageTables => "page tables",
            Self::SharedUserData => "KUSER_SHARED_DATA",
            Self::Processor => "KPCR of a processor",
            Self::PagedPool => "paged pool",
            Self::NonPagedPool => "nonpaged pool",
            Self::SystemCache => "system cache",
            Self::SystemPtes => "system PTEs",
            Self::Session => "session space",
            Self::Hyperspace => "hyperspace",
        }
    }
}

/// What is fixed on every Windows of an architecture.
struct Fixed {
    /// Highest address of user space, past it.
    user_end: u64,
    /// `KUSER_SHARED_DATA` of the kernel's half.
    shared_user_data: u64,
    /// What the self-map takes at most: four levels of 64 bits, or x86's with the address extension.
    self_map_size: u64,
}

impl Fixed {
    const fn of(arch: Arch) -> Self {
        match arch {
            Arch::X86 => Self { user_end: 1 << 31, shared_user_data: 0xffdf_0000, self_map_size: 0x80_0000 },
            _ => Self {
                user_end: 0x0000_8000_0000_0000,
                shared_user_data: 0xffff_f780_0000_0000,
                self_map_size: 1 << 39,
            },
        }
    }
}

/// KPCR with KPRCB where the debugger data do not say how large that is.
const LEAST_PCR: u64 = 0x1000;

/// Ranges whose ends variables of the kernel hold, by the names KDBG gives these.
const BY_VARIABLES: [(&str, &str, RegionKind); 3] = [
    ("MmPagedPoolStart", "MmPagedPoolEnd", RegionKind::PagedPool),
    ("MmNonPagedPoolStart", "MmNonPagedPoolEnd", RegionKind::NonPagedPool),
    ("MmSystemCacheStart", "MmSystemCacheEnd", RegionKind::SystemCache),
];

/// The fixed parts of x64 Windows 7's kernel half. Later Windows moves them about. (Source: the published map of the
/// Windows 7 address space; the addresses in dumps of 7600 and 7601 fit it.)
const WINDOWS_7: [(u64, u64, RegionKind); 6] = [
    (0xffff_f680_0000_0000, 0xffff_f700_0000_0000, RegionKind::PageTables),
    (0xffff_f700_0000_0000, 0xffff_f780_0000_0000, RegionKind::Hyperspace),
    (0xffff_f880_0000_0000, 0xffff_f8a0_0000_0000, RegionKind::SystemPtes),
    (0xffff_f8a0_0000_0000, 0xffff_f8c0_0000_0000, RegionKind::PagedPool),
    (0xffff_f900_0000_0000, 0xffff_f980_0000_0000, RegionKind::Session),
    (0xffff_f980_0000_0000, 0xffff_fa80_0000_0000, RegionKind::SystemCache),
];

/// The part `address` is in; the narrowest that is known.
pub(crate) fn region(core: &Core, processors: &[Processor], address: VirtAddr) -> Fact<Region> {
    let at = |kind, start, end, name: Option<String>, source: &str| {
        let (start, end) = (VirtAddr(start), VirtAddr(end));
        Fact::known(Region { kind, start, end, name, processor: None }, source.to_owned())
    };
    let Fixed { user_end, shared_user_data, self_map_size } = Fixed::of(core.arch);
    if core.arch == Arch::X64 && !address.is_canonical() {
        return at(RegionKind::NotCanonical, user_end, 0xffff_8000_0000_0000, None, "bits 63 to 47 differ");
    }
    if address.0 < user_end {
        return at(RegionKind::User, 0, user_end, None, "below the kernel's half");
    }
    if let Some(module) = core.modules.iter().find(|module| module.contains(address)) {
        let name = Some(module.display.clone());
        return at(RegionKind::Image, module.base.0, module.end().0, name, "list of loaded modules");
    }
    let of_stack = stack(core, address).or_else(|| processors_stack(core, processors, address));
    if let Some(found) = of_stack.or_else(|| processor(core, address)) {
        return found;
    }
    if address.page().0 == shared_user_data {
        let end = shared_user_data + 0x1000;
        return at(RegionKind::SharedUserData, shared_user_data, end, None, "fixed address");
    }
    if let Some(base) = paging::pte_base(core)
        && address.0.wrapping_sub(base) < self_map_size
    {
        let source = if core.arch == Arch::X86 { "fixed address" } else { "PteBase" };
        return at(RegionKind::PageTables, base, base.wrapping_add(self_map_size), None, source);
    }
    if let Some(found) = by_variables(core, address) {
        return found;
    }
    if let Some(gone) = core.unloaded.iter().find(|gone| gone.start <= address && address < gone.end) {
        let name = Some(gone.name.clone());
        return at(RegionKind::UnloadedImage, gone.start.0, gone.end.0, name, "list of unloaded drivers");
    }
    let build = core.dump.header().minor_version;
    let fixed = WINDOWS_7.iter().find(|(start, end, _)| (*start..*end).contains(&address.0));
    match fixed.filter(|_| core.arch == Arch::X64 && (7600..=7601).contains(&build)) {
        Some((start, end, kind)) => at(*kind, *start, *end, None, "fixed map of Windows 7"),
        None => Fact::missing(
            "no module, stack or range that this dump tells of holds it; the map of this kernel's address space \
             (MiVisibleState) is not read",
        ),
    }
}

/// Every part that is known, each with what says so, by address.
pub(crate) fn regions(core: &Core, processors: &[Processor]) -> Vec<Fact<Region>> {
    let variables = BY_VARIABLES.iter().filter_map(|(start, _, _)| {
        core.kernel_pointer(VirtAddr(core.dump.kdbg()?.get(start).filter(|at| *at != 0)?))
    });
    let stacks = processors.iter().flat_map(|processor| {
        let own = processor.prcb.map(|prcb| of_processor(core, prcb)).unwrap_or_default();
        let current = processor.registers.as_ref().map(stopcode_base::Registers::stack_pointer);
        own.into_iter().map(|range| range.low).chain(current).collect::<Vec<_>>()
    });
    let limit = core.field("_KTHREAD", "StackLimit");
    let limit = crashing::thread(core).address.get().zip(limit);
    let inside = (core.modules.iter().map(|module| module.base))
        .chain(core.unloaded.iter().map(|module| module.start))
        .chain(processors.iter().filter_map(|processor| processor.prcb))
        .chain(stacks)
        .chain(limit.and_then(|(thread, offset)| core.pointer(thread.plus(offset)).ok()))
        .chain(variables)
        .chain(paging::pte_base(core).map(VirtAddr))
        .chain(WINDOWS_7.iter().map(|(start, _, _)| VirtAddr(*start)))
        .chain([VirtAddr(0), VirtAddr(Fixed::of(core.arch).shared_user_data)]);
    let mut found: Vec<Fact<Region>> = inside
        .map(|at| region(core, processors, at))
        .filter(|found| found.value().is_some_and(|region| region.kind != RegionKind::NotCanonical))
        .collect();
    let bounds = |found: &Fact<Region>| found.value().map(|region| (region.start, region.end));
    found.sort_by_key(bounds);
    found.dedup_by_key(|found| bounds(found));
    found
}

/// The stack of the thread that ran on the crashed processor, or of another processor's.
fn stack(core: &Core, address: VirtAddr) -> Option<Fact<Region>> {
    let threads =
        all::prcbs(core).filter_map(|(prcb, _)| core.pointer(prcb.plus(core.current_thread_offset())).ok());
    let own = crashing::thread(core).address.get();
    own.into_iter().chain(threads).filter(|thread| core.arch.is_kernel(*thread)).find_map(|thread| {
        let word = |field| core.pointer(thread.plus(core.field("_KTHREAD", field)?)).ok();
        let (start, end) = (word("StackLimit")?, word("StackBase")?);
        let name = Some(format!("thread {}", core.arch.windbg(thread)));
        (start <= address && address < end && core.arch.is_kernel(start)).then(|| {
            Fact::known(
                Region { kind: RegionKind::Stack, start, end, name, processor: None },
                "KTHREAD.StackLimit and StackBase",
            )
        })
    })
}

/// A stack that a processor takes for deferred procedure calls, interrupts or exceptions. Its top is what the processor
/// holds; how far it reaches down is inferred.
fn processors_stack(core: &Core, processors: &[Processor], address: VirtAddr) -> Option<Fact<Region>> {
    processors.iter().find_map(|processor| {
        let range = of_processor(core, processor.prcb?).into_iter().find(|range| range.contains(address))?;
        let (what, source) = match range.kind {
            StackKind::Dpc => ("DPC stack".to_owned(), "KPRCB.DpcStack"),
            StackKind::Isr => ("interrupt stack".to_owned(), "KPRCB.IsrStack"),
            StackKind::Exception => ("exception stack".to_owned(), "KPRCB.ExceptionStack"),
            StackKind::Ist(entry) => (format!("stack {entry} of the interrupt stack table"), "KPCR.TssBase"),
            StackKind::Thread | StackKind::Expanded | StackKind::Other => return None,
        };
        let name = Some(format!("processor {}, {what}", processor.number));
        let (start, end, number) = (range.low, range.high, Some(processor.number));
        let region = Region { kind: RegionKind::Stack, start, end, name, processor: number };
        Some(Fact::known(region, format!("its top: {source}; its size is inferred")))
    })
}

fn processor(core: &Core, address: VirtAddr) -> Option<Fact<Region>> {
    let before = core.kdbg_offset("OffsetPcrContainedPrcb").unwrap_or(0);
    let size = core.kdbg_offset("SizePrcb").unwrap_or(LEAST_PCR);
    all::prcbs(core).find_map(|(prcb, number)| {
        let (start, end) = (prcb.minus(before), prcb.plus(size));
        let name = Some(format!("processor {number}"));
        (start <= address && address < end).then(|| {
            let region = Region { kind: RegionKind::Processor, start, end, name, processor: Some(number) };
            Fact::known(region, "KiProcessorBlock")
        })
    })
}

/// What variables of the kernel bound, where the dump holds these.
fn by_variables(core: &Core, address: VirtAddr) -> Option<Fact<Region>> {
    let kdbg = core.dump.kdbg()?;
    let variable = |name| {
        let at = kdbg.get(name).filter(|at| *at != 0)?;
        core.kernel_pointer(VirtAddr(at))
    };
    BY_VARIABLES.iter().find_map(|(first, last, kind)| {
        let (start, last_byte) = (variable(first)?, variable(last)?);
        // Some kernels keep the last byte's address, others the one past it.
        let end = if last_byte.0 & 1 == 1 { last_byte.plus(1) } else { last_byte };
        (start <= address && address < end).then(|| {
            let region = Region { kind: *kind, start, end, name: None, processor: None };
            Fact::known(region, format!("{first} and {last}"))
        })
    })
}
