//! `dt`: a type, or what memory holds of it.

use crate::answer::{Outcome, Stop};
use crate::arguments::word;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use crate::symbols::modules;
use serde_json::{Value, json};
use std::rc::Rc;
use stopcode_base::{Arch, Memory, VirtAddr};
use stopcode_symbols::{Dt, Listing, TypeId, Types};

/// Lines of one listing.
const LINES: usize = 5000;
/// Names that a pattern shows.
const NAMES: usize = 2000;

pub(super) const COMMAND: Command = Command {
    name: "dt",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::required("[-rN] MODULE!TYPE", Kind::Type),
        Parameter::optional("FIELD | ADDRESS", Kind::Rest),
    ],
    what: "a type, or what memory at an address holds of it",
    details: "`-rN` opens N levels of records. Fields are names, patterns or paths (`Tcb.Header.`). Without the kernel's symbols \
              the built-in layout of its build serves, which has the places of some fields and not their types; that is said. A \
              word that begins with a digit, or has `@`, `(` or `!` in it, is an address.",
    examples: &[
        ("dt nt!_KTHREAD", "the layout"),
        ("dt nt!_KTHREAD @$thread StackLimit StackBase", "two fields of the thread"),
        ("dt nt!_KT*", "types whose names fit"),
    ],
    run: |session, arguments, output| {
        let first = arguments.text("[-rN] MODULE!TYPE").unwrap_or_default();
        let rest = arguments.text("FIELD | ADDRESS").unwrap_or_default();
        let line = format!("{first} {rest}");
        let wanted = Wanted::parse(session, &line)?;
        show(session, &wanted, output)
    },
};

#[derive(Default)]
struct Wanted<'l> {
    ty: &'l str,
    depth: u32,
    at: Option<VirtAddr>,
    fields: Vec<&'l str>,
}

impl<'l> Wanted<'l> {
    fn parse(session: &Session, line: &'l str) -> Result<Self, Stop> {
        let mut wanted = Self::default();
        let mut rest = line.trim();
        while !rest.is_empty() {
            let (next, behind) = word(rest);
            if let Some(switch) = next.strip_prefix('-') {
                if let Some(depth) = switch.strip_prefix('r') {
                    wanted.depth = if depth.is_empty() { 1 } else { depth.parse().unwrap_or(1) };
                }
            } else if wanted.ty.is_empty() {
                wanted.ty = next;
            } else if wanted.at.is_none() && is_address(next) {
                wanted.at = Some(VirtAddr(session.evaluate(next)?));
            } else {
                wanted.fields.push(next);
            }
            rest = behind.trim_start();
        }
        if wanted.ty.is_empty() {
            return Err(Stop::failed(format!("a type is missing; usage: {}", COMMAND.synopsis())));
        }
        Ok(wanted)
    }
}

fn is_address(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) || word.contains(['@', '(', '!', '`'])
}

fn show(session: &Session, wanted: &Wanted<'_>, output: &mut Output) -> Outcome {
    let machine = session.machine();
    let (module, name) = wanted.ty.split_once('!').unwrap_or(("nt", wanted.ty));
    let module = modules(&machine, module).next();
    let module =
        module.ok_or_else(|| Stop::unknown(format!("no module of this dump is called {}", wanted.ty)))?;
    let types = machine.types(module).map_err(Stop::Unknown)?;
    if name.contains(['*', '?']) {
        return names(&types, &module.display, name, output);
    }
    // The kernel's structures begin with an underscore, which may be left out.
    let id = types.find(name).or_else(|| types.find(&format!("_{name}")));
    let id = id.ok_or_else(|| {
        Stop::Unknown(format!(
            "no type {name} is in what is known of {} ({})",
            module.display,
            types.provenance()
        ))
    })?;
    let view = session.memory(&machine);
    let memory = wanted.at.map(|at| (&view as &dyn Memory, at));
    let listing = Dt { at: memory, depth: wanted.depth.min(32), limit: LINES, ..Dt::new(&*types) };
    let listing = listing.list(id, &wanted.fields);
    if !wanted.fields.is_empty() && listing.lines.is_empty() {
        return Err(Stop::unknown(format!(
            "{name} has no such field in what is known of it ({})",
            types.provenance()
        )));
    }
    write(&view, wanted.at, &listing, output)?;
    if let Some(size) = types.size_of(id).filter(|_| wanted.fields.is_empty() && wanted.at.is_none()) {
        output.line(format!("   size {size:#x}"))?;
    }
    held(machine.arch(), &view, wanted, &listing)?;
    output.missing(types.provenance());
    Ok(described(name, wanted.at, &*types, id, &listing))
}

fn names(types: &Rc<dyn Types>, module: &str, pattern: &str, output: &mut Output) -> Outcome {
    let found = types.matching(pattern);
    for (name, _) in found.iter().take(NAMES) {
        output.line(format!("          {module}!{name}"))?;
    }
    if found.len() > NAMES {
        output.missing(format!("{} more fit", found.len() - NAMES));
    }
    if found.is_empty() {
        return Err(Stop::unknown(format!(
            "no type fits in what is known of {module} ({})",
            types.provenance()
        )));
    }
    Ok(json!({"types": found.iter().take(NAMES).map(|(name, _)| name).collect::<Vec<_>>()}))
}

/// The lines; of a field whose type is not known the bytes that stand there.
fn write(
    memory: &dyn Memory,
    at: Option<VirtAddr>,
    listing: &Listing,
    output: &mut Output,
) -> Result<(), Stop> {
    let arch = output.arch();
    let text = listing.to_string();
    let mut members = listing.lines.iter();
    for line in text.lines() {
        let member = members.next();
        let raw = at.zip(member).and_then(|(at, member)| {
            let untyped = member.depth == 0 && member.value.is_none() && member.ty == "?";
            memory.read_word(arch, at.plus(member.offset.filter(|_| untyped)?)).ok()
        });
        match raw {
            Some(raw) => output.line(format!(
                "{line} ({} bytes from there: {})",
                arch.pointer_size(),
                arch.windbg(VirtAddr(raw))
            ))?,
            None => output.line(line)?,
        }
    }
    if listing.cut {
        output.missing("there is more");
    }
    Ok(())
}

/// Fails if values were asked for and none is there.
fn held(arch: Arch, memory: &dyn Memory, wanted: &Wanted<'_>, listing: &Listing) -> Result<(), Stop> {
    let Some(at) = wanted.at else { return Ok(()) };
    let mut values = listing.lines.iter().filter_map(|line| line.value.as_ref()).peekable();
    if values.peek().is_some() && values.all(Result::is_err) {
        return Err(super::memory::missing(arch, memory, at));
    }
    Ok(())
}

fn described(name: &str, at: Option<VirtAddr>, types: &dyn Types, id: TypeId, listing: &Listing) -> Value {
    let members = listing.lines.iter().map(|line| {
        let value = line.value.as_ref().and_then(|value| value.as_ref().ok());
        json!({
            "depth": line.depth, "offset": line.offset, "name": line.name, "type": line.ty,
            "value": value.map(ToString::to_string),
        })
    });
    let values = listing.values.iter().map(|(name, value)| json!({"name": name, "value": value.to_string()}));
    json!({
        "type": name, "address": at.map(address), "size": types.size_of(id), "source": types.provenance(),
        "members": members.collect::<Vec<_>>(), "values": values.collect::<Vec<_>>(), "partial": listing.partial,
    })
}
