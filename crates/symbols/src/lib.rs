//! stopcode-symbols
