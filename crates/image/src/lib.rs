//! Instructions: decoding, operands, effective addresses, in kd's spelling.
//!
//! *Promises*: decoding never fails on any bytes, it only says that they are no instruction; an effective address is
//! given only where every register it needs is known.
//! *Must never know*: dumps, symbol files.

mod x64;

pub use x64::{
    Access, AccessKind, Boundary, Flow, Instruction, KnownRegisters, boundary_x64, decode_x64,
    needs_leaf1_ecx,
};
