//! `!vtop`

use crate::answer::Stop;
use crate::command::{Command, Kind, Parameter};
use crate::show::{address, hex};
use serde_json::json;
use stopcode_base::{Fact, PhysAddr, VirtAddr};
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
        let physical = match base {
            None => machine.translate(at).physical,
            Some(base) => {
                let Some(space) = machine.dump().address_space_at(PhysAddr(base)) else {
                    return Err(Stop::unknown(
                        "this dump holds no page tables: only some entries of the current ones, see !pte",
                    ));
                };
                match space.walk(at).outcome {
                    Ok(Mapping::Physical(at, _)) => Fact::known(at, "page tables"),
                    Ok(Mapping::Zeros(_)) => {
                        Fact::missing("never used yet: it reads as zeros, and no page holds it")
                    }
                    Err(reason) => Fact::missing(reason.to_string()),
                }
            }
        };
        match physical {
            Fact::Known { value, source } => {
                output.line(format!(
                    "Virtual address {:x} translates to physical address {:x}.",
                    at.0, value.0
                ))?;
                Ok(json!({"address": address(at), "physical": hex(value.0), "source": source.as_str()}))
            }
            Fact::Missing { reason } => Err(Stop::unknown(format!(
                "{}: {reason}; `!pte {:x}` shows what is known",
                at.windbg(),
                at.0
            ))),
        }
    },
};
