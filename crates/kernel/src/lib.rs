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
mod stack;
mod stacks;
mod system;
mod thread;
mod whea;

pub use facts::{Context, Exception, Hypervisor, Processor, Pte, StopCode, System, Thread, Verifier};
pub use identity::Build;
pub use kernel_process::KernelProcess;
pub use kernel_thread::{KernelThread, WaitObject};
pub use list::Listed;
pub use machine::Machine;
pub use mca::{McaStatus, McaVendor};
pub use module::{Module, UnloadedModule, display_name, link_date};
pub use processor_state::{CpuModel, DpcState, IpiState, ProcessorState, SavedMsrs, SpecialRegisters, TableRegister};
pub use stack::{Frame, Place, Stack, StackKind, Trust};
pub use whea::{
    ErrorRecord, GenericProcessorSection, McaSection, MemorySection, PcieSection, Section, SectionContent, Severity,
    XpfProcessorSection, error_record,
};
