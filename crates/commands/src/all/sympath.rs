//! `.sympath`, `.reload`: where symbols come from.

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use serde_json::json;

const PATH: &[Parameter] = &[Parameter::optional("PATH", Kind::Rest)];

pub(super) const SYMPATH: Command = Command {
    name: ".sympath",
    aliases: &[],
    letters: "",
    parameters: PATH,
    what: "where symbols are looked for",
    details: "The path is given at the start, with `--symbols`, and stays as it is.",
    examples: &[(".sympath", "")],
    run: |session, arguments, output| {
        if arguments.text("PATH").is_some() {
            return Err(Stop::failed("the symbol path is given at the start, with --symbols"));
        }
        let path = session.symbol_path();
        output.line(format!("Symbol search path is: {}", if path.is_empty() { "<empty>" } else { path }))?;
        Ok(json!({"path": path}))
    },
};

pub(super) const RELOAD: Command = Command {
    name: ".reload",
    aliases: &["ld"],
    letters: "",
    parameters: PATH,
    what: "looks for the symbols of all modules now, and tells which have some",
    details: "Otherwise a module's symbols are looked for when an address in it is first shown.",
    examples: &[(".reload", "")],
    run: |session, _, output| {
        let machine = session.machine();
        let mut with = Vec::new();
        for module in machine.modules() {
            output.go_on()?;
            if let Some(table) = machine.symbols(module) {
                output.line(format!("{:<16} {} names", module.display, table.len()))?;
                with.push(json!({"module": module.display, "names": table.len()}));
            }
        }
        output.line(format!("{} of {} modules have symbols", with.len(), machine.modules().len()))?;
        if let Some(names) = &machine.build().names {
            output.line(format!("nt: {names}"))?;
        }
        Ok(json!({"modules": machine.modules().len(), "with_symbols": with}))
    },
};
