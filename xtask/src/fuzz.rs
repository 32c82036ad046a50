//! Fuzzing: every target, one after another.

use crate::steps::{self, Step};
use anyhow::{Context, ensure};
use std::path::Path;

/// Runs every fuzz target for `seconds` seconds.
pub(crate) fn fuzz(root: &Path, seconds: u32) -> anyhow::Result<()> {
    steps::run(root, &steps(root, seconds)?)
}

/// One step a fuzz target. libFuzzer needs unstable flags, which the stable compiler takes with RUSTC_BOOTSTRAP.
///
/// Inputs come from `fuzz/corpus` and `fuzz/seeds`, which are kept; what a run finds goes to `target/fuzz`, which is not.
pub(crate) fn steps(root: &Path, seconds: u32) -> anyhow::Result<Vec<Step>> {
    let mut targets: Vec<String> = std::fs::read_dir(root.join("fuzz/fuzz_targets"))
        .context("fuzz/fuzz_targets")?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    targets.sort();
    ensure!(!targets.is_empty(), "no fuzz target");
    Ok(targets
        .iter()
        .map(|target| {
            let kept = ["corpus", "seeds"].map(|folder| format!("fuzz/{folder}/{target}"));
            let mut inputs: Vec<&str> =
                kept.iter().map(String::as_str).filter(|folder| root.join(folder).is_dir()).collect();
            if inputs.is_empty() {
                // Whole dumps are the best seeds for what reads dumps.
                inputs.push("samples");
            }
            Step {
                name: format!("fuzz {target}, {seconds} s"),
                line: format!(
                    "mkdir -p target/fuzz/{target} && cargo fuzz run -s none {target} target/fuzz/{target} {} -- \
                     -max_total_time={seconds} -max_len=400000 -rss_limit_mb=2048 -timeout=10 -verbosity=0 -print_final_stats=1",
                    inputs.join(" ")
                ),
                // The workspace forbids `unsafe`, so an address sanitizer has nothing to find in it; panics and hangs are.
                settings: vec![("RUSTC_BOOTSTRAP", "1")],
            }
        })
        .collect())
}
