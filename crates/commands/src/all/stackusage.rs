//! `!stackusage`

use super::shared::{call_site, stack};
use crate::command::Command;
use crate::parameter::{Kind, Parameter};
use crate::show::address;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stopcode_base::VirtAddr;

/// Frames listed by default.
const LARGEST: u64 = 10;

pub(super) const COMMAND: Command = Command {
    name: "!stackusage",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional("FRAMES", Kind::Expression)],
    what: "how much of its stack the selected context uses, by module and by frame",
    details: "",
    examples: &[("!stackusage", "who took the stack"), ("!stackusage 3", "the three largest frames")],
    run: |session, arguments, output| {
        let stack = stack(session)?;
        let machine = session.machine();
        let scope = session.scope()?;
        let pointer = scope.registers.stack_pointer();
        let thread = scope.thread.map(|thread| machine.thread_at(thread));
        let limits = thread.as_ref().and_then(|thread| {
            let thread = thread.value()?;
            Some((thread.stack_limit.get()?, thread.stack_base.get()?))
        });
        let sizes: Vec<(u64, String, String)> = stack
            .frames
            .windows(2)
            .filter_map(|pair| match pair {
                // What lies between two stacks is no frame's.
                [frame, next] if !next.gap_before => {
                    let size = next.stack_pointer.offset_from(frame.stack_pointer)?;
                    let module = frame.place.display.clone().unwrap_or_else(|| "no module".to_owned());
                    (size < 1 << 20).then(|| (size, module, call_site(output, frame)))
                }
                _ => None,
            })
            .collect();
        let within = limits.filter(|(limit, base)| *limit <= pointer && pointer < *base);
        match (limits, within) {
            (Some((limit, base)), Some(_)) => {
                let (size, used) = (base.0 - limit.0, base.0 - pointer.0);
                output.line(format!("Stack {} to {}: {size:#x} bytes", output.at(limit), output.at(base)))?;
                output.line(format!(
                    "Pointer {}: {used:#x} bytes used, {:#x} left",
                    output.at(pointer),
                    size - used
                ))?;
            }
            (Some((limit, base)), None) => {
                let below =
                    if pointer < limit && limit.0 - pointer.0 <= 0x1000 { ": in its guard page" } else { "" };
                let line = format!(
                    "Pointer {} is not in the thread's stack, {} to {}{below}",
                    output.at(pointer),
                    output.at(limit),
                    output.at(base)
                );
                output.line(line)?;
            }
            (None, _) => {
                let why =
                    thread.as_ref().and_then(|thread| thread.reason()).unwrap_or("the thread is not known");
                output.missing(format!("the limits of the stack: {why}"));
            }
        }
        let mut modules: BTreeMap<&str, (u64, u32)> = BTreeMap::new();
        for (size, module, _) in &sizes {
            let entry = modules.entry(module).or_default();
            *entry = (entry.0 + size, entry.1 + 1);
        }
        let mut modules: Vec<_> = modules.into_iter().collect();
        modules.sort_by_key(|(name, (size, _))| (std::cmp::Reverse(*size), *name));
        output.line("")?;
        output.line("   Bytes  Frames  Module")?;
        for (module, (size, frames)) in &modules {
            output.line(format!("{size:>8}  {frames:>6}  {module}"))?;
        }
        let most = arguments.number("FRAMES").unwrap_or(LARGEST);
        let mut largest: Vec<_> = sizes.iter().collect();
        largest.sort_by_key(|(size, _, _)| std::cmp::Reverse(*size));
        largest.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        output.line("")?;
        output.line("   Bytes  Frame")?;
        for (size, _, site) in &largest {
            output.line(format!("{size:>8}  {site}"))?;
        }
        let ends = |pick: fn((VirtAddr, VirtAddr)) -> VirtAddr| {
            limits.map_or(Value::Null, |limits| address(pick(limits)))
        };
        Ok(json!({
            "stack_limit": ends(|limits| limits.0), "stack_base": ends(|limits| limits.1), "stack_pointer": address(pointer),
            "modules": modules.iter().map(|(name, (size, frames))| json!({"module": name, "bytes": size, "frames": frames})).collect::<Vec<_>>(),
            "frames": largest.iter().map(|(size, _, site)| json!({"call_site": site, "bytes": size})).collect::<Vec<_>>(),
        }))
    },
};
