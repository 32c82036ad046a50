//! Stacks: blocks of frame lines, with wrapped lines rejoined and prose between them let through.

use crate::draft::{Draft, Origin, RawStack};
use crate::frame::{self, Layout, RawFrame, Reading};
use crate::modules;
use crate::names::Names;
use crate::reader::Reader;
use crate::scan::{contains_ci, field, prompt};
use crate::site::{Site, is_user};
use std::collections::{BTreeMap, HashMap, HashSet};
use stopcode_base::VirtAddr;
use stopcode_kernel::{Context, Frame, Module, Stack, StackKind, Trust};

/// More lines than this without a frame end a stack.
const LONGEST_NOTE: usize = 6;
/// A frame is broken into this many lines at most.
const MOST_PIECES: usize = 4;
/// The return address, the stack pointer and the four slots that `kv` shows.
const MOST_COLUMNS: usize = 6;

/// A frame, the text behind it, and how many lines it took.
struct Taken {
    frame: Box<RawFrame>,
    note: String,
    lines: usize,
}

/// Reads the stack that starts at line `at` under a heading with this layout; the number of lines it takes.
pub(crate) fn read(reader: &mut Reader<'_>, at: usize, layout: Option<Layout>, analyzed: bool) -> usize {
    let mut stack = RawStack { analyzed, ..RawStack::default() };
    let mut prose = Vec::new();
    let mut end = at;
    let mut index = at;
    let mut pending: Vec<String> = Vec::new();
    let mut blank = false;
    let mut noted = false;
    while let Some(line) = reader.lines.get(index).map(str::trim_start) {
        if let Some(taken) = take(reader, index, layout) {
            let restart = is_restart(stack.frames.last(), &taken.frame);
            if restart || (blank && !pending.is_empty()) {
                break;
            }
            noted = push_note(&taken.note, &mut prose);
            prose.append(&mut pending);
            stack.frames.push(*taken.frame);
            index += taken.lines;
            end = index;
            blank = false;
            continue;
        }
        if line.is_empty() {
            // A table that was pasted with a blank line after each line is one table.
            blank = true;
            pending.extend((!pending.is_empty()).then(String::new));
        } else if contains_ci(line, "Stack unwind information not available") {
            stack.doubtful_from = stack.doubtful_from.or(Some(stack.frames.len()));
            noted = false;
        } else if modules::symbol_message(reader, line) || is_rest_of_heading(line) {
            // The debugger reports on symbols in the middle of its tables.
        } else if ends(line) || pending.len() >= if noted { LONGEST_NOTE } else { 2 } || (blank && !noted) {
            break;
        } else {
            pending.push(line.to_owned());
        }
        index += 1;
    }
    reader.draft.prose.extend(prose);
    if layout.is_none() {
        instructions_for_pointers(&mut stack.frames);
        if let [only] = stack.frames.as_slice() {
            lone(reader, only);
            return end - at;
        }
    }
    finish(reader, stack);
    end - at
}

/// A single frame without a heading is where `.frame` went, or an example in prose: it names an address, and the
/// registers below it are not those of the crash.
fn lone(reader: &mut Reader<'_>, frame: &RawFrame) {
    reader.origin = reader.origin.take().or(Some(Origin::Frame));
    reader.draft.width(frame.wide);
    if let Some(address) = frame.instruction {
        reader.draft.name(address, &frame.site);
    }
}

/// Lists of addresses with names and no heading (`!us`) hold instructions: stack pointers would rise.
fn instructions_for_pointers(frames: &mut [RawFrame]) {
    let alone = frames.iter().all(|frame| frame.return_address.is_none());
    let rising = frames.iter().zip(frames.iter().skip(1)).all(|(a, b)| a.stack_pointer <= b.stack_pointer);
    if alone && !rising {
        for frame in frames {
            frame.instruction = frame.stack_pointer.take();
        }
    }
}

/// Reads a stack without a heading, if line `at` is a frame.
pub(crate) fn bare(reader: &mut Reader<'_>, at: usize) -> usize {
    let Some(taken) = take(reader, at, None) else { return 0 };
    let columns = [taken.frame.stack_pointer, taken.frame.return_address];
    if columns.iter().flatten().count() == 0 && !taken.frame.inline {
        return 0;
    }
    read(reader, at, None, false)
}

/// The frame at line `at`, joined from as many lines as it was wrapped to.
fn take(reader: &Reader<'_>, at: usize, layout: Option<Layout>) -> Option<Taken> {
    let line = reader.lines.trimmed(at);
    let mut reading = frame::read(line, layout);
    let mut joined = String::new();
    let mut lines = 1;
    while let Reading::Partial { addresses, arguments } = reading {
        let next = reader.lines.trimmed(at + lines);
        let goes_on =
            !next.is_empty() && lines < MOST_PIECES && prompt(next).is_none() && field(next).is_none();
        if !goes_on || starts_own(next, addresses, arguments) {
            return None;
        }
        if joined.is_empty() {
            line.clone_into(&mut joined);
        }
        joined.push(' ');
        joined.push_str(next);
        lines += 1;
        reading = frame::read(&joined, layout);
    }
    let Reading::Frame(frame, note) = reading else { return None };
    let lines = lines + source_lines(reader, at + lines, &note);
    Some(Taken { frame, note, lines })
}

/// True if `next` is a frame of its own rather than the rest of one that has `addresses` already.
fn starts_own(next: &str, addresses: usize, arguments: bool) -> bool {
    match frame::read(next, None) {
        Reading::Frame(frame, _) => {
            let columns = [frame.stack_pointer, frame.return_address].iter().flatten().count();
            let total = addresses + columns + frame.arguments.len();
            frame.number.is_some() || frame.inline || total > MOST_COLUMNS || (!arguments && columns == 2)
        }
        Reading::Partial { addresses: more, .. } => addresses + more > MOST_COLUMNS,
        Reading::Other => false,
    }
}

/// How many of the lines from `at` on hold the rest of a wrapped `[C:\dir\file.c @ 30]`.
fn source_lines(reader: &Reader<'_>, at: usize, note: &str) -> usize {
    let opened = note.starts_with('[') && !note.contains(']');
    let begins = note.is_empty() && {
        let next = reader.lines.trimmed(at);
        next.starts_with('[') && next.contains(['\\', '/'])
    };
    if !opened && !begins {
        return 0;
    }
    (0..MOST_PIECES).find(|more| reader.lines.trimmed(at + more).contains(']')).map_or(0, |more| more + 1)
}

/// True if `frame` begins another stack: its number is not above the last one's.
fn is_restart(last: Option<&RawFrame>, frame: &RawFrame) -> bool {
    matches!((last.and_then(|last| last.number), frame.number), (Some(last), Some(number)) if number <= last)
}

/// Keeps what an author wrote behind a frame (`<- Uh oh, double fault!`); true if there was something.
fn push_note(note: &str, prose: &mut Vec<String>) -> bool {
    let text = note.trim_start_matches(['<', '-', '=', '/', '#', '\u{2190}', ' ']);
    let noted = note.starts_with(['<', '/', '#', '\u{2190}']) && text.contains(' ');
    if noted {
        prose.push(String::new());
        prose.push(text.to_owned());
    }
    noted
}

/// `: Call Site`, where a heading was wrapped.
fn is_rest_of_heading(line: &str) -> bool {
    matches!(line.trim_start_matches([':', ' ']), "Call Site" | "Args to Child" | "Args to Child : Call Site")
}

/// A line that ends any stack.
fn ends(line: &str) -> bool {
    prompt(line).is_some()
        || field(line).is_some()
        || frame::heading(line).is_some()
        || line.starts_with("start ")
        || line.starts_with("Windows ")
        || line.starts_with("BugCheck ")
        || line.starts_with("THREAD ")
}

/// Keeps a stack; a table of consecutive stack slots (`dps`) is memory and no stack.
fn finish(reader: &mut Reader<'_>, stack: RawStack) {
    let step = if stack.frames.iter().any(|frame| frame.wide) { 8 } else { 4 };
    let slots = stack.frames.windows(2).all(|pair| match pair {
        [a, b] => a.stack_pointer.zip(b.stack_pointer).is_some_and(|(a, b)| b.wrapping_sub(a) == step),
        _ => false,
    });
    let numbered = stack.frames.iter().any(|frame| frame.number.is_some() || !frame.arguments.is_empty());
    if slots && !numbered && !stack.analyzed && stack.frames.len() >= 3 {
        for frame in &stack.frames {
            if let (Some(at), Some(value)) = (frame.stack_pointer, frame.return_address) {
                reader.draft.name(value, &frame.site);
                let bytes = value.to_le_bytes();
                reader.draft.bytes(at.into(), bytes.get(..step as usize).unwrap_or_default().to_vec());
            }
        }
        return;
    }
    if let Some(frame) =
        stack.frames.iter().find(|frame| frame.stack_pointer.is_some() || frame.return_address.is_some())
    {
        reader.draft.width(frame.wide);
    }
    if !stack.frames.is_empty() {
        reader.push_stack(stack);
    }
}

/// Addresses with their names.
type Sites = BTreeMap<u64, Site>;

/// Stacks as the kernel's plain data, the one to judge first in front, and every address that has a name.
pub(crate) fn settle(
    draft: &Draft,
    names: &Names<'_>,
    modules: &[Module],
    crashed: Option<u32>,
    context: Option<&Context>,
) -> (Vec<Stack>, Sites) {
    let mut sites = draft.sites.clone();
    for stack in &draft.stacks {
        for (frame, address) in stack.frames.iter().zip(instructions(&stack.frames)) {
            if let Some(address) =
                address.filter(|address| *address != 0 && frame.site.raw.is_none() && !frame.inline)
            {
                sites.entry(address).or_insert_with(|| frame.site.clone());
            }
        }
    }
    let addresses: HashMap<&Site, u64> = sites.iter().map(|(address, site)| (site, *address)).collect();
    let bases: HashMap<String, u64> = modules
        .iter()
        .filter(|m| m.base.0 != 0)
        .map(|m| (m.display.to_ascii_lowercase(), m.base.0))
        .collect();
    let find = |site: &Site| {
        let by_base = || Some(bases.get(&site.module.to_ascii_lowercase())?.wrapping_add(site.offset));
        let by_name = addresses.get(site).copied();
        site.raw
            .or(by_name)
            .or_else(|| by_base().filter(|_| site.symbol.is_none() && !site.module.is_empty()))
    };
    let mut seen = HashSet::new();
    let mut stacks: Vec<(usize, Stack)> = Vec::new();
    for raw in &draft.stacks {
        if !seen.insert(raw.frames.iter().map(|frame| &frame.site).collect::<Vec<_>>()) {
            continue;
        }
        let kind = kind(raw, crashed);
        let first =
            context.filter(|_| kind == StackKind::Exception).map(|context| context.registers.instruction().0);
        stacks.push((substance(&raw.frames), finished(raw, kind, names, &find, first)));
    }
    // The crash's own stacks first; of these the one with most frames beside the kernel's own way to the stop.
    stacks.sort_by_key(|(substance, stack)| {
        let rank = match stack.kind {
            StackKind::Exception => (0, 0),
            StackKind::BugCheck => (0, 1),
            StackKind::Processor | StackKind::Thread => (1, 0),
        };
        (rank.0, usize::MAX - substance, rank.1)
    });
    (stacks.into_iter().map(|(_, stack)| stack).collect(), sites)
}

/// The instruction of each frame: WinDbg's return address on one line is the instruction of the next frame.
///
/// Inlined functions have no frame of their own: they stand where the frame below them stands.
fn instructions(frames: &[RawFrame]) -> impl Iterator<Item = Option<u64>> {
    let mut from_above = None;
    frames.iter().map(move |frame| {
        let here = frame.instruction.or(from_above);
        if !frame.inline {
            from_above = frame.return_address;
        }
        here
    })
}

/// How many frames lie beyond the kernel's own way from a fault to the stop.
fn substance(frames: &[RawFrame]) -> usize {
    const WAY: [&str; 18] = [
        "KeBugCheck",
        "KiBugCheck",
        "DbgBreakPoint",
        "KiDoubleFault",
        "KiPageFault",
        "KiFastFail",
        "KiRaiseSecurity",
        "KiExceptionDispatch",
        "KiDispatchException",
        "RtlDispatchException",
        "RtlpExecuteHandler",
        "PspUnhandled",
        "PspSystemThreadStartup$filt",
        "_C_specific_handler",
        "__C_specific_handler",
        "KiGeneralProtection",
        "KiInvalidOpcode",
        "KiSystemServiceHandler",
    ];
    let on_way = |frame: &&RawFrame| {
        frame.site.symbol.as_deref().is_some_and(|symbol| WAY.iter().any(|start| symbol.starts_with(start)))
    };
    let way = frames.iter().take_while(on_way).count();
    frames.len() - way
}

/// True if the stack begins with the call that stops the machine.
pub(crate) fn calls_bug_check(stack: &RawStack) -> bool {
    let stops = |symbol: &str| symbol.starts_with("KeBugCheck") || symbol.starts_with("KiBugCheck");
    stack.frames.iter().take(8).any(|frame| frame.site.symbol.as_deref().is_some_and(stops))
}

/// Which stack it is.
fn kind(raw: &RawStack, crashed: Option<u32>) -> StackKind {
    let elsewhere = matches!((raw.processor, crashed), (Some(of), Some(crashed)) if of != crashed);
    if calls_bug_check(raw) {
        StackKind::BugCheck
    } else if raw.thread.is_some() {
        StackKind::Thread
    } else if raw.selected {
        StackKind::Exception
    } else if elsewhere {
        StackKind::Processor
    } else if raw.after_context {
        StackKind::Exception
    } else {
        StackKind::BugCheck
    }
}

fn finished(
    raw: &RawStack,
    kind: StackKind,
    names: &Names<'_>,
    find: &impl Fn(&Site) -> Option<u64>,
    first: Option<u64>,
) -> Stack {
    let mut frames: Vec<Frame> = Vec::with_capacity(raw.frames.len());
    for (index, (frame, above)) in raw.frames.iter().zip(instructions(&raw.frames)).enumerate() {
        let told = above.filter(|address| *address != 0).or(first.filter(|_| index == 0));
        let instruction = told.or_else(|| find(&frame.site)).unwrap_or(0);
        let mut place = names.place(&frame.site, is_user(instruction));
        if frame.site.raw.is_some() {
            place.offset = 0;
        }
        let doubtful = raw.doubtful_from.is_some_and(|from| index >= from);
        let stack_pointer = VirtAddr(frame.stack_pointer.unwrap_or(0));
        frames.push(Frame {
            gap_before: raw.doubtful_from == Some(index),
            ..Frame::told(VirtAddr(instruction), stack_pointer, place, trust(frame, doubtful))
        });
    }
    stack_pointers_of_inlined(raw, &mut frames);
    let zero = raw.frames.last().is_some_and(|frame| frame.return_address == Some(0));
    let ended = if zero { "the last return address is zero" } else { "the pasted stack ends here" };
    Stack {
        kind,
        thread: raw.thread.map(VirtAddr),
        processor: raw.processor,
        frames,
        ended: ended.to_owned(),
        refused: Vec::new(),
    }
}

/// An inlined function runs on the stack of the frame below it.
fn stack_pointers_of_inlined(raw: &RawStack, frames: &mut [Frame]) {
    let mut below = None;
    for (frame, raw) in frames.iter_mut().zip(&raw.frames).rev() {
        match below {
            Some(pointer) if raw.inline => frame.stack_pointer = pointer,
            _ => below = Some(frame.stack_pointer),
        }
    }
}

/// The text does not say how a frame was found. With a function's name WinDbg had the symbols, and so the unwind
/// data that goes with them; below its warning it guessed; else it had the unwind data of the image at best.
fn trust(frame: &RawFrame, doubtful: bool) -> Trust {
    match (doubtful, &frame.site.symbol) {
        (true, _) => Trust::Scan,
        (false, Some(_)) => Trust::PdbAssisted,
        (false, None) => Trust::Unwind,
    }
}
