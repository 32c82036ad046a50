//! PE images, and instructions: decoding, operands, effective addresses, in kd's spelling.
//!
//! *Promises*: decoding never fails on any bytes, it only says that they are no instruction; an effective address is
//! given only where every register it needs is known. Of an image with parts missing, what is there is read; nothing
//! grows beyond what the image holds.
//! *Must never know*: dumps, symbol files.

mod arm64;
mod pe;
mod unset;
mod x64;

pub use arm64::decode_arm64_named;
pub use pe::{
    CodeView, DebugEntry, Export, Exports, FileVersion, Function, Headers, Image, MACHINE_ARM64, MACHINE_X64,
    MACHINE_X86, PeError, Relocation, Rewritten, Section,
};
pub use unset::{Register64, unset_base_x64};
pub use x64::{
    Access, AccessKind, Boundary, Flow, Instruction, KnownRegisters, boundary_x64, decode_x64,
    decode_x64_named, decode_x86_named, needs_leaf1_ecx,
};
