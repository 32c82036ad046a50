//! Fields of `!analyze` (`NAME: value`) and register dumps.

use crate::draft::{Draft, Origin, RawModule, RegisterSet};
use crate::frame::Layout;
use crate::reader::{Mode, Reader};
use crate::scan::{field, number, prompt, strip_prefix_ci};
use crate::site::{self, Site};
use crate::stacks;
use stopcode_analysis::Topic;
use stopcode_base::Arch;

/// `LiveDumpGeneratedDump` of the dump header's attributes.
const LIVE_DUMP: u64 = 1 << 4;

/// Reads the field `name` at line `at`; the number of lines it takes.
pub(crate) fn read(reader: &mut Reader<'_>, at: usize, name: &str, value: &str) -> usize {
    // A field ends whatever a command printed before.
    if !matches!(reader.mode, Mode::Pointers | Mode::Units(_)) {
        reader.mode = Mode::Other;
    }
    let (value, lines) = match value {
        "" => next_value(reader, at),
        _ => (value.to_owned(), 1),
    };
    let value = value.split("<-").next().unwrap_or_default().trim();
    let first = value.split_whitespace().next().unwrap_or_default();
    match name {
        "STACK_TEXT" => {
            let layout = Layout::default();
            return 1 + stacks::read(reader, at + 1, Some(layout), true);
        }
        "CHKIMG_EXTENSION" => return 1 + chkimg(reader, at + 1),
        "TRAP_FRAME" => {
            reader.origin = Some(Origin::Trap(number(first)));
            return 1;
        }
        "CONTEXT" => {
            reader.origin = Some(Origin::Context(number(first)));
            return 1;
        }
        "FAULTING_IP" => {
            let site = site::field_site(value);
            if reader.draft.faulting_site.is_none() {
                reader.draft.faulting_site.clone_from(&site);
            }
            reader.label = site;
            return lines;
        }
        "FOLLOWUP_IP" => {
            reader.label = site::field_site(value);
            return lines;
        }
        "FAILED_INSTRUCTION_ADDRESS" | "EXCEPTION_RECORD" => return 1,
        _ => {}
    }
    crash_field(reader, name, value, first);
    system_field(reader, name, value, first);
    blame_field(reader, name, first);
    // A value in the next line belongs to the fields that are known to put it there; all others end with the line.
    if lines > 1 && !takes_next_line(name) { 1 } else { lines }
}

fn takes_next_line(name: &str) -> bool {
    matches!(
        name,
        "FAILURE_BUCKET_ID" | "BUCKET_ID" | "SYMBOL_NAME" | "IMAGE_NAME" | "MODULE_NAME" | "PROCESS_NAME"
    )
}

/// The value of a field that has none on its own line: the next line, unless that is something else.
fn next_value(reader: &Reader<'_>, at: usize) -> (String, usize) {
    for below in 1..=2 {
        let line = reader.lines.trimmed(at + below);
        if line.is_empty() {
            continue;
        }
        let own = field(line).is_some() || prompt(line).is_some();
        return if own { (String::new(), 1) } else { (line.to_owned(), below + 1) };
    }
    (String::new(), 1)
}

/// Fields on what happened.
fn crash_field(reader: &mut Reader<'_>, name: &str, value: &str, first: &str) {
    let draft = &mut reader.draft;
    match name {
        "EXCEPTION_CODE" => {
            let long = |token: &&str| token.trim_start_matches("0x").len() >= 6;
            let code = value.split_whitespace().filter(long).find_map(number);
            draft.exception_code = draft.exception_code.or(code.map(|code| code as u32));
        }
        "EXCEPTION_PARAMETER1" | "EXCEPTION_PARAMETER2" => {
            let index = u32::from(name.ends_with('2'));
            if let Some(value) = number(first) {
                draft.exception_parameters.entry(index).or_insert(value);
            }
        }
        // Without types the debugger first prints where it looked for its own variables: `…: Unable to get …`.
        "READ_ADDRESS" | "WRITE_ADDRESS" | "EXECUTE_ADDRESS" if !value.contains("Unable to") => {
            let address = value.split_whitespace().filter(|token| token.len() >= 4).find_map(number);
            draft.fault_address = draft.fault_address.or(address);
        }
        "PROCESS_NAME" if !value.is_empty() => {
            draft.process.get_or_insert((value.to_owned(), "PROCESS_NAME"));
        }
        "CURRENT_IRQL" => {
            let irql = number(first).and_then(|irql| u8::try_from(irql).ok()).filter(|irql| *irql < 32);
            draft.current_irql = draft.current_irql.or(irql);
        }
        "FAULTING_THREAD" => {
            draft.thread = draft.thread.or(number(first).map(|thread| (thread, "FAULTING_THREAD")));
        }
        "FREED_POOL_TAG" => draft.remark(Topic::PoolTag, first),
        "BAD_PAGES_DETECTED" => {
            if let Some(pages) = number(first) {
                draft.remark(Topic::BadPages, format!("{pages:#x}"));
            }
        }
        "MEMORY_CORRUPTOR" => draft.remark(Topic::CodeMismatch, format!("MEMORY_CORRUPTOR: {value}")),
        "BUGCHECKING_DRIVER" => draft.image_name(first),
        _ if name.starts_with("BLACKBOX") => draft.remark(Topic::BlackBox, format!("{name}: {value}")),
        _ if name.starts_with("SINGLE_BIT_ERROR") || name.starts_with("TWO_BIT_ERROR") => {
            draft.remark(Topic::CodeMismatch, format!("{name}: {value}"));
        }
        "POSSIBLE_INVALID_CONTROL_TRANSFER" | "BAD_STACK_POINTER" | "STACK_OVERFLOW" | "STACKPTR_ERROR" => {
            draft.remark(Topic::Other, format!("{name}: {value}"));
        }
        _ => {}
    }
}

/// Fields on the system.
fn system_field(reader: &mut Reader<'_>, name: &str, value: &str, first: &str) {
    let draft = &mut reader.draft;
    match name {
        "OS_VERSION" | "BUILD_VERSION_STRING" if first.matches('.').count() >= 2 => {
            let source = if name == "OS_VERSION" { "OS_VERSION" } else { "BUILD_VERSION_STRING" };
            let build = first.split('.').nth(2).and_then(|build| build.parse().ok());
            draft.build = draft.build.or(build);
            // OS_VERSION is the version of the branch. From Windows 10 on updates do not change it: machines of
            // different updates print the same 10.0.22621.2506.
            if name != "OS_VERSION" || build.is_some_and(|build: u32| build < 10_000) {
                draft.os_version.get_or_insert((first.to_owned(), source));
            }
        }
        "DUMP_FILE_ATTRIBUTES" => {
            let live = number(first).map(|attributes| attributes & LIVE_DUMP != 0);
            draft.live = draft.live.or(live.map(|live| (live, "DUMP_FILE_ATTRIBUTES")));
        }
        "OSBUILD" => draft.build = draft.build.or(first.parse().ok()),
        "OSPLATFORM_TYPE" => draft.arch = draft.arch.or(arch(first)),
        "CPU_COUNT" => {
            let count = number(first).and_then(|count| u32::try_from(count).ok());
            draft.processor_count =
                draft.processor_count.or(count.filter(|count| (1..=4096).contains(count)));
        }
        "SYSTEM_MANUFACTURER" => machine_part(reader, "maker", value),
        "SYSTEM_PRODUCT_NAME" => machine_part(reader, "model", value),
        "BIOS_VENDOR" => machine_part(reader, "bios vendor", value),
        "BIOS_VERSION" => machine_part(reader, "bios version", value),
        "BIOS_DATE" => machine_part(reader, "bios date", value),
        "FAULTING_MODULE" => {
            let mut words = value.split_whitespace();
            if let (Some(start), Some(display)) = (words.next().and_then(number), words.next()) {
                draft.module(RawModule {
                    display: display.to_owned(),
                    start: Some(start),
                    ..RawModule::default()
                });
            }
        }
        _ => {}
    }
}

/// Notes one part of the machine's identity.
pub(crate) fn machine_part(reader: &mut Reader<'_>, part: &'static str, value: &str) {
    if !value.is_empty() {
        reader.draft.machine_parts.entry(part).or_insert_with(|| value.to_owned());
    }
}

/// An architecture by a debugger's word for it.
pub(crate) fn arch(word: &str) -> Option<Arch> {
    match word.trim().to_ascii_lowercase().as_str() {
        "x64" | "amd64" => Some(Arch::X64),
        "x86" | "i386" => Some(Arch::X86),
        "arm64" | "aarch64" => Some(Arch::Arm64),
        _ => None,
    }
}

/// Fields on whom the debugger blames.
fn blame_field(reader: &mut Reader<'_>, name: &str, first: &str) {
    let draft = &mut reader.draft;
    match name {
        "IMAGE_NAME" if !first.is_empty() => {
            draft.image_name(first);
            draft.blamed_image.get_or_insert_with(|| first.to_owned());
        }
        "MODULE_NAME" if !first.is_empty() => {
            draft.blamed_module.get_or_insert_with(|| first.to_owned());
        }
        "SYMBOL_NAME" => {
            if let Some((module, _)) = first.split_once(['!', '+']).filter(|(module, _)| !module.is_empty()) {
                draft.blamed_module.get_or_insert_with(|| module.to_owned());
            }
        }
        "FAILURE_BUCKET_ID" | "BUCKET_ID" => bucket(draft, first),
        "DEBUG_FLR_IMAGE_TIMESTAMP" => {
            let stamp = number(first).and_then(|stamp| u32::try_from(stamp).ok()).filter(|stamp| *stamp != 0);
            draft.blamed_stamp = draft.blamed_stamp.or(stamp);
        }
        "IMAGE_VERSION" if first.contains('.') => {
            draft.blamed_version.get_or_insert_with(|| first.to_owned());
        }
        _ => {}
    }
}

/// The debugger's bucket: `AV_driver!Function`, `0x5A_c0000428_IMAGE_driver.sys`, `LKD_0x141_Tdr:6_IMAGE_driver.sys_Arch`,
/// `0x9F_3_POWER_DOWN_Service_IMAGE_pci.sys`, whose service is the driver that the debugger found in the power request.
fn bucket(draft: &mut Draft, value: &str) {
    if value.starts_with("LKD_") {
        draft.live.get_or_insert((true, "FAILURE_BUCKET_ID"));
    }
    let Some((before, image)) = value.split_once("_IMAGE_") else { return };
    let end = image.find(".sys").or_else(|| image.find(".exe")).or_else(|| image.find(".dll"));
    if let Some(image) = end.and_then(|end| image.get(..end + 4)) {
        draft.image_name(image);
        draft.blamed_image.get_or_insert_with(|| image.to_owned());
    }
    let holder = strip_prefix_ci(before, "0x9F_3_").map(|rest| {
        ["POWER_DOWN_", "POWER_UP_"].iter().find_map(|words| rest.strip_prefix(words)).unwrap_or(rest)
    });
    if let Some(holder) = holder.filter(|holder| !holder.is_empty()) {
        draft.remark(Topic::RequestHolder, holder);
    }
}

/// The differences that `!chkimg` lists from line `at` on; the number of lines they take.
fn chkimg(reader: &mut Reader<'_>, at: usize) -> usize {
    const LONGEST: usize = 400;
    let mut taken = 0;
    let mut place: Option<String> = None;
    for below in 0..LONGEST {
        let line = reader.lines.trimmed(at + below);
        let head = line.split([' ', '-']).next().unwrap_or_default();
        if line.starts_with('[') {
            let text = format!("{} {line}", place.take().unwrap_or_default());
            reader.draft.remark(Topic::CodeMismatch, text);
        } else if line.contains(" - ") && number(head).is_some_and(|address| address > 0xffff) {
            place = Some(line.to_owned());
        } else if line.contains(" error") && line.contains(" : ") {
            reader.draft.remark(Topic::CodeMismatch, line);
            return below + 1;
        } else if !line.is_empty() {
            break;
        }
        taken = below + 1;
    }
    taken
}

/// A line of registers (`rax=0000000000000004 rbx=…`); 1 if line `at` is one.
pub(crate) fn registers(reader: &mut Reader<'_>, at: usize) -> usize {
    let line = reader.lines.trimmed(at);
    if line.split_whitespace().next().is_none_or(|token| register(token).is_none()) {
        return 0;
    }
    for (name, value) in line.split_whitespace().filter_map(register) {
        let current = reader.draft.registers.last();
        let fresh = reader.origin.is_some() || current.is_none_or(|set| set.values.contains_key(&name));
        if fresh {
            let origin = reader.origin.take().unwrap_or_default();
            reader.draft.registers.push(RegisterSet { origin, ..RegisterSet::default() });
        }
        if let Some(set) = reader.draft.registers.last_mut() {
            set.values.insert(name, value);
        }
    }
    1
}

/// A register and its value from `rip=fffff88006dd6c8f`.
fn register(token: &str) -> Option<(String, u64)> {
    const OTHERS: [&str; 35] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rip", "rsp", "rbp", "eax", "ebx", "ecx", "edx", "esi",
        "edi", "eip", "esp", "ebp", "efl", "eflags", "cs", "ss", "ds", "es", "fs", "gs", "iopl", "fp", "lr",
        "sp", "pc", "psr", "cpsr", "cr2", "errcode",
    ];
    let (name, value) = token.split_once('=')?;
    let name = name.to_ascii_lowercase();
    let numbered = name.strip_prefix(['r', 'x']).and_then(|digits| digits.parse::<u32>().ok());
    let known = OTHERS.contains(&name.as_str()) || numbered.is_some_and(|number| number <= 31);
    let value = number(value).filter(|_| known && !value.is_empty())?;
    Some((name, value))
}

/// The site of the fault as `!analyze` names it, for an address that the arguments tell.
pub(crate) fn fits(site: &Site, address: u64) -> bool {
    // Images lie on page boundaries: an offset from a module must agree in its last twelve bits.
    site.symbol.is_some() || address & 0xfff == site.offset & 0xfff
}
