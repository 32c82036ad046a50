//! Threads and processes: the crashing one, and any that is asked for.

pub(crate) mod crashing;
pub(crate) mod process;
pub(crate) mod thread;
