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

pub(super) const LINES: Command = Command {
    name: ".lines",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::switch("-e"), Parameter::switch("-d"), Parameter::switch("-t")],
    what: "whether `k` and `ln` show source lines",
    details: "`-e` shows them, `-d` does not, `-t` or nothing changes over. They come from PDBs that have lines; a public PDB of \
              Microsoft's has none. `kL` leaves them out once.",
    examples: &[(".lines -d", "stacks without source lines")],
    run: |session, arguments, output| {
        let shown = match (arguments.switch("-e"), arguments.switch("-d")) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => !session.lines(),
        };
        session.show_lines(shown);
        output.line(format!("Line number information will {}be shown", if shown { "" } else { "not " }))?;
        Ok(json!({"shown": shown}))
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
