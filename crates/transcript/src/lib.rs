//! stopcode-transcript
