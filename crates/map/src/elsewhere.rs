//! Systems on which no file is mapped.

use std::convert::Infallible;
use std::fs::File;
use std::io;

/// A mapping; here there is none.
#[derive(Debug)]
pub struct Map(Infallible);

impl Map {
    /// # Errors
    /// Always: no file is mapped on this system.
    pub fn new(_file: &File, _size: u64) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called, as there is no mapping.
    pub fn read(&self, _offset: u64, _buffer: &mut [u8]) -> Option<usize> {
        match self.0 {}
    }
}
