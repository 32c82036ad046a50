//! `stopcode symbols fetch`: the images and PDBs of a dump's modules, into the symbol store.

use crate::online::{self, Log, Outcome, Patience};
use clap::Args;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use stopcode_base::visible;
use stopcode_dump::Dump;
use stopcode_image::Image;
use stopcode_kernel::{Machine, Module};
use stopcode_symbols::{PdbKey, StoreFile, SymbolSource, kernel_builds};

#[derive(Args)]
#[command(after_help = "\
Examples:
  stopcode symbols fetch MEMORY.DMP
  stopcode symbols fetch --list 102622-12000-01.dmp
  stopcode symbols fetch --symbols 'srv*~/symbols*https://msdl.microsoft.com/download/symbols' MINI.dmp

Files go into the first store of the symbol path, laid out as WinDbg's: later runs, and other debuggers,
find them there without a network. Microsoft's server is asked if the path names none.

Exit status: 0 all that servers have is here, 2 something could not be had.")]
pub(crate) struct Arguments {
    /// Dumps.
    #[arg(required = true, value_name = "DUMP")]
    dumps: Vec<PathBuf>,
    /// A symbol path (srv*STORE*SERVER), stores and folders; else _NT_SYMBOL_PATH.
    #[arg(long, value_name = "PATH")]
    symbols: Vec<PathBuf>,
    /// All modules, not only the kernel and those on the stacks.
    #[arg(long)]
    all: bool,
    /// Only print what would be asked for: one path below a server's address a line. Nothing is fetched.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    patience: Patience,
}

/// Fetches, and says what became of each file. False if something could not be had.
pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<io::Result<bool>, String> {
    let log = Log::default();
    let mut symbols = SymbolSource::new(online::symbol_paths(&arguments.symbols));
    if !arguments.list {
        symbols = symbols.with_online(online::online(arguments.patience, log.clone())?);
    }
    let mut seen = BTreeSet::new();
    let mut whole = true;
    for path in &arguments.dumps {
        let dump = Dump::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        // Names are not needed to know which files are wanted, and would be fetched one by one.
        let machine = Machine::new(dump, &SymbolSource::new([]));
        for module in wanted(&machine, arguments.all) {
            let mut one = One { machine: &machine, symbols: &symbols, log: &log, list: arguments.list, out };
            match one.module(module, &mut seen) {
                Ok(good) => whole &= good,
                Err(error) => return Ok(Err(error)),
            }
        }
    }
    Ok(Ok(whole))
}

/// The kernel, then what stands on a stack; or everything.
fn wanted(machine: &Machine, all: bool) -> Vec<&Module> {
    let frames = machine.stacks().iter().flat_map(|stack| &stack.frames);
    let on_stack: BTreeSet<&str> = frames.filter_map(|frame| frame.place.image.as_deref()).collect();
    let kernel = machine.build().kernel_base;
    let is_wanted = |module: &&Module| all || module.base == kernel || on_stack.contains(&*module.image);
    machine.modules().iter().filter(is_wanted).collect()
}

/// One module of one dump.
struct One<'o, W> {
    machine: &'o Machine,
    symbols: &'o SymbolSource,
    log: &'o Log,
    list: bool,
    out: &'o mut W,
}

/// What became of one file: its bytes if it is here, and whether something went wrong.
struct Got {
    bytes: Option<Vec<u8>>,
    good: bool,
}

impl<W: Write> One<'_, W> {
    /// Its image, and the PDB that it names; of a kernel known by its fingerprint the PDB at once.
    fn module(&mut self, module: &Module, seen: &mut BTreeSet<(String, Option<u32>)>) -> io::Result<bool> {
        if !seen.insert((module.image.clone(), module.time_date_stamp)) {
            return Ok(true);
        }
        let is_kernel = module.base == self.machine.build().kernel_base;
        let known = self.machine.build().version.value().filter(|_| is_kernel);
        let known = known.and_then(|version| kernel_builds().iter().find(|build| build.version == version));
        if let Some(build) = known {
            return Ok(self.get(StoreFile::pdb("ntkrnlmp.pdb", build.key))?.good);
        }
        let size = u32::try_from(module.size).unwrap_or_default();
        let Some(stamp) = module.time_date_stamp else {
            writeln!(self.out, "unknown  {}: the dump does not tell its time stamp", visible(&module.image))?;
            return Ok(true);
        };
        let mut image = self.get(StoreFile::image(&module.image, stamp, size))?;
        if image.bytes.is_none() && module.image == "ntoskrnl.exe" {
            // A server keeps the kernel under the name it was built with.
            let other = self.get(StoreFile::image("ntkrnlmp.exe", stamp, size))?;
            image = Got { good: other.bytes.is_some() || image.good && other.good, ..other };
        }
        let codeview = image.bytes.as_deref().and_then(|bytes| Image::of_file(bytes).ok()?.codeview());
        let Some(codeview) = codeview else { return Ok(image.good) };
        let key = PdbKey { guid: codeview.guid, age: codeview.age };
        let pdb = StoreFile::pdb(stopcode_base::file_name(&codeview.path), key);
        Ok(self.get(pdb)?.good && image.good)
    }

    /// Gets a file and prints what became of it. A name that cannot be a file's is passed over.
    fn get(&mut self, file: Option<StoreFile>) -> io::Result<Got> {
        let Some(file) = file else { return Ok(Got { bytes: None, good: true }) };
        if self.list {
            writeln!(self.out, "{}", file.url_path(file.name()))?;
            return Ok(Got { bytes: None, good: true });
        }
        let found = self.symbols.file(&file);
        let name = visible(&format!("{}/{}", file.name(), file.key()));
        let happened = self.log.take();
        let mut good = true;
        for (_, outcome) in &happened {
            if let Outcome::Failed(why) = outcome {
                good = false;
                writeln!(self.out, "failed   {name}: {}", visible(why))?;
            }
        }
        match &found {
            Some((path, bytes)) => {
                let fetched = happened.iter().any(|(_, outcome)| matches!(outcome, Outcome::Fetched));
                let what = if fetched { "fetched" } else { "have" };
                writeln!(
                    self.out,
                    "{what:<8} {name}  {} bytes  {}",
                    bytes.len(),
                    visible(&path.to_string_lossy())
                )?;
            }
            None if good => writeln!(self.out, "absent   {name}")?,
            None => {}
        }
        self.out.flush()?;
        // What some other server then had is no failure.
        good |= found.is_some();
        Ok(Got { bytes: found.map(|(_, bytes)| bytes), good })
    }
}
