//! The gate, and what is too slow for it.

use crate::fuzz;
use crate::steps::{Step, run, step};
use anyhow::{Context, bail};
use std::path::Path;

/// Seconds a fuzz target gets in the gate.
const FUZZ_SECONDS: u32 = 20;
/// Seconds a fuzz target gets in the long run.
const LONG_FUZZ_SECONDS: u32 = 300;

/// Property tests draw the same cases at every run of the gate; on a desk they draw new ones each time.
const GATE_SEED: u64 = 20_140_813;

/// Everything the gate checks; goes on after a failure, so that one run shows all of them.
pub(crate) fn ci(root: &Path) -> anyhow::Result<()> {
    let readme = readme_commands(root)?;
    let mut steps = vec![
        step("format", "cargo fmt --all --check && cargo fmt --manifest-path fuzz/Cargo.toml --check"),
        step("lint", "cargo clippy --workspace --all-targets --all-features --locked -- -D warnings"),
        step("README: the main job, without network", &offline(&readme.main_job)),
        step("README: the tests", &counted(&readme.tests)),
        step("stopcode synth", "cargo test --locked -p stopcode --features synth --test synth"),
        Step {
            name: "docs".to_owned(),
            line: "cargo doc --workspace --no-deps --document-private-items --locked".to_owned(),
            settings: vec![("RUSTDOCFLAGS", "-D warnings")],
        },
        step("the crates a browser needs", IN_A_BROWSER),
        step(
            "licences, bans, sources",
            "cargo deny --offline --locked check licenses bans sources || cargo deny --locked check licenses bans sources",
        ),
    ];
    steps.extend(fuzz::steps(root, FUZZ_SECONDS)?);
    run(root, &steps)
}

/// All but the host: they must build where there are no files, threads or sockets.
const IN_A_BROWSER: &str = "if rustup target list --installed | grep -qx wasm32-unknown-unknown; then \
     cargo check --locked --target wasm32-unknown-unknown -p stopcode-report -p stopcode-commands; \
     else echo 'SKIPPED: the target wasm32-unknown-unknown is not installed'; fi";

/// What is too slow for the gate.
pub(crate) fn long(root: &Path) -> anyhow::Result<()> {
    let mut steps = vec![
        step(
            "damage, every byte",
            "STOPCODE_LONG=1 cargo test --release --locked -p stopcode --test damage -- --nocapture",
        ),
        step("benches", "cargo bench --locked -p stopcode"),
    ];
    steps.extend(fuzz::steps(root, LONG_FUZZ_SECONDS)?);
    run(root, &steps)
}

/// Runs the tests and counts those that say they were skipped: they write past the harness, which hides what passing tests print.
fn counted(line: &str) -> String {
    format!(
        "set -o pipefail; mkdir -p target && PROPTEST_RNG_SEED={GATE_SEED} {line} 2>&1 | tee target/tests.log && \
         echo \"$(grep -c SKIPPED target/tests.log || true) tests were skipped\""
    )
}

/// Runs a command without network where the system allows it; the command itself asks for none.
fn offline(line: &str) -> String {
    format!("cargo fetch --locked && CARGO_NET_OFFLINE=true && export CARGO_NET_OFFLINE && {line}")
}

struct Readme {
    main_job: String,
    tests: String,
}

/// The first two lines that begin with `cargo` in fenced blocks of the README are its promise.
fn readme_commands(root: &Path) -> anyhow::Result<Readme> {
    let text = std::fs::read_to_string(root.join("README.md")).context("README.md")?;
    let mut fenced = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced && line.starts_with("cargo ") {
            commands.push(line.to_owned());
        }
    }
    let mut commands = commands.into_iter();
    match (commands.next(), commands.next()) {
        (Some(main_job), Some(tests)) => Ok(Readme { main_job, tests }),
        _ => bail!("README.md must show two cargo commands: the main job and the tests"),
    }
}
