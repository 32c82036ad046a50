//! Command lines that are run one after another.

use anyhow::{Context, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// One step: a name, and a command line for the shell.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) line: String,
    pub(crate) settings: Vec<(&'static str, &'static str)>,
}

/// A step without settings of its own.
pub(crate) fn step(name: &str, line: &str) -> Step {
    Step { name: name.to_owned(), line: line.to_owned(), settings: Vec::new() }
}

/// Runs the steps, all of them, and fails if one did.
pub(crate) fn run(root: &Path, steps: &[Step]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for step in steps {
        say(&format!("==> {}\n    {}", step.name, step.line));
        let started = Instant::now();
        let status = Command::new("bash")
            .args(["-c", &step.line])
            .envs(step.settings.iter().copied())
            .current_dir(root)
            .status()
            .with_context(|| format!("starting: {}", step.line))?;
        let verdict = if status.success() { "ok" } else { "FAILED" };
        say(&format!("<== {}: {verdict} after {:.0} s", step.name, started.elapsed().as_secs_f64()));
        if !status.success() {
            failed.push(step.name.as_str());
        }
    }
    say(&format!("{} passed, {} failed", steps.len() - failed.len(), failed.len()));
    ensure!(failed.is_empty(), "failed: {}", failed.join("; "));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the log of a chore is its output")]
fn say(text: &str) {
    println!("{text}");
}
