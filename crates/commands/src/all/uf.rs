//! `uf`: a whole function.

use super::u;
use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::symbols::no_symbols;

/// A longer function is not shown whole.
const LONGEST: u64 = 0x1_0000;

pub(super) const COMMAND: Command = Command {
    name: "uf",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("ADDRESS", Kind::Expression)],
    what: "disassembly of the function that holds an address",
    details: "Where the function ends is told by its symbol, or by the next one.",
    examples: &[("uf nt!KeBugCheckEx", "all of a function")],
    run: |session, arguments, output| {
        let at = arguments.address("ADDRESS").unwrap_or_default();
        let machine = session.machine();
        let module = machine.modules().iter().find(|module| module.contains(at));
        let module = module.ok_or_else(|| Stop::unknown(format!("{} lies in no module", output.at(at))))?;
        let table = machine.symbols(module).ok_or_else(|| Stop::Unknown(no_symbols(module)))?;
        let found = u32::try_from(at.0 - module.base.0).ok().and_then(|rva| table.lookup(rva));
        let found = found.filter(|found| found.reach.names_the_place());
        let (rva, size) =
            found.and_then(|found| Some((found.rva, found.size.or(found.room)?))).ok_or_else(|| {
                Stop::unknown(format!("no symbol tells which function holds {}", output.at(at)))
            })?;
        let start = module.base.plus(rva.into());
        let end = start.plus(u64::from(size).min(LONGEST));
        u::show(session, start, u64::MAX, Some(end), output)
    },
};
