//! `stopcode analyze`.

use crate::online::{self, Log, Outcome, Patience};
use clap::{Args, ValueEnum};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use stopcode_base::visible;
use stopcode_case::{Options, Report};
use stopcode_report::{Format, Style};

/// Analyse dumps, folders or zip archives of dumps, or pasted WinDbg text.
///
/// One file gives one report; several paths, a folder or an archive give one report a dump and a joint verdict a machine.
/// Nothing is uploaded, and nothing is fetched without --online.
#[derive(Args)]
#[command(after_help = "\
Examples:
  stopcode analyze MEMORY.DMP
  stopcode analyze --format json Minidump/ | jq '.cases[].summary'
  stopcode analyze --format markdown 102622-12000-01.dmp > post.md
  stopcode analyze --symbols ~/symbols 060624-9500-01.dmp

Exit status:
  0   at least one verdict
  2   no verdict: nothing could be read (with --format json the report is still printed)
  64  wrong usage

Colours follow the terminal and NO_COLOR.")]
pub(crate) struct Arguments {
    /// A dump, a text, a folder, a zip archive; `-` reads standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t = Shape::Text, value_name = "FORMAT")]
    format: Shape,
    /// Write the report to a file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
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

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    /// For a terminal.
    Text,
    /// For programs; the schema is in schema/report.schema.json.
    Json,
    /// For a forum: the short form first.
    Markdown,
}

/// Exit code where nothing could be read.
const NO_VERDICT: u8 = 2;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let log = Log::default();
    let online = arguments.online.then(|| online::online(arguments.patience, log.clone())).transpose();
    let online = online.unwrap_or_else(|error| {
        say(&format!("note: {error}; the analysis is the offline one"));
        None
    });
    let progress = crate::progress::Progress::new();
    let options = Options {
        symbols: online::symbol_paths(&arguments.symbols),
        online,
        cache: Some(stopcode_symbols::default_cache()),
        progress: Some(&|step| progress.show(&step)),
    };
    let report = stopcode_case::analyze(&arguments.paths, &options);
    progress.clear();
    for (file, outcome) in log.take() {
        if let Outcome::Failed(why) = outcome {
            say(&format!("note: {} could not be fetched: {}", visible(&file), visible(&why)));
        }
    }
    if let Err(error) = print(arguments, &report) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return ExitCode::SUCCESS; // the reader had enough
        }
        say(&format!("error: the report could not be written: {error}"));
        return ExitCode::from(NO_VERDICT);
    }
    if report.has_verdict() { ExitCode::SUCCESS } else { ExitCode::from(NO_VERDICT) }
}

fn print(arguments: &Arguments, report: &Report) -> io::Result<()> {
    let format = match arguments.format {
        Shape::Text => Format::Text,
        Shape::Json => Format::Json,
        Shape::Markdown => Format::Markdown,
    };
    if let Some(path) = &arguments.output {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        stopcode_report::write(report, format, &Style::plain(), &mut file)?;
        return file.flush();
    }
    let stdout = io::stdout();
    let colour =
        stdout.is_terminal() && anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
    let mut out = BufWriter::new(stdout.lock());
    stopcode_report::write(report, format, &Style::for_terminal(colour), &mut out)?;
    out.flush()
}

/// Messages go to standard error, so that standard output holds nothing but the report.
#[expect(clippy::print_stderr, reason = "messages belong there")]
pub(crate) fn say(message: &str) {
    eprintln!("{message}");
}
