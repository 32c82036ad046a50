//! `.enumtag`: secondary data.

use super::memory::letters;
use crate::answer::Stop;
use crate::command::Command;
use serde_json::{Value, json};

/// Bytes shown of each.
const SHOWN: usize = 32;

pub(super) const COMMAND: Command = Command {
    name: ".enumtag",
    aliases: &[],
    letters: "",
    parameters: &[],
    what: "secondary data: what drivers and parts of the system added to the dump",
    details: "Of each, its GUID, whose it is where that is known, its size and its first bytes.",
    examples: &[(".enumtag", "")],
    run: |session, _, output| {
        let machine = session.machine();
        let blobs = machine.dump().secondary();
        if blobs.is_empty() {
            return Err(Stop::unknown("this dump holds no secondary data"));
        }
        let mut all = Vec::new();
        for blob in blobs {
            let data = blob.data();
            let name = blob.name.map_or_else(String::new, |name| format!(" [{name}]"));
            output.line(format!("{{{}}}{name} - {:#x} bytes", blob.guid, data.len()))?;
            for line in data.get(..data.len().min(SHOWN)).unwrap_or_default().chunks(16) {
                let raw: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
                let shown: Vec<Option<u8>> = line.iter().copied().map(Some).collect();
                output.line(format!("  {:<47}  {}", raw.join(" "), letters(&shown)))?;
            }
            all.push(json!({"guid": blob.guid.to_string(), "owner": blob.name, "size": data.len()}));
        }
        Ok(Value::Array(all))
    },
};
