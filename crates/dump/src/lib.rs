//! A dump file: the facts of its header, and bytes at the addresses it holds, each miss with its reason.
//!
//! *Promises*: no input makes it panic, loop or allocate beyond a small multiple of the file; what can be read of a
//! damaged file is read, and what cannot is named in [`Dump::problems`]. Small dumps are read whole; of every
//! other kind the header and the map of its pages, and then each page when it is asked for. Memory without a dump header
//! (plain images, ELF cores, firmware's raw dumps) is read where a search finds the kernel in it.
//! *Must never know*: symbols, and structures of the kernel beyond those of the container and the debugger data block.
//!
//! ```no_run
//! use stopcode_base::Memory;
//! let dump = stopcode_dump::Dump::open("MINI.dmp".as_ref())?;
//! println!("{:#x} on build {}", dump.header().bug_check_code, dump.header().minor_version);
//! if let Some(list) = dump.header().ps_loaded_module_list {
//!     println!("{:?}", dump.read_u64(list));
//! }
//! # Ok::<(), stopcode_dump::OpenError>(())
//! ```

mod bytes;
pub mod context;
mod drivers;
mod dump;
mod error;
mod exception;
mod header;
mod kdbg;
mod kind;
mod memory;
mod paged;
pub mod paging;
mod physical;
mod raw;
mod search;
mod secondary;
mod source;
mod triage;

pub use drivers::{Driver, UnloadedDriver};
pub use dump::Dump;
pub use error::{Lookalike, OpenError};
pub use exception::ExceptionRecord;
pub use header::{Attributes, Header};
pub use kdbg::{FieldKind, Kdbg};
pub use kind::{Bits, Kind};
pub use physical::PhysicalMemory;
pub use secondary::{
    Blob, Content, CpuidRecord, CpuidSource, Guid, MemoryDevice, PnpActivity, ProcessorKey, RegistryData,
    RegistryValue, Smbios, TriageDataGroup,
};
pub use source::Source;
pub use triage::{Block, MmStorage, Triage};
