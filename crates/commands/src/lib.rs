//! The debugger commands that evidence cites, in WinDbg's spelling.
//!
//! *Promises*: one definition a command; a line is split as the debugger splits it (`;` outside quotes), and every
//! part either names a known command or is told apart as unknown.
//! *Must never know*: terminals. Running the commands comes with the debugger; until then this room keeps evidence
//! honest: a verdict may only cite what is listed here.

mod line;
mod table;

pub use line::{Invocation, UnknownCommand, parse_line};
pub use table::{COMMANDS, Command, find};
