//! `!vtop`

use super::pte::NEVER_USED;
use crate::answer::Stop;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::{address, hex};
use serde_json::json;
use stopcode_base::{PhysAddr, VirtAddr};
use stopcode_dump::paging::Mapping;

pub(super) const COMMAND: Command = Command {
    name: "!vtop",
    aliases: &[],
    letters: "",
    parameters: &[
        Parameter::required("BASE or ADDRESS", Kind::Expression),
        Parameter::optional("ADDRESS", Kind::Expression),
    ],
    what: "the physical address of a virtual one",
    details: "With two arguments the first is the directory base (CR3) of the address space, as `!process` shows it; 0 is the \
              current one.",
    examples: &[("!vtop @$sp", "in the crashed address space"), ("!vtop 1ad000 nt", "in another one")],
    run: |session, arguments, output| {
        let first = arguments.number("BASE or ADDRESS").unwrap_or(0);
        let (base, at) = match arguments.number("ADDRESS") {
            Some(at) => (Some(first).filter(|base| *base != 0), VirtAddr(at)),
            None => (None, VirtAddr(first)),
        };
        let machine = session.machine();
        let Some(walk) = machine.dump().walk(base.map(PhysAddr), at) else {
            let why =
                "this dump holds no page tables: only some entries of the current ones, which !pte shows";
            return Err(Stop::unknown(why));
        };
        let missing = match walk.outcome {
            Ok(Mapping::Physical(physical, _)) => {
                output.line(format!(
                    "Virtual address {:x} translates to physical address {:x}.",
                    at.0, physical.0
                ))?;
                return Ok(json!({"address": address(at), "physical": hex(physical.0)}));
            }
            Ok(Mapping::Zeros(_)) => NEVER_USED.to_owned(),
            Err(reason) => reason.to_string(),
        };
        Err(Stop::unknown(format!("{}: {missing}; `!pte {:x}` shows what is known", output.at(at), at.0)))
    },
};
