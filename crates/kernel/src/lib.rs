//! The crashed machine: processors, modules, threads, stacks, as typed objects with their provenance.
//!
//! *Promises*: what a dump holds about the machine, each fact with its source or the reason why it is missing;
//! nothing is read that nobody asked for.
//! *Must never know*: judgement (what caused the crash) and how anything is printed.

mod blackbox;
mod bytes;
mod code;
mod context;
mod core;
mod current;
mod descriptors;
mod facts;
mod identity;
mod images;
mod irp;
mod kernel_process;
mod kernel_thread;
mod list;
mod loaded;
mod machine;
mod mca;
mod module;
mod object;
mod paging;
mod processor_state;
mod processors;
mod ranges;
mod region;
mod stack;
mod stacks;
mod system;
mod thread;
mod types;
mod verifier;
mod whea;
mod words;

pub use blackbox::{BootStatus, NtfsBlackBox};
pub use descriptors::{IdtEntry, TaskState};
pub use facts::{Context, Exception, Hypervisor, Processor, Pte, StopCode, System, Thread, Verifier};
pub use identity::Build;
pub use images::CodeMemory;
pub use irp::{Irp, StackLocation, major_name};
pub use kernel_process::KernelProcess;
pub use kernel_thread::{KernelThread, WaitObject};
pub use list::Listed;
pub use machine::Machine;
pub use mca::{McaStatus, McaVendor};
pub use module::{Module, UnloadedModule, display_name, link_date};
pub use processor_state::{
    CpuModel, DpcState, IpiState, ProcessorState, SavedMsrs, SpecialRegisters, TableRegister,
};
pub use region::{Region, RegionKind};
pub use stack::{
    Crossing, Frame, ModuleUse, Place, Recursion, Stack, StackArea, StackKind, StackWord, Trust, Turn,
    WordMark, area_words,
};
pub use system::Hardware;
pub use verifier::{Counter, VerifierState};
pub use whea::{
    ErrorRecord, GenericProcessorSection, McaSection, MemorySection, PcieSection, Section, SectionContent,
    Severity, XpfProcessorSection, error_record,
};
