//! The writer against a reader that shares nothing with it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests; a mistake is to fail the test"
)]

mod containers;
mod descriptions;
mod planted;
mod reader;
mod samples;
