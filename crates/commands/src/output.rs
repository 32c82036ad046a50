//! Where commands write: bounded, safe to show, and ended when somebody wants no more.

use crate::answer::Stop;
use crate::show::word;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stopcode_base::{Arch, VirtAddr, visible};

/// More text than this is not kept of one command.
const MOST_TEXT: usize = 4 << 20;

/// The text of one command.
pub struct Output {
    text: String,
    note: Option<String>,
    arch: Arch,
    cancel: Arc<AtomicBool>,
}

impl Output {
    /// For a machine of this architecture, whose addresses it writes as wide as they are.
    pub(crate) fn new(arch: Arch, cancel: Arc<AtomicBool>) -> Self {
        Self { text: String::new(), note: None, arch, cancel }
    }

    /// Of the machine.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// An address as WinDbg writes it: ``fffff880`03dccfd0``, eight digits on x86.
    pub fn at(&self, address: VirtAddr) -> String {
        self.arch.windbg(address)
    }

    /// A word as wide as a register, in as many digits and without the back quote.
    pub fn word(&self, value: u64) -> String {
        word(self.arch, value)
    }

    /// `name` in the columns of an address.
    pub fn column(&self, name: &str) -> String {
        format!("{name:<width$}", width = self.at(VirtAddr(0)).len())
    }

    /// What stands for an address that is not known: as many question marks.
    pub fn no_address(&self) -> String {
        self.at(VirtAddr(0)).replace('0', "?")
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
