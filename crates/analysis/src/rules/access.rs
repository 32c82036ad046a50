//! Exceptions and faults: 0xA, 0xD1, 0x50, 0x1E, 0x3B, 0x7E, 0x8E, 0xBE and their kin. Where did the instruction
//! stand, what did it touch, and could it have faulted the way the machine says?

use super::fault::{
    address_command, context_command, exception_command, fault_address, is_about_code, is_software,
    software_causes, squeeze,
};
use super::opcode::{self, Code};
use super::{cause_on_stack, driver_cause, firmware, memory, processor};
use crate::facts::{Facts, Standing, standing};
use crate::findings::{Cause, Findings, evidence};
use crate::verdict::{Basis, Class, Suspect, SuspectKind};
use crate::weights;
use stopcode_base::{VirtAddr, X64Registers};
use stopcode_image::{Access, AccessKind, Instruction, decode_x64, needs_leaf1_ecx};
use stopcode_kernel::{Hypervisor, StackKind, Trust};
use stopcode_knowledge::{self as knowledge, Category};

/// STATUS_ILLEGAL_INSTRUCTION.
const ILLEGAL_INSTRUCTION: u32 = 0xc000_001d;
/// STATUS_IN_PAGE_ERROR.
const IN_PAGE_ERROR: u32 = 0xc000_0006;
/// Below this an address is a null pointer plus the offset of a field.
const NULL_AREA: u64 = 0x1_0000;

pub(crate) fn rule(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stop) = &facts.stop else { return };
    if !is_about_code(stop) {
        return;
    }
    who_ran(facts, findings);
    let code = opcode::against_file(facts, findings);
    if code == Code::Changed {
        return; // an instruction that is not the one that was written: what it touched tells nothing
    }
    if super::stray::rule(facts, findings) {
        return; // what stands there was never meant as an instruction
    }
    if code == Code::NotCompared && opcode::looks_changed(facts, findings) {
        return;
    }
    let status = facts.exception().map(|exception| exception.code);
    if status == Some(ILLEGAL_INSTRUCTION) {
        illegal_instruction(facts, findings);
    } else if status == Some(IN_PAGE_ERROR) {
        in_page_error(facts, findings);
    } else if let Some(address) = fault_address(facts)
        && agreement(facts, findings, address) != Agreement::Impossible
    {
        touched(facts, findings, address);
    }
}

/// The module whose instruction raised it.
fn who_ran(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(address) = facts.code_address() else { return };
    let place = facts.place(address);
    let Some(image) = place.image.as_deref().filter(|_| !place.unloaded) else {
        outside_modules(facts, findings, address);
        return;
    };
    let label = place.label().unwrap_or_default();
    // The context may be of another moment than the exception.
    let at_the_fault = facts.context().filter(|context| context.registers.instruction() == address);
    let command = at_the_fault.map_or_else(|| exception_command(facts), |context| context.command.clone());
    let cause = cause_on_stack(facts, image);
    let text = format!("the instruction that faulted is {label}");
    match standing(image) {
        Standing::ThirdParty => {
            findings.supports(
                &cause,
                evidence(Basis::Context, weights::STRONG, text).shown_by(command).at(address),
            );
        }
        Standing::Carrier => {
            let text = format!("{text}: {image} works with what the drivers it carries hand to it");
            findings.supports(
                &Cause::of(Class::DriverBug),
                evidence(Basis::Context, weights::MODERATE, text.clone())
                    .shown_by(command.clone())
                    .at(address),
            );
            findings.supports(
                &cause,
                evidence(Basis::Context, weights::NOTED, text).shown_by(command).at(address),
            );
        }
        Standing::Inbox => {
            findings.supports(
                &cause,
                evidence(Basis::Context, weights::MODERATE, text).shown_by(command).at(address),
            );
            let text = format!("{image} comes with Windows and runs unchanged on a great many machines");
            findings.contradicts(
                &cause,
                evidence(Basis::Knowledge, weights::SLIGHT, text)
                    .shown_by(format!("lmvm {}", display(&place))),
            );
            if let Some(other) = facts.nearest_third_party() {
                let text = format!("{other} stands on the same stack and does not come with Windows");
                findings.contradicts(&cause, evidence(Basis::Stack, weights::SLIGHT, text).shown_by("k"));
            }
        }
        Standing::Core => {
            let text = format!("{text}: the kernel worked on what it was given");
            findings.supports(
                &cause,
                evidence(Basis::Context, weights::SLIGHT, text).shown_by(command).at(address),
            );
            callers_of_core(facts, findings);
        }
    }
}

/// A kernel function faulted: whoever gave it a bad pointer stands above it, or damaged the data before.
fn callers_of_core(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(stack) = facts.judged() else { return };
    if facts.standees(stack).any(|standee| standee.standing == Standing::ThirdParty) {
        return; // `suspects` weighs it
    }
    let depth = stack.frames.len();
    let command = if stack.kind == StackKind::Exception {
        format!("{}; k", context_command(facts))
    } else {
        "k".to_owned()
    };
    if depth < 4 {
        findings.missing("the stack below the fault: too few frames to tell who called".to_owned());
        return;
    }
    let text =
        format!("none of the {depth} frames found belongs to a driver that does not come with Windows");
    for (cause, weight) in [
        (memory(), weights::SLIGHT),
        (Cause::of(Class::PoolCorruptionByDriver), weights::SLIGHT),
        (processor(), weights::NOTED),
    ] {
        findings.supports(&cause, evidence(Basis::Stack, weight, text.clone()).shown_by(command.clone()));
    }
}

/// Control went where no module is.
fn outside_modules(facts: &Facts<'_>, findings: &mut Findings, address: VirtAddr) {
    let lists_the_kernel = facts.witness.modules().iter().any(|m| standing(&m.image) == Standing::Core);
    if !facts.is_dump() && !lists_the_kernel {
        return; // a text without the list of modules shows nothing by naming none
    }
    let text = format!(
        "the instruction pointer {} lies in no module: control went through a bad pointer",
        address.windbg()
    );
    let item = |weight| {
        evidence(Basis::Context, weight, text.clone()).shown_by(format!("ln {address:#}")).at(address)
    };
    findings.supports(&Cause::of(Class::PoolCorruptionByDriver), item(weights::SLIGHT));
    if facts.witness.modules().iter().any(|module| near_by_one_bit(module.base, module.end(), address)) {
        findings.supports(&memory(), item(weights::CLEAR));
    }
}

/// One flipped bit away from the range, and not in it.
fn near_by_one_bit(low: VirtAddr, high: VirtAddr, address: VirtAddr) -> bool {
    (12..64).any(|bit| {
        let other = VirtAddr(address.0 ^ (1 << bit));
        other >= low && other < high
    })
}

/// What kind of address was touched.
fn touched(facts: &Facts<'_>, findings: &mut Findings, address: VirtAddr) {
    let command = address_command(facts);
    let item =
        |basis, weight, text: String| evidence(basis, weight, text).shown_by(command.clone()).at(address);
    if address.0 < NULL_AREA || address.0 > u64::MAX - NULL_AREA && address.0 != u64::MAX {
        let signed = address.0 as i64;
        let sign = if signed < 0 { "-" } else { "" };
        let text = format!(
            "it touched {sign}{:#x}, a null pointer plus the offset of a field: the mark of missing checks, not of flipped bits",
            signed.unsigned_abs()
        );
        let causes = software_causes(findings);
        for cause in causes {
            findings.supports(&cause, item(Basis::Arguments, weights::SLIGHT, text.clone()));
        }
        for cause in [memory(), processor()] {
            findings.contradicts(&cause, item(Basis::Arguments, weights::MODERATE, text.clone()));
        }
    }
}

/// Whether the instruction explains the fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Agreement {
    Explained,
    Impossible,
    NotChecked,
}

/// Could this instruction have faulted at this address? If not, somebody else raised it or the processor erred.
fn agreement(facts: &Facts<'_>, findings: &mut Findings, address: VirtAddr) -> Agreement {
    let (Some(instruction), Some(context)) = (facts.instruction(), facts.context()) else {
        if facts.is_dump() && facts.code_address().is_some() {
            findings.missing("the bytes of the faulting instruction: not in this dump".to_owned());
        }
        return Agreement::NotChecked;
    };
    if facts.code_address() != Some(instruction.address) || instruction.address == address {
        return Agreement::NotChecked; // another instruction, or the fetch itself faulted
    }
    let known: Vec<(&Access, VirtAddr)> =
        instruction.accesses.iter().filter_map(|a| Some((a, a.address?))).collect();
    if known.len() != instruction.accesses.len() {
        return Agreement::NotChecked; // an address needs a register or segment base that the context does not hold
    }
    let command = format!("{}; {}; u {:#} L1", address_command(facts), context.command, instruction.address);
    let at = instruction.address;
    if known.iter().any(|(access, at)| explains(access.size, *at, address)) {
        let text =
            format!("`{}` does touch that address: record and registers agree", squeeze(&instruction.text));
        for cause in software_causes(findings) {
            findings.supports(
                &cause,
                evidence(Basis::CodeBytes, weights::NOTED, text.clone()).shown_by(command.clone()).at(at),
            );
        }
        return Agreement::Explained;
    }
    if null_base(facts, instruction, address) {
        let text = format!(
            "`{}` touches {} where its base register is null; the registers at hand hold something else, so they are not those of the moment",
            squeeze(&instruction.text),
            address.windbg()
        );
        for cause in software_causes(findings) {
            let item = evidence(Basis::CodeBytes, weights::SLIGHT, text.clone());
            findings.supports(&cause, item.shown_by(command.clone()).at(at));
        }
        findings.missing(
            "the registers at the moment of the fault: those found contradict the address that was touched",
        );
        return Agreement::Explained;
    }
    let general_protection = address.0 == u64::MAX;
    if instruction.privileged && general_protection {
        return Agreement::NotChecked; // a privileged instruction may raise #GP for its operands
    }
    let what = match known.first() {
        None => "touches no memory at all".to_owned(),
        Some((access, at)) => {
            let kind = match access.kind {
                AccessKind::Write => "a plain store",
                AccessKind::Read => "a plain load",
                AccessKind::ReadWrite => "a read and write",
            };
            format!("is {kind} of {} bytes at {}, a canonical address", access.size, at.windbg())
        }
    };
    let text = format!(
        "`{}` {what}; the record says the fault was at {}: this instruction cannot have raised it by itself",
        squeeze(&instruction.text),
        if general_protection { "-1 (no address: not a page fault)".to_owned() } else { address.windbg() },
    );
    impossible(facts, findings, &text, &command, at);
    Agreement::Impossible
}

/// With null in its registers, would the instruction touch just this address? Then the fault is a null pointer's, and what
/// the registers hold was read at another moment.
fn null_base(facts: &Facts<'_>, instruction: &Instruction, address: VirtAddr) -> bool {
    if address.0 == 0 || address.0 >= NULL_AREA {
        return false;
    }
    let nulls = X64Registers { rip: instruction.address.0, ..X64Registers::default() };
    let bytes = facts.witness.bytes(instruction.address, 15);
    let decoded = decode_x64(&bytes, instruction.address, Some(&nulls.into()));
    decoded.is_some_and(|decoded| {
        decoded.accesses.iter().any(|access| {
            access.address.is_some_and(|at| address.0.wrapping_sub(at.0) < access.size.max(1) as u64)
        })
    })
}

/// Touching `size` bytes at `at` faults at `address`: there, or in the next page if the access crosses into it. A general
/// protection fault gives no address (-1) and needs one that is not canonical.
fn explains(size: usize, at: VirtAddr, address: VirtAddr) -> bool {
    if address.0 == u64::MAX {
        return !at.is_canonical();
    }
    let size = size.max(1) as u64;
    let within = address.0.wrapping_sub(at.0) < size;
    // Windows may report the start of the page that the fault was in.
    within
        || at.page() == address
        || at.plus(size - 1).page() == address.page() && at.page() != address.page()
}

/// A fault that the instruction cannot raise: the hypervisor or firmware injected it, or the processor erred.
fn impossible(facts: &Facts<'_>, findings: &mut Findings, text: &str, command: &str, at: VirtAddr) {
    let item = |weight| evidence(Basis::CodeBytes, weight, text).shown_by(command).at(at);
    let system = facts.witness.system();
    let hypervisor = Cause::by(
        Class::OsBug,
        Suspect { kind: SuspectKind::Os, module: None, name: "the hypervisor below Windows".to_owned() },
    );
    if let Some((Hypervisor::Present | Hypervisor::Root, source)) = system.hypervisor.known_with_source() {
        findings.supports(&hypervisor, item(weights::MODERATE));
        findings.supports(&firmware(), item(weights::MODERATE));
        findings.supports(&processor(), item(weights::SLIGHT));
        let role = match system.hypervisor.get() {
            Some(Hypervisor::Root) => "this Windows is Hyper-V's root partition",
            _ => "a hypervisor runs below this Windows",
        };
        let text = format!(
            "{role} ({source}): an access that the hypervisor refuses comes back as an exception the instruction could not raise alone"
        );
        findings.supports(
            &hypervisor,
            evidence(Basis::Environment, weights::SLIGHT, text).shown_by("!cpuinfo; lm"),
        );
    } else {
        findings.supports(&processor(), item(weights::CLEAR));
        findings.supports(&firmware(), item(weights::SLIGHT));
    }
    trap_entry(facts, findings, &hypervisor);
    firmware_set_up(facts, findings);
    let weaker = evidence(Basis::CodeBytes, weights::MODERATE, text).shown_by(command).at(at);
    let names_a_driver =
        |cause: &Cause| is_software(cause.class) && cause.suspect.as_ref().is_none_or(|s| s.module.is_some());
    findings.contradicts_all(names_a_driver, &weaker);
}

/// Which of the kernel's trap entries took the exception: an access fault comes through the page-fault or the general-protection
/// entry and no other.
fn trap_entry(facts: &Facts<'_>, findings: &mut Findings, hypervisor: &Cause) {
    let Some(stack) = facts.bug_check_stack() else { return };
    let entry = stack.frames.windows(2).find_map(|pair| match pair {
        [entry, interrupted] if interrupted.trust == Trust::TrapFrame => Some(entry),
        _ => None,
    });
    let Some((entry, symbol)) = entry.and_then(|e| Some((e, e.place.symbol.as_deref()?))) else { return };
    if !symbol.starts_with("Ki")
        || ["KiPageFault", "KiGeneralProtectionFault"].iter().any(|usual| symbol.starts_with(usual))
    {
        return;
    }
    let text = format!("the exception came through nt!{symbol}, which no plain memory access leads to");
    for cause in [hypervisor, &firmware()] {
        findings.supports(
            cause,
            evidence(Basis::Stack, weights::SLIGHT, text.clone()).shown_by("k").at(entry.instruction),
        );
    }
}

/// Seconds after start, drivers of power, chipset and buses work on what firmware describes and maps.
fn firmware_set_up(facts: &Facts<'_>, findings: &mut Findings) {
    const START_SECONDS: f64 = 60.0;
    let Some(uptime) = facts.witness.system().uptime_seconds.get().filter(|seconds| *seconds < START_SECONDS)
    else {
        return;
    };
    let Some(address) = facts.code_address() else { return };
    let Some(image) = facts.place(address).image else { return };
    let Some(driver) = knowledge::driver(&image) else { return };
    if !matches!(driver.category, Category::Power | Category::Chipset | Category::Bus) {
        return;
    }
    let text = format!("it happened {uptime:.1} seconds after start, while devices are set up");
    findings.supports(&firmware(), evidence(Basis::Environment, weights::SLIGHT, text).shown_by(".time"));
    let text = format!(
        "{image} ({}) works on registers and tables that firmware describes to it (ACPI)",
        driver.product
    );
    findings
        .supports(&firmware(), evidence(Basis::Modules, weights::SLIGHT, text).shown_by(super::lmvm(&image)));
    let frames = facts.judged().map_or(0, |stack| {
        stack.frames.iter().take_while(|frame| frame.place.image.as_deref() == Some(image.as_str())).count()
    });
    if frames > 1 {
        let text = format!(
            "the {frames} innermost frames all belong to {image}: it was at its own work, not called into by another driver"
        );
        findings.supports(
            &driver_cause(facts, &image),
            evidence(Basis::Stack, weights::SLIGHT, text).shown_by("k"),
        );
    }
}

/// An illegal instruction that is none: the processor read or decoded something else than memory holds.
fn illegal_instruction(facts: &Facts<'_>, findings: &mut Findings) {
    let Some(address) = facts.code_address() else { return };
    let command = format!("u {address:#} L1");
    match facts.instruction().filter(|instruction| instruction.address == address) {
        Some(instruction) if instruction.mnemonic.starts_with("ud") => {
            let text =
                format!("`{}` is there to raise this exception on purpose", squeeze(&instruction.text));
            let causes = software_causes(findings);
            for cause in causes {
                findings.supports(
                    &cause,
                    evidence(Basis::CodeBytes, weights::SLIGHT, text.clone())
                        .shown_by(command.clone())
                        .at(address),
                );
            }
        }
        Some(instruction) => {
            if lacks_feature(facts, findings, address) {
                return;
            }
            let text = format!(
                "the processor called the instruction at {} illegal, but memory holds `{}` there, a valid one",
                address.windbg(),
                squeeze(&instruction.text)
            );
            findings.supports(
                &processor(),
                evidence(Basis::CodeBytes, weights::CLEAR, text.clone())
                    .shown_by(command.clone())
                    .at(address),
            );
            findings.supports(
                &memory(),
                evidence(Basis::CodeBytes, weights::SLIGHT, text).shown_by(command).at(address),
            );
        }
        None if facts.is_dump() && !facts.witness.bytes(address, 15).is_empty() => {
            let text = format!(
                "the bytes at {} are no instruction: the code is damaged or control went astray",
                address.windbg()
            );
            findings.supports(
                &memory(),
                evidence(Basis::CodeBytes, weights::MODERATE, text.clone())
                    .shown_by(command.clone())
                    .at(address),
            );
            findings.supports(
                &processor(),
                evidence(Basis::CodeBytes, weights::SLIGHT, text).shown_by(command).at(address),
            );
        }
        None => findings.missing("the bytes of the illegal instruction: not in this dump".to_owned()),
    }
}

/// The instruction belongs to a set that this processor does not have: the driver was built for newer ones.
fn lacks_feature(facts: &Facts<'_>, findings: &mut Findings, address: VirtAddr) -> bool {
    let system = facts.witness.system();
    let Some((bit, name)) = needs_leaf1_ecx(&facts.witness.bytes(address, 15)) else { return false };
    if system.features.is_none_or(|features| features >> bit & 1 != 0) {
        return false;
    }
    let Some(image) = facts.place(address).image else { return false };
    let text = format!(
        "the instruction needs {name}, which this processor ({}) does not have (CPUID leaf 1, ECX bit {bit}): {image} is built for newer processors",
        system.processor_name.as_deref().unwrap_or("its name is not in the dump"),
    );
    let item = evidence(Basis::CodeBytes, weights::DECISIVE, text)
        .shown_by(format!("u {address:#} L1; !cpuinfo"))
        .at(address);
    findings.supports(&driver_cause(facts, &image), item);
    true
}

/// Data could not be paged in: the storage, or memory compression.
fn in_page_error(facts: &Facts<'_>, findings: &mut Findings) {
    let status = facts.exception().and_then(|e| e.parameters.get(2)).copied();
    let name = status.and_then(|s| knowledge::ntstatus(s as u32)).map(|s| s.name);
    let text = match (status, name) {
        (Some(status), Some(name)) => {
            format!("a page could not be read back: {:#010x} {name}", status as u32)
        }
        _ => "a page could not be read back from storage".to_owned(),
    };
    findings.supports(
        &super::hardware(Class::StorageHardware, "disk, its cable or controller"),
        evidence(Basis::Context, weights::STRONG, text).shown_by(exception_command(facts)),
    );
}

fn display(place: &stopcode_kernel::Place) -> &str {
    place.display.as_deref().unwrap_or_default()
}
