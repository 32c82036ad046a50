//! `!lmi`: one module.

use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::{address, hex};
use crate::symbols::modules;
use serde_json::json;
use stopcode_base::VirtAddr;

pub(super) const COMMAND: Command = Command {
    name: "!lmi",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("MODULE", Kind::Module)],
    what: "one module, and whether its image and symbols are at hand",
    details: "By its name or an address in it.",
    examples: &[("!lmi nt", "the kernel")],
    run: |session, arguments, output| {
        let name = arguments.text("MODULE").unwrap_or_default();
        let machine = session.machine();
        let by_address = || {
            let at = VirtAddr(session.evaluate(name).ok()?);
            machine.modules().iter().find(|module| module.contains(at))
        };
        let module = modules(&machine, name).next().or_else(by_address);
        let module =
            module.ok_or_else(|| Stop::unknown(format!("no module of this dump is called {name}")))?;
        output.line(format!("Loaded Module Info: [{}]", module.display))?;
        output.line(format!("         Module: {}", module.image))?;
        output.line(format!("   Base Address: {}", output.at(module.base)))?;
        output.line(format!("     Image Name: {}", module.path))?;
        let stamp =
            module.time_date_stamp.map_or_else(|| "unavailable".to_owned(), |stamp| format!("{stamp:x}"));
        output.line(format!("Time Date Stamp: {stamp}"))?;
        output.line(format!("           Size: {:x}", module.size))?;
        let sum = module.checksum.map_or_else(|| "unavailable".to_owned(), |sum| format!("{sum:x}"));
        output.line(format!("       CheckSum: {sum}"))?;
        let headers = machine.memory().read_u16(module.base).is_ok();
        output.line(format!(
            "   Image header: {}",
            if headers { "in this dump" } else { "not in this dump" }
        ))?;
        let names = machine.symbols(module).map(stopcode_symbols::SymbolTable::len);
        let shown = names
            .map_or_else(|| "none that are provably its own".to_owned(), |names| format!("{names} names"));
        output.line(format!("        Symbols: {shown}"))?;
        Ok(json!({
            "name": module.display, "image": module.image, "base": address(module.base), "size": module.size,
            "time_date_stamp": module.time_date_stamp.map(hex), "header_in_dump": headers, "names": names,
        }))
    },
};
