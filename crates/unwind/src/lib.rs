//! stopcode-unwind
