//! The stopcode command.
fn main() {}
