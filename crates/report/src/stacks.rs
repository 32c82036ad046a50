//! Stacks in the shape of WinDbg's `kn`, with how each frame was found.

use crate::paper::{Paper, Tone, rest, width};
use crate::words::{Addresses, confidence_words, count};
use stopcode_base::visible;
use stopcode_case::{CrossingReport, DumpReport, FrameReport, StackReport};

const FRAMES: usize = 40;
const OTHER_STACKS: usize = 16;
const NOTES: usize = 12;
/// Call sites are never cut, but one that is longer than this does not push all the others' notes to the right.
const CALL_SITE: usize = 44;

/// The stack that the verdict rests on in full, a line for each of the others.
pub(crate) fn write(dump: &DumpReport, paper: &mut Paper) {
    let addresses = Addresses::of(dump);
    let Some((first, others)) = dump.stacks.split_first() else { return };
    if let Some(story) =
        dump.verdict.as_ref().map(|verdict| verdict.story.join(" ")).filter(|story| !story.is_empty())
    {
        paper.heading("What was going on");
        paper.paragraph(2, &story);
    }
    paper.heading(&title(first, addresses));
    for (tone, line) in lines(first, dump, addresses) {
        paper.line(2, tone, &line);
    }
    if let Some(rest) = rest(first.frames.len(), FRAMES) {
        paper.paragraph(2, &rest);
    }
    paper.item(2, "End: ", Tone::Plain, &first.ended);
    if first.frames.iter().any(|frame| frame.trust.starts_with("scan")) {
        paper.item(
            2,
            "note: ",
            Tone::Plain,
            "a frame found by scan is an address that lies on the stack; it may be left over from an earlier call.",
        );
    }
    for refused in first.refused.iter().filter(|refused| refused.frame < FRAMES) {
        let text =
            format!("behind frame {:02x} unwind data leads no further: {}.", refused.frame, refused.why);
        paper.item(2, "note: ", Tone::Plain, &text);
    }
    notes(first, addresses, paper);
    if others.is_empty() {
        return;
    }
    paper.heading("Other stacks");
    for stack in others.iter().take(OTHER_STACKS) {
        paper.item(
            2,
            &format!("{}: ", visible(&title(stack, addresses))),
            Tone::Plain,
            &brief(stack, addresses),
        );
    }
    if let Some(rest) = rest(others.len(), OTHER_STACKS) {
        paper.paragraph(2, &rest);
    }
}

/// ``Stack of the exception, processor 4, thread fffffa80`0cd2b060``; `Stack of processor 5`.
fn title(stack: &StackReport, addresses: Addresses) -> String {
    let mut title = match (stack.kind.as_str(), stack.processor) {
        ("exception", _) => "Stack of the exception".to_owned(),
        ("bugcheck", _) => "Stack of the bug check".to_owned(),
        ("processor", Some(processor)) => format!("Stack of processor {processor}"),
        ("thread", _) => "Stack of a thread".to_owned(),
        (other, _) => format!("Stack ({other})"),
    };
    if let Some(processor) = stack.processor.filter(|_| stack.kind != "processor") {
        title.push_str(&format!(", processor {processor}"));
    }
    if let Some(thread) = &stack.thread {
        title.push_str(&format!(", thread {}", addresses.address(thread)));
    }
    title
}

/// What the frames do, each thing said once.
fn notes(stack: &StackReport, addresses: Addresses, paper: &mut Paper) {
    let mut said: Vec<&str> = Vec::new();
    let frames = stack.frames.iter().enumerate().take(FRAMES);
    let noted = frames.filter_map(|(number, frame)| Some((number, frame, frame.note.as_deref()?)));
    let first: Vec<_> = noted
        .filter(|(_, _, note)| {
            let new = !said.contains(note);
            said.push(note);
            new
        })
        .collect();
    if first.is_empty() {
        return;
    }
    paper.heading("The stack in words");
    for (number, frame, note) in first.iter().take(NOTES) {
        paper.item(
            2,
            &format!("{number:02x} "),
            Tone::Plain,
            &format!("{}: {note}", call_site(frame, addresses)),
        );
    }
    if let Some(rest) = rest(first.len(), NOTES) {
        paper.paragraph(2, &rest);
    }
}

/// The innermost call sites of a stack on a line.
fn brief(stack: &StackReport, addresses: Addresses) -> String {
    let sites: Vec<String> = stack.frames.iter().take(3).map(|frame| call_site(frame, addresses)).collect();
    let more = if stack.frames.len() > sites.len() { " <- …" } else { "" };
    format!("{}{more} ({})", sites.join(" <- "), count(stack.frames.len(), "frame"))
}

/// The frames as lines, a line of its own for every gap.
fn lines(stack: &StackReport, dump: &DumpReport, addresses: Addresses) -> Vec<(Tone, String)> {
    let sites: Vec<String> =
        stack.frames.iter().take(FRAMES).map(|frame| visible(&call_site(frame, addresses))).collect();
    let column =
        sites.iter().map(|site| width(site)).filter(|wide| *wide <= CALL_SITE).max().unwrap_or(0).max(9);
    let address = addresses.absent().len();
    let mut lines = vec![(
        Tone::Plain,
        format!(" # {:address$} {:address$} {:column$}  Found by", "Child-SP", "RetAddr", "Call Site"),
    )];
    let suspects = suspects(dump);
    for (number, (frame, site)) in stack.frames.iter().zip(&sites).enumerate() {
        if frame.gap_before {
            lines.push((Tone::Warning, "   ~~~~~ gap: frames may be missing here ~~~~~".to_owned()));
        }
        if let Some(crossing) = &frame.crossing {
            lines.push((Tone::Plain, format!("   ----- {} -----", turn(crossing, addresses))));
        }
        let stack_pointer = frame
            .stack_pointer
            .as_deref()
            .map_or_else(|| addresses.absent().to_owned(), |sp| addresses.address(sp));
        let pad = column.saturating_sub(width(site));
        let suspect = if frame.module.as_deref().is_some_and(|module| suspects.contains(&module)) {
            "  <- suspect"
        } else {
            ""
        };
        lines.push((
            Tone::Plain,
            format!(
                "{number:02x} {stack_pointer} {} {site}{:pad$}  {}{suspect}",
                return_address(stack.frames.get(number + 1), addresses),
                "",
                trust(&frame.trust),
            ),
        ));
    }
    lines
}

/// `double fault here: IST stack 1 -> thread stack, trap frame fffff800`009b9e50`.
fn turn(crossing: &CrossingReport, addresses: Addresses) -> String {
    let switch = crossing.from.as_ref().zip(crossing.to.as_ref()).map(|(from, to)| format!("{from} -> {to}"));
    let trap = crossing.trap_frame.as_ref().map(|at| format!("trap frame {}", addresses.address(at)));
    let notes: Vec<String> = switch.into_iter().chain(trap).collect();
    if notes.is_empty() { crossing.text.clone() } else { format!("{}: {}", crossing.text, notes.join(", ")) }
}

/// As WinDbg: where the next frame goes on. Unknown at the end of the walk and across a gap.
fn return_address(next: Option<&FrameReport>, addresses: Addresses) -> String {
    match next {
        Some(FrameReport { gap_before: false, instruction: Some(instruction), .. }) => {
            addresses.address(instruction)
        }
        _ => addresses.absent().to_owned(),
    }
}

/// Image names that a hypothesis suspects which is not unlikely; Windows' own left out: they are on every stack.
fn suspects(dump: &DumpReport) -> Vec<&str> {
    let hypotheses = dump.verdict.iter().flat_map(|verdict| &verdict.hypotheses);
    hypotheses
        .filter(|hypothesis| confidence_words(hypothesis.confidence) != "unlikely")
        .filter_map(|hypothesis| hypothesis.suspect.as_ref())
        .filter(|suspect| suspect.kind != "os")
        .filter_map(|suspect| suspect.module.as_deref())
        .collect()
}

/// `nt!KiDoubleFaultAbort+0xb2`, `iaStor+0x253f5`, or the bare address outside all modules. A question mark stands behind a symbol
/// that is only the nearest one below.
fn call_site(frame: &FrameReport, addresses: Addresses) -> String {
    let offset = frame.offset.unwrap_or(0);
    let gone = if frame.unloaded { "Unloaded_" } else { "" };
    let near = if frame.uncertain { "?" } else { "" };
    match (frame.display.as_deref().or(frame.module.as_deref()), &frame.symbol) {
        (Some(module), Some(symbol)) if offset == 0 => format!("{gone}{module}!{symbol}"),
        (Some(module), Some(symbol)) => format!("{gone}{module}!{symbol}{near}+{offset:#x}"),
        (Some(module), None) => format!("{gone}{module}+{offset:#x}"),
        (None, _) => match &frame.instruction {
            Some(instruction) => format!("0x{}", addresses.address(instruction)),
            None => "?".to_owned(),
        },
    }
}

/// How the frame was found, in few words.
fn trust(id: &str) -> &str {
    match id {
        "context" => "registers",
        "trap_frame" => "trap frame",
        "machine_frame" => "machine frame",
        "unwind" => "unwind data",
        "unwind_from_scan" => "unwind data, after a scan",
        "pdb_assisted" => "PDB",
        "scan_call" => "scan, after a call",
        other => other,
    }
}
