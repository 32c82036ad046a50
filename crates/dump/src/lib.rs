//! stopcode-dump
