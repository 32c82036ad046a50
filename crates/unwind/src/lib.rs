//! Registers and stack memory in, frames out: each with how it was found.
//!
//! *Promises*: every frame says how far it may be trusted ([`Trust`]) and why ([`Reason`]); a walk ends with a
//! reason ([`End`]), never in silence; whatever the memory holds, a walk stays inside the stacks it was given, is
//! bounded by [`Options`], and cannot go in a circle.
//! *Must never know*: files, dump formats, names of functions or modules, symbols. The caller answers through
//! [`Code`] what is known of an address.
//!
//! # x64 with unwind data
//!
//! Where the caller has the image ([`Images`]), its function table and `UNWIND_INFO` say exactly what each function
//! did to the stack pointer and the registers it has to give back, and [`unwind_x64`] undoes it. Machine frames lead
//! from the kernel's trap entries into the code they interrupted, on whatever stack that ran. Data that cannot be
//! read or believed is a [`Refusal`]; nothing is guessed in its place.
//!
//! # x64 without unwind data
//!
//! A minidump holds a stack but no images, so no `.pdata`. What is left are words on the stack that point into
//! code: return addresses of live calls, and of calls long over whose words nothing has overwritten yet. No test of
//! a single word tells them apart, so the walk does not take the first plausible word: it looks for the best
//! supported *chain* from the known stack pointer to the top of the stack.
//!
//! **Candidates.** The ABI keeps RSP a multiple of 16 at every call, so a return address lies at an address that is
//! 8 modulo 16. It points into code, not at the first byte of a function (that is a pointer to it) and not at data.
//! If the bytes before it can be read they must decode as a call ([`call_site`]).
//!
//! **Chains.** A caller reserves 32 bytes of home space for its callee and keeps the alignment, so two return
//! addresses of one stack are at least 0x30 bytes apart. Frames tile the stack: what lies between two of them
//! belongs to the lower one's locals. A chain is any sequence of candidates that obeys this, and its weight is a
//! product of likelihoods:
//!
//! - of each frame's size, given the length of its function, or how far into it the return address lies (short
//!   functions have small frames); the tables were measured on the unwind data of compiled drivers, not on stacks;
//! - of each candidate passed over being a stale word within another frame's locals; words inside a `CONTEXT` record
//!   are saved registers and cost nothing, words above the thread's first frame cost more;
//! - of each call: a direct one to the function of the frame above is strong support, one to something else speaks
//!   against it, a stack-cookie check most of all, since it returns before anything else can be called;
//! - of caller and callee both in the kernel, whether their names begin alike ([`Code::family`]): neighbours on a stack
//!   often belong to one part of it, and calls that have nothing to do with each other seldom;
//! - of each address, where no functions are known: calls end anywhere, pointers mostly lead to multiples of 16.
//!
//! Summing the weights of all chains forwards and backwards gives for every candidate how probable it is. Frames are
//! those more likely live than not; of words that exclude each other at most one is. Where rivals leave none, the
//! next frame says that there is a gap ([`Frame::gap_before`]).
//!
//! **Trap frames.** The kernel's trap entries keep their `KTRAP_FRAME` exactly at their stack pointer. A candidate
//! with a plausible trap frame above it crosses into the interrupted code, whose RIP and RSP the frame gives, even
//! on another stack ([`trap_frame`]).
//!
//! What a scan found is never of high trust: a chain can be the best and still miss a frame or hold a stale one.
//!
//! # ARM64
//!
//! Packed and full unwind records are undone by [`unwind_arm64`], as on x64. Without an image: Windows keeps x29 as a
//! frame pointer in every function that calls: `[x29]` is the caller's, `[x29+8]` the return
//! address. The walk then follows this chain and nothing else. A trap frame's last two words are a record in it
//! ([`Arm64TrapFrame`]); behind it images may lead on again.
//!
//! # x86
//!
//! Where the image's PDB is at hand, its frame data ([`FrameData`]) computes the caller. Else the chain of frame pointers that
//! EBP begins, through the trap frames on it; where a function without a frame pointer shows, there is a gap.

mod arm64;
mod candidate;
mod chain;
mod frame;
mod frame_size;
mod image;
mod x64;
mod x86;

pub mod call_site;
pub mod trap_frame;

pub use arm64::{Arm64Caller, Arm64Frame, Arm64TrapFrame, unwind_arm64};
pub use candidate::{CONTEXT_SIZE, context_records};
pub use frame::{
    Code, CodeAt, End, Frame, FrameRegisters, Options, Reason, Refused, Stack, StackKind, StackRange, Start,
    Trust, UnusableStack,
};
pub use image::{ImageView, Images, NoImages, Refusal, Stands};
pub use x64::{MachineFrame, X64Caller, X64Frame, X64Rules, unwind_x64};
pub use x86::FrameData;

use stopcode_base::{Memory, Registers};

/// Walks the stack that `registers` stand on.
///
/// `stacks` are the ranges a stack pointer may lie in; where they overlap the first one counts. Frame 0 is always
/// there and is the registers themselves.
pub fn walk(
    registers: &Registers,
    memory: &dyn Memory,
    code: &dyn Code,
    stacks: &[StackRange],
    options: &Options,
) -> Stack {
    walk_with_images(&registers.into(), memory, &NoImages, code, stacks, options)
}

/// Walks the stack that `start` stands on, by unwind data as far as `images` have it.
///
/// A frame that unwind data led to is of high trust, and its registers are given. Where the data leads no further,
/// [`Stack::refused`] says why; the search goes on from there, and marks that there may be a gap.
pub fn walk_with_images(
    start: &Start,
    memory: &dyn Memory,
    images: &dyn Images,
    code: &dyn Code,
    stacks: &[StackRange],
    options: &Options,
) -> Stack {
    let sources = Sources { memory, images, code };
    match &start.registers {
        Registers::X64(registers) => x64::walk(registers, start, &sources, stacks, options),
        Registers::Arm64(registers) => arm64::walk(registers, start, &sources, stacks, options),
        Registers::X86(registers) => x86::walk(registers, start, &sources, stacks, options),
        other => Stack::starting(
            Frame::of_context(other.instruction(), other.stack_pointer(), None),
            End::UnsupportedArchitecture,
        ),
    }
}

/// Who answers what a walk asks.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) memory: &'a dyn Memory,
    pub(crate) images: &'a dyn Images,
    pub(crate) code: &'a dyn Code,
}
