//! What a command is: the one definition that parsing, help, completion, the documentation and JSON come from.

use crate::answer::Outcome;
use crate::arguments::Arguments;
use crate::output::Output;
use crate::session::Session;
use std::fmt;

/// A command of the kd language.
///
/// A command is a file under `all/` with such a definition, and a line in `all.rs`.
pub struct Command {
    /// WinDbg's spelling.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// Letters that may follow the name directly and change what it shows: `v` in `kv`.
    pub letters: &'static str,
    /// Its arguments, in their order; switches anywhere before the last.
    pub parameters: &'static [Parameter],
    /// What it shows, in a few words.
    pub what: &'static str,
    /// What a reader should know beyond that: Markdown, may be empty.
    pub details: &'static str,
    /// Lines to try, and what they show.
    pub examples: &'static [(&'static str, &'static str)],
    /// Does it.
    pub run: fn(&mut Session, &Arguments<'_>, &mut Output) -> Outcome,
}

/// An argument.
pub struct Parameter {
    /// How help calls it: `ADDRESS`; the spelling of a switch: `-v`.
    pub name: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// Without it the command is asked wrongly.
    pub required: bool,
}

/// What may stand for an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The parameter's name itself, there or not; `/` and `-` before it are the same.
    Switch,
    /// An expression.
    Expression,
    /// An address, and `L` with a count of elements or a last address; `count` elements of `unit` bytes where neither stands.
    Range {
        /// Bytes of an element.
        unit: u64,
        /// Elements shown by default.
        count: u64,
    },
    /// A word, or several in quotes.
    Word,
    /// A module's name, perhaps with wild cards.
    Module,
    /// A symbol, perhaps with wild cards: `nt!Ke*`.
    Symbol,
    /// The name of a type: `_KTHREAD`.
    Type,
    /// The name of a command.
    Command,
    /// All that is left of the line, as it is.
    Rest,
}

impl Parameter {
    /// An argument that may be left out.
    pub const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: false }
    }

    /// An argument that has to stand there.
    pub const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: true }
    }

    /// A switch.
    pub const fn switch(name: &'static str) -> Self {
        Self { name, kind: Kind::Switch, required: false }
    }
}

impl Command {
    /// Its arguments as help shows them: `[-v] ADDRESS`.
    pub fn usage(&self) -> String {
        let shown = |parameter: &Parameter| {
            let name = match parameter.kind {
                Kind::Range { .. } => format!("{} [L COUNT | END]", parameter.name),
                _ => parameter.name.to_owned(),
            };
            if parameter.required { name } else { format!("[{name}]") }
        };
        self.parameters.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    /// Name, letters and arguments on a line.
    pub fn synopsis(&self) -> String {
        let letters = if self.letters.is_empty() { String::new() } else { format!("[{}]", self.letters) };
        format!("{}{letters} {}", self.name, self.usage()).trim_end().to_owned()
    }
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Command {}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("name", &self.name).finish_non_exhaustive()
    }
}
