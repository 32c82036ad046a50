//! `lm`

use crate::answer::{Outcome, Stop};
use crate::arguments::word;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::{address, date, hex};
use serde_json::{Value, json};
use stopcode_base::{VirtAddr, file_name, fits};
use stopcode_kernel::{Machine, Module, UnloadedModule};

pub(super) const COMMAND: Command = Command {
    name: "lm",
    aliases: &[],
    letters: "vtnm:a:sukfolDi1",
    parameters: &[Parameter::optional("OPTIONS", Kind::Module), Parameter::optional("PATTERN", Kind::Rest)],
    what: "the loaded and unloaded modules",
    details: "Letters, behind the name or apart: `v` in full, `t` with link date, `n` with file names, `f` with paths, `m \
              PATTERN` those of this name, `a ADDRESS` the one at an address, `1m` names only, `u` and `k` are of no effect. \
              Times are in UTC. From Windows 10 1809 on the stamps of Windows' own images are no dates; that is said.",
    examples: &[
        ("lm", "every module"),
        ("lmvm iaStor", "one in full"),
        ("lm t n", "all with dates and file names"),
        ("lm a @$ip", "the one that holds the instruction"),
    ],
    run: |session, arguments, output| {
        let rest = [arguments.text("OPTIONS"), arguments.text("PATTERN")];
        let rest = rest.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let wanted = Wanted::parse(session, arguments.letters, &rest)?;
        show(&session.machine(), &wanted, output)
    },
};

/// What a line asks for.
#[derive(Default)]
struct Wanted {
    full: bool,
    dates: bool,
    file_names: bool,
    paths: bool,
    names_only: bool,
    pattern: Option<String>,
    at: Option<VirtAddr>,
}

impl Wanted {
    fn parse(session: &Session, letters: &str, text: &str) -> Result<Self, Stop> {
        let mut wanted = Self::default();
        let mut text = wanted.take(session, letters, text)?;
        while !text.trim().is_empty() {
            let rest = text.trim_start();
            let (spelled, _) = word(rest);
            let Some((letters, _)) = COMMAND.split_letters(spelled) else {
                return Err(Stop::failed(format!(
                    "Syntax error at '{spelled}'; usage: {}",
                    COMMAND.synopsis()
                )));
            };
            text = wanted.take(session, letters, rest.get(letters.len()..).unwrap_or_default())?;
        }
        Ok(wanted)
    }

    /// Letters, and what follows those of them that need something.
    fn take<'t>(&mut self, session: &Session, letters: &str, text: &'t str) -> Result<&'t str, Stop> {
        let mut text = text;
        for letter in letters.chars() {
            match letter {
                'v' => self.full = true,
                't' => self.dates = true,
                'n' => self.file_names = true,
                'f' => self.paths = true,
                '1' => self.names_only = true,
                'm' => {
                    let (pattern, rest) = word(text.trim_start());
                    self.pattern = Some(if pattern.is_empty() { "*" } else { pattern }.to_owned());
                    text = rest;
                }
                'a' => {
                    let (value, rest) = crate::expression::evaluate_start(text, session)?;
                    self.at = Some(VirtAddr(value));
                    text = rest;
                }
                _ => {}
            }
        }
        Ok(text)
    }

    fn has(&self, module: &Module) -> bool {
        let stem = module.image.rsplit_once('.').map_or(module.image.as_str(), |(stem, _)| stem);
        let named = |pattern: &String| {
            fits(pattern, &module.display) || fits(pattern, &module.image) || fits(pattern, stem)
        };
        self.pattern.as_ref().is_none_or(named) && self.at.is_none_or(|at| module.contains(at))
    }

    fn has_unloaded(&self, module: &UnloadedModule) -> bool {
        let stem = module.name.rsplit_once('.').map_or(module.name.as_str(), |(stem, _)| stem);
        let named = |pattern: &String| fits(pattern, &module.name) || fits(pattern, stem);
        let holds = |at: VirtAddr| (module.start..module.end).contains(&at);
        self.pattern.as_ref().is_none_or(named) && self.at.is_none_or(holds)
    }
}

fn show(machine: &Machine, wanted: &Wanted, output: &mut Output) -> Outcome {
    let mut modules: Vec<&Module> = machine.modules().iter().filter(|module| wanted.has(module)).collect();
    modules.sort_by_key(|module| module.base);
    let unloaded: Vec<_> = machine.unloaded().iter().filter(|module| wanted.has_unloaded(module)).collect();
    if machine.modules().is_empty() {
        return Err(Stop::unknown("the list of loaded modules is not in this dump"));
    }
    if modules.is_empty() && unloaded.is_empty() {
        output.missing("no module of this dump fits");
    }
    if !wanted.names_only {
        output.line(format!("{} {}   module name", output.column("start"), output.column("end")))?;
    }
    for module in &modules {
        if wanted.names_only {
            output.line(&module.display)?;
        } else {
            output.line(line(output, machine, module, wanted))?;
        }
        if wanted.full {
            in_full(module, output)?;
        }
    }
    if !unloaded.is_empty() && !wanted.names_only {
        output.line("")?;
        output.line("Unloaded modules:")?;
        for module in &unloaded {
            output.line(format!(
                "{} {}   {}",
                output.at(module.start),
                output.at(module.end),
                module.name
            ))?;
        }
    }
    Ok(json!({
        "modules": modules.iter().map(|module| described(machine, module)).collect::<Vec<_>>(),
        "unloaded": unloaded.iter().map(|module| json!({
            "name": module.name, "start": address(module.start), "end": address(module.end),
        })).collect::<Vec<_>>(),
    }))
}

/// What WinDbg says of a module's symbols.
fn symbols(machine: &Machine, module: &Module) -> &'static str {
    match machine.symbols(module).and_then(|table| table.iter().next().map(|found| found.how)) {
        None => "(no symbols)",
        Some(stopcode_symbols::How::Export) => "(export symbols)",
        Some(stopcode_symbols::How::Isf) => "(ISF symbols)",
        Some(_) => "(pdb symbols)",
    }
}

fn line(output: &Output, machine: &Machine, module: &Module, wanted: &Wanted) -> String {
    let range = format!("{} {}", output.at(module.base), output.at(module.end()));
    let path = if wanted.paths { module.path.as_str() } else { file_name(&module.path) };
    let file = if wanted.file_names || wanted.paths { format!(" {path:<16}") } else { String::new() };
    if wanted.dates {
        return format!("{range}   {:<10}{file} {}", module.display, stamp(module));
    }
    if wanted.file_names || wanted.paths {
        return format!("{range}   {:<10}{file}", module.display);
    }
    format!("{range}   {:<10} {}", module.display, symbols(machine, module))
}

/// `Wed Feb 01 19:15:24 2012 (4F298FCC)`; where the stamp is no date it says why.
fn stamp(module: &Module) -> String {
    let Some(stamp) = module.time_date_stamp else { return "unavailable".to_owned() };
    match module.link_date.get() {
        Some(time) => format!("{} ({stamp:08X})", date(time, false)),
        None => format!("{stamp:08X} (no date: {})", module.link_date.reason().unwrap_or_default()),
    }
}

fn in_full(module: &Module, output: &mut Output) -> Result<(), Stop> {
    let file = file_name(&module.path);
    output.line(format!("    Loaded symbol image file: {file}"))?;
    if module.path != file {
        output.line(format!("    Image path: {}", module.path))?;
    }
    output.line(format!("    Image name: {file}"))?;
    output.line(format!("    Timestamp:        {}", stamp(module)))?;
    let checksum = module.checksum.map_or_else(|| "unavailable".to_owned(), |sum| format!("{sum:08X}"));
    output.line(format!("    CheckSum:         {checksum}"))?;
    output.line(format!("    ImageSize:        {:08X}", module.size))?;
    if let Some(version) = &module.version {
        output.line(format!("    File version:     {version}"))?;
    }
    let Some(driver) = stopcode_knowledge::driver(&module.image) else { return Ok(()) };
    output.line(format!("    Known as:         {} ({})", driver.product, driver.vendor))?;
    match &driver.known_problem {
        Some(problem) => output.line(format!("    Known for:        {problem}")),
        None => Ok(()),
    }
}

fn described(machine: &Machine, module: &Module) -> Value {
    json!({
        "name": module.display, "image": module.image, "path": module.path,
        "start": address(module.base), "end": address(module.end()), "size": module.size,
        "time_date_stamp": module.time_date_stamp.map(hex), "checksum": module.checksum.map(hex),
        "link_date": module.link_date.get().map(|time| time.to_string()),
        "link_date_missing": module.link_date.reason(),
        "version": module.version, "symbols": symbols(machine, module).trim_matches(['(', ')']),
    })
}
