//! stopcode-report
