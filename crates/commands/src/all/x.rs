//! `x`: symbols by name.

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::address;
use crate::symbols::{modules, no_symbols};
use serde_json::json;
use stopcode_base::fits;
use stopcode_symbols::demangle;

/// More are counted, not shown.
const MOST: usize = 5000;

pub(super) const COMMAND: Command = Command {
    name: "x",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::switch("/n"),
        Parameter::switch("/a"),
        Parameter::required("MODULE!PATTERN", Kind::Symbol),
    ],
    what: "the symbols that a pattern fits",
    details: "`*` is any text and `?` any one character, in the module as in the name. `/n` sorts by name, `/a` by address, which is the order without them, module by module.",
    examples: &[("x nt!KeBugCheck*", "names that begin so")],
    run: |session, arguments, output| {
        let pattern = arguments.text("MODULE!PATTERN").unwrap_or_default();
        let (module, name) = pattern.split_once('!').unwrap_or(("*", pattern));
        let machine = session.machine();
        let (mut found, mut more, mut reason) = (Vec::new(), 0, None);
        let mut any = false;
        for module in modules(&machine, module) {
            any = true;
            let Some(table) = machine.symbols(module) else {
                reason.get_or_insert_with(|| no_symbols(module));
                continue;
            };
            for symbol in table.iter() {
                output.go_on()?;
                let shown = demangle(symbol.name);
                if !fits(name, &shown) {
                    continue;
                }
                if found.len() < MOST {
                    found.push((module.base.plus(symbol.rva.into()), format!("{}!{shown}", module.display)));
                } else {
                    more += 1;
                }
            }
        }
        if arguments.switch("/n") {
            found.sort_by(|one, other| one.1.cmp(&other.1));
        } else if arguments.switch("/a") {
            found.sort_by_key(|(at, _)| *at);
        }
        if !any {
            return Err(Stop::unknown(format!("no module of this dump is called {module}")));
        }
        for (at, name) in &found {
            output.line(format!("{}          {name}", output.at(*at)))?;
        }
        if more > 0 {
            output.missing(format!("{more} more fit"));
        }
        if let Some(reason) = reason.filter(|_| found.is_empty()) {
            return Err(Stop::Unknown(reason));
        }
        let symbols = found.iter().map(|(at, name)| json!({"address": address(*at), "name": name}));
        Ok(json!({"symbols": symbols.collect::<Vec<_>>(), "more": more}))
    },
};
