//! A file mapped into memory, for reads that cost no system call; all `unsafe` of the workspace is here.
//!
//! *Promises*: a file that shrinks while it is mapped never ends the process, and never gives a byte that the caller
//! could take for the file's where whole pages of it are gone: [`Map::read`] then answers `None`, from then on for
//! every read, and the caller reads the file by position, which tells how long it now is. Should the file be cut inside
//! a page, the system shows zeros up to that page's end and nobody can tell.
//! *Must never know*: dumps.
//!
//! Linux only: elsewhere [`Map::new`] is [`std::io::ErrorKind::Unsupported`], and callers read by position.
//!
//! # How it stays safe
//! Touching a page of a mapping that lies past the end of its file raises SIGBUS. A handler, installed with the first
//! mapping, looks whether the address lies in one of ours, kept in a fixed table of atomics. If so it marks the mapping
//! torn, puts a page of zeros in place of the missing one and returns: the copy that was under way ends, and the reader
//! sees the mark after it. Any other SIGBUS goes to the handler that was there before.
//!
//! The bytes may change while they are read, as another process may write to the file. They are therefore copied out
//! through a raw pointer, and no reference to them is ever made.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::Map;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::Map;
