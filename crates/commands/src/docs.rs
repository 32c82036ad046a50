//! The documentation of all commands, as one Markdown file.

use crate::command::Command;
use crate::registry::groups;
use crate::show::capital;

/// `docs/commands.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Commands of `stopcode debug`\n\n\
         Generated from the definitions in `crates/commands/src/all/`: `UPDATE=1 cargo test -p stopcode-commands docs`.\n\n\
         Names, arguments and output are WinDbg's. Numbers are hexadecimal unless they say otherwise (`0n10`, `n 10`); an \
         `ADDRESS` is any expression: `nt!KeBugCheckEx+0x10`, `@$sp-8`, `poi(fffff880`03dccfd0)`. Commands are parted by \
         `;`, `~3k` runs `k` on processor 3. What the dump does not hold is *unknown*, with the reason.\n",
    );
    for group in groups() {
        text.push_str(&format!("\n## {}\n", group.name));
        for command in group.commands {
            text.push_str(&entry(command));
        }
    }
    text
}

/// One command's part of it.
fn entry(command: &Command) -> String {
    let mut text = format!("\n### `{}`\n\n{}.\n", command.synopsis(), capital(command.what));
    if !command.aliases.is_empty() {
        let names: Vec<String> = command.aliases.iter().map(|name| format!("`{name}`")).collect();
        text.push_str(&format!("\nAlso {}.\n", names.join(", ")));
    }
    if !command.details.is_empty() {
        text.push_str(&format!("\n{}\n", command.details));
    }
    if !command.examples.is_empty() {
        text.push('\n');
        for (line, shows) in command.examples {
            text.push_str(&format!("- `{line}`: {shows}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_are_what_the_definitions_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == markdown(),
            "docs/commands.md is old: UPDATE=1 cargo test -p stopcode-commands docs"
        );
    }
}
