//! What a command is: the one definition that parsing, help, completion, the documentation and JSON come from.

use crate::answer::{Outcome, Stop};
use crate::arguments::{Arguments, Misread};
use crate::expression::Names;
use crate::output::Output;
use crate::parameter::{Parameter, usage};
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
    /// Letters that may follow the name directly and change what it shows: `v` in `kv`. What follows one with a colon behind
    /// it is its value, and no more letters: `lmvmnt` is `lmvm nt`.
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

impl Command {
    /// Its arguments as help shows them: `[-v] ADDRESS`.
    pub fn usage(&self) -> String {
        usage(self.parameters)
    }

    /// Name, letters and arguments on a line.
    pub fn synopsis(&self) -> String {
        let letters = self.letters.replace(':', "");
        let letters = if letters.is_empty() { letters } else { format!("[{letters}]") };
        format!("{}{letters} {}", self.name, self.usage()).trim_end().to_owned()
    }

    /// True if it has this letter.
    pub(crate) fn has_letter(&self, letter: char) -> bool {
        letter != ':' && self.letters.contains(letter)
    }

    /// Splits what follows its name into its letters and the value of the last; `None` if another letter is among them.
    pub(crate) fn split_letters<'n>(&self, behind: &'n str) -> Option<(&'n str, &'n str)> {
        for (at, letter) in behind.char_indices() {
            if !self.has_letter(letter) {
                return None;
            }
            if self.letters.contains(&format!("{letter}:")) {
                return behind.split_at_checked(at + letter.len_utf8());
            }
        }
        Some((behind, ""))
    }

    /// Reads the `letters` behind the name and the `text` behind those as the definition says.
    pub(crate) fn arguments<'l>(
        &self,
        letters: &'l str,
        text: &'l str,
        names: &dyn Names,
    ) -> Result<Arguments<'l>, Stop> {
        Arguments::parse(self.parameters, letters, text, names).map_err(|error| match error {
            Misread::Missing(name) => Stop::Failed(format!("{name} is missing; usage: {}", self.synopsis())),
            Misread::Expression(error) => error.into(),
        })
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
