//! `stopcode synth`: dumps of machines that never were, for tests and demos. Only with the feature `synth`.

use clap::Args;
use clap::builder::PossibleValuesParser;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stopcode_synth::Machine;
use stopcode_synth::container::{self, Kind};

/// Write a dump of a machine that a file describes.
#[derive(Args)]
#[command(after_help = "\
Example:
  stopcode synth --machine samples/seed-double-fault.json --kind bitmap-kernel -o seed.dmp

Files that the description names are sought beside it. What is written is invented, and says so nowhere:
keep the description with the dump.")]
pub(crate) struct Arguments {
    /// The description, JSON.
    #[arg(long, value_name = "FILE")]
    machine: PathBuf,
    /// The container to write.
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::name)))]
    kind: String,
    /// Where to write it.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

/// Exit code where nothing could be written.
const NOTHING: u8 = 2;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match write(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::from(NOTHING)
        }
    }
}

fn write(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let machine = Machine::read(&arguments.machine)?;
    let kind = Kind::named(&arguments.kind).ok_or("no such kind")?;
    save(&machine, kind, &arguments.output)
}

/// Writes one dump, and leaves no half of one behind.
fn save(machine: &Machine, kind: Kind, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let named = |error| format!("{}: {error}", path.display());
    let mut out = BufWriter::new(std::fs::File::create(path).map_err(named)?);
    let written = container::write_to(machine, kind, &mut out);
    if let Err(error) = written {
        drop(out);
        let _ = std::fs::remove_file(path);
        return Err(error.into());
    }
    out.into_inner().map_err(|error| format!("{}: {}", path.display(), error.error()))?;
    Ok(())
}
