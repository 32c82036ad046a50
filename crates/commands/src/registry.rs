//! Every command by its name.

mod help;

use crate::all::{ALL, ECHO, Group, QUIT};
use crate::command::Command;

/// Those about the session itself. Help is not among `all`: it lists them.
const SESSION: Group = Group { name: "The session", commands: &[&help::COMMAND, &ECHO, &QUIT] };

/// Every group of commands.
pub(crate) fn groups() -> impl Iterator<Item = &'static Group> {
    ALL.iter().chain([&SESSION])
}

/// Every command, by group and name.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    groups().flat_map(|group| group.commands).copied()
}

/// The command of this name: `k`, `kv`, `!analyze`.
pub fn find(name: &str) -> Option<&'static Command> {
    named(name).filter(|(_, _, value)| value.is_empty()).map(|(command, _, _)| command)
}

/// The command of this name, the letters in it that are not its own, and the value of the last of them.
pub(crate) fn named(name: &str) -> Option<(&'static Command, &str, &str)> {
    let is = |command: &&Command| command.name == name || command.aliases.contains(&name);
    if let Some(command) = commands().find(is) {
        return Some((command, "", ""));
    }
    commands().filter(|command| !command.letters.is_empty()).find_map(|command| {
        let (letters, value) = command.split_letters(name.strip_prefix(command.name)?)?;
        Some((command, letters, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameter::Kind;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_one_commands_own() {
        let mut names = BTreeSet::new();
        for command in commands() {
            for name in command.aliases.iter().chain([&command.name]) {
                assert!(names.insert(*name), "{name} twice");
                assert_eq!(find(name), Some(command));
            }
        }
        assert_eq!(find("!nothing"), None);
        assert_eq!(find("kv").unwrap().name, "k");
        assert_eq!(find("lmvm").unwrap().name, "lm");
        assert_eq!(
            named("lmDvmiaStor").map(|(c, letters, value)| (c.name, letters, value)),
            Some(("lm", "Dvm", "iaStor"))
        );
        assert_eq!(named("lmxm"), None);
    }

    #[test]
    fn definitions_are_sound() {
        for command in commands() {
            assert!(!command.what.is_empty() && !command.what.ends_with('.'), "{}", command.name);
            let positional: Vec<_> =
                command.parameters.iter().filter(|parameter| !parameter.is_named()).collect();
            let rest = positional.iter().position(|parameter| parameter.kind == Kind::Rest);
            assert!(rest.is_none_or(|at| at + 1 == positional.len()), "{}", command.name);
            assert!(positional.windows(2).all(|pair| pair[0].required || !pair[1].required));
            for (line, _) in command.examples {
                let parsed = crate::parse_line(line);
                let names = parsed.unwrap_or_else(|error| panic!("{line}: {error:?}"));
                assert!(names.iter().any(|invocation| invocation.command == command), "{line}");
            }
        }
    }
}
