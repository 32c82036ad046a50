//! stopcode-analysis
