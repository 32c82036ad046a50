//! stopcode-kernel
