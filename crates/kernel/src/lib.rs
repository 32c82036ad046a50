//! The crashed machine: processors, modules, threads, stacks, as typed objects with their provenance.
//!
//! *Promises*: what a dump holds about the machine, each fact with its source or the reason why it is missing;
//! nothing is read that nobody asked for.
//! *Must never know*: judgement (what caused the crash) and how anything is printed.
//!
//! One way in: [`Machine`]. Behind it `core` holds what all share, and each room has one subject: `reading` (a field out of
//! memory), `modules`, `processors`, `threads`, `stacks`, `hardware`.

mod core;
mod facts;
mod hardware;
mod identity;
mod irp;
mod machine;
mod modules;
mod paging;
mod processors;
mod reading;
mod region;
mod stacks;
mod threads;
mod verifier;

pub use facts::{Context, Exception, Hypervisor, Processor, Pte, StopCode, System, Thread, Verifier};
pub use hardware::blackbox::{BootStatus, NtfsBlackBox};
pub use hardware::mca::{McaStatus, McaVendor};
pub use hardware::sources::{ErrorSource, ErrorSources, source_kind, source_state};
pub use hardware::system::Hardware;
pub use hardware::whea::{
    ErrorRecord, GenericProcessorSection, McaSection, MemorySection, PcieSection, Section, SectionContent,
    Severity, XpfProcessorSection, error_record,
};
pub use identity::Build;
pub use irp::{Irp, StackLocation, major_name};
pub use machine::Machine;
pub use modules::compare::{Difference, ImageCheck};
pub use modules::images::CodeMemory;
pub use modules::module::{Module, UnloadedModule, display_name, link_date};
pub use processors::descriptors::{IdtEntry, TaskState};
pub use processors::state::{
    CpuModel, DpcState, IpiState, ProcessorState, SavedMsrs, SpecialRegisters, TableRegister,
};
pub use processors::trap::Trapped;
pub use processors::watchdog::DpcHistory;
pub use reading::list::Listed;
pub use region::{Region, RegionKind};
pub use stacks::stack::{
    Crossing, Frame, ModuleUse, Place, Recursion, Stack, StackArea, StackKind, StackWord, Trust, Turn,
    WordMark, area_words,
};
pub use threads::process::KernelProcess;
pub use threads::thread::{KernelThread, WaitObject};
pub use verifier::{Counter, VerifiedDriver, VerifiedDrivers, VerifierState};
