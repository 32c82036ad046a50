//! What an analyst asks of every dump, answered from its raw bytes and then by the commands: no answer may be wrong, and
//! none unknown that the dump holds.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod raw;

use raw::Raw;
use serde_json::{Value, json};
use std::path::Path;
use stopcode_commands::{Session, Status, run};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;

/// What the raw bytes say.
#[derive(Clone, PartialEq, Debug)]
enum Expected {
    Number(u64),
    /// `None` for one that the dump does not hold.
    Numbers(Vec<Option<u64>>),
    Text(String),
    /// The dump does not hold it.
    Nothing,
}

impl From<Option<u64>> for Expected {
    fn from(value: Option<u64>) -> Self {
        value.map_or(Self::Nothing, Self::Number)
    }
}

impl From<u64> for Expected {
    fn from(value: u64) -> Self {
        Self::Number(value)
    }
}

impl From<&Expected> for Value {
    fn from(expected: &Expected) -> Self {
        let hex = |value: u64| json!(format!("{value:#x}"));
        match expected {
            Expected::Number(value) => hex(*value),
            Expected::Numbers(all) => all.iter().map(|one| one.map_or(Self::Null, hex)).collect(),
            Expected::Text(text) => json!({ "text": text }),
            Expected::Nothing => Self::Null,
        }
    }
}

struct Question {
    what: &'static str,
    line: String,
    /// A JSON pointer into the answer's data; `*` stands for every element, `-` for the page table's entry.
    pointer: &'static str,
    expected: Expected,
}

/// The questions of every dump, with answers by the file format's and the debugger data's offsets alone.
fn questions(raw: &Raw) -> Vec<Question> {
    let mut all = Vec::new();
    let mut ask = |what, line: &str, pointer, expected: Expected| {
        all.push(Question { what, line: line.to_owned(), pointer, expected });
    };
    ask("stop code", ".bugcheck", "/code", raw.file(0x38, 4).into());
    for (index, pointer) in
        ["/arguments/0", "/arguments/1", "/arguments/2", "/arguments/3"].into_iter().enumerate()
    {
        ask("argument", ".bugcheck", pointer, raw.file(0x40 + 8 * index, 8).into());
    }
    thread_and_process(raw, &mut ask);
    crashed_processor(raw, &mut ask);
    all_processors(raw, &mut ask);
    stack_and_pages(raw, &mut ask);
    secondary(raw, &mut ask);
    all
}

type Ask<'a> = dyn FnMut(&'static str, &str, &'static str, Expected) + 'a;

fn thread_and_process(raw: &Raw, ask: &mut Ask<'_>) {
    let thread = raw.thread();
    let by_kdbg = |at: u64, size: usize| Some(raw.kdbg(at, size)).filter(|offset| *offset != 0);
    let word = |offset: Option<u64>| Expected::from(offset.map(|offset| thread.get(offset, 8)));
    ask("crashing thread", "!thread", "/address", raw.thread_address().into());
    // Windows 8.1 has the same limits' places as every later kernel, and its debugger data say so.
    ask("lowest address of its stack", "!thread", "/stack_limit", word(by_kdbg(0x340, 4)));
    ask("end of its stack", "!thread", "/stack_base", word(by_kdbg(0x344, 4)));
    ask("its initial stack", "!thread", "/initial_stack", word(by_kdbg(0x29e, 2)));
    ask("its saved stack pointer", "!thread", "/kernel_stack", word(by_kdbg(0x29c, 2)));
    ask("its TEB", "!thread", "/teb", word(by_kdbg(0x29a, 2)));
    let running = by_kdbg(0x2a2, 2).map(|offset| thread.get(offset, 1)) == Some(2);
    ask(
        "its state",
        "!thread",
        "/state",
        if running { Expected::Text("Running".to_owned()) } else { Expected::Nothing },
    );
    ask("the processor it ran on", "!thread", "/processor", raw.crashed().into());
    ask("the process it was in", "!thread", "/attached_process", raw.process_address().into());
    let process = raw.process();
    let word = |at: u64| Expected::from(by_kdbg(at, 2).map(|offset| process.get(offset, 8)));
    ask("the process", "!process", "/address", raw.process_address().into());
    ask("its page tables", "!process", "/directory_table_base", word(0x2ae));
    ask("its PEB", "!process", "/peb", word(0x2aa));
    ask("its parent", "!process", "/parent_id", word(0x2ac));
}

fn crashed_processor(raw: &Raw, ask: &mut Ask<'_>) {
    let prcb = raw.prcb();
    let by_kdbg = |at: u64| Some(raw.kdbg(at, 2)).filter(|offset| *offset != 0);
    ask("the processor that crashed", "!pcr", "/processor", raw.crashed().into());
    if let Some(address) = raw.prcb_of(raw.crashed()) {
        ask("its KPRCB", "!pcr", "/prcb", address.into());
    }
    ask("the thread it ran", "!pcr", "/current_thread", raw.thread_address().into());
    ask("its idle thread", "!pcr", "/idle_thread", by_kdbg(0x350).map(|offset| prcb.get(offset, 8)).into());
    ask("its DPC stack", "!prcb", "/dpc_stack", by_kdbg(0x354).map(|offset| prcb.get(offset, 8)).into());
    ask(
        "whether a DPC ran",
        "!prcb",
        "/dpc_routine_active",
        by_kdbg(0x2b2).map(|offset| prcb.get(offset, 1)).into(),
    );
    ask("its frequency", "!prcb", "/mhz", by_kdbg(0x2b6).map(|offset| prcb.get(offset, 4)).into());
    let vendor = by_kdbg(0x2ba).map(|offset| {
        let letters = (0..13).map(|n| prcb.get(offset + n, 1) as u8);
        letters.take_while(|letter| *letter != 0).map(char::from).collect()
    });
    ask("its maker", "!prcb", "/vendor", vendor.map_or(Expected::Nothing, Expected::Text));
    if raw.arm {
        return;
    }
    let number = raw.crashed();
    let cpu = |offset: u64| Expected::from(by_kdbg(0x2b8).map(|at| prcb.get(at + offset, 1)));
    let line = format!("!cpuinfo {number:x}");
    ask("its family", &line, "/processors/0/model/family", cpu(0));
    ask("its stepping", &line, "/processors/0/model/stepping", cpu(2));
    ask("its model", &line, "/processors/0/model/model", cpu(3));
    // KSPECIAL_REGISTERS, from the processor manuals' registers in Windows' order.
    let special =
        |offset: u64, size: usize| Expected::from(by_kdbg(0x2f2).map(|at| prcb.get(at + offset, size)));
    ask("CR0", "!pcr", "/special/cr0", special(0, 8));
    ask("CR2", "!pcr", "/special/cr2", special(8, 8));
    ask("CR3", "!pcr", "/special/cr3", special(0x10, 8));
    ask("CR4", "!pcr", "/special/cr4", special(0x18, 8));
    ask("DR7", "!pcr", "/special/dr7", special(0x48, 8));
    ask("its GDT", "!pcr", "/special/gdtr", special(0x58, 8));
    ask("its IDT", "!pcr", "/special/idtr", special(0x68, 8));
    ask("its task register", "!pcr", "/special/tr", special(0x70, 2));
    // KeBugCheckEx saves CR8 before it raises the IRQL, so that it is another witness of the same level.
    ask("the IRQL at the bug check", "!irql", "/irql", special(0xa0, 1));
}

fn all_processors(raw: &Raw, ask: &mut Ask<'_>) {
    let instruction = if raw.arm { 0x108 } else { 0xf8 };
    let each = |of: &dyn Fn(u64) -> Option<u64>| Expected::Numbers((0..raw.processors()).map(of).collect());
    if raw.prcb_of(0).is_some() {
        ask("every KPRCB", "!running -i", "/*/prcb", each(&|number| raw.prcb_of(number)));
        let thread = |number| raw.memory(raw.prcb_of(number)? + 8, 8);
        ask("the thread of every processor", "~", "/*/thread", each(&thread));
        ask(
            "the instruction of every processor",
            "~",
            "/*/instruction",
            each(&|number| raw.context(number, instruction)),
        );
        // IpiFrozen, by the type sets of these builds; later ones publish only the first part of the KPRCB.
        let frozen = match raw.build() {
            7600..=14393 => Some(0x2d08),
            15063..=22000 => Some(0x2d88),
            _ => None,
        };
        if let Some(frozen) = frozen.filter(|_| !raw.arm) {
            let state = |number| raw.memory(raw.prcb_of(number)? + frozen, 4);
            ask("which processors were frozen", "!ipi", "/*/ipi_frozen", each(&state));
        }
    }
    // Without the contexts the breakpoint of the header's exception record says it, which KeBugCheckEx itself raises.
    let breakpoint = (raw.file(0xf00, 4) == 0x8000_0003).then(|| raw.file(0xf10, 8));
    let at_stop = raw.context(raw.crashed(), instruction).or(breakpoint);
    ask("the instruction of the crash", "r", "/instruction", at_stop.into());
    ask("its stack pointer", "r", "/stack_pointer", raw.file(0x2048, 8).into());
}

fn stack_and_pages(raw: &Raw, ask: &mut Ask<'_>) {
    let pointer = raw.file(if raw.arm { 0x348 + 0x100 } else { 0x348 + 0x98 }, 8);
    if !raw.arm {
        // KeBugCheckEx has just been called: its return address is on top of the stack, and where the next frame stands.
        ask(
            "who called KeBugCheckEx",
            "k 2",
            "/frames/1/instruction",
            raw.memory(raw.file(0x2048, 8), 8).into(),
        );
    }
    let stated = Some(raw.kdbg(0x360, 8)).filter(|base| *base != 0);
    let base = stated.or((raw.build() < 14393 && !raw.arm).then_some(0xffff_f680_0000_0000));
    let entry = base.and_then(|base| raw.memory(base + ((pointer & 0xffff_ffff_ffff) >> 12) * 8, 8));
    let line = format!("!pte {pointer:#x}");
    ask("the page-table entry of the stack", &line, "/entries/-/value", entry.into());
    let frame = if raw.arm { 0x0000_ffff_ffff_f000 } else { 0x000f_ffff_ffff_f000 };
    let valid = entry.filter(|entry| entry & 1 == 1);
    let physical = valid.map(|entry| entry & frame | pointer & 0xfff);
    ask("the stack's physical address", &format!("!vtop {pointer:#x}"), "/physical", physical.into());
    let (limit, end) = (raw.thread().get(raw.kdbg(0x340, 4), 8), raw.thread().get(raw.kdbg(0x344, 4), 8));
    if limit <= pointer && pointer < end {
        let line = format!("!address {pointer:#x}");
        ask("whose the stack pointer is", &line, "/start", limit.into());
        ask("where that ends", &line, "/end", end.into());
    }
    ask("Verifier's options", "!verifier", "/flags", raw.memory(raw.kdbg(0x248, 8), 4).into());
}

/// A GUID as its bytes lie in the file.
const fn guid(digits: u128) -> [u8; 16] {
    let b = digits.to_be_bytes();
    [b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]
}

fn secondary(raw: &Raw, ask: &mut Ask<'_>) {
    let word = |data: &[u8], at: usize| u64::from(u32::from_le_bytes(data[at..at + 4].try_into().unwrap()));
    let status = raw.blob(guid(0xf57308df_cc45_4e01_ad76_29a4ebb010ec));
    let status = |at: usize| Expected::from(status.map(|data| word(data, at)));
    ask("the number of this boot", "!blackboxbsd", "/boot_id", status(0x34));
    ask("the last boot that was shut down", "!blackboxbsd", "/last_shutdown_boot", status(0x38));
    let key = raw.blob(guid(0x6c7ac389_4313_47dc_9f34_a8800a0fb56c)).map(registry);
    let name = key.as_ref().and_then(|values| values.iter().find(|(name, _)| name == "ProcessorNameString"));
    let name = name.map(|(_, data)| utf16(data).trim().to_owned());
    ask("the processor's name", "!cpuinfo", "/name", name.map_or(Expected::Nothing, Expected::Text));
    let microcode = key.as_ref().and_then(|values| {
        let of = |wanted: &str| values.iter().find(|(name, _)| name == wanted);
        let data = &of("Update Revision").or_else(|| of("MSR8B"))?.1;
        // Intel keeps the revision in the upper half.
        let raw = u64::from_le_bytes(data[..8].try_into().unwrap());
        Some(if raw >> 32 == 0 { raw } else { raw >> 32 }).filter(|revision| *revision != 0)
    });
    ask("its microcode", "!sysinfo cpumicrocode", "/revision", microcode.into());
}

fn utf16(data: &[u8]) -> String {
    let units: Vec<u16> = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units).split('\0').next().unwrap().to_owned()
}

/// Names and data of registry values: bytes of the name, the name, type, bytes of the data, the data.
fn registry(data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut values) = (0, Vec::new());
    while at + 4 <= data.len() {
        let name = &data[at + 4..at + 4 + word(at)];
        at += 4 + word(at);
        let size = word(at + 4);
        values.push((utf16(name), data[at + 8..at + 8 + size].to_vec()));
        at += 8 + size;
    }
    values
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => u64::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
        other => other.as_u64(),
    }
}

/// What the command says at the pointer, in the form of what is expected.
fn found(data: &Value, pointer: &str, like: &Expected) -> Expected {
    if let Some(rest) = pointer.strip_prefix("/*") {
        let empty = Vec::new();
        let all = data.as_array().unwrap_or(&empty);
        return Expected::Numbers(all.iter().map(|one| one.pointer(rest).and_then(number)).collect());
    }
    let table = data.pointer("/entries").and_then(Value::as_array).map_or(0, Vec::len);
    let own =
        data.pointer("/entries").and_then(|all| all.as_array()?.iter().position(|entry| entry["level"] == 1));
    let pointer = &pointer.replace('-', &own.unwrap_or(table).to_string());
    match (data.pointer(pointer), like) {
        (None | Some(Value::Null), _) => Expected::Nothing,
        (Some(value), Expected::Text(_)) => Expected::Text(value.as_str().unwrap_or_default().to_owned()),
        (Some(value), _) => number(value).map_or_else(|| Expected::Text(value.to_string()), Expected::Number),
    }
}

#[derive(Default)]
struct Score {
    right: usize,
    nothing: usize,
    wrong: Vec<String>,
    /// What was asked, for other debuggers to be asked the same (`harness/ntoseye`).
    asked: Vec<Value>,
}

/// Asks all of one dump.
fn ask(path: &Path, raw: &Raw, symbols: &SymbolSource, score: &mut Score) {
    let mut session = Session::new(Machine::new(Dump::open(path).unwrap(), symbols), "");
    for Question { what, line, pointer, expected } in questions(raw) {
        let answer = run(&mut session, &line).remove(0);
        assert_ne!(answer.status, Status::Failed, "{}: {line}: {answer:?}", path.display());
        let found = found(&answer.data, pointer, &expected);
        let name = path.file_name().unwrap().to_string_lossy();
        score.asked.push(json!({
            "dump": path, "what": what, "line": line,
            "expected": Value::from(&expected), "found": Value::from(&found),
        }));
        if found != expected {
            let why = answer.reason;
            score.wrong.push(format!("{name}: {what}: {line}: {found:x?}, not {expected:x?} ({why:?})"));
        } else if found == Expected::Nothing {
            score.nothing += 1;
        } else {
            score.right += 1;
        }
    }
}

#[test]
fn every_question_is_answered_as_the_bytes_say() {
    let Some(paths) = raw::dumps("every_question_is_answered_as_the_bytes_say") else { return };
    let (mut dumps, mut score) = (0, Score::default());
    for path in paths {
        let Some(raw) = Raw::new(std::fs::read(&path).unwrap()) else { continue };
        dumps += 1;
        ask(&path, &raw, &SymbolSource::new([]), &mut score);
    }
    let Score { right, nothing, wrong, asked } = score;
    if let Some(path) = std::env::var_os("QUESTIONS") {
        std::fs::write(path, serde_json::to_string_pretty(&asked).unwrap()).unwrap();
    }
    let figures = format!("{right} questions answered, {nothing} not in the dump, of {dumps} dumps\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), figures.as_bytes());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(dumps >= 30 && right >= dumps * 35, "{figures}");
}

/// One dump's kernel has its own symbols beside the checkout: with them the same is answered, by the kernel's own types.
#[test]
fn symbols_change_no_answer() {
    let Some(paths) = raw::dumps("symbols_change_no_answer") else { return };
    let path = paths.iter().find(|path| path.ends_with("triage_x64.dmp")).unwrap();
    let raw = Raw::new(std::fs::read(path).unwrap()).unwrap();
    let symbols = SymbolSource::new([path.parent().unwrap().join("../isf")]);
    let mut score = Score::default();
    ask(path, &raw, &symbols, &mut score);
    assert!(score.wrong.is_empty(), "{}", score.wrong.join("\n"));
    let mut session = Session::new(Machine::new(Dump::open(path).unwrap(), &symbols), "");
    let thread = run(&mut session, "!thread").remove(0).data;
    assert_eq!(thread["sources"]["priority"], "KTHREAD.Priority (types of the ISF table)");
    assert_eq!(thread["sources"]["stack_limit"], "KTHREAD.StackLimit (offset from the debugger data)");
}
