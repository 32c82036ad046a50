//! The crashed machine: processors, modules, threads, stacks, as typed objects with their provenance.
//!
//! *Promises*: what a dump holds about the machine, each fact with its source or the reason why it is missing;
//! nothing is read that nobody asked for.
//! *Must never know*: judgement (what caused the crash) and how anything is printed.

mod blackbox;
mod code;
mod context;
mod core;
mod current;
mod facts;
mod identity;
mod images;
mod loaded;
mod machine;
mod module;
mod paging;
mod processors;
mod ranges;
mod stack;
mod stacks;
mod system;
mod thread;
mod words;

pub use facts::{Context, Exception, Hypervisor, Processor, Pte, StopCode, System, Thread, Verifier};
pub use identity::Build;
pub use machine::Machine;
pub use module::{Module, UnloadedModule, display_name, link_date};
pub use stack::{
    Crossing, Frame, ModuleUse, Place, Recursion, Stack, StackArea, StackKind, StackWord, Trust, Turn,
    WordMark, area_words,
};
