//! Where the reading stands: what recognisers know of the lines before theirs, and where they put what they read.

use crate::draft::{Draft, Origin, RawStack};
use crate::lines::Lines;
use crate::scan::{Prompt, number, strip_prefix_ci};
use crate::site::Site;

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

/// Where the reading stands in one crash.
pub(crate) struct Reader<'a> {
    pub(crate) lines: &'a Lines,
    pub(crate) draft: Draft,
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

impl<'a> Reader<'a> {
    /// At the first line of a crash.
    pub(crate) fn new(lines: &'a Lines) -> Self {
        Self {
            lines,
            draft: Draft::default(),
            mode: Mode::Other,
            processor: None,
            origin: None,
            selected: false,
            thread: None,
            label: None,
            module: None,
            about: None,
            key_is_hypervisor: false,
        }
    }

    /// A prompt: which processor, and what its output will be.
    pub(crate) fn command(&mut self, prompt: Prompt<'_>) {
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
