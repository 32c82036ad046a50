//! stopcode-image
