//! The stopcode command: thin. It reads arguments, calls the rooms below, and prints what they say.

mod analyze;
mod debug;
mod explain;
mod online;
mod progress;
mod symbols;
#[cfg(feature = "synth")]
mod synth;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Analyst for Windows kernel crash dumps: what happened, who did it, how sure, on what evidence, what to do next.
#[derive(Parser)]
#[command(
    version,
    about,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "\
Exit status: 0 at least one verdict, 2 none, 64 wrong usage.
`stopcode analyze --help` has examples."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Analyze(analyze::Arguments),
    Debug(debug::Arguments),
    Explain(explain::Arguments),
    Symbols(symbols::Arguments),
    #[cfg(feature = "synth")]
    Synth(synth::Arguments),
}

/// Exit code for wrong usage, as in sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            // A closed pipe while printing help is nobody's mistake.
            let _ = error.print();
            return if usage { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Analyze(arguments) => analyze::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Debug(arguments) => debug::run(&arguments),
        Command::Symbols(arguments) => symbols::run(&arguments),
        #[cfg(feature = "synth")]
        Command::Synth(arguments) => synth::run(&arguments),
    }
}
