//! Where commands write: bounded, safe to show, and ended when somebody wants no more.

use crate::answer::Stop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stopcode_base::visible;

/// More text than this is not kept of one command.
const MOST_TEXT: usize = 4 << 20;

/// The text of one command.
pub struct Output {
    text: String,
    note: Option<String>,
    cancel: Arc<AtomicBool>,
}

impl Output {
    pub(crate) fn new(cancel: Arc<AtomicBool>) -> Self {
        Self { text: String::new(), note: None, cancel }
    }

    /// Writes a line. What a terminal would act on is made visible, so that strings of a dump can be passed as they are.
    ///
    /// An error ends the command: it is to be handed on.
    pub fn line(&mut self, line: impl AsRef<str>) -> Result<(), Stop> {
        self.go_on()?;
        let line = visible(line.as_ref());
        if self.text.len() + line.len() > MOST_TEXT {
            return Err(Stop::TooLong);
        }
        self.text.push_str(line.trim_end());
        self.text.push('\n');
        Ok(())
    }

    /// Whether to go on: asked by work that writes nothing for long.
    pub fn go_on(&self) -> Result<(), Stop> {
        if self.cancel.load(Ordering::Relaxed) { Err(Stop::Interrupted) } else { Ok(()) }
    }

    /// Says what is missing in an answer; the first thing said counts.
    pub fn missing(&mut self, what: impl Into<String>) {
        self.note.get_or_insert(visible(&what.into()));
    }

    pub(crate) fn into_parts(self) -> (String, Option<String>) {
        (self.text, self.note)
    }
}
