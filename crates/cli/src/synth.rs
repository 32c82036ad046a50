//! `stopcode synth`: dumps of machines that never were, for tests and demos. Only with the feature `synth`.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stopcode_image::Image;
use stopcode_symbols::StoreFile;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::plant::{Class, plant_on};
use stopcode_synth::{Arch, Hex, Installed, Machine};

/// Write a dump of a machine that a file describes, or many with a known fault in them.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  stopcode synth --machine samples/seed-double-fault.json --kind bitmap-kernel -o seed.dmp
  stopcode synth planted --seed 1 --count 100 -o planted
  stopcode analyze planted --symbols planted/images --format json

Files that the description names are sought beside it. What is written is invented,
and the dump does not say so: keep the description with it."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    described: Option<Described>,
    #[command(flatten)]
    memory: Memory,
}

/// Physical memory beyond what is described.
#[derive(Args)]
struct Memory {
    /// How much memory the machine has: 512MiB, 64GiB, 1TiB. What nothing was written to is zeros, which take no
    /// room in the file where the file system can leave holes.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// Let the dump hold a random half of it.
    #[arg(long, requires = "memory")]
    half: bool,
}

impl Memory {
    fn install(&self, machine: &mut Machine) {
        if let Some(bytes) = self.memory {
            machine.installed = Installed { bytes: Hex(bytes), half: self.half };
        }
    }
}

/// Most memory that is written: that of the largest machines Windows runs on.
const MOST_MEMORY: u64 = 64 << 40;

fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = [("MiB", 20), ("GiB", 30), ("TiB", 40)]
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .ok_or("a size ends in MiB, GiB or TiB")?;
    let count: u64 = digits.trim().parse().map_err(|_| "not a number".to_owned())?;
    count.checked_mul(1 << shift).filter(|size| *size <= MOST_MEMORY).ok_or("at most 64TiB".to_owned())
}

#[derive(Args)]
struct Described {
    /// The description, JSON.
    #[arg(long, value_name = "FILE")]
    machine: PathBuf,
    /// The container to write.
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    kind: String,
    /// Where to write it.
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Write machines with a planted fault, each with its twin, truth.json, which says what is wrong with them, and under
    /// images the files of their drivers, as their owners have them: a store for `--symbols`.
    Planted {
        /// The first seed; the same seed gives the same machines.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many dumps to write.
        #[arg(long, default_value_t = 20)]
        count: usize,
        /// The container to write.
        #[arg(long, value_name = "KIND", value_parser = kinds(), default_value = Kind::Triage.name())]
        kind: String,
        /// Machines with ARM64 processors, of which fewer faults are known well enough to write them.
        #[arg(long)]
        arm64: bool,
        /// The folder to write them into; made where it is missing.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
        #[command(flatten)]
        memory: Memory,
    },
}

fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(Kind::ALL.map(Kind::name))
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
    match (&arguments.command, &arguments.described) {
        (Some(Command::Planted { seed, count, kind, arm64, output, memory }), _) => {
            let arch = if *arm64 { Arch::Arm64 } else { Arch::X64 };
            planted(arch, *seed, *count, Kind::named(kind).ok_or("no such kind")?, memory, output)
        }
        (None, Some(described)) => {
            let kind = Kind::named(&described.kind).ok_or("no such kind")?;
            let mut machine = Machine::read(&described.machine)?;
            arguments.memory.install(&mut machine);
            save(&machine, kind, &described.output)
        }
        (None, None) => Err("nothing to write: give --machine, --kind and -o".into()),
    }
}

/// Writes `count` machines: every class in turn, then the next seed.
fn planted(
    arch: Arch,
    seed: u64,
    count: usize,
    kind: Kind,
    memory: &Memory,
    folder: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut truths = serde_json::Map::new();
    let classes: Vec<Class> = Class::ALL.into_iter().filter(|class| class.is_of(arch)).collect();
    for (n, class) in (0..count).zip(classes.iter().cycle()) {
        let seed = seed.wrapping_add((n / classes.len().max(1)) as u64);
        let (mut machine, truth) = plant_on(arch, seed, *class)?;
        memory.install(&mut machine);
        // The name tells nothing: who is measured may read it.
        let name = format!("{n:06}.dmp");
        save(&machine, kind, &folder.join(&name))?;
        if let Some((image, bytes)) = truth.file_of_driver(&machine) {
            keep(&folder.join("images"), image, &bytes)?;
        }
        truths.insert(name, serde_json::to_value(truth)?);
    }
    let path = folder.join("truth.json");
    let text = serde_json::to_string_pretty(&truths)?;
    Ok(std::fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Puts an image into a store.
fn keep(store: &Path, name: &str, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let headers = Image::of_file(bytes)?.headers().clone();
    let file =
        StoreFile::image(name, headers.time_date_stamp, headers.size_of_image).ok_or("no name for a file")?;
    let folder = store.join(file.name()).join(file.key());
    let named = |error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(named)?;
    Ok(std::fs::write(folder.join(file.name()), bytes).map_err(named)?)
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
