//! `!address`

use super::facts::needed;
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::address;
use serde_json::json;
use stopcode_base::{Fact, VirtAddr};

pub(super) const COMMAND: Command = Command {
    name: "!address",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::required("ADDRESS", Kind::Expression)],
    what: "the part of the address space that an address is in",
    details: "Modules, stacks, processors' blocks, page tables, and the ranges whose ends the kernel's variables hold. From \
              Windows 8 on the kernel moves its ranges about, and small dumps do not hold their map.",
    examples: &[("!address @$sp", "whose stack it is"), ("!address nt", "a module")],
    run: |session, arguments, output| {
        let at = arguments.address("ADDRESS").unwrap_or_default();
        let fact = session.machine().region(at);
        let source = match &fact {
            Fact::Known { source, .. } => source.as_str().to_owned(),
            Fact::Missing { .. } => String::new(),
        };
        let region = needed(fact)?;
        let size = region.end.0.wrapping_sub(region.start.0);
        output.line(format!("Usage:                  {}", region.kind.as_str()))?;
        output.line(format!("Base Address:           {}", output.at(region.start)))?;
        output.line(format!("End Address:            {}", output.at(region.end)))?;
        output.line(format!("Region Size:            {}", output.at(VirtAddr(size))))?;
        if let Some(name) = &region.name {
            output.line(format!("Name:                   {name}"))?;
        }
        output.line(format!("Known from:             {source}"))?;
        Ok(json!({
            "address": address(at), "usage": region.kind.as_str(), "start": address(region.start),
            "end": address(region.end), "name": region.name, "source": source,
        }))
    },
};
