//! `stopcode debug`.

mod prompt;

use crate::online::{self, Log, Patience};
use clap::{Args, ValueEnum};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use stopcode_base::{Problem, Severity, visible};
use stopcode_commands::{Answer, Session, Status, run as run_line};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::{Online, SymbolPath, SymbolSource};

/// Debug a dump with WinDbg's commands: at a prompt, or with -c or --script.
#[derive(Args)]
#[command(after_help = "\
Examples:
  stopcode debug MEMORY.DMP
  stopcode debug -c '.bugcheck; k; lmvm iaStor' MINI.dmp
  stopcode debug --format json -c '!thread' MINI.dmp | jq .data
  stopcode debug --symbols ~/symbols --script questions.txt MINI.dmp

JSON is one object a command and a line: {command, status, reason, text, data}; status is one of
answer, unknown (the dump does not hold it; reason says why) and failed (it was asked wrongly).
docs/commands.md has all commands; `.help` at the prompt too.

Exit status:
  0   every command was answered, or the dump does not hold what it asked for
  1   a command failed
  2   the dump or the script could not be read
  64  wrong usage")]
pub(crate) struct Arguments {
    /// A dump.
    #[arg(value_name = "DUMP")]
    dump: PathBuf,
    /// Run commands, parted by `;`, and end; may be given several times.
    #[arg(short, long = "command", value_name = "COMMANDS")]
    commands: Vec<String>,
    /// Run the commands of a file, a line each, and end; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How to print answers.
    #[arg(long, value_enum, default_value_t = Shape::Text, value_name = "FORMAT")]
    format: Shape,
    /// Symbols: PDBs, images, ISF files (.json, .json.xz), folders or stores of them, or a symbol path as in
    /// _NT_SYMBOL_PATH (srv*STORE*SERVER), which is read if this is not given; may be given several times.
    #[arg(long, value_name = "PATH")]
    symbols: Vec<PathBuf>,
    /// Allow the network: symbol servers are asked for what is not on this machine, Microsoft's if the symbol path
    /// names none. Without it no connection is ever tried.
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    patience: Patience,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// As WinDbg shows it.
    Text,
    /// For programs: an object a line.
    Json,
}

/// Exit code where a command failed.
const FAILED: u8 = 1;
/// Exit code where nothing could be read.
const NOTHING: u8 = 2;
/// A longer script is not read.
const LONGEST_SCRIPT: u64 = 16 << 20;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let mut session = match open(arguments) {
        Ok(session) => session,
        Err(message) => return nothing(&message),
    };
    let mut lines = arguments.commands.clone();
    match arguments.script.as_deref().map(script) {
        Some(Ok(script)) => lines.extend(script),
        Some(Err(message)) => return nothing(&message),
        None => {}
    }
    if arguments.commands.is_empty() && arguments.script.is_none() {
        if io::stdin().is_terminal() && io::stdout().is_terminal() && arguments.format == Shape::Text {
            let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
            return match prompt::run(session, colour) {
                Ok(()) => ExitCode::SUCCESS,
                Err(message) => nothing(&message),
            };
        }
        match script(Path::new("-")) {
            Ok(script) => lines.extend(script),
            Err(message) => return nothing(&message),
        }
    }
    match batch(&mut session, &lines, arguments.format) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => nothing(&format!("the output could not be written: {error}")),
    }
}

fn nothing(message: &str) -> ExitCode {
    crate::analyze::say(&format!("error: {message}"));
    ExitCode::from(NOTHING)
}

fn open(arguments: &Arguments) -> Result<Session, String> {
    let opener = Opener::new(arguments);
    let paths = online::symbol_paths(&arguments.symbols);
    let (machine, problems) = opener.open(paths.clone())?;
    tell(machine.dump().problems());
    tell(&problems);
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let session = Session::new(machine, shown.join(";"));
    Ok(session.opened_by(Box::new(move |path| {
        let parts = path.split(';').map(str::trim).filter(|part| !part.is_empty());
        opener.open(parts.map(PathBuf::from).collect())
    })))
}

/// What it takes to open the dump, with symbols from here or from there.
struct Opener {
    dump: PathBuf,
    online: Option<Arc<Online>>,
}

impl Opener {
    fn new(arguments: &Arguments) -> Self {
        let online = arguments.online.then(|| online::online(arguments.patience, Log::default()));
        let online = online.and_then(|online| {
            online.inspect_err(|error| crate::analyze::say(&format!("note: {error}"))).ok()
        });
        Self { dump: arguments.dump.clone(), online }
    }

    /// The machine, and what is wrong with the places of symbols.
    fn open(&self, symbols: Vec<PathBuf>) -> Result<(Machine, Vec<Problem>), String> {
        let path = &self.dump;
        let dump = Dump::open(path)
            .map_err(|error| format!("{}: {error}\nhint: {}", path.display(), error.hint()))?;
        let absent =
            symbols.iter().filter(|path| !path.exists() && !path.to_str().is_some_and(SymbolPath::is_path));
        let absent = absent.map(|path| {
            let what = "no such file or folder: no symbols come from there";
            Problem::new(Severity::Warning, path.display().to_string(), what)
        });
        let mut problems: Vec<Problem> = absent.collect();
        let mut source = SymbolSource::new(symbols).with_cache(stopcode_symbols::default_cache());
        if let Some(online) = &self.online {
            source = source.with_online(Arc::clone(online));
        }
        problems.extend_from_slice(source.problems());
        Ok((Machine::new(dump, &source), problems))
    }
}

/// Says what is wrong with an input.
fn tell(problems: &[Problem]) {
    for problem in problems {
        let severity = match problem.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let (what, place) = (visible(&problem.what), visible(&problem.place));
        crate::analyze::say(&format!("{severity}: {what} ({place})"));
    }
}

/// The lines of a script.
fn script(path: &Path) -> Result<Vec<String>, String> {
    let read = |from: &mut dyn Read| {
        let lines = BufReader::new(from.take(LONGEST_SCRIPT)).lines();
        lines.collect::<io::Result<Vec<String>>>()
    };
    let lines = if path == Path::new("-") {
        read(&mut io::stdin())
    } else {
        std::fs::File::open(path).and_then(|mut file| read(&mut file))
    };
    lines.map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs lines and prints each answer; false if one failed.
fn batch(session: &mut Session, lines: &[String], shape: Shape) -> io::Result<bool> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut good = true;
    for line in lines {
        if session.is_over() {
            break;
        }
        let prompt = session.prompt();
        for answer in run_line(session, line) {
            good &= answer.status != Status::Failed;
            match shape {
                Shape::Json => writeln!(out, "{}", serde_json::to_string(&answer)?)?,
                Shape::Text => {
                    writeln!(out, "{prompt} {}", answer.command)?;
                    write(&answer, &mut out)?;
                }
            }
        }
        out.flush()?;
    }
    Ok(good)
}

/// An answer as text.
fn write(answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    out.write_all(answer.text.as_bytes())?;
    let Some(reason) = &answer.reason else { return Ok(()) };
    match answer.status {
        Status::Answer => writeln!(out, "note: {reason}"),
        Status::Unknown => writeln!(out, "unknown: {reason}"),
        Status::Failed => writeln!(out, "error: {reason}"),
    }
}
