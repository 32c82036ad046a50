//! What the field knows: bug checks, NTSTATUS values, Win32 errors, drivers, functions, kernel builds, and the small fixed tables.
//!
//! *Promises*: every look-up reads one or two lines of a plain file under `knowledge/`, compiled into the program;
//! nothing is parsed at start-up and nothing is kept. An input that is not known is `None`, never a guess. A line
//! that an editor broke is one fact less, not a crash; the tests name it by file and line.
//! *Must never know*: dumps, symbols, addresses, or any other room.
//!
//! The generated tables lie directly under `knowledge/`; what people correct or add by hand lies under
//! `knowledge/edits/` and is laid over them here (see `knowledge/README.md`).

#[macro_use]
mod words;

mod argument;
mod bug_check;
mod build;
mod driver;
pub mod enums;
mod function;
mod ntstatus;
mod processor;
mod search;
mod table;
#[cfg(test)]
mod validation;
pub mod verifier;
mod win32;

pub use argument::ArgumentMeaning;
pub use bug_check::{BaseCode, BugCheck, Cause, Param, ParamKind, Subcode, base_code, bug_check, is_known};
pub use build::{KernelBuild, kernel_build, nt_version, product_name};
pub use driver::{Category, Confidence, Driver, InboxAlternative, Role, driver};
pub use function::{Function, FunctionRole, function};
pub use ntstatus::{NtStatus, ntstatus};
pub use processor::{UnstableProcessor, processor};
pub use search::{bug_check_named, functions_named, names_with, ntstatus_named, subcodes, topic, topics};
pub use win32::win32_error;
