//! Progress on standard error, on a terminal, once the work has taken a second.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stopcode_case::Step;

/// Work that is done sooner needs no line.
const PATIENCE: Duration = Duration::from_secs(1);

/// One line that is written over.
pub(crate) struct Progress {
    started: Instant,
    terminal: bool,
    shown: AtomicBool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), terminal: io::stderr().is_terminal(), shown: AtomicBool::new(false) }
    }

    pub(crate) fn show(&self, step: &Step) {
        self.line(&format!("{} of {} read", step.done, step.all));
    }

    /// Shows a line in the place of the one before.
    pub(crate) fn line(&self, text: &str) {
        if !self.terminal || self.started.elapsed() < PATIENCE {
            return;
        }
        self.shown.store(true, Ordering::Relaxed);
        // A terminal that went away is no reason to stop.
        let _ = write!(io::stderr(), "\r\x1b[K{text}");
    }

    /// Takes the line away before anything else is printed.
    pub(crate) fn clear(&self) {
        if self.shown.load(Ordering::Relaxed) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
