//! Pasted WinDbg text → witnesses of crashes.
//!
//! *Promises*: reads what debuggers print in any of their layouts, with the prose around it and with the damage that
//! forums, mail and web pages do to it; every fact says which line it is from; time and memory are proportional to
//! the text; no input makes it panic.
//! *Must never know*: dumps, symbols, and what caused a crash.
//!
//! The way through: `decode` (bytes → text), `lines` (damage undone), `walk` (which line belongs to what, where
//! one crash ends and the next begins), the recognisers (`stops`, `stacks`, `fields`, `modules`, `machine`,
//! `code`) that a `reader` hands its lines to and that fill its `draft`, and `settle`, which joins the parts to a [`Crash`].

mod code;
mod crash;
mod decode;
mod draft;
mod fields;
mod flat;
mod frame;
mod lines;
mod machine;
mod modules;
mod names;
mod prose;
mod reader;
mod reports;
mod scan;
mod settle;
mod site;
mod stacks;
mod stops;
mod walk;

pub use crash::Crash;
pub use decode::looks_like_text;

/// The crashes that a text tells of, in its order: at least one.
///
/// A crash needs a stop code or a stack of two frames. The caller bounds the input; work is linear in it.
///
/// # Errors
/// [`NotATranscript`] if there is no crash in the text.
pub fn parse(bytes: &[u8]) -> Result<Vec<Crash>, NotATranscript> {
    let lines = lines::Lines::new(&decode::decode(bytes));
    let crashes: Vec<Crash> = walk::read(&lines).into_iter().map(settle::settle).collect();
    if crashes.is_empty() { Err(NotATranscript { lines: lines.len() }) } else { Ok(crashes) }
}

/// No crash in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no crash in these {lines} lines of text: looked for {}", Self::LOOKED_FOR.join(", "))]
pub struct NotATranscript {
    /// How many lines the text has, runs of blank lines counted once.
    pub lines: usize,
}

impl NotATranscript {
    /// What would have been a crash.
    pub const LOOKED_FOR: [&str; 7] = [
        "the heading and arguments of !analyze (NAME (7f), Arg1: to Arg4:)",
        "BUGCHECK_CODE and BUGCHECK_P1 to P4",
        "a BugCheck 7F, {…} line",
        "the output of .bugcheck",
        "a line with a stop code and its four arguments in brackets",
        "a problem report or an event (BCCode, LiveKernelEvent, BugcheckCode)",
        "a stack (STACK_TEXT, or k, kb, kn, kv)",
    ];
}
