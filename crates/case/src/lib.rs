//! stopcode-case
