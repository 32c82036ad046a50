//! Every command, one file each, by what it is about.

mod bugcheck;
mod echo;
mod evaluate;
mod formats;
mod help;
mod k;
mod lm;
mod n;
mod planned;
mod processor;
mod q;
mod r;
mod shared;

use crate::command::Command;

/// Commands that belong together, under a heading of the documentation.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) commands: &'static [&'static Command],
}

/// All of them.
pub(crate) const ALL: &[Group] = &[
    Group { name: "The crash", commands: &[&bugcheck::COMMAND] },
    Group { name: "Context and stack", commands: &[&processor::COMMAND, &k::COMMAND, &r::COMMAND] },
    Group { name: "Modules and symbols", commands: &[&lm::COMMAND] },
    Group { name: "Values", commands: &[&evaluate::COMMAND, &formats::COMMAND, &n::COMMAND] },
    Group { name: "The session", commands: &[&help::COMMAND, &echo::COMMAND, &q::COMMAND] },
    Group { name: "Not built yet", commands: planned::COMMANDS },
];
