//! Bytes at addresses: stacks, code, page-table entries.

use crate::{Bytes, Hex};
use serde::{Deserialize, Serialize};

/// A stretch of stack and what lies on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Whose it is, for the reader.
    pub about: String,
    /// Lowest address that exists; what a processor has not reached yet is not stored.
    pub low: Hex,
    /// First address above it.
    pub high: Hex,
    /// Bytes on it as they were recorded; frames and words go on top of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<Code>,
    /// Frames, innermost first, as a debugger's `k` lists them.
    #[serde(default)]
    pub frames: Vec<Frame>,
    /// Other words on it: saved registers, locals, what earlier calls left.
    #[serde(default)]
    pub words: Vec<Word>,
}

/// One line of `k`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// `Child-SP`: the stack pointer inside this frame. On x86 `ChildEBP`: where it keeps its caller's EBP. On ARM64 where it
    /// keeps its frame record, the caller's x29 and x30; a trap frame's own record is its last two words.
    #[serde(alias = "ebp")]
    pub sp: Hex,
    /// `RetAddr`: where it returns to; lies just below the next frame's `sp`, on x86 and ARM64 just above this one's. Zero ends
    /// the stack.
    pub ret: Hex,
    /// True where `ret` comes from a trap frame: then [`super::Machine::traps`] holds it, and no word is written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trap: bool,
    /// Its name, for the reader of the description only.
    #[serde(default)]
    pub name: String,
}

/// A word at an address, as wide as a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Where.
    pub at: Hex,
    /// The word.
    pub value: Hex,
}

/// Bytes at an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Where.
    pub at: Hex,
    /// The bytes.
    pub bytes: Bytes,
    /// What they are, for the reader of the description only.
    #[serde(default)]
    pub about: String,
}

/// A call instruction; the dump holds sixteen bytes on either side of where it returns to, no-ops but for the call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Address the call returns to.
    pub returns_to: Hex,
    /// Function it calls; with [`Self::import`], where the pointer lies through which it calls.
    pub target: Hex,
    /// True for a call through an import pointer (`FF 15`), false for a direct one (`E8`).
    #[serde(default)]
    pub import: bool,
}

/// The page-table entries of one address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// The address.
    pub of: Hex,
    /// Entries from the top table downwards: four, three with x86's address extension, two on x86 without. Fewer end in
    /// a large page or an empty entry.
    pub entries: Vec<Hex>,
}
