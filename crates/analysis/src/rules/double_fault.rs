//! 0x7F with Arg1 8: the processor could not deliver an exception. Nearly always because the kernel stack had run
//! out; limits and page tables prove it, a Child-SP just under a page line only suggests it.

use super::fault::context_command;
use super::{driver_cause, processor};
use crate::facts::{Facts, Standing, standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class};
use crate::weights;
use crate::witness::Topic;
use stopcode_base::{Registers, VirtAddr};
use stopcode_kernel::{Frame, Pte, RegionKind, Stack};
use stopcode_knowledge::{self as knowledge, Category};

/// What the processor pushes for an exception: five words and an error code.
const EXCEPTION_PUSH: u64 = 0x30;
/// The trap frame that nt's handlers build below it.
const TRAP_FRAME: u64 = 0x190;
const PAGE: u64 = 0x1000;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    if stop.base != 0x7f || stop.arg(1) != 8 {
        return;
    }
    let Some(pointer) = stack_pointer_at_fault(facts) else {
        findings.missing("the stack pointer at the fault: neither arguments nor stack tell it".to_owned());
        generic(findings);
        shallow_stack(facts, findings);
        products(facts, findings);
        return;
    };
    match limits(facts) {
        Some((limit, base)) => against_limits(facts, findings, pointer, limit, base),
        None => match known_stack(facts, pointer).filter(|held| held.holds(pointer)) {
            Some(held) => against(facts, findings, pointer, &held),
            None => against_page_line(facts, findings, pointer),
        },
    }
    refute_frozen(facts, findings);
    who_used_the_stack(facts, findings);
    verifiers_part(facts, findings);
    shallow_stack(facts, findings);
    first_exception(facts, findings);
    products(facts, findings);
    other_readings(findings);
}

/// The interrupted stack pointer: Arg3 on Windows 10 1809 and later (beside the trap frame in Arg2), before that
/// from the frame below the double-fault handler. The forms tell themselves apart: older Windows passes CR0 and CR4.
fn stack_pointer_at_fault(facts: &Facts<'_>) -> Option<VirtAddr> {
    let stop = facts.stop.as_ref()?;
    let (frame, pointer) = (VirtAddr(stop.arg(2)), VirtAddr(stop.arg(3)));
    if frame.is_kernel() && pointer.is_kernel() {
        return Some(pointer);
    }
    let (stack, index) = interrupted(facts)?;
    stack.frames.get(index).map(|frame| frame.stack_pointer).filter(|pointer| pointer.is_kernel()).or_else(
        || {
            let context = facts.context()?;
            let Registers::X64(registers) = &context.registers else { return None };
            (registers.rip == stop.arg(4)).then(|| VirtAddr(registers.rsp()))
        },
    )
}

/// The frame that the double fault interrupted: at the address in Arg4, or the one below the handler.
fn interrupted<'w>(facts: &Facts<'w>) -> Option<(&'w Stack, usize)> {
    let rip = VirtAddr(facts.stop.as_ref()?.arg(4));
    let find = |is: &dyn Fn(&Frame) -> bool| {
        facts.witness.stacks().iter().find_map(|stack| Some((stack, stack.frames.iter().position(is)?)))
    };
    let at_address = |frame: &Frame| rip.0 != 0 && frame.instruction == rip;
    let handler = |frame: &Frame| {
        frame.place.symbol.as_deref().is_some_and(|symbol| symbol.starts_with("KiDoubleFaultAbort"))
    };
    find(&at_address).or_else(|| find(&handler).map(|(stack, index)| (stack, index + 1)))
}

fn limits(facts: &Facts<'_>) -> Option<(VirtAddr, VirtAddr)> {
    let thread = facts.witness.thread();
    let (limit, base) = (thread.stack_limit.get()?, thread.stack_base.get()?);
    (limit < base).then_some((limit, base))
}

fn overflow() -> Cause {
    Cause::of(Class::KernelStackOverflow)
}

/// A stack that the pointer may have stood on.
struct Held {
    /// Whose it is: `the thread's stack`.
    whose: String,
    limit: VirtAddr,
    base: VirtAddr,
    /// What the lower end is called.
    end: &'static str,
    /// The command that shows it.
    command: String,
}

impl Held {
    /// True if the pointer lies in it, or in the page below, where that of a stack that ran out lies.
    fn holds(&self, pointer: VirtAddr) -> bool {
        pointer.plus(PAGE) >= self.limit && pointer < self.base
    }
}

/// The stack of the crashed processor that is at an address. On those of others it never runs.
fn known_stack(facts: &Facts<'_>, at: VirtAddr) -> Option<Held> {
    let crashed = facts.witness.processors().iter().find(|processor| processor.crashed)?.number;
    let region =
        facts.witness.region(at).value().cloned().filter(|region| region.processor == Some(crashed))?;
    let whose = region.name.filter(|_| region.kind == RegionKind::Stack)?;
    Some(Held {
        whose: format!("the stack of {whose}"),
        limit: region.start,
        base: region.end,
        end: "its end",
        command: format!("!address {at:#}"),
    })
}

/// With the limits of a stack: at or under the limit, or so near that what an exception pushes crosses it. A deferred
/// procedure call runs on a stack of the processor, whatever the thread's limits say.
fn against_limits(
    facts: &Facts<'_>,
    findings: &mut Findings,
    pointer: VirtAddr,
    limit: VirtAddr,
    base: VirtAddr,
) {
    let whose = "the thread's stack".to_owned();
    let threads = Held { whose, limit, base, end: "StackLimit", command: "!thread".to_owned() };
    let others = || [pointer, pointer.plus(PAGE)].into_iter().find_map(|at| known_stack(facts, at));
    if threads.holds(pointer) {
        against(facts, findings, pointer, &threads);
    } else if let Some(other) = others().filter(|other| other.holds(pointer)) {
        against(facts, findings, pointer, &other);
    } else {
        outside(facts, findings, pointer, &threads);
    }
}

/// The pointer lies on no stack: one bit of it may have flipped.
fn outside(facts: &Facts<'_>, findings: &mut Findings, pointer: VirtAddr, threads: &Held) {
    let text = format!(
        "the stack pointer {} lies outside the thread's stack {} to {}: another stack, or a damaged pointer",
        pointer.windbg(),
        threads.limit.windbg(),
        threads.base.windbg()
    );
    let command = format!("{}; !thread", context_command(facts));
    findings.supports(
        &Cause::of(Class::DriverBug),
        evidence(Basis::Memory, weights::SLIGHT, text.clone()).shown_by(command.clone()).at(pointer),
    );
    let turned = (3..64).map(|bit| (bit, VirtAddr(pointer.0 ^ 1 << bit)));
    let near = turned.filter(|(_, whole)| whole.is_kernel()).find_map(|(bit, whole)| {
        if (threads.limit..threads.base).contains(&whole) {
            return Some((bit, threads.whose.clone(), command.clone()));
        }
        let held = known_stack(facts, whole)?;
        Some((bit, held.whose, format!("{command}; {}", held.command)))
    });
    let Some((bit, whose, command)) = near else { return };
    let text = format!("{text}; one flipped bit (bit {bit}) away from {whose}");
    let command = format!("{command}; ? {pointer:#} ^ {:#x}", 1_u64 << bit);
    let item = evidence(Basis::Memory, weights::CLEAR, text);
    findings.supports(&processor(), item.shown_by(command).with_bit(bit).at(pointer));
}

/// The pointer stands on this stack: how near its end?
fn against(facts: &Facts<'_>, findings: &mut Findings, pointer: VirtAddr, held: &Held) {
    let Held { limit, base, whose, end, .. } = held;
    let (p, l) = (pointer.windbg(), format!("{end} {}", limit.windbg()));
    let size = base.0 - limit.0;
    let command = format!("{}; {}", context_command(facts), held.command);
    let room = pointer.offset_from(*limit);
    if room.is_none_or(|room| room < EXCEPTION_PUSH + TRAP_FRAME) {
        let where_to = match room {
            None => format!("{:#x} bytes below {l}, in the guard page", limit.0 - pointer.0),
            Some(0) => format!("exactly at {l}: the next push goes into the guard page"),
            Some(room) => format!("{room:#x} bytes above {l}, less than an exception needs"),
        };
        let text = format!(
            "the stack pointer at the fault, {p}, is {where_to}; {whose} of {size:#x} bytes was used up"
        );
        findings.supports(
            &overflow(),
            evidence(Basis::Memory, weights::DECISIVE, text).shown_by(command).at(pointer),
        );
        guard_page(facts, findings, *limit);
        return;
    }
    let room = room.unwrap_or_default();
    let text = format!("the stack pointer {p} had {room:#x} bytes left above {l}: the stack had not run out");
    findings.contradicts(
        &overflow(),
        evidence(Basis::Memory, weights::STRONG, text.clone()).shown_by(command.clone()).at(pointer),
    );
    findings.supports(
        &Cause::of(Class::DriverBug),
        evidence(Basis::Memory, weights::SLIGHT, text.clone()).shown_by(command.clone()),
    );
    findings.supports(&processor(), evidence(Basis::Memory, weights::SLIGHT, text).shown_by(command));
}

/// The page-table entry below the limit is empty and the one at the limit is not: the guard page is shown.
fn guard_page(facts: &Facts<'_>, findings: &mut Findings, limit: VirtAddr) {
    let below = limit.minus(PAGE);
    let level1 = |at| facts.witness.page_table_entries(at).into_iter().find(|entry: &Pte| entry.level == 1);
    match (level1(below), level1(limit)) {
        (Some(guard), top) if !guard.valid() => {
            let lowest = match top {
                Some(top) if top.valid() => {
                    format!(", while the lowest stack page is mapped ({:#x})", top.value)
                }
                _ => String::new(),
            };
            let text = format!(
                "the page below the stack, {}, is not mapped (PTE {:#x}){lowest}: the guard page",
                below.windbg(),
                guard.value
            );
            findings.supports(
                &overflow(),
                evidence(Basis::Memory, weights::MODERATE, text)
                    .shown_by(format!("!pte {below:#}; !pte {limit:#}"))
                    .at(below),
            );
        }
        (Some(mapped), _) => {
            let text = format!(
                "the page below StackLimit is mapped (PTE {:#x}): the limit is not the stack's end",
                mapped.value
            );
            findings.contradicts(
                &overflow(),
                evidence(Basis::Memory, weights::CLEAR, text).shown_by(format!("!pte {below:#}")).at(below),
            );
        }
        (None, _) => findings.missing(format!(
            "the page-table entry of {}: not in this dump; it would show the guard page",
            below.windbg()
        )),
    }
}

/// Without limits: where in its page the pointer lies, and whether its caller lies in the next.
fn against_page_line(facts: &Facts<'_>, findings: &mut Findings, pointer: VirtAddr) {
    findings.missing(
        "the thread's StackLimit and StackBase (`!thread`): they would settle whether the stack ran out"
            .to_owned(),
    );
    let line = pointer.page().plus(PAGE);
    let caller = facts
        .witness
        .stacks()
        .iter()
        .flat_map(|stack| &stack.frames)
        .filter(|frame| frame.stack_pointer > pointer && frame.stack_pointer.0 - pointer.0 < 2 * PAGE)
        .min_by_key(|frame| frame.stack_pointer);
    let below = line.0 - pointer.0;
    let command = "k";
    let item = |weight, text: String| evidence(Basis::Stack, weight, text).shown_by(command).at(pointer);
    if pointer.0.is_multiple_of(PAGE) {
        let text = format!(
            "the stack pointer at the fault, {}, is exactly a page's start: the next push leaves the page",
            pointer.windbg()
        );
        findings.supports(&overflow(), item(weights::STRONG, text));
    } else if let Some(caller) = caller.filter(|caller| caller.stack_pointer >= line && below < 0x400) {
        let text = format!(
            "Child-SP {} of the faulting frame lies {below:#x} bytes below the page line {}, its caller's {} above it: \
             the frame had just crossed into a new page, as a stack does that runs out",
            pointer.windbg(),
            line.windbg(),
            caller.stack_pointer.windbg()
        );
        findings.supports(&overflow(), item(weights::CLEAR, text));
    } else if below < 0x200 || pointer.0 % PAGE < EXCEPTION_PUSH + TRAP_FRAME {
        let text =
            format!("the stack pointer at the fault, {}, lies at the edge of a page", pointer.windbg());
        findings.supports(&overflow(), item(weights::LIKELY, text));
    } else {
        let text = format!(
            "a double fault is most often a kernel stack that ran out; the pointer {} alone does not show it",
            pointer.windbg()
        );
        findings.supports(&overflow(), item(weights::MODERATE, text));
    }
}

/// Without a stack pointer: what double faults mostly are.
fn generic(findings: &mut Findings) {
    let text = "a double fault (Arg1 8) is most often a kernel stack that ran out";
    findings.supports(&overflow(), evidence(Basis::Arguments, weights::MODERATE, text).shown_by(".bugcheck"));
    other_readings(findings);
}

/// How old a driver is: before the crash where its time is known, else by date alone.
fn age(facts: &Facts<'_>, findings: &mut Findings, cause: &Cause, image: &str) {
    const YEAR_SECONDS: f64 = 365.25 * 86_400.0;
    let Some(linked) = facts.module(image).and_then(|module| module.link_date.get()) else { return };
    let crash = facts.witness.system().crash_time.get();
    let years = crash
        .map(|crash| (crash.unix_seconds() - linked.unix_seconds()) as f64 / YEAR_SECONDS)
        .map(f64::floor)
        .filter(|years| *years >= 2.0);
    let text = match years {
        Some(years) => {
            format!("{image} was linked on {}, {years:.0} years before the crash", linked.date_text())
        }
        None => format!("{image} was linked on {}", linked.date_text()),
    };
    let command = super::lmvm(image);
    findings.supports(cause, evidence(Basis::Modules, weights::NOTED, text).shown_by(command));
}

/// A stack that is walked to its end and shallow: it cannot have run out.
fn shallow_stack(facts: &Facts<'_>, findings: &mut Findings) {
    /// Kernel stacks have 0x3000 bytes at least (x86), 0x6000 on x64.
    const SHALLOW: u64 = 0x1800;
    const ENTRIES: [&str; 5] = [
        "KiSystemService",
        "KiSystemCall64",
        "KiFastCallEntry",
        "KiStartSystemThread",
        "KxStartSystemThread",
    ];
    let Some(stack) = facts.judged() else { return };
    let start = interrupted(facts).map_or(0, |(_, index)| index);
    let frames = stack.frames.get(start..).unwrap_or_default();
    let is_entry = |frame: &&Frame| {
        frame
            .place
            .symbol
            .as_deref()
            .is_some_and(|symbol| ENTRIES.iter().any(|entry| symbol.starts_with(entry)))
    };
    let (Some(inner), Some(entry)) = (frames.first(), frames.iter().find(is_entry)) else { return };
    // An expanded stack is left by a switch, and what the walk shows of it may be shallow.
    let expanded = frames.iter().any(|frame| {
        frame
            .place
            .symbol
            .as_deref()
            .is_some_and(|symbol| symbol.contains("KernelStack") || symbol.contains("SwitchStack"))
    });
    let depth = entry.stack_pointer.0.checked_sub(inner.stack_pointer.0).filter(|depth| *depth < SHALLOW);
    let Some(depth) = depth.filter(|_| !expanded && inner.stack_pointer.0 != 0) else { return };
    let text = format!(
        "the stack is walked down to the thread's entry ({}) and only {depth:#x} bytes deep: it had not run out",
        entry.place.label().unwrap_or_default()
    );
    let item = |weight| evidence(Basis::Stack, weight, text.clone()).shown_by("kf");
    findings.contradicts(&overflow(), item(weights::STRONG));
    findings.supports(&processor(), item(weights::MODERATE));
    findings.supports(&super::memory(), item(weights::SLIGHT));
}

/// An exception was being dispatched when the double fault came: the oldest one on the stack began it all.
fn first_exception(facts: &Facts<'_>, findings: &mut Findings) {
    let Some((stack, start)) = interrupted(facts) else { return };
    let frames = stack.frames.get(start..).unwrap_or_default();
    let is_entry = |frame: &Frame| {
        frame.place.symbol.as_deref().is_some_and(|symbol| {
            symbol.starts_with("Ki") && (symbol.ends_with("Trap") || symbol.ends_with("Fault"))
        })
    };
    let dispatching = frames.iter().any(|frame| frame.place.symbol.as_deref() == Some("KiDispatchException"));
    let Some(raiser) = frames.iter().rposition(is_entry).and_then(|entry| frames.get(entry + 1)) else {
        return;
    };
    let Some(image) = raiser.place.image.as_deref().filter(|_| dispatching) else { return };
    let label = raiser.place.label().unwrap_or_default();
    let text = format!(
        "{label} had raised an exception, and the double fault came while Windows handled that: the first exception is the one to explain"
    );
    let weight = if standing(image) == Standing::ThirdParty { weights::CLEAR } else { weights::SLIGHT };
    findings.supports(
        &driver_cause(facts, image),
        evidence(Basis::Stack, weight, text).shown_by("k").at(raiser.instruction),
    );
}

/// Filters that are known to be there deepen every file and network operation.
fn products(facts: &Facts<'_>, findings: &mut Findings) {
    let stacked: Vec<&str> = facts
        .judged()
        .into_iter()
        .flat_map(|stack| &stack.frames)
        .filter_map(|f| f.place.image.as_deref())
        .collect();
    let maker_on_stack = |product: &str| {
        let word = product.split(' ').next().unwrap_or_default();
        stacked.iter().filter_map(|image| knowledge::driver(image)).any(|driver| driver.vendor.contains(word))
    };
    let named = facts.witness.remarks().iter().filter(|remark| remark.topic == Topic::Product);
    let named = named.filter(|remark| !maker_on_stack(&remark.text));
    for product in named.map(|remark| remark.text.as_str()).take(3) {
        let text = format!(
            "the text names {product}: present by what it says, not on the stack shown; such filters deepen file and network operations"
        );
        findings.supports(&overflow(), evidence(Basis::Environment, weights::NOTED, text).shown_by("lm"));
    }
    let filters = facts.witness.modules().iter().map(|module| module.image.as_str()).filter(|image| {
        !stacked.contains(image)
            && knowledge::driver(image)
                .is_some_and(|driver| !driver.inbox && driver.category == Category::Antivirus)
    });
    let filters: Vec<&str> = filters.take(4).collect();
    let vendor = filters.first().and_then(|image| knowledge::driver(image)).map(|driver| driver.vendor);
    if !filters.is_empty() {
        let text = format!(
            "{} ({}) {} loaded, though not seen on the stack: such filters deepen file operations",
            filters.join(", "),
            vendor.as_deref().unwrap_or("an antivirus product"),
            if filters.len() == 1 { "is" } else { "are" }
        );
        let command = filters.iter().map(|image| super::lmvm(image)).collect::<Vec<_>>().join("; ");
        findings.supports(&overflow(), evidence(Basis::Modules, weights::NOTED, text).shown_by(command));
    }
}

fn other_readings(findings: &mut Findings) {
    let text = "a double fault can also come from a processor that lost its way";
    findings.supports(&processor(), evidence(Basis::Knowledge, weights::NOTED, text).shown_by(".bugcheck"));
    let text =
        "or from code that set the stack pointer wrongly, which hooks and hypervisors of third parties do";
    findings.supports(
        &Cause::of(Class::DriverBug),
        evidence(Basis::Knowledge, weights::NOTED, text).shown_by(".bugcheck"),
    );
}

/// Frozen processors obeyed the bug check: they are no cause. Taken up where somebody holds the theory or `!ipi` is shown.
fn refute_frozen(facts: &Facts<'_>, findings: &mut Findings) {
    let frozen = facts.witness.processors().iter().filter(|p| p.ipi_frozen == Some(2)).count();
    let all = facts.witness.processors().len();
    if frozen == 0 {
        return;
    }
    let theory = facts.witness.remarks().iter().any(|remark| remark.topic == Topic::Theory);
    let opening = if theory {
        "the theory that the other processors hung because they could not take an interrupt does not hold: "
    } else {
        ""
    };
    let text = format!(
        "{opening}IpiFrozen 2 [Frozen] on {frozen} of {all} processors only says that they obeyed the freeze every bug check sends after \
         the fault; it is the picture of every healthy dump and no sign of an interrupt that was not answered"
    );
    let weight = if theory { weights::SLIGHT } else { weights::NOTED };
    findings.supports(&overflow(), evidence(Basis::Environment, weight, text).shown_by("!ipi"));
}

/// Bytes per module on the stack that ran out, largest first.
fn who_used_the_stack(facts: &Facts<'_>, findings: &mut Findings) {
    let Some((stack, start)) = interrupted(facts) else { return };
    let frames = stack.frames.get(start..).unwrap_or_default();
    let mut used: Vec<(&str, &str, u64)> = Vec::new();
    for pair in frames.windows(2) {
        let [inner, outer] = pair else { continue };
        let bytes = outer.stack_pointer.0.saturating_sub(inner.stack_pointer.0);
        // What lies in a gap belongs to frames that were not found.
        let measured = bytes < 0x1_0000 && !outer.gap_before;
        let Some(image) = inner.place.image.as_deref().filter(|_| measured) else { continue };
        match used.iter_mut().find(|(name, ..)| *name == image) {
            Some((.., sum)) => *sum += bytes,
            None => used.push((image, inner.place.display.as_deref().unwrap_or(image), bytes)),
        }
    }
    used.sort_by_key(|(.., bytes)| std::cmp::Reverse(*bytes));
    let total: u64 = used.iter().map(|(.., bytes)| bytes).sum();
    if total > 0 {
        let shares = used.iter().take(4).map(|(_, name, bytes)| format!("{name} {bytes} bytes"));
        let shares: Vec<String> = shares.collect();
        let text = format!("of the stack below the fault the frames shown use: {}", shares.join(", "));
        let shown = format!("{}; !stackusage", context_command(facts));
        findings.supports(&overflow(), evidence(Basis::Stack, weights::NOTED, text).shown_by(shown));
        if total < 0x5000 {
            findings.missing(format!(
                "what used the rest of the stack: the frames shown account for {total:#x} bytes only"
            ));
        }
    }
    for image in
        used.iter().map(|(image, ..)| *image).filter(|image| standing(image) == Standing::ThirdParty).take(2)
    {
        let cause = driver_cause(facts, image);
        let label = frames
            .iter()
            .find(|frame| frame.place.image.as_deref() == Some(image))
            .and_then(|frame| frame.place.label())
            .unwrap_or_default();
        let text = format!(
            "{label} stands on the stack that ran out: it is part of the depth, which does not make it guilty"
        );
        findings.supports(&cause, evidence(Basis::Stack, weights::MODERATE, text).shown_by("kf"));
        age(facts, findings, &cause, image);
    }
}

/// Driver Verifier adds calls of its own to every call it watches.
fn verifiers_part(facts: &Facts<'_>, findings: &mut Findings) {
    let is_verifiers = |frame: &&Frame| {
        let symbol = frame.place.symbol.as_deref().unwrap_or_default();
        ["Verifier", "Vi", "Vf", "MmVerifier"].iter().any(|prefix| symbol.starts_with(prefix))
    };
    let shown = interrupted(facts)
        .and_then(|(stack, start)| stack.frames.get(start..))
        .and_then(|frames| frames.iter().find(is_verifiers));
    let flags = facts.witness.verifier().value().map_or(0, |verifier| verifier.flags);
    let item = if let Some(frame) = shown {
        let text = format!(
            "Driver Verifier's own checks stand on this stack ({}): they add frames that would not be there without it",
            frame.place.label().unwrap_or_default()
        );
        evidence(Basis::Verifier, weights::SLIGHT, text).shown_by("k")
    } else if flags != 0 {
        let text = format!(
            "Driver Verifier was on ({}): its checks add frames to every call that it watches, which would not be there without it",
            super::verifier::options(flags)
        );
        evidence(Basis::Verifier, weights::SLIGHT, text).shown_by("!verifier")
    } else {
        return;
    };
    findings.supports(&overflow(), item);
}
