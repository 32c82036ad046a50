//! Writes synthetic Windows dumps from a described machine: for tests, demos and benches.
//!
//! *Promises*: the same [`Machine`] gives the same bytes on every run and every system (no clock, no randomness, no
//! hash order); every structure stands at the offsets the real build uses, so that any reader of real dumps reads it;
//! a description that contradicts itself is an error, never a quietly wrong dump.
//! *Must never know*: the readers. A writer that shared code with them would agree with their mistakes. What it shares
//! are tables of facts: where builds keep their fields and their globals (`stopcode-symbols`).
//!
//! The way through it: [`Machine`] says what is, `layout` where the build keeps it, `memory` turns both into bytes at
//! virtual addresses, and [`triage`] packs those into a file; `physical` puts them into pages under page tables, and
//! [`container`] packs those. [`plant`] describes machines by itself: with a known fault, to measure an analyst by.
//!
//! Every dump written here is invented. The machine descriptions under `samples/` say what they are modelled on.

mod blobs;
mod block;
pub mod container;
mod context;
mod error;
mod image;
mod kdbg;
mod layout;
mod machine;
mod memory;
mod modules;
mod number;
mod objects;
mod physical;
pub mod plant;
mod record;
mod tables;
pub mod triage;
mod vary;
mod work;

pub use error::Error;
pub use machine::{
    Arch, BugCheck, Call, Code, Cpu, Dpc, Driver, Encoding, Exception, Firmware, Frame, Gate, Installed, Irp,
    Kernel, Location, Machine, Module, Page, Pdb, Process, Processor, Registers, Slot, Stack, Thread, Trap,
    Unloaded, Verifier, Word,
};
pub use number::{Bytes, Hex};
