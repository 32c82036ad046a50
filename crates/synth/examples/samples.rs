//! Writes `samples/<name>.dmp` from every `samples/<name>.json`: a small dump. Of a machine whose images are files,
//! `samples/<name>-kernel.dmp` too, with all its memory.
//!
//! `cargo run -p stopcode-synth --example samples`

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::fs;
use std::path::Path;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::{Machine, triage};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples"));
    let mut descriptions: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    descriptions.retain(|path| path.extension().is_some_and(|e| e == "json"));
    descriptions.sort();
    for description in descriptions {
        let machine = Machine::read(&description)?;
        write(&description.with_extension("dmp"), &triage::write(&machine)?)?;
        if machine.modules.iter().any(|module| !module.file.is_empty()) {
            let name = description.file_stem().unwrap_or_default().display();
            let dump = container::write(&machine, Kind::BitmapKernel)?;
            write(&description.with_file_name(format!("{name}-kernel.dmp")), &dump)?;
        }
    }
    Ok(())
}

fn write(path: &Path, dump: &[u8]) -> Result<(), Box<dyn Error>> {
    fs::write(path, dump)?;
    println!("{} {} bytes", path.file_name().unwrap_or_default().display(), dump.len());
    Ok(())
}
