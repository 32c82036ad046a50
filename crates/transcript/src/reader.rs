//! The walk over the lines: which recogniser a line belongs to, and where one crash ends and the next begins.

use crate::draft::{Draft, Origin, RawStack};
use crate::frame;
use crate::lines::Lines;
use crate::scan::{Prompt, column, contains_ci, field, number, prompt, strip_prefix_ci};
use crate::site::Site;
use crate::stops::{self, Found};
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

/// What the last command prints, where a line alone does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mode {
    #[default]
    Other,
    /// `lm`
    Modules,
    /// The list of unloaded modules inside `lm`.
    Unloaded,
    /// `dps`, `dqs`, `dds`
    Pointers,
    /// `db`, `dw`, `dd`, `dq` and the bytes of a unit.
    Units(usize),
    /// `!running`
    Running,
}

/// The most crashes that are told apart in one text.
const MOST_CRASHES: usize = 4096;

/// Where the reading stands.
pub(crate) struct Reader<'a> {
    pub(crate) lines: &'a Lines,
    pub(crate) draft: Draft,
    done: Vec<(Beginning, Draft)>,
    beginning: Beginning,
    pub(crate) mode: Mode,
    /// Processor of the last prompt.
    pub(crate) processor: Option<u32>,
    /// What the next registers belong to.
    pub(crate) origin: Option<Origin>,
    /// A context was selected for stacks to come.
    pub(crate) selected: bool,
    /// The thread of a `!thread` whose stack may follow.
    pub(crate) thread: Option<u64>,
    /// The name of the code line to come.
    pub(crate) label: Option<Site>,
    /// The module that the details of `lmv` belong to.
    pub(crate) module: Option<usize>,
    /// The processor that the lines of `!ipi` or `!prcb` belong to.
    pub(crate) about: Option<u32>,
    /// The key of `!analyze` whose value comes next tells of a hypervisor.
    pub(crate) key_is_hypervisor: bool,
}

/// Reads all crashes out of `lines`.
pub(crate) fn read(lines: &Lines) -> Vec<Draft> {
    let mut reader = Reader {
        lines,
        draft: Draft::default(),
        done: Vec::new(),
        beginning: Beginning::Stop,
        mode: Mode::Other,
        processor: None,
        origin: None,
        selected: false,
        thread: None,
        label: None,
        module: None,
        about: None,
        key_is_hypervisor: false,
    };
    let mut at = 0;
    while at < lines.len() {
        at += reader.step(at).max(1);
    }
    reader.finish()
}

impl Reader<'_> {
    /// Reads what starts at line `at`; the number of lines that were its own.
    fn step(&mut self, at: usize) -> usize {
        let lines = self.lines;
        let line = lines.trimmed(at);
        if line.is_empty() {
            self.draft.prose.push(String::new());
            return 1;
        }
        self.banner(line);
        if let Some(prompt) = prompt(line) {
            self.command(prompt);
            return 1;
        }
        if let Some(found) = stops::read(lines, at) {
            return self.stop(found);
        }
        if let Some(layout) = frame::heading(line) {
            return 1 + stacks::read(self, at + 1, Some(layout), false);
        }
        if let Some((name, value)) = field(line) {
            return fields::read(self, at, name, value);
        }
        for recogniser in
            [machine::read, code::memory, fields::registers, modules::read, code::code, stacks::bare]
        {
            let taken = recogniser(self, at);
            if taken > 0 {
                return taken;
            }
        }
        let said = if is_noise(line) || is_table(line) { String::new() } else { line.to_owned() };
        self.draft.prose.push(said);
        1
    }

    /// A prompt: which processor, and what its output will be.
    fn command(&mut self, prompt: Prompt<'_>) {
        self.selected &= self.processor == prompt.processor;
        self.processor = prompt.processor;
        self.draft.first_prompt = self.draft.first_prompt.or(prompt.processor);
        self.mode = Mode::Other;
        self.module = None;
        self.thread = None;
        self.label = None;
        for command in prompt.command.split(';').take(16) {
            self.one_command(command.trim());
        }
    }

    fn one_command(&mut self, command: &str) {
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let address = argument.split_whitespace().next().and_then(number);
        match name {
            ".trap" => self.origin = Some(Origin::Trap(address)),
            ".cxr" => self.origin = Some(Origin::Context(address)),
            "r" => self.origin = self.origin.take().or(Some(Origin::Current)),
            ".frame" => self.origin = Some(Origin::Frame),
            "!running" => self.mode = Mode::Running,
            "dps" | "dqs" | "dds" | "dpp" | "dpu" | "dpa" => self.mode = Mode::Pointers,
            "db" => self.mode = Mode::Units(1),
            "dw" => self.mode = Mode::Units(2),
            "dd" | "dc" => self.mode = Mode::Units(4),
            "dq" => self.mode = Mode::Units(8),
            "!analyze" => self.draft.analyzed_on = self.draft.analyzed_on.or(self.processor),
            _ if strip_prefix_ci(name, "lm").is_some() => self.mode = Mode::Modules,
            _ => {}
        }
        if matches!(name, ".trap" | ".cxr" | ".ecxr") {
            self.selected = !argument.trim().is_empty() || name == ".ecxr";
        }
    }

    /// Takes a stop: of this crash, or the first line of the next.
    fn stop(&mut self, found: Found) -> usize {
        match (&mut self.draft.stop, found.stop.code) {
            // Arguments without a code belong to a code that came without arguments.
            (Some((stop, _)), 0) if !stop.has_arguments() => stop.complete(&found.stop),
            (_, 0) => {}
            (Some((stop, _)), _) if stop.agrees(&found.stop) => stop.complete(&found.stop),
            (Some((stop, _)), _) if !found.stop.has_arguments() && stop.has_arguments() => {}
            (Some((stop, _)), _) if stop.has_arguments() => {
                self.next(Beginning::Stop);
                self.draft.stop = Some((found.stop, found.source));
            }
            (slot, _) => *slot = Some((found.stop, found.source)),
        }
        if let Some(wide) = found.wide {
            self.draft.width(wide);
        }
        found.lines
    }

    /// A banner of the debugger ends the crash before it, if that has its stop.
    fn banner(&mut self, line: &str) {
        let opening = strip_prefix_ci(line, "Loading Dump File [").is_some()
            || strip_prefix_ci(line, "Microsoft (R) Windows Debugger Version").is_some();
        let kernel = contains_ci(line, "Kernel Version ") && strip_prefix_ci(line, "Windows").is_some();
        if (opening || kernel) && self.draft.stop.is_some() {
            self.next(if opening { Beginning::Opening } else { Beginning::Banner });
        }
    }

    /// Puts the draft aside and starts another.
    fn next(&mut self, beginning: Beginning) {
        if self.done.len() >= MOST_CRASHES {
            return;
        }
        self.done.push((self.beginning, std::mem::take(&mut self.draft)));
        self.beginning = beginning;
        self.mode = Mode::Other;
        self.processor = None;
        self.origin = None;
        self.selected = false;
        self.thread = None;
        self.label = None;
        self.module = None;
        self.about = None;
    }

    /// The drafts that are crashes, with parts of one crash joined.
    fn finish(mut self) -> Vec<Draft> {
        self.done.push((self.beginning, self.draft));
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

    /// A stack that was read, with where it stood.
    pub(crate) fn push_stack(&mut self, mut stack: RawStack) {
        stack.processor = self.processor;
        let selects = |origin: &Origin| matches!(origin, Origin::Trap(_) | Origin::Context(_));
        let selected_by_text = self.origin.as_ref().is_some_and(selects)
            || self.draft.registers.iter().any(|set| selects(&set.origin));
        stack.after_context = selected_by_text;
        stack.selected = self.selected || (stack.analyzed && selected_by_text);
        stack.thread = self.thread;
        self.draft.stacks.push(stack);
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
