//! `stopcode symbols`: what is in a symbol file, and which kernel a dump is of.

use clap::{Args, Subcommand, ValueEnum};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stopcode_dump::Dump;
use stopcode_image::Image;
use stopcode_kernel::Machine;
use stopcode_symbols::{
    Found, How, Isf, NamePackWriter, Packing, Pdb, PdbFile, PdbKey, Reach, SymbolKind, SymbolSource,
    SymbolTable, default_cache, demangle, exports, unpack_xz,
};

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
    Fetch(crate::fetch::Arguments),
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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// A line each.
    Text,
    /// For programs.
    Json,
}

/// Exit code where nothing could be read.
const NOTHING: u8 = 2;
/// A table may unpack to this many bytes.
const MAX_FILE: u64 = 1 << 30;

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
        Command::Pack { inputs, output } => pack(inputs, output, &mut out),
        Command::Fetch(arguments) => match crate::fetch::run(arguments, &mut out) {
            Ok(Ok(true)) => Ok(Ok(())),
            Ok(Ok(false)) => Err("not all that was wanted could be had".to_owned()),
            Ok(Err(error)) => Ok(Err(error)),
            Err(error) => Err(error),
        },
        Command::Types { file, name, depth, field, format } => crate::types::open(file).map(|types| {
            let wanted = crate::types::Wanted { names: name, depth: *depth, fields: field };
            crate::types::show(&*types, &wanted, *format, &mut out)
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

/// The bytes of a symbol file, and of a packed one those within with what broke them off.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, Option<String>), String> {
    let place = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| format!("{place}: {error}"))?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(format!("{place}: not a regular file of at most {} MiB", MAX_FILE >> 20));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{place}: {error}"))?;
    if !bytes.starts_with(b"\xfd7zXZ\0") {
        return Ok((bytes, None));
    }
    let (bytes, broken) = unpack_xz(&bytes, MAX_FILE).map_err(|error| format!("{place}: {error}"))?;
    Ok((bytes, broken.map(|error| error.to_string())))
}

/// Says what of a file could not be read.
pub(crate) fn told(path: &Path, damage: Option<&str>) {
    if let Some(damage) = damage {
        crate::analyze::say(&format!("note: {}: damaged: {}", path.display(), visible(damage)));
    }
}

/// How a PDB begins.
pub(crate) const PDB: &[u8] = b"Microsoft C/C++ MSF";

/// The names in a file, whichever of the three kinds it is.
fn table(path: &Path) -> Result<SymbolTable, String> {
    keyed_table(path).map(|(table, _)| table)
}

/// And the PDB they are of, where the file says.
fn keyed_table(path: &Path) -> Result<(SymbolTable, Option<PdbKey>), String> {
    let place = path.display();
    let (bytes, broken) = read(path)?;
    if bytes.starts_with(PDB) {
        let pdb = Pdb::parse(&bytes).map_err(|error| format!("{place}: {error}"))?;
        told(path, pdb.damage.as_deref());
        return Ok((pdb.symbols, Some(pdb.key)));
    }
    if bytes.starts_with(b"MZ") {
        let image = Image::of_file(&bytes).map_err(|error| format!("{place}: {error}"))?;
        return Ok((exports(&image), None));
    }
    let isf =
        Isf::parse(&bytes).map_err(|error| format!("{place}: neither a PDB nor an image, and {error}"))?;
    told(path, isf.damage.or(broken).as_deref());
    let key = isf.key.or_else(|| PdbKey::of_file_name(&path.file_name()?.to_string_lossy()));
    Ok((isf.symbols, key))
}

/// Packs what has a key; says what has none.
fn pack(inputs: &[PathBuf], output: &Path, out: &mut impl Write) -> Result<io::Result<()>, String> {
    let mut writer = NamePackWriter::default();
    let mut files: Vec<PathBuf> = inputs.iter().filter(|path| !path.is_dir()).cloned().collect();
    let folders = SymbolSource::new(inputs.iter().filter(|path| path.is_dir()).cloned());
    files.extend(folders.candidates().iter().map(|candidate| candidate.path.clone()));
    for path in &files {
        let (table, key) = keyed_table(path)?;
        let Some(key) = key else {
            crate::analyze::say(&format!(
                "note: {}: does not say which PDB it is of; left out",
                path.display()
            ));
            continue;
        };
        writer.add(key, &key.to_string(), &table);
    }
    let builds = writer.len();
    if builds == 0 {
        return Err("nothing to pack".to_owned());
    }
    let written =
        writer.finish(Packing::Xz).and_then(|bytes| std::fs::write(output, &bytes).map(|()| bytes.len()));
    let bytes = written.map_err(|error| format!("{}: {error}", output.display()))?;
    Ok(writeln!(out, "{builds} builds, {bytes} bytes"))
}

fn list(table: &SymbolTable, format: Shape, out: &mut impl Write) -> io::Result<()> {
    if let Shape::Text = format {
        for found in table.iter() {
            let size = found.size.map_or_else(String::new, |size| format!("{size:x}"));
            writeln!(out, "{:08x} {size:>8} {:<8} {}", found.rva, kind(&found), name(&found))?;
        }
        return Ok(());
    }
    // Written one by one: a kernel has forty thousand.
    let mut before = "[\n";
    for found in table.iter() {
        let entry = serde_json::json!({
            "rva": found.rva, "name": found.name, "size": found.size, "kind": kind(&found),
        });
        write!(out, "{before}{entry}")?;
        before = ",\n";
    }
    writeln!(out, "{}]", if table.is_empty() { "[" } else { "\n" })
}

fn open_pdb(path: &Path) -> Result<PdbFile<File>, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("{}: lines come from PDBs only: {error}", path.display());
    let file = File::open(path).map_err(|error| failed(&error))?;
    PdbFile::open(file).map_err(|error| failed(&error))
}

/// Where the code of an address was written: inlined functions from the inside out, then the one that holds them.
fn source(pdb: &PdbFile<File>, rva: u32, out: &mut impl Write) -> io::Result<()> {
    for frame in pdb.frames(rva) {
        let function =
            frame.function.as_deref().map_or_else(|| "?".to_owned(), |name| visible(&demangle(name)));
        let inlined = if frame.inlined { " (inlined)" } else { "" };
        let line = frame
            .line
            .map_or_else(|| "no line".to_owned(), |line| format!("{} @ {}", visible(&line.file), line.line));
        writeln!(out, "          {function}{inlined}  [{line}]")?;
    }
    match pdb.module_at(rva) {
        Some(module) if module.library == module.object => {
            writeln!(out, "          from {}", visible(&module.object))
        }
        Some(module) => {
            writeln!(out, "          from {} in {}", visible(&module.object), visible(&module.library))
        }
        None => Ok(()),
    }
}

fn lookup(
    table: &SymbolTable,
    addresses: &[u32],
    pdb: Option<&PdbFile<File>>,
    out: &mut impl Write,
) -> io::Result<()> {
    for rva in addresses {
        let Some(found) = table.lookup(*rva) else {
            writeln!(out, "{rva:08x}  before the first name")?;
            continue;
        };
        let offset = if found.offset == 0 { String::new() } else { format!("+{:#x}", found.offset) };
        let reach = match (found.reach, found.size) {
            (Reach::Start, _) => "its start",
            (Reach::Within, Some(_)) => "inside it",
            (Reach::Within, None) => "nearest name before; its size is not known",
            (Reach::PastEnd, _) => "behind its end: only the nearest name before",
            (Reach::Far, _) => "far behind it: only the nearest name before",
            (Reach::BehindLiteral, _) => "behind a string literal: in code, a part of some other function",
        };
        let how = match found.how {
            How::Isf => "ISF",
            How::Export => "export",
            How::Public => "public symbol",
            How::Procedure => "function record",
            How::Variable => "variable record",
            _ => "symbol",
        };
        writeln!(out, "{rva:08x}  {}{offset}  [{reach}; {how}]", name(&found))?;
        if let Some(pdb) = pdb {
            source(pdb, *rva, out)?;
        }
    }
    Ok(())
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

fn kind(found: &Found<'_>) -> &'static str {
    match found.kind {
        _ if found.cold => "part",
        SymbolKind::Code => "function",
        SymbolKind::Data => "data",
        SymbolKind::StringLiteral => "string",
        SymbolKind::Unknown => "unknown",
    }
}

fn name(found: &Found<'_>) -> String {
    let name = visible(&demangle(found.name));
    if found.cold { format!("{name} (cold)") } else { name }
}

/// Names are data: nothing in them reaches the terminal as a command.
pub(crate) fn visible(text: &str) -> String {
    stopcode_base::visible(text)
}
