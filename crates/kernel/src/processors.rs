//! Processors: their PRCBs, contexts, descriptor tables, and which one crashed.

pub(crate) mod all;
pub(crate) mod context;
pub(crate) mod current;
pub(crate) mod descriptors;
pub(crate) mod state;
pub(crate) mod trap;
pub(crate) mod watchdog;
