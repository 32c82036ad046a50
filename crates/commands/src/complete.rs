//! What may stand at the end of an unfinished line.

use crate::line::parse_part;
use crate::parameter::Kind;
use crate::registry::commands;
use crate::session::Session;
use crate::symbols::modules;
use stopcode_symbols::demangle;

/// More is not offered.
const MOST: usize = 200;

/// Where in `line` the word to complete begins, and what it may become, sorted.
pub fn complete(session: &Session, line: &str) -> (usize, Vec<String>) {
    let part_start = line.rfind(';').map_or(0, |at| at + 1);
    let part = line.get(part_start..).unwrap_or_default();
    let lead = part.len() - part.trim_start().len();
    let part = part.trim_start();
    let start = part_start + lead;
    if !part.contains(char::is_whitespace) {
        return (start, sorted(command_names(part)));
    }
    let boundary = |c: char| c.is_whitespace() || "()+-*/&|^<>=@\"".contains(c);
    let word_start = part
        .rfind(boundary)
        .map_or(0, |at| at + part.get(at..).and_then(|s| s.chars().next()).map_or(1, char::len_utf8));
    let word = part.get(word_start..).unwrap_or_default();
    let Ok(invocation) = parse_part(part) else { return (start + word_start, Vec::new()) };
    let given = invocation.arguments.split_whitespace().count();
    let done = given - usize::from(!word.is_empty() && given > 0);
    let parameters: Vec<_> =
        invocation.command.parameters.iter().filter(|parameter| !parameter.is_named()).collect();
    let kind = parameters.get(done).or(parameters.last()).map(|parameter| parameter.kind);
    let found = match kind {
        Some(Kind::Command) => command_names(word),
        Some(Kind::Module) => module_names(session, word),
        Some(Kind::Type) => type_names(session, word),
        Some(Kind::Expression | Kind::Range { .. } | Kind::Symbol) => symbol_names(session, word),
        Some(Kind::Word | Kind::Rest | Kind::Switch | Kind::Option) | None => Vec::new(),
    };
    (start + word_start, sorted(found))
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names.truncate(MOST);
    names
}

fn command_names(start: &str) -> Vec<String> {
    let names = commands().flat_map(|command| command.aliases.iter().chain([&command.name]));
    names.filter(|name| name.starts_with(start)).map(|name| (*name).to_owned()).collect()
}

fn module_names(session: &Session, start: &str) -> Vec<String> {
    let machine = session.machine();
    modules(&machine, &format!("{start}*")).map(|module| module.display.clone()).collect()
}

fn symbol_names(session: &Session, word: &str) -> Vec<String> {
    let Some((module, start)) = word.split_once('!') else {
        return module_names(session, word).into_iter().map(|name| format!("{name}!")).collect();
    };
    let machine = session.machine();
    let named = modules(&machine, module).filter_map(|module| Some((module, machine.symbols(module)?)));
    named
        .flat_map(|(module, table)| {
            let names = table.starting_with(start).take(MOST);
            names.map(|(name, _)| format!("{}!{}", module.display, demangle(name))).collect::<Vec<_>>()
        })
        .collect()
}

fn type_names(session: &Session, word: &str) -> Vec<String> {
    let (module, start) = word.split_once('!').unwrap_or(("nt", word));
    let machine = session.machine();
    let Some(module) = modules(&machine, module).next() else { return Vec::new() };
    let Ok(types) = machine.types(module) else { return Vec::new() };
    let names = types.names();
    let fitting = names.iter().filter(|(name, _)| name.starts_with(start)).take(MOST);
    fitting.map(|(name, _)| format!("{}!{name}", module.display)).collect()
}
