//! `!address`

use super::facts::needed;
use crate::answer::Outcome;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::{Value, json};
use stopcode_base::{Fact, VirtAddr};

pub(super) const COMMAND: Command = Command {
    name: "!address",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("ADDRESS", Kind::Expression)],
    what: "the part of the address space that an address is in, or all that are known",
    details: "Modules, stacks, processors' blocks, page tables, and the ranges whose ends the kernel's variables hold. From \
              Windows 8 on the kernel moves its ranges about, and small dumps do not hold their map.",
    examples: &[
        ("!address @$sp", "whose stack it is"),
        ("!address nt", "a module"),
        ("!address", "the map, as far as it is known"),
    ],
    run: |session, arguments, output| {
        let Some(at) = arguments.address("ADDRESS") else { return map(session, output) };
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

fn map(session: &Session, output: &mut Output) -> Outcome {
    let [base, end, size] = ["BaseAddress", "EndAddress", "RegionSize"].map(|title| output.column(title));
    output.line(format!("{base} {end} {size} Usage"))?;
    let mut all = Vec::new();
    for fact in session.machine().regions() {
        output.go_on()?;
        let Some((region, source)) = fact.known_with_source() else { continue };
        let size = VirtAddr(region.end.0.wrapping_sub(region.start.0));
        let name = region.name.as_ref().map(|name| format!(" [{name}]")).unwrap_or_default();
        let inferred = if source.as_str().contains("inferred") { ", size inferred" } else { "" };
        output.line(format!(
            "{} {} {} {}{name}{inferred}",
            output.at(region.start),
            output.at(region.end),
            output.at(size),
            region.kind.as_str()
        ))?;
        all.push(json!({
            "usage": region.kind.as_str(), "start": address(region.start), "end": address(region.end),
            "name": region.name, "source": source.as_str(),
        }));
    }
    output.missing("what lies between these is not known");
    Ok(Value::Array(all))
}
