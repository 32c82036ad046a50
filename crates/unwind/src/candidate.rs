//! The words of an x64 stack that can be return addresses, and what each is worth by itself.
//!
//! Scores are tenths of a bit of log-likelihood: ten mean "twice as likely for a live return address as for another
//! word that got this far".

use crate::call_site::{self, CallSite};
use crate::frame_size;
use crate::trap_frame::{self, TrapFrame};
use crate::{Code, CodeAt, StackRange};
use stopcode_base::{Memory, VirtAddr};

/// The bytes before it are a call: a live return address always has them, a pointer to something else never.
const IS_CALL: i32 = 10;
/// Where no function is known, a word may as well be a pointer to something. Calls end anywhere; functions and most
/// data that pointers lead to begin at multiples of 16.
const ON_16_BYTES: i32 = -31;
/// The same for multiples of 8: variables and tables.
const ON_8_BYTES: i32 = -19;
/// In an image with symbols but far behind the nearest.
const FAR_FROM_SYMBOL: i32 = -30;
/// Inside a saved register set; an old, partly overwritten one can hold live frames.
const INSIDE_CONTEXT: i32 = -100;
/// A whole plausible trap frame exactly above the return address.
const HAS_TRAP_FRAME: i32 = 80;

/// No return address is nearer to its function's start: a push and a call through a register are three bytes.
const SHORTEST_PROLOG: u64 = 3;

/// Bytes in an x64 `CONTEXT`.
pub const CONTEXT_SIZE: u64 = 0x4d0;

/// Whether code has a frame of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Frameless {
    /// It stands on the first instruction of its function.
    Surely,
    /// Its stack pointer is 8 modulo 16, as at a function's entry and all through a leaf.
    Likely,
    /// Its stack pointer is a multiple of 16, as after a prolog, or it made a call.
    No,
}

/// Code that stands somewhere, and its stack pointer: what a frame hands to the search for its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) instruction: VirtAddr,
    pub(crate) stack_pointer: VirtAddr,
    /// First byte of its function, if known.
    pub(crate) start: Option<VirtAddr>,
    /// How far into its function it stands, and the function's length.
    pub(crate) offset: Option<u64>,
    pub(crate) length: Option<u64>,
    /// See [`Code::family`].
    pub(crate) family: Option<u16>,
    /// What can be said of the word at its stack pointer being its return address.
    pub(crate) frameless: Frameless,
    /// Registers were read, so the function may be anywhere in its code: it may be a leaf, or not have begun.
    interrupted: bool,
}

impl Standing {
    pub(crate) fn interrupted(instruction: VirtAddr, stack_pointer: VirtAddr, code: &dyn Code) -> Self {
        let frameless = if code.at(instruction) == CodeAt::Start {
            Frameless::Surely
        } else if stack_pointer.0 & 0xf == 8 {
            Frameless::Likely
        } else {
            Frameless::No
        };
        let family = code.family(instruction);
        Self { interrupted: true, frameless, family, ..Self::after_call(instruction, stack_pointer, code) }
    }

    pub(crate) fn after_call(instruction: VirtAddr, stack_pointer: VirtAddr, code: &dyn Code) -> Self {
        let start = code.function_start(instruction);
        let offset = start.and_then(|start| instruction.offset_from(start));
        let length = match code.at(instruction) {
            CodeAt::Function { offset, size } => size.filter(|size| offset <= *size),
            _ => None,
        };
        Self {
            instruction,
            stack_pointer,
            start,
            offset,
            length,
            family: code.family(instruction.minus(1)),
            frameless: Frameless::No,
            interrupted: false,
        }
    }

    /// The lowest address its return address can lie at.
    pub(crate) fn lowest_slot(&self) -> VirtAddr {
        let least = if self.interrupted { 0 } else { frame_size::SMALLEST - 8 };
        VirtAddr(self.stack_pointer.0.saturating_add(least))
    }
}

/// A word that can be a return address.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) slot: VirtAddr,
    pub(crate) value: VirtAddr,
    pub(crate) call: CallSite,
    /// Its call goes to a jump: what runs then is somewhere else.
    pub(crate) calls_jump: bool,
    /// Its call checks a stack cookie, as functions with buffers do just before they return.
    pub(crate) checks_cookie: bool,
    pub(crate) known_function: bool,
    /// See [`Code::family`].
    pub(crate) family: Option<u16>,
    /// The trap frame that lies exactly above it.
    pub(crate) trap: Option<TrapFrame>,
    /// What to look for a caller from: the function returned to, or what its trap frame interrupted.
    pub(crate) then: Standing,
    /// The trap frame leads off this stack: nothing here can follow.
    pub(crate) leaves: bool,
    /// It is a saved register of a `CONTEXT`, as far as can be seen.
    pub(crate) in_context: bool,
    pub(crate) score: i32,
}

/// One stack, and all that says what its words mean.
pub(crate) struct Search<'a> {
    pub(crate) memory: &'a dyn Memory,
    pub(crate) code: &'a dyn Code,
    pub(crate) stack: &'a StackRange,
}

impl Search<'_> {
    /// The candidates among `words`, which begin at `base` (a multiple of 8), in address order.
    pub(crate) fn candidates(&self, base: VirtAddr, words: &[u64], contexts: &[VirtAddr]) -> Vec<Candidate> {
        let mut contexts = contexts.iter().peekable();
        let mut found = Vec::new();
        for (slot, word) in addressed(base, words).filter(|(slot, _)| slot.0 & 0xf == 8) {
            while contexts.next_if(|context| context.plus(CONTEXT_SIZE) <= slot).is_some() {}
            let in_context = contexts.peek().is_some_and(|context| **context <= slot);
            found.extend(self.candidate(slot, VirtAddr(word), in_context));
        }
        found
    }

    fn candidate(&self, slot: VirtAddr, value: VirtAddr, in_context: bool) -> Option<Candidate> {
        let (known_function, mut score) = self.worth_by_place(value)?;
        let call = call_site::x64(self.memory, value);
        let calls_jump = match call {
            CallSite::NotCall => return None,
            CallSite::Direct(target) => call_site::is_jump(self.memory, target),
            CallSite::Indirect | CallSite::Unknown => false,
        };
        let top = slot.plus(8);
        let trap = (self.code.is_trap_entry(value) != Some(false))
            .then(|| trap_frame::plausible_at(self.memory, top, self.code, self.stack))
            .flatten();
        let then = match &trap {
            Some(trap) => Standing::interrupted(trap.rip(), trap.rsp(), self.code),
            None => Standing::after_call(value, top, self.code),
        };
        for (holds, worth) in [
            (call != CallSite::Unknown, IS_CALL),
            (in_context, INSIDE_CONTEXT),
            (trap.is_some(), HAS_TRAP_FRAME),
        ] {
            score += if holds { worth } else { 0 };
        }
        let leaves = trap.is_some_and(|trap| !self.stack.contains(trap.rsp()));
        Some(Candidate {
            slot,
            value,
            call,
            calls_jump,
            checks_cookie: call_site::x64_checks_cookie(self.memory, value),
            known_function,
            family: self.code.family(value.minus(1)),
            trap,
            then,
            leaves,
            in_context,
            score,
        })
    }

    /// Whether the function is known, and the score; `None` if this can be no return address.
    fn worth_by_place(&self, value: VirtAddr) -> Option<(bool, i32)> {
        let by_alignment = match value.0.trailing_zeros() {
            0..=2 => 0,
            3 => ON_8_BYTES,
            _ => ON_16_BYTES,
        };
        match self.code.at(value) {
            CodeAt::NotCode | CodeAt::Data | CodeAt::Start => None,
            CodeAt::Function { offset, .. } if offset < SHORTEST_PROLOG => None,
            CodeAt::Module => Some((false, by_alignment)),
            CodeAt::Function { offset, size: Some(size) } if offset > size => {
                Some((false, by_alignment + FAR_FROM_SYMBOL))
            }
            CodeAt::FarFromSymbol => Some((false, by_alignment + FAR_FROM_SYMBOL)),
            CodeAt::Function { .. } => Some((true, 0)),
        }
    }
}

fn addressed(base: VirtAddr, words: &[u64]) -> impl Iterator<Item = (VirtAddr, u64)> {
    words.iter().enumerate().map(move |(index, word)| (base.plus(index as u64 * 8), *word))
}

/// Addresses of x64 `CONTEXT` records among the words of a stack that begin at `base`, in order: the exception dispatcher keeps two on the stack, full of
/// values of other frames.
pub fn context_records(base: VirtAddr, words: &[u64]) -> Vec<VirtAddr> {
    let mut rest = words;
    let mut found = Vec::new();
    for (address, _) in addressed(base, words) {
        if address.0.trailing_zeros() >= 4 && is_context(rest) {
            found.push(address);
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    found
}

/// `ContextFlags` (at 30) of AMD64 with control registers, SegCs (38) and SegSs (42) of one ring, and EFlags (44)
/// with the bit that is always set and none that never is.
fn is_context(words: &[u64]) -> bool {
    const AMD64_CONTROL: u32 = 0x0010_0001;
    // The parts of a context (0x7f), and on top what the kernel adds about exceptions.
    const KNOWN: u32 = 0xf810_007f;
    let Some([flags, cs, ss_and_eflags]) = words.get(6..9) else { return false };
    let (flags, cs, ss, eflags) =
        (*flags as u32, *cs as u16, (*ss_and_eflags >> 16) as u16, *ss_and_eflags >> 32);
    flags & AMD64_CONTROL == AMD64_CONTROL
        && flags & !KNOWN == 0
        && matches!((cs, ss), (0x10, 0x18 | 0) | (0x33 | 0x23, 0x2b))
        && eflags & 2 != 0
        && eflags >> 22 == 0
}
