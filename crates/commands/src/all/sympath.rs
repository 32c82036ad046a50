//! `.sympath`, `.reload`: where symbols come from.

use crate::answer::{Outcome, Stop};
use crate::arguments::Arguments;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use serde_json::json;
use stopcode_base::Problem;

const PATH: &[Parameter] = &[Parameter::optional("PATH", Kind::Rest)];

pub(super) const SYMPATH: Command = Command {
    name: ".sympath",
    aliases: &[],
    letters: "",
    parameters: PATH,
    what: "where symbols are looked for",
    details: "It begins with what `--symbols` or the environment gave. With a PATH (a file, a folder, a store, \
              `srv*STORE*SERVER`; several parted by `;`, in quotes then) symbols are looked for there instead, from then on: \
              the dump is opened anew, and the context of the bug check is selected.",
    examples: &[(".sympath", "the path"), (".sympath \"D:\\symbols;srv*D:\\store\"", "two other places")],
    run: |session, arguments, output| {
        if let Some(path) = path(arguments) {
            reopen(session, path.to_owned(), output)?;
        }
        tell(session, output)
    },
};

pub(super) const SYMPATH_AND: Command = Command {
    name: ".sympath+",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("PATH", Kind::Rest)],
    what: "looks for symbols in another place, too",
    details: "PATH is looked in after those that `.sympath` shows.",
    examples: &[(".sympath+ D:\\symbols; k", "the stack with more names")],
    run: |session, arguments, output| {
        let more = path(arguments).unwrap_or_default();
        let before = session.symbol_path();
        let both = if before.is_empty() { more.to_owned() } else { format!("{before};{more}") };
        reopen(session, both, output)?;
        tell(session, output)
    },
};

/// The path behind the name, without quotes around it.
fn path<'l>(arguments: &Arguments<'l>) -> Option<&'l str> {
    let path = arguments.text("PATH")?;
    Some(path.strip_prefix('"').and_then(|path| path.strip_suffix('"')).unwrap_or(path))
}

fn reopen(session: &mut Session, path: String, output: &mut Output) -> Result<(), Stop> {
    let opened = session.reopen(path);
    let opened =
        opened.ok_or_else(|| Stop::failed("the symbol path is given at the start, with --symbols"))?;
    say(&opened.map_err(Stop::Failed)?, output);
    Ok(())
}

fn say(problems: &[Problem], output: &mut Output) {
    for problem in problems {
        output.missing(format!("{} ({})", problem.what, problem.place));
    }
}

fn tell(session: &Session, output: &mut Output) -> Outcome {
    let path = session.symbol_path();
    output.line(format!("Symbol search path is: {}", if path.is_empty() { "<empty>" } else { path }))?;
    Ok(json!({"path": path}))
}

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
    what: "looks for the symbols of all modules anew, and tells which have some",
    details: "Otherwise a module's symbols are looked for when an address in it is first shown, and what was not found then is \
              not looked for again. Options and modules behind it are of no effect: it always looks for all.",
    examples: &[(".reload", "after files were put where `.sympath` says")],
    run: |session, _, output| {
        if let Some(opened) = session.reopen(session.symbol_path().to_owned()) {
            say(&opened.map_err(Stop::Failed)?, output);
        }
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
