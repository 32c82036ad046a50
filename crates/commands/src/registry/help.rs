//! `.help`

use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::registry::{find, groups};
use crate::show::capital;
use serde_json::{Value, json};

pub(super) const COMMAND: Command = Command {
    name: ".help",
    aliases: &[".hh", "!help"],
    letters: "",
    parameters: &[Parameter::optional("COMMAND", Kind::Command)],
    what: "the commands, or one of them in full",
    details: "",
    examples: &[(".help k", "what `k` shows and how it is asked")],
    run: |_, arguments, output| match arguments.text("COMMAND") {
        None => list(output),
        Some(name) => match find(name) {
            Some(command) => one(command, output),
            None => Err(Stop::failed(format!("no command is called {name}; .help lists them"))),
        },
    },
};

/// A line each.
fn list(output: &mut Output) -> Outcome {
    let mut all = Vec::new();
    for group in groups() {
        output.line(format!("{}:", group.name))?;
        for command in group.commands {
            output.line(format!("  {:<34} {}", command.synopsis(), command.what))?;
            all.push(described(command));
        }
    }
    Ok(Value::Array(all))
}

fn one(command: &Command, output: &mut Output) -> Outcome {
    output.line(command.synopsis())?;
    output.line(format!("  {}.", capital(command.what)))?;
    if !command.aliases.is_empty() {
        output.line(format!("  Also {}.", command.aliases.join(", ")))?;
    }
    for line in command.details.lines() {
        output.line(format!("  {line}"))?;
    }
    for (line, shows) in command.examples {
        output.line(format!("  {line:<32} {shows}"))?;
    }
    Ok(described(command))
}

fn described(command: &Command) -> Value {
    json!({
        "name": command.name, "aliases": command.aliases, "letters": command.letters,
        "arguments": command.usage(), "what": command.what, "details": command.details,
        "examples": command.examples.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
    })
}
