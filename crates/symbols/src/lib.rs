//! Names and layouts for Windows kernels: symbol tables, structure layouts, and which kernel a dump is of.
//!
//! *Promises*: a name comes with how sure it is, and never silently from a far neighbour; an offset comes with the
//! kernel it was taken from, and is withheld where the dump contradicts it; a kernel is recognised or it is not,
//! there is no guess. Nothing panics or grows without bound on any input. Only [`SymbolSource`] and
//! [`Store`] touch files, and nothing here touches a network: [`Fetch`] says what to ask, and a host's [`Transport`] asks.
//! *Must never know*: dumps, unwinding, what an analysis concludes.
//!
//! Names come from PDBs ([`Pdb`]), Volatility's tables ([`Isf`]) and images ([`exports()`]), all as a [`SymbolTable`]; lines and
//! inlined functions, and single names at little cost, from [`PdbFile`];
//! types from PDBs ([`PdbTypes`]), tables ([`IsfTypes`]) and the built-in layouts ([`BuiltinTypes`]), all as [`Types`].

mod buckets;
mod cache;
mod demangle;
mod exports;
mod fetch;
mod field;
mod fingerprint;
mod isf;
mod kdbg;
mod key;
mod kind;
mod layout;
mod name_pack;
mod names;
mod pack;
mod pdb;
mod source;
mod store;
mod table;
#[cfg(test)]
mod testing;
mod types;

pub use demangle::{declaration, demangle, windbg_literal};
pub use exports::exports;
pub use fetch::{
    Body, Fetch, FetchError, FetchEvent, Fetched, Head, Limits, Next, Online, Reply, Request, Transport,
};
pub use field::Field;
pub use fingerprint::{Best, Identification, KernelBuild, Pointer, identify, kernel_builds};
pub use isf::{Isf, IsfError, unpack_xz};
pub use kdbg::{KdbgOffset, OFFSETS as KDBG_OFFSETS, symbol_names};
pub use key::PdbKey;
pub use kind::SymbolKind;
pub use layout::{KnownOffset, Layout, Layouts, NoLayout, Sizes, Wanted};
pub use name_pack::{NamePack, NamePackError, NamePackWriter, PackedBuild, Packing};
pub use names::Wanted as WantedImage;
pub use pdb::{
    Checksum, CodeFrame, ModuleName, Pdb, PdbError, PdbFile, ReadAt, SourceLine, StackFrame, StackFrames,
};
pub use source::{
    Candidate, ImageNames, MICROSOFT, Progress, Recognized, SourceError, SymbolSource, default_cache,
};
pub use store::{Place, Store, StoreFile, SymbolPath, unpack_cab};
pub use table::{Found, How, NewSymbol, Reach, SymbolTable, TableBuilder};
pub use types::{
    Base, BaseKind, BuiltinTypes, Dt, Enum, IsfTypes, Line, Listing, Member, Members, PdbTypes, Record,
    RecordKind, Role, Text, Type, TypeId, Types, Value, declared,
};
