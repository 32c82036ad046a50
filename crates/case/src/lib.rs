//! Inputs, grouping and the joint verdict: the one [`analyze`] that every host calls.
//!
//! *Promises*: every input comes back in the report, unreadable ones with their reason; one bad file never spoils the
//! others; a network is only touched by the [`Online`] that a host hands in.
//! *Must never know*: which host called, and how a report is printed.

mod archive;
mod describe;
mod group;
mod identity;
mod input;
mod judge;
mod report;

pub use report::*;

use input::{Found, Input};
use judge::Judged;
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use stopcode_symbols::{Online, SymbolSource};

/// How far the work is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Inputs done.
    pub done: usize,
    /// Inputs in all.
    pub all: usize,
}

/// What a host may ask for.
#[derive(Clone, Default)]
pub struct Options<'o> {
    /// Symbol files, folders and symbol paths.
    pub symbols: Vec<PathBuf>,
    /// Where to keep what took long to work out of symbol files; with none, nothing is kept.
    pub cache: Option<PathBuf>,
    /// Asks symbol servers for what is not on this machine; with none, no network is touched.
    pub online: Option<Arc<Online>>,
    /// Told after every input; may be called from any thread.
    pub progress: Option<&'o (dyn Fn(Step) + Sync)>,
}

/// Reads and judges inputs: files, folders, archives (zip, cab, gz, xz, 7z), pasted text; `-` is standard input.
///
/// One file that is no archive gives [`Report::One`]; anything else [`Report::Many`].
pub fn analyze(paths: &[PathBuf], options: &Options<'_>) -> Report {
    let mut symbols = SymbolSource::new(options.symbols.iter().cloned());
    if let Some(online) = &options.online {
        symbols = symbols.with_online(Arc::clone(online));
    }
    if let Some(cache) = &options.cache {
        symbols = symbols.with_cache(cache.clone());
    }
    let Found { inputs, single } = input::find(paths);
    let done = AtomicUsize::new(0);
    let all = inputs.len();
    let mut judged: Vec<Judged> = inputs
        .into_par_iter()
        .flat_map_iter(|input: Input| {
            let judged = judge::judge(input, &symbols);
            if let Some(progress) = options.progress {
                progress(Step { done: done.fetch_add(1, Ordering::Relaxed) + 1, all });
            }
            judged
        })
        .collect();
    if single
        && judged.len() == 1
        && let Some(only) = judged.pop()
    {
        return Report::One(Box::new(only.report));
    }
    let cases = group::cases(&judged);
    Report::Many(SeriesReport {
        schema_version: SCHEMA_VERSION,
        dumps: judged.into_iter().map(|judged| judged.report).collect(),
        cases,
    })
}
