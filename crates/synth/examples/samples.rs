//! Writes `samples/<name>.dmp` from every `samples/<name>.json`.
//!
//! `cargo run -p stopcode-synth --example samples`

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::fs;
use std::path::Path;
use stopcode_synth::{Machine, triage};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples"));
    let mut descriptions: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    descriptions.retain(|path| path.extension().is_some_and(|e| e == "json"));
    descriptions.sort();
    for description in descriptions {
        let dump = triage::write(&Machine::from_json(&fs::read_to_string(&description)?)?)?;
        let path = description.with_extension("dmp");
        fs::write(&path, &dump)?;
        println!("{} {} bytes", path.file_name().unwrap_or_default().display(), dump.len());
    }
    Ok(())
}
