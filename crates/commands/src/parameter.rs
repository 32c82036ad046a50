//! What may stand behind a command's name.

/// An argument.
pub struct Parameter {
    /// How help calls it: `ADDRESS`; the spelling of a switch: `-v`.
    pub name: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// Without it the command is asked wrongly.
    pub required: bool,
}

/// Stands for the bytes of a pointer of the machine.
pub(crate) const POINTER: u64 = 0;

/// What may stand for an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The parameter's name itself, there or not; `/` and `-` before it are the same.
    Switch,
    /// The parameter's name itself and an expression behind it: `-lo 50`.
    Option,
    /// An expression.
    Expression,
    /// An address, and `L` with a count of elements or a last address; `count` elements of `unit` bytes where neither stands.
    Range {
        /// Bytes of an element, or [`POINTER`].
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
    /// True if it is known by its name and may stand anywhere, false if by its place.
    pub(crate) fn is_named(&self) -> bool {
        matches!(self.kind, Kind::Switch | Kind::Option)
    }

    /// An argument that may be left out.
    pub const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: false }
    }

    /// An argument that has to stand there.
    pub const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: true }
    }

    /// A switch with a value behind it.
    pub const fn option(name: &'static str) -> Self {
        Self { name, kind: Kind::Option, required: false }
    }

    /// A switch.
    pub const fn switch(name: &'static str) -> Self {
        Self { name, kind: Kind::Switch, required: false }
    }
}

/// Parameters as help shows them: `[-v] ADDRESS`.
pub(crate) fn usage(parameters: &[Parameter]) -> String {
    let shown = |parameter: &Parameter| {
        let name = match parameter.kind {
            Kind::Option => format!("{} N", parameter.name),
            Kind::Range { .. } => format!("{} [L COUNT | END]", parameter.name),
            _ => parameter.name.to_owned(),
        };
        if parameter.required { name } else { format!("[{name}]") }
    };
    parameters.iter().map(shown).collect::<Vec<_>>().join(" ")
}
