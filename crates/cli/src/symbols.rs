//! `stopcode symbols`: what is in a symbol file, and which kernel a dump is of.

mod fetch;
mod file;
mod names;
mod pack;
mod types;

use clap::{Args, Subcommand};
use file::{Shape, table};
use names::{list, lookup, open_pdb};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use stopcode_base::visible;
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::{SymbolSource, default_cache};

/// Look into symbol files: PDBs, Volatility's tables (.json, .json.xz), and images (their exports).
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List all names of a symbol file by address.
    #[command(after_help = "\
Examples:
  stopcode symbols list driver.pdb
  stopcode symbols list ntkrnlmp.json.xz --format json | jq '.[] | select(.size > 4096)'

JSON is an array of {rva, name, size, kind}: rva a number, size null where the file does not tell it,
kind one of function, part, data, string, unknown.")]
    List {
        /// A PDB, a table or an image.
        file: PathBuf,
        /// How to print.
        #[arg(long, value_enum, default_value_t = Shape::Text)]
        format: Shape,
    },
    /// Name addresses, relative to the image.
    #[command(after_help = "\
Example:
  stopcode symbols lookup driver.pdb 0x1a2c 0x3f00

Each line says what was found: the symbol's own start, a place in it, or only the nearest name before.")]
    Lookup {
        /// A PDB, a table or an image.
        file: PathBuf,
        /// Addresses relative to the image, in hexadecimal, with or without 0x.
        #[arg(required = true, value_parser = hexadecimal)]
        rva: Vec<u32>,
        /// Also show source lines, inlined functions, and the object file and library it came out of (PDBs only).
        #[arg(long)]
        lines: bool,
    },
    /// Put the names of many builds into one small file.
    #[command(after_help = "\
Example:
  stopcode symbols pack -o kernels.names ~/isf/
  stopcode analyze --symbols kernels.names MINI.dmp

Each name is kept once, whatever number of builds has it. A pack serves wherever symbol files do.")]
    Pack {
        /// PDBs, tables, and folders of tables.
        #[arg(required = true, value_name = "PATH")]
        inputs: Vec<PathBuf>,
        /// The pack.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Fetch the images and PDBs of a dump's modules from symbol servers into the store.
    Fetch(fetch::Arguments),
    /// Show structures, unions and enums as a debugger's dt does.
    #[command(after_help = "\
Examples:
  stopcode symbols types ntkrnlmp.json.xz _KTHREAD
  stopcode symbols types driver.pdb '_MY_*'
  stopcode symbols types ntkrnlmp.pdb _EPROCESS --field ImageFileName --field Pcb.
  stopcode symbols types ntkrnlmp.pdb _DPC_QUEUE -r 1 --format json

Without a name, and for a pattern with * or ?, the names are listed. JSON is an array of {name, kind, size,
partial, cut, members: [{depth, name, offset, type}], values: [{name, value}]}; offset is null for what has no
place in the structure.")]
    Types {
        /// A PDB or a table.
        file: PathBuf,
        /// Names, or patterns with * and ?; a module before ! is passed over.
        name: Vec<String>,
        /// Open records, and what pointers point to, so many levels deep.
        #[arg(short = 'r', long, default_value_t = 0, value_name = "LEVELS")]
        depth: u32,
        /// Show only this member: a name, a pattern, or a path; a dot behind it opens it.
        #[arg(long, value_name = "NAME")]
        field: Vec<String>,
        /// How to print.
        #[arg(long, value_enum, default_value_t = Shape::Text)]
        format: Shape,
    },
    /// Say which kernel a dump is of, and by what.
    Identify {
        /// A dump.
        dump: PathBuf,
        /// Symbols: files, folders, or a symbol path (srv*STORE*…); may be given several times.
        #[arg(long, value_name = "PATH")]
        symbols: Vec<PathBuf>,
    },
}

/// Exit code where nothing could be read.
const NOTHING: u8 = 2;
fn hexadecimal(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("not a hexadecimal number".to_owned());
    }
    u32::from_str_radix(digits, 16).map_err(|error| error.to_string())
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match &arguments.command {
        Command::List { file, format } => table(file).map(|table| list(&table, *format, &mut out)),
        Command::Lookup { file, rva, lines } => table(file).and_then(|table| {
            let pdb = if *lines { Some(open_pdb(file)?) } else { None };
            Ok(lookup(&table, rva, pdb.as_ref(), &mut out))
        }),
        Command::Pack { inputs, output } => pack::pack(inputs, output, &mut out),
        Command::Fetch(arguments) => match fetch::run(arguments, &mut out) {
            Ok(Ok(true)) => Ok(Ok(())),
            Ok(Ok(false)) => Err("not all that was wanted could be had".to_owned()),
            Ok(Err(error)) => Ok(Err(error)),
            Err(error) => Err(error),
        },
        Command::Types { file, name, depth, field, format } => types::open(file).map(|types| {
            let wanted = types::Wanted { names: name, depth: *depth, fields: field };
            types::show(&*types, &wanted, *format, &mut out)
        }),
        Command::Identify { dump, symbols } => {
            let symbols = SymbolSource::new(crate::online::symbol_paths(symbols));
            let symbols = symbols.with_cache(default_cache());
            let machine = Dump::open(dump).map(|dump| Machine::new(dump, &symbols));
            machine.map(|machine| identify(&machine, &mut out)).map_err(|error| error.to_string())
        }
    };
    let failed = match done {
        Ok(written) => match written.and_then(|()| out.flush()) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Err(error) => error.to_string(),
        },
        Err(error) => {
            _ = out.flush();
            error
        }
    };
    crate::analyze::say(&format!("error: {}", visible(&failed)));
    ExitCode::from(NOTHING)
}

fn identify(machine: &Machine, out: &mut impl Write) -> io::Result<()> {
    let build = machine.build();
    match build.version.known_with_source() {
        Some((version, source)) => {
            writeln!(out, "kernel       {}", visible(version))?;
            writeln!(out, "by           {}", visible(source.as_str()))?;
        }
        None => writeln!(out, "kernel       not known: {}", build.version.reason().unwrap_or_default())?,
    }
    writeln!(out, "base         {:#}", build.kernel_base)?;
    writeln!(out, "fingerprint  {}", visible(&build.fingerprint))?;
    let names = build.names.as_deref().unwrap_or("none: no symbols given that are exactly this kernel's");
    writeln!(out, "names        {}", visible(names))
}
