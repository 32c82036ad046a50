//! What was read of a crash → the crash as a witness: addresses joined with names, gaps named.

use crate::crash::Crash;
use crate::draft::{Draft, Origin, RawStack, RegisterSet, Said};
use crate::fields;
use crate::modules::settle as settle_modules;
use crate::names::Names;
use crate::prose;
use crate::site::is_user;
use crate::stacks::{self, settle as settle_stacks};
use std::collections::BTreeMap;
use stopcode_analysis::{Remark, Topic};
use stopcode_base::{Arch, Arm64Registers, Fact, Registers, VirtAddr, X64Registers, X86Registers};
use stopcode_kernel::{Context, Exception, Processor, System, Thread, Verifier};
use stopcode_knowledge as knowledge;

/// Makes the crash.
pub(crate) fn settle(mut draft: Draft) -> Crash {
    prose::study(&mut draft);
    draft.arch = draft.arch.or_else(|| guess_arch(&draft));
    name_arguments(&mut draft);
    let stop = draft.stop.as_ref().map(|(stop, _)| *stop);
    let crashed = crashed_processor(&draft);
    let context = context(&draft);
    let exception = exception(&draft, &context);
    let names = Names::new(&draft.image_names, &draft.exports_only);
    let system = system(&draft);
    let modules = settle_modules(&draft, &names, &system);
    let (stacks, sites) = settle_stacks(&draft, &names, &modules, crashed, context.value());
    let mut places = BTreeMap::new();
    let mut functions: BTreeMap<u64, u64> = BTreeMap::new();
    for (address, site) in &sites {
        places.insert(*address, names.place(site, is_user(*address)));
        if site.symbol.is_some() && site.offset <= *address {
            let last = functions.entry(address - site.offset).or_default();
            *last = (*last).max(*address);
        }
    }
    let remarks = remarks(&draft, &names, crashed);
    Crash {
        stop: stop.map(|stop| stop.value()),
        arguments_known: stop.map_or([false; 4], |stop| stop.arguments.map(|argument| argument.is_some())),
        told_by: draft.stop.as_ref().map_or("", |(_, source)| source),
        exception,
        context,
        stacks,
        modules,
        processors: processors(&draft, crashed),
        thread: thread(&draft),
        verifier: draft.verifier.map_or_else(
            || Fact::missing("the text shows no !verifier"),
            |flags| Fact::known(Verifier { flags }, "pasted !verifier"),
        ),
        remarks,
        places,
        functions,
        system,
        unloaded: draft.unloaded,
        bytes: draft.code,
        entries: draft.ptes,
    }
}

/// The architecture by the width of addresses and the names of registers.
fn guess_arch(draft: &Draft) -> Option<Arch> {
    let register = |name: &str| draft.registers.iter().any(|set| set.values.contains_key(name));
    match (draft.wide, draft.narrow) {
        _ if register("pc") && register("lr") => Some(Arch::Arm64),
        _ if register("rip") => Some(Arch::X64),
        _ if register("eip") => Some(Arch::X86),
        (true, _) => Some(Arch::X64),
        (false, true) => Some(Arch::X86),
        (false, false) => None,
    }
}

/// The argument of the bug check that is the address of an instruction, where there is one and it is known.
fn instruction_argument(draft: &Draft) -> Option<(u64, &'static str)> {
    const WORDS: [&str; 4] = ["Arg1", "Arg2", "Arg3", "Arg4"];
    let (stop, _) = draft.stop.as_ref()?;
    let known = knowledge::bug_check(stop.code)?;
    let subcode = known.selected_subcode(&stop.value().arguments);
    (1..=4_usize).zip(WORDS).zip(stop.arguments).zip(&known.params).find_map(
        |(((number, word), argument), param)| {
            let param = subcode.as_ref().and_then(|subcode| subcode.param(number)).unwrap_or(param);
            let fits = param.kind == knowledge::ParamKind::InstructionAddress;
            argument.filter(|argument| fits && *argument > 0xffff).map(|argument| (argument, word))
        },
    )
}

/// Joins the site of the fault, which is printed without its address, with the argument that holds the address.
fn name_arguments(draft: &mut Draft) {
    let Some(site) = draft.faulting_site.clone() else { return };
    if let Some((address, _)) =
        instruction_argument(draft).filter(|(address, _)| fields::fits(&site, *address))
    {
        draft.name(address, &site);
    }
}

/// The processor whose stack called KeBugCheckEx; else the one whose prompt `!analyze` was asked at; else the first
/// prompt's; without prompts the only one that ran while the others were frozen.
fn crashed_processor(draft: &Draft) -> Option<u32> {
    // A list of names without stack pointers may be of any thread, at any prompt.
    let whole =
        |stack: &&RawStack| stack.thread.is_none() && stack.frames.iter().any(|f| f.stack_pointer.is_some());
    let calls = |stack: &&RawStack| whole(stack) && stacks::calls_bug_check(stack);
    let by_stack = draft.stacks.iter().filter(calls).find_map(|stack| stack.processor);
    by_stack.or(draft.analyzed_on).or(draft.first_prompt).or_else(|| {
        let mut running = draft.processors.iter().filter(|(_, processor)| processor.ipi_frozen == Some(0));
        let others = draft.processors.values().any(|processor| processor.ipi_frozen == Some(2));
        let only = running.next().map(|(number, _)| *number);
        only.filter(|_| others && running.next().is_none())
    })
}

fn processors(draft: &Draft, crashed: Option<u32>) -> Vec<Processor> {
    let mut all = draft.processors.clone();
    if let Some(number) = crashed {
        let processor = all.entry(number).or_default();
        processor.irql = processor.irql.or(draft.current_irql);
    }
    let address = |address: Option<u64>| address.map(VirtAddr);
    all.into_iter()
        .map(|(number, raw)| Processor {
            number,
            prcb: address(raw.prcb),
            thread: address(raw.thread),
            idle_thread: address(raw.idle_thread),
            ipi_frozen: raw.ipi_frozen,
            registers: None,
            crashed: crashed == Some(number),
            irql: raw.irql,
        })
        .collect()
}

/// A fact from what was said, with its source in words.
fn fact<T: Clone>(said: Option<&(T, &'static str)>, reason: &'static str) -> Fact<T> {
    match said {
        Some((value, source)) => Fact::known(value.clone(), format!("pasted {source}")),
        None => Fact::missing(reason),
    }
}

fn thread(draft: &Draft) -> Thread {
    const NO_THREAD: &str = "the text shows no !thread";
    let address = |said: &Said<u64>| fact(said.as_ref(), NO_THREAD).map(VirtAddr);
    Thread {
        address: address(&draft.thread),
        stack_limit: address(&draft.stack_limit),
        stack_base: address(&draft.stack_base),
        process: fact(draft.process.as_ref(), "the text names no process"),
        process_id: fact(draft.process_id.as_ref(), NO_THREAD),
    }
}

fn system(draft: &Draft) -> System {
    let nt = draft.module_index.get("nt").and_then(|index| draft.modules.get(*index));
    let exact = nt.and_then(|nt| nt.version.clone()).map(|version| (version, "file version of nt"));
    let by_build =
        || draft.build.map(|build| (format!("{}.{build}", knowledge::nt_version(build)), "build number"));
    let os_version = exact.or_else(|| draft.os_version.clone()).or_else(by_build);
    let joined = |keys: &[&str]| {
        let parts: Vec<&str> =
            keys.iter().filter_map(|key| draft.machine_parts.get(key).map(String::as_str)).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    };
    // Every kernel from 22000 on still prints "Windows 10 Kernel": the build tells more than the banner.
    let product =
        draft.build.and_then(|build| knowledge::product_name(build, draft.server)).map(str::to_owned);
    System {
        os_version: fact(os_version.as_ref(), "the text names no version of Windows"),
        fingerprint: None,
        product: product.or_else(|| draft.product.clone()),
        build: draft.build,
        arch: draft.arch,
        processors: draft.processor_count.or_else(|| {
            let listed =
                u32::try_from(draft.processors.values().filter(|p| p.ipi_frozen.is_some()).count()).ok();
            listed.filter(|count| *count > 0)
        }),
        uptime_seconds: fact(draft.uptime.as_ref(), "the text has no System Uptime line"),
        crash_time: fact(draft.crash_time.as_ref(), "the text has no Debug session time line"),
        processor_name: draft.processor_name.clone(),
        microcode: None,
        machine: joined(&["maker", "model"]),
        firmware: joined(&["bios vendor", "bios version", "bios date"]),
        features: None,
        hypervisor: fact(draft.hypervisor.as_ref(), "the text does not tell"),
        live: fact(draft.live.as_ref(), "the text does not tell"),
    }
}

/// The exception, from the arguments where they hold one, else from the fields of `!analyze` and `.exr`.
fn exception(draft: &Draft, context: &Fact<Context>) -> Fact<Exception> {
    const IN_ARGUMENTS: [u32; 4] = [0x1e, 0x3b, 0x7e, 0x8e];
    let printed: Vec<u64> = draft.exception_parameters.values().copied().take(15).collect();
    if let Some((stop, _)) = &draft.stop {
        let base = knowledge::base_code(stop.code).base;
        if let ([Some(code), Some(address), third, fourth], true) =
            (stop.arguments, IN_ARGUMENTS.contains(&base))
        {
            // 0x1E has the exception's own parameters in Arg3 and Arg4.
            let parameters = match (base, third, fourth) {
                (0x1e, Some(third), Some(fourth)) if printed.is_empty() => vec![third, fourth],
                _ => printed,
            };
            let exception = Exception { code: code as u32, address: VirtAddr(address), parameters };
            return Fact::known(exception, "pasted !analyze, Arg1 and Arg2");
        }
    }
    let Some(code) = draft.exception_code else {
        return Fact::missing("the text names no exception");
    };
    let by_context = context.value().map(|context| context.registers.instruction().0);
    let by_argument = instruction_argument(draft).map(|(address, _)| address);
    match draft.exception_address.or(by_context).or(by_argument) {
        Some(address) => {
            let exception = Exception { code, address: VirtAddr(address), parameters: printed };
            Fact::known(exception, "pasted !analyze, EXCEPTION_CODE")
        }
        None => Fact::missing(format!("EXCEPTION_CODE {code:#x} is printed without its address")),
    }
}

/// The registers to judge: a selected context's before a bare `r`.
fn context(draft: &Draft) -> Fact<Context> {
    let selected = |set: &&RegisterSet| set.origin != Origin::Current;
    let of_caller = |set: &&RegisterSet| set.origin == Origin::Frame;
    let pointer = |set: &&RegisterSet| ["rip", "pc", "eip"].iter().any(|name| set.values.contains_key(*name));
    let sets: Vec<&RegisterSet> = draft.registers.iter().filter(|set| !of_caller(set)).collect();
    let Some(set) = sets
        .iter()
        .find(|set| selected(set) && pointer(set))
        .or_else(|| sets.iter().find(|set| pointer(set)))
        .or_else(|| sets.iter().find(|set| selected(set)))
        .or_else(|| sets.first())
        .copied()
    else {
        return Fact::missing("the text shows no registers");
    };
    let (mut origin, command, trap_frame) = match set.origin {
        Origin::Trap(Some(at)) => {
            (format!("trap frame at {:#}", VirtAddr(at)), format!(".trap {at:#x}"), Some(at))
        }
        Origin::Trap(None) => ("trap frame".to_owned(), ".trap".to_owned(), None),
        Origin::Context(Some(at)) => {
            (format!("context record at {:#}", VirtAddr(at)), format!(".cxr {at:#x}"), None)
        }
        Origin::Context(None) => ("context record".to_owned(), ".cxr".to_owned(), None),
        Origin::Current | Origin::Frame => ("pasted registers".to_owned(), "r".to_owned(), None),
    };
    let get = |name: &str| set.values.get(name).copied();
    let registers = if let Some(pc) = get("pc") {
        Registers::Arm64(arm64(set, pc))
    } else if let Some(rip) = get("rip") {
        Registers::X64(x64(set, rip))
    } else if let Some(eip) = get("eip") {
        Registers::X86(x86(set, eip))
    } else if get("eax").is_some() {
        return Fact::missing("the text shows 32-bit registers without eip");
    } else if let Some((rip, word)) = instruction_argument(draft).filter(|_| set.origin != Origin::Current) {
        origin.push_str(", rip from ");
        origin.push_str(word);
        Registers::X64(x64(set, rip))
    } else {
        return Fact::missing("the text shows registers without the instruction pointer");
    };
    let fault_address = get("cr2").or_else(|| fault_argument(draft)).or(draft.fault_address).map(VirtAddr);
    let known = known_registers(set, &registers);
    let context =
        Context { registers, known, origin, command, trap_frame: trap_frame.map(VirtAddr), fault_address };
    Fact::known(context, "pasted registers")
}

/// Which general registers the text tells, as bits. Of a trap frame the debugger prints zeros for the registers
/// that the frame does not hold (rbx, rsi, rdi, r12 to r15): these are not known.
fn known_registers(set: &RegisterSet, registers: &Registers) -> u32 {
    const NOT_IN_TRAP_FRAME: [usize; 7] = [3, 6, 7, 12, 13, 14, 15];
    let trap = matches!(set.origin, Origin::Trap(_));
    let all = registers.named();
    let told = all.iter().enumerate().filter(|(index, (name, value))| {
        let zeroed =
            trap && *value == 0 && NOT_IN_TRAP_FRAME.contains(index) && registers.arch() == Arch::X64;
        set.values.contains_key(name.as_str()) && !zeroed
    });
    told.fold(0, |bits, (index, _)| bits | 1_u32.checked_shl(index as u32).unwrap_or(0))
}

/// Arg1 of the bug checks whose first argument is the address that was touched.
fn fault_argument(draft: &Draft) -> Option<u64> {
    let (stop, _) = draft.stop.as_ref()?;
    matches!(knowledge::base_code(stop.code).base, 0x0a | 0x50 | 0xd1).then_some(stop.arguments[0]).flatten()
}

fn x64(set: &RegisterSet, rip: u64) -> X64Registers {
    let get = |name: &str| set.values.get(name).copied().unwrap_or_default();
    let mut registers =
        X64Registers { rip, cs: get("cs") as u16, ss: get("ss") as u16, ..X64Registers::default() };
    registers.eflags = get("efl").max(get("eflags")) as u32;
    for (slot, name) in registers.gpr.iter_mut().zip(X64Registers::NAMES) {
        *slot = get(name);
    }
    registers
}

fn x86(set: &RegisterSet, eip: u64) -> X86Registers {
    let get = |name: &str| set.values.get(name).copied().unwrap_or_default();
    let mut registers = X86Registers {
        eip: eip as u32,
        eflags: get("efl").max(get("eflags")) as u32,
        cs: get("cs") as u16,
        ss: get("ss") as u16,
        ..X86Registers::default()
    };
    for (slot, name) in registers.gpr.iter_mut().zip(X86Registers::NAMES) {
        *slot = get(name) as u32;
    }
    for (slot, name) in registers.data_segments.iter_mut().zip(X86Registers::DATA_SEGMENTS) {
        *slot = get(name) as u16;
    }
    registers
}

fn arm64(set: &RegisterSet, pc: u64) -> Arm64Registers {
    let get = |name: &str| set.values.get(name).copied();
    let mut registers = Arm64Registers { pc, sp: get("sp").unwrap_or_default(), ..Arm64Registers::default() };
    registers.cpsr = get("psr").or_else(|| get("cpsr")).unwrap_or_default() as u32;
    for (index, slot) in registers.x.iter_mut().enumerate() {
        let other = match index {
            29 => get("fp"),
            30 => get("lr"),
            _ => None,
        };
        *slot = get(&format!("x{index}")).or(other).unwrap_or_default();
    }
    registers
}

/// The remarks: whom the debugger blames first, then what was found in order.
fn remarks(draft: &Draft, names: &Names<'_>, crashed: Option<u32>) -> Vec<Remark> {
    let mut all = Vec::new();
    let by_module = || draft.blamed_module.as_deref().and_then(|module| names.image(module, false));
    if let Some(image) =
        draft.blamed_image.as_ref().map(|image| image.to_ascii_lowercase()).or_else(by_module)
    {
        all.push(Remark { topic: Topic::DebuggerBlame, text: image });
    }
    all.extend(draft.remarks.iter().cloned());
    let mut other = |text: String| all.push(Remark { topic: Topic::Other, text });
    if let Some((stop, _)) = &draft.stop {
        let lacking: Vec<String> =
            (1..).zip(stop.arguments).filter(|(_, a)| a.is_none()).map(|(n, _)| format!("Arg{n}")).collect();
        if !lacking.is_empty() {
            other(format!(
                "the text does not tell {} of the bug check; 0 stands for them",
                lacking.join(", ")
            ));
        }
    }
    if let (Some(irql), None) = (draft.current_irql, crashed) {
        other(format!("CURRENT_IRQL: {irql:x}"));
    }
    if let Some(code) = draft.exception_code {
        other(format!("EXCEPTION_CODE: {code:#x}"));
    }
    if let Some(set) = draft.registers.iter().find(|set| set.values.contains_key("eip")) {
        let shown = ["eip", "esp", "ebp"]
            .iter()
            .filter_map(|name| Some(format!("{name}={:08x}", set.values.get(*name)?)));
        other(format!("32-bit registers: {}", shown.collect::<Vec<_>>().join(" ")));
    }
    all
}
