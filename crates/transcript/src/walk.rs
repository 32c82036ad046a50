//! The walk over the lines: which recogniser a line belongs to, and where one crash ends and the next begins.

use crate::draft::{Draft, Found};
use crate::frame;
use crate::lines::Lines;
use crate::reader::Reader;
use crate::scan::{column, contains_ci, field, prompt, strip_prefix_ci};
use crate::stops;
use crate::{code, fields, machine, modules, stacks};

/// How a draft began, which decides whether it may be joined to the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beginning {
    /// With a stop that differs: a crash of its own.
    Stop,
    /// With a debugger's opening of a dump file: its own, unless no stop follows.
    Opening,
    /// With a kernel's banner, which `vertarget` prints again: its own only if a different stop follows.
    Banner,
}

/// The most crashes that are told apart in one text.
const MOST_CRASHES: usize = 4096;

/// The reading of a text: the crash it is in, and those before.
struct Walk<'a> {
    reader: Reader<'a>,
    beginning: Beginning,
    done: Vec<(Beginning, Draft)>,
}

/// Reads all crashes out of `lines`.
pub(crate) fn read(lines: &Lines) -> Vec<Draft> {
    let mut walk = Walk { reader: Reader::new(lines), beginning: Beginning::Stop, done: Vec::new() };
    let mut at = 0;
    while at < lines.len() {
        at += walk.step(at).max(1);
    }
    walk.finish()
}

impl Walk<'_> {
    /// Reads what starts at line `at`; the number of lines that were its own.
    fn step(&mut self, at: usize) -> usize {
        let lines = self.reader.lines;
        let line = lines.trimmed(at);
        if line.is_empty() {
            self.reader.draft.prose.push(String::new());
            return 1;
        }
        self.banner(line);
        self.liveness(line);
        if let Some(prompt) = prompt(line) {
            self.reader.command(prompt);
            return 1;
        }
        if let Some(found) = stops::read(lines, at) {
            return self.stop(found);
        }
        if let Some(layout) = frame::heading(line) {
            return 1 + stacks::read(&mut self.reader, at + 1, Some(layout), false);
        }
        if let Some((name, value)) = field(line) {
            return fields::read(&mut self.reader, at, name, value);
        }
        for recogniser in
            [machine::read, code::memory, fields::registers, modules::read, code::code, stacks::bare]
        {
            let taken = recogniser(&mut self.reader, at);
            if taken > 0 {
                return taken;
            }
        }
        let said = if is_noise(line) || is_table(line) { String::new() } else { line.to_owned() };
        self.reader.draft.prose.push(said);
        1
    }

    /// Takes a stop: of this crash, or the first line of the next.
    fn stop(&mut self, found: Found) -> usize {
        match (&mut self.reader.draft.stop, found.stop.code) {
            // Arguments without a code belong to a code that came without arguments.
            (Some((stop, _)), 0) if !stop.has_arguments() => stop.complete(&found.stop),
            (_, 0) => {}
            (Some((stop, _)), _) if stop.agrees(&found.stop) => stop.complete(&found.stop),
            (Some((stop, _)), _) if !found.stop.has_arguments() && stop.has_arguments() => {}
            (Some((stop, _)), _) if stop.has_arguments() => {
                self.next(Beginning::Stop);
                self.reader.draft.stop = Some((found.stop, found.source));
            }
            (slot, _) => *slot = Some((found.stop, found.source)),
        }
        if let Some(wide) = found.wide {
            self.reader.draft.width(wide);
        }
        found.lines
    }

    /// Where the report or the dump lay tells whether Windows went on; its sentence in the event log, that it did not.
    fn liveness(&mut self, line: &str) {
        const LIVE: [&str; 2] = ["LiveKernelEvent", "LiveKernelReports"];
        const STOPPED: [&str; 2] = ["rebooted from a bugcheck", "*** STOP:"];
        let live = if LIVE.iter().any(|word| contains_ci(line, word)) {
            (true, "the text names a live kernel report")
        } else if STOPPED.iter().any(|words| contains_ci(line, words)) {
            (false, "the text says that the machine stopped")
        } else {
            return;
        };
        self.reader.draft.live.get_or_insert(live);
    }

    /// A banner of the debugger ends the crash before it, if that has its stop.
    fn banner(&mut self, line: &str) {
        let opening = strip_prefix_ci(line, "Loading Dump File [").is_some()
            || strip_prefix_ci(line, "Microsoft (R) Windows Debugger Version").is_some();
        let kernel = contains_ci(line, "Kernel Version ") && strip_prefix_ci(line, "Windows").is_some();
        if (opening || kernel) && self.reader.draft.stop.is_some() {
            self.next(if opening { Beginning::Opening } else { Beginning::Banner });
        }
    }

    /// Puts the draft aside and starts another.
    fn next(&mut self, beginning: Beginning) {
        if self.done.len() >= MOST_CRASHES {
            return;
        }
        let next = Reader::new(self.reader.lines);
        let before = std::mem::replace(&mut self.reader, next);
        self.done.push((self.beginning, before.draft));
        self.beginning = beginning;
    }

    /// The drafts that are crashes, with parts of one crash joined.
    fn finish(mut self) -> Vec<Draft> {
        self.done.push((self.beginning, self.reader.draft));
        let mut crashes: Vec<Draft> = Vec::new();
        for (beginning, draft) in self.done {
            let own = match (beginning, &draft.stop, crashes.last().and_then(|last| last.stop.as_ref())) {
                (_, None, _) => crashes.is_empty(),
                (Beginning::Banner, Some((stop, _)), Some((last, _))) => !last.agrees(stop),
                _ => true,
            };
            match crashes.last_mut().filter(|_| !own) {
                Some(last) => last.absorb(draft),
                None => crashes.push(draft),
            }
        }
        crashes.retain(Draft::is_crash);
        crashes
    }
}

/// True for a row of a table: columns set apart by blanks, or addresses. Sentences have at most two blanks, behind
/// their full stop.
fn is_table(line: &str) -> bool {
    let wide = line
        .match_indices("  ")
        .filter(|(at, _)| !line.get(..*at).is_some_and(|head| head.ends_with(['.', '!', '?', ':'])));
    wide.take(2).count() >= 2
        || line.split_whitespace().any(|token| token.len() >= 16 && column(token).is_some())
}

/// Lines that debuggers print and nobody says.
fn is_noise(line: &str) -> bool {
    const STARTS: [&str; 15] = [
        "*",
        "---",
        "===",
        "Symbol search path",
        "Executable search path",
        "Loading ",
        "Copyright (c) Microsoft",
        "Mini Kernel Dump",
        "Kernel Summary Dump",
        "Kernel Bitmap Dump",
        "Use !analyze",
        "Followup:",
        "Resetting default",
        "Unable to ",
        "Some register values",
    ];
    STARTS.iter().any(|start| line.starts_with(start))
}
