//! Lines on the machine: version banner, uptime, processors, threads, Verifier, page tables, machine checks, pool.

use crate::draft::{RawModule, RawProcessor};
use crate::fields::{arch, machine_part};
use crate::reader::{Mode, Reader};
use crate::scan::{
    after, column, contains_ci, date, find_ci, first_decimal, number, strip_prefix_ci, uptime,
};
use stopcode_analysis::Topic;
use stopcode_base::{FileTime, VirtAddr};
use stopcode_kernel::{Hypervisor, Pte};

/// More processors than Windows supports are a mistake.
const MOST_PROCESSORS: u32 = 4096;
/// More page-table walks than anybody pastes.
const MOST_WALKS: usize = 1024;

/// Reads the line at `at`; 0 if it is not on the machine.
pub(crate) fn read(reader: &mut Reader<'_>, at: usize) -> usize {
    let line = reader.lines.trimmed(at);
    let known = system(reader, line)
        || identity(reader, line)
        || ipi(reader, line)
        || prcb(reader, line)
        || thread(reader, line)
        || verifier(reader, line)
        || findings(reader, line);
    if known { 1 } else { page_table(reader, at, line) }
}

/// `Windows 7 Kernel Version 7601 (Service Pack 1) MP (8 procs) Free x64` and the lines below it.
fn system(reader: &mut Reader<'_>, line: &str) -> bool {
    let draft = &mut reader.draft;
    if let Some((before, rest)) =
        line.split_once("Kernel Version ").filter(|(head, _)| head.starts_with("Windows"))
    {
        draft.build = draft.build.or(first_decimal(rest));
        let product = before.trim();
        if product != "Windows" && draft.product.is_none() {
            draft.product = Some(product.to_owned());
        }
        if let Some(count) = rest.split('(').find(|part| part.contains(" proc")).and_then(first_decimal) {
            draft.processor_count = draft.processor_count.or(Some(count));
        } else if rest.contains(" UP ") {
            draft.processor_count = draft.processor_count.or(Some(1));
        }
        let word = rest.split_once("Free ").or_else(|| rest.split_once("Checked ")).map(|(_, word)| word);
        let named = word.and_then(|word| {
            if contains_ci(word, "aarch64") { arch("arm64") } else { arch(word.split_whitespace().next()?) }
        });
        draft.arch = draft.arch.or(named);
        return true;
    }
    if let Some(rest) = after(line, "Built by").or_else(|| after(line, "Edition build lab")) {
        let mut parts = rest.split('.');
        let build: Option<u32> = parts.next().and_then(|build| build.parse().ok());
        draft.build = draft.build.or(build);
        let revision: Option<u32> = parts.next().and_then(|revision| revision.parse().ok());
        // From Windows 10 on this is the branch's first build (.1), whatever update is installed.
        if let (Some(build @ ..10_000), Some(revision)) = (build, revision) {
            let version = format!("{}.{build}.{revision}", stopcode_knowledge::nt_version(build));
            draft.os_version.get_or_insert((version, "Built by"));
        }
        return true;
    }
    if let Some(rest) = after(line, "Kernel base") {
        if let Some(start) = rest.split_whitespace().next().and_then(number) {
            draft.module(RawModule { display: "nt".to_owned(), start: Some(start), ..RawModule::default() });
        }
        return true;
    }
    if let Some(rest) = after(line, "System Uptime") {
        draft.uptime = draft.uptime.or(uptime(rest).map(|seconds| (seconds, "System Uptime")));
        return true;
    }
    if let Some(rest) = after(line, "Debug session time") {
        if let Some((time, offset)) = date(rest) {
            let shift = offset.unwrap_or(0) * 10_000_000;
            let source = if offset.is_some() {
                "Debug session time"
            } else {
                "Debug session time, of unknown time zone"
            };
            draft.crash_time.get_or_insert((FileTime(time.0.saturating_add_signed(-shift)), source));
        }
        return true;
    }
    if let Some(rest) = after(line, "Product").filter(|rest| rest.contains("suite")) {
        draft.server |= contains_ci(rest, "server") || contains_ci(rest, "LanManNt");
        return true;
    }
    after(line, "Machine Name").is_some()
}

/// Lines of `!sysinfo`, and keys of `!analyze`'s KEY_VALUES_STRING.
fn identity(reader: &mut Reader<'_>, line: &str) -> bool {
    const PARTS: [(&str, &str); 7] = [
        ("SystemManufacturer", "maker"),
        ("SystemProductName", "model"),
        ("BiosVendor", "bios vendor"),
        ("BiosVersion", "bios version"),
        ("BiosReleaseDate", "bios date"),
        ("System Manufacturer", "maker"),
        ("Product Name", "model"),
    ];
    for (label, part) in PARTS {
        if let Some(value) = after(line, label) {
            machine_part(reader, part, value);
            return true;
        }
    }
    if let Some(name) = after(line, "ProcessorNameString") {
        reader.draft.processor_name.get_or_insert_with(|| name.trim_matches(['"', ' ']).to_owned());
        return true;
    }
    if let Some(value) = after(line, "Key") {
        reader.key_is_hypervisor = value == "Hypervisor.Flags.AnyHypervisorPresent";
        return value.contains('.');
    }
    if let Some(value) = after(line, "Value") {
        if std::mem::take(&mut reader.key_is_hypervisor) {
            let kind = |value| if value == 0 { Hypervisor::Absent } else { Hypervisor::Present };
            let present = number(value).map(|value| (kind(value), "Hypervisor.Flags.AnyHypervisorPresent"));
            reader.draft.hypervisor = reader.draft.hypervisor.or(present);
        }
        return true;
    }
    false
}

/// `!ipi`: `IPI State for Processor 4`, `TargetCount     0 PacketBarrier    0 IpiFrozen   2 [Frozen]`.
fn ipi(reader: &mut Reader<'_>, line: &str) -> bool {
    if let Some(rest) = strip_prefix_ci(line, "IPI State for Processor") {
        reader.about = first_decimal(rest).filter(|number| *number < MOST_PROCESSORS);
        return reader.about.is_some();
    }
    let Some(number) = reader.about else { return false };
    let value = |label: &str| {
        line.split_once(label).and_then(|(_, rest)| first_decimal(rest.split_whitespace().next()?))
    };
    let frozen = value("IpiFrozen");
    let (targets, barrier) = (value("TargetCount"), value("PacketBarrier"));
    if frozen.is_none() && targets.is_none() && barrier.is_none() {
        return false;
    }
    let processor = reader.draft.processors.entry(number).or_default();
    processor.ipi_frozen = processor.ipi_frozen.or(frozen);
    if targets.is_some_and(|count| count != 0) || barrier.is_some_and(|count| count != 0) {
        reader.draft.remark(Topic::Other, format!("!ipi, processor {number}: {line}"));
    }
    true
}

/// `!prcb`, `!running`, `!irql`.
fn prcb(reader: &mut Reader<'_>, line: &str) -> bool {
    if let Some(rest) = strip_prefix_ci(line, "PRCB for Processor ") {
        let mut words = rest.split_whitespace();
        reader.about =
            words.next().and_then(|number| number.parse().ok()).filter(|number| *number < MOST_PROCESSORS);
        let address = words.find_map(|word| column(word.trim_end_matches(':')));
        if let (Some(number), Some(address)) = (reader.about, address) {
            reader.draft.processors.entry(number).or_default().prcb = Some(address.value);
        }
        return true;
    }
    if let Some(rest) = strip_prefix_ci(line, "Debugger saved IRQL for processor ") {
        let mut words = rest.split_whitespace();
        let processor = words.next().and_then(number).and_then(|number| u32::try_from(number).ok());
        let irql = words.find_map(|word| word.parse::<u8>().ok()).filter(|irql| *irql < 32);
        if let (Some(processor @ ..MOST_PROCESSORS), Some(irql)) = (processor, irql) {
            reader.draft.processors.entry(processor).or_default().irql = Some(irql);
        }
        return true;
    }
    if reader.mode == Mode::Running {
        return running(reader, line);
    }
    let Some(about) = reader.about else { return false };
    if let Some(rest) = strip_prefix_ci(line, "Threads--") {
        let processor = reader.draft.processors.entry(about).or_default();
        processor.thread = labelled(rest, "Current").or(processor.thread);
        processor.idle_thread = labelled(rest, "Idle").or(processor.idle_thread);
        return true;
    }
    false
}

/// A line of `!running`: `  0    fffff80002c4ee80  fffff80002c5ccc0 ( 0)      fffff80002c5ccc0`.
fn running(reader: &mut Reader<'_>, line: &str) -> bool {
    let mut words = line.split_whitespace();
    let number: Option<u32> =
        words.next().and_then(|word| word.parse().ok()).filter(|n| *n < MOST_PROCESSORS);
    let addresses: Vec<u64> = words.filter_map(column).map(|column| column.value).take(4).collect();
    let (Some(number), [prcb, thread, .., idle]) = (number, addresses.as_slice()) else { return false };
    let known = RawProcessor {
        prcb: Some(*prcb),
        thread: Some(*thread),
        idle_thread: Some(*idle),
        ..RawProcessor::default()
    };
    let processor = reader.draft.processors.entry(number).or_insert(known);
    processor.prcb = Some(*prcb);
    processor.thread = Some(*thread);
    processor.idle_thread = Some(*idle);
    true
}

/// The address that follows the word `label`.
fn labelled(line: &str, label: &str) -> Option<u64> {
    let mut words = line
        .split(|c: char| c.is_whitespace() || matches!(c, ':' | '=' | ','))
        .filter(|word| !word.is_empty());
    words.find(|word| word.eq_ignore_ascii_case(label))?;
    words.next().and_then(number).filter(|value| *value > 0xffff)
}

/// `!thread`, `!process`, and the fields of `_KTHREAD` that `dt` prints.
fn thread(reader: &mut Reader<'_>, line: &str) -> bool {
    if let Some(rest) = line.strip_prefix("THREAD ") {
        let address = rest.split_whitespace().next().and_then(column);
        reader.thread = address.map(|column| column.value);
        let first = reader.draft.thread.is_none();
        reader.draft.thread = reader.draft.thread.or(reader.thread.map(|thread| (thread, "!thread")));
        let process = rest.split_once("Cid ").and_then(|(_, ids)| number(ids.split('.').next()?));
        if first {
            reader.draft.process_id = reader.draft.process_id.or(process.map(|id| (id, "!thread")));
        }
        return address.is_some();
    }
    if let Some(rest) = line.strip_prefix("Owning Process") {
        let image =
            rest.split_once("Image:").map(|(_, image)| image.trim()).filter(|image| !image.is_empty());
        if let Some(image) = image {
            reader.draft.process.get_or_insert((image.to_owned(), "!thread"));
        }
        return true;
    }
    let (base, limit) = (labelled(line, "Base"), labelled(line, "Limit"));
    let is_limits = base.is_some() && limit.is_some();
    let base = base.filter(|_| is_limits).or_else(|| labelled(line, "StackBase"));
    let limit = limit.filter(|_| is_limits).or_else(|| labelled(line, "StackLimit"));
    if line.len() > 300 || (base.is_none() && limit.is_none()) {
        return line.starts_with("Stack Init ");
    }
    let source = if is_limits { "!thread" } else { "_KTHREAD" };
    reader.draft.stack_base = reader.draft.stack_base.or(base.map(|base| (base, source)));
    reader.draft.stack_limit = reader.draft.stack_limit.or(limit.map(|limit| (limit, source)));
    true
}

/// `!verifier`: `Verify Flags Level 0x000209bb`.
fn verifier(reader: &mut Reader<'_>, line: &str) -> bool {
    for label in ["Verify Flags Level", "Verify Level", "Verifier Flags"] {
        if let Some(rest) = strip_prefix_ci(line, label) {
            let flags = rest.split(|c: char| c.is_whitespace() || c == ':').find_map(number);
            let flags = flags.and_then(|flags| u32::try_from(flags).ok());
            reader.draft.verifier = reader.draft.verifier.or(flags);
            return flags.is_some();
        }
    }
    false
}

/// Machine-check records, pool blocks, code that differs: what other commands found.
fn findings(reader: &mut Reader<'_>, line: &str) -> bool {
    if let Some(rest) = after(line, "Status") {
        let token = rest.split_whitespace().next().unwrap_or_default();
        // MCi_STATUS has its valid bit, 63, set; NTSTATUS values have 32 bits.
        if let Some(status) = number(token).filter(|status| *status >> 63 == 1 && token.len() >= 16) {
            reader.draft.remark(Topic::MachineCheckStatus, format!("{status:#018x}"));
            return true;
        }
    }
    if let Some(rest) = after(line, "ExceptionAddress") {
        let address = rest.split_whitespace().next().and_then(number);
        reader.draft.exception_address = reader.draft.exception_address.or(address);
        return true;
    }
    if let Some(rest) = after(line, "ExceptionCode") {
        let code = rest.split_whitespace().next().and_then(number).map(|code| code as u32);
        reader.draft.exception_code = reader.draft.exception_code.or(code);
        return true;
    }
    if let Some((index, value)) = strip_prefix_ci(line, "Parameter[").and_then(|rest| rest.split_once("]:")) {
        if let (Ok(index @ 0..15), Some(value)) = (index.parse::<u32>(), number(value.trim())) {
            reader.draft.exception_parameters.entry(index).or_insert(value);
        }
        return true;
    }
    if after(line, "ExceptionFlags").is_some() || after(line, "NumberParameters").is_some() {
        return true;
    }
    if let Some(rest) = after(line, "Error").filter(|rest| rest.contains("_ERR") || rest.contains("Bank ")) {
        reader.draft.remark(Topic::Other, format!("machine check: {rest}"));
        return true;
    }
    if let Some((_, tag)) =
        line.rsplit_once(") *").filter(|_| line.starts_with('*') && line.contains("size:"))
    {
        reader.draft.remark(Topic::PoolTag, tag.split_whitespace().next().unwrap_or_default());
        return true;
    }
    if let Some(rest) = strip_prefix_ci(line, "Pooltag ") {
        reader.draft.remark(Topic::PoolTag, rest.split([':', ' ']).next().unwrap_or_default());
        return true;
    }
    let counted = first_decimal(line).is_some() && find_ci(line, " error").is_some_and(|at| at < 12);
    if counted && line.contains(" : ") && line.contains('!') {
        reader.draft.remark(Topic::CodeMismatch, line);
        return true;
    }
    false
}

/// `!pte`: the address, the places of its entries, their values.
fn page_table(reader: &mut Reader<'_>, at: usize, line: &str) -> usize {
    let Some(address) = line.strip_prefix("VA ").and_then(|rest| number(rest.trim())) else { return 0 };
    let places = reader.lines.trimmed(at + 1);
    let values = reader.lines.trimmed(at + 2);
    if !places.contains(" at ") || !values.starts_with("contains ") {
        return 1;
    }
    let place = |part: &str| {
        let (name, address) = part.split_once(" at ")?;
        let level = match name.split_whitespace().next_back()? {
            "PTE" => 1,
            "PDE" => 2,
            "PPE" | "PDPE" => 3,
            "PXE" | "PML4E" => 4,
            _ => return None,
        };
        Some((level, number(address.split_whitespace().next()?)?))
    };
    // `PXE at X    PPE at Y`: cut in front of each name.
    let mut parts = Vec::new();
    let words: Vec<&str> = places.split_whitespace().take(24).collect();
    for name in words.windows(3) {
        parts.extend(place(&name.join(" ")));
    }
    let values =
        values.split("contains ").skip(1).map(|text| text.split_whitespace().next().and_then(number));
    let mut entries: Vec<Pte> = parts
        .into_iter()
        .zip(values)
        .filter_map(|((level, place), value)| Some(Pte { level, address: VirtAddr(place), value: value? }))
        .collect();
    entries.sort_by_key(|entry| entry.level);
    if reader.draft.ptes.len() < MOST_WALKS {
        reader.draft.ptes.push((address, entries));
    }
    3
}
