//! stopcode-commands
