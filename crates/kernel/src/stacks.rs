//! Stacks: where they may lie, how they are walked, and how a frame is named.

pub(crate) mod ranges;
pub(crate) mod stack;
pub(crate) mod walk;
pub(crate) mod words;
