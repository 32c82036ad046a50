//! stopcode-knowledge
