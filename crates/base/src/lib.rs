//! The ground floor: addresses, architectures, registers, memory with typed misses, and facts with their source.
//!
//! *Promises*: plain data and small traits that every other room can hold on to; nothing here reads a file,
//! allocates in proportion to a dump, or can panic on any input.
//! *Must never know*: files, dump formats, symbols, Windows structures.

mod address;
mod arch;
mod fact;
mod memory;
mod pattern;
mod problem;
mod registers;
mod text;
mod time;

pub use address::{PhysAddr, VirtAddr};
pub use arch::Arch;
pub use fact::{Fact, Source};
pub use memory::{Memory, Miss, MissReason, SliceMemory};
pub use pattern::fits;
pub use problem::{Problem, Severity};
pub use registers::{Arm64Registers, Registers, X64Registers, X86Registers};
pub use text::{file_name, visible};
pub use time::FileTime;
