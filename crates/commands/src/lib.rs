//! The kd language over the crashed machine: WinDbg's commands, in its spelling and its shape.
//!
//! *Promises*: one definition a command ([`Command`]), from which parsing, help, completion, the documentation and JSON
//! come. Every command answers ([`Answer`]): with what the dump holds, or with the reason why it does not hold it. No line
//! and no dump makes one panic, run on for long or write without end. Strings of a dump reach the output as data.
//! *Must never know*: terminals.
//!
//! A command is a file under `all/`. It asks the [`Session`], which holds the crashed [`Machine`](stopcode_kernel::Machine)
//! and what was selected (processor, context, frame, number base), and writes to an [`Output`]. Above both stands [`run`],
//! which reads a line, finds its commands and lets them work on the session: the session knows neither.

mod all;
mod answer;
mod arguments;
mod command;
mod complete;
mod docs;
mod expression;
mod line;
mod names;
mod output;
mod parameter;
mod pseudo;
mod registers;
mod registry;
mod runner;
mod scope;
mod session;
mod show;
mod symbols;
mod view;

pub use answer::{Answer, Outcome, Status, Stop};
pub use arguments::{Arguments, Range};
pub use command::Command;
pub use complete::complete;
pub use docs::markdown;
pub use expression::{ErrorKind, ExpressionError, Names, evaluate, evaluate_start};
pub use line::{Invocation, UnknownCommand, Which, parse_line};
pub use output::Output;
pub use parameter::{Kind, Parameter};
pub use registry::{commands, find};
pub use runner::{run, run_one};
pub use scope::Scope;
pub use session::{Open, Session};
