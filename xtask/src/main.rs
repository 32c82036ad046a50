//! Chores of the stopcode repository, run as `cargo xtask <chore>`.

mod ci;
mod evaluate;
mod fuzz;
mod knowledge;
mod layouts;
mod steps;

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

const USAGE: &str = "usage: cargo xtask <chore>

  ci                          everything the gate checks: README's commands, format, lint, docs, licences, fuzzing
  fuzz --seconds N            every fuzz target for that long
  long                        what is too slow for the gate: long fuzzing, benches
  knowledge --from ../shared  makes the tables under knowledge/ again
  layouts --from ../shared    makes the built-in layouts and fingerprints again
  evaluate --from ../shared   how good the analyst is on real crashes whose cause is known
  planted --seed N --seeds N  how well planted faults of the hardware are told from drivers' bugs: ten pairs a seed
  fit --from ../shared        weights for crates/analysis/src/weights.rs, and what they are worth on projects not seen";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = repository()?;
    match words.as_slice() {
        ["ci"] => ci::ci(root),
        ["fuzz", "--seconds", seconds] => fuzz::fuzz(root, seconds.parse().context(USAGE)?),
        ["long"] => ci::long(root),
        ["knowledge", "--from", shared] => knowledge::run(&PathBuf::from(shared), root),
        ["layouts", "--from", shared] => layouts::run(&PathBuf::from(shared), root),
        ["evaluate", "--from", shared] => evaluate::evaluate(&PathBuf::from(shared)),
        ["planted", "--seed", first, "--seeds", count] => {
            evaluate::planted(first.parse().context(USAGE)?, count.parse().context(USAGE)?)
        }
        ["fit", "--from", shared] => evaluate::fit_weights(&PathBuf::from(shared)),
        _ => bail!("{USAGE}"),
    }
}

/// The root of the checkout this program was built from.
fn repository() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in a folder of the repository")
}
