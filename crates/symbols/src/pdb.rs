//! Program databases: which image one belongs to, and its names.
//!
//! Read by this crate itself, since a PDB is as hostile as a dump and must not panic, print or grow; the tests compare
//! with the crate `pdb2`. Format facts: LLVM's "The PDB File Format"; record numbers: Microsoft's `cvinfo.h`.

mod annotations;
mod file;
mod frames;
mod lines;
mod msf;
mod pieces;
mod places;
mod read_at;
mod records;

use crate::PdbKey;
use crate::kind::SymbolKind;
use crate::table::{How, NewSymbol, SymbolTable, TableBuilder};
pub use file::{Checksum, CodeFrame, ModuleName, PdbFile, SourceLine};
pub use frames::{StackFrame, StackFrames};
pub(crate) use msf::{Msf, Stream};
use places::Places;
pub use read_at::ReadAt;
use records::Record;
pub(crate) use records::{u16_at, u32_at};
use std::collections::BTreeSet;

/// The names of one image out of its PDB.
#[derive(Clone, Debug)]
pub struct Pdb {
    /// Which image it is for: the GUID, and the age that an image's RSDS record repeats.
    pub key: PdbKey,
    /// `IMAGE_FILE_MACHINE_*`: 0x8664 for x64.
    pub machine: u16,
    /// Publics, functions with their sizes and parts, variables.
    pub symbols: SymbolTable,
    /// How many of them are functions with a known size: none in Microsoft's public PDBs.
    pub procedures: usize,
    /// How x86 functions use the stack.
    pub frames: StackFrames,
    /// True if the image was rearranged after linking (OMAP); sizes are not known then.
    pub rearranged: bool,
    /// What could not be read, if anything; all else is in [`Self::symbols`].
    pub damage: Option<String>,
}

/// Why bytes are no PDB that can be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PdbError {
    /// They begin otherwise.
    #[error("no PDB of format 7.00")]
    NotPdb,
    /// The container's directory is broken.
    #[error("the directory of its streams is damaged: {0}")]
    Directory(&'static str),
    /// A stream without which nothing has a place is not there or is cut.
    #[error("its {0} is missing or damaged")]
    Stream(&'static str),
}

/// Stream numbers that are the same in every PDB.
const STREAM_INFO: usize = 1;
const STREAM_DEBUG: usize = 3;

impl Pdb {
    /// Only the identity, without reading any names.
    ///
    /// # Errors
    /// If the bytes are no PDB or the streams that tell are not there.
    pub fn identity(bytes: &[u8]) -> Result<PdbKey, PdbError> {
        let msf = Msf::parse(bytes)?;
        Ok(Debug::read(&msf)?.key)
    }

    /// Reads all names.
    ///
    /// # Errors
    /// If the bytes are no PDB, or nothing in it has a place; else what is damaged is left out and told.
    pub fn parse(bytes: &[u8]) -> Result<Self, PdbError> {
        let msf = Msf::parse(bytes)?;
        let debug = Debug::read(&msf)?;
        let places = Places::read(&msf, &debug.extra).ok_or(PdbError::Stream("list of sections"))?;
        let mut reading = Reading::new(&places);
        match msf.stream(debug.records) {
            Some(stream) => {
                reading.damage = stream.cut.then(|| "the list of public symbols is cut".to_owned());
                reading.globals(&stream.bytes);
            }
            None => reading.damage = Some("there is no list of public symbols".to_owned()),
        }
        reading.modules(&msf, &debug.modules);
        let (procedures, damage) = (reading.procedures, reading.damage.take());
        let symbols = reading.finish();
        Ok(Self {
            key: debug.key,
            machine: debug.machine,
            procedures,
            frames: StackFrames::read(&msf, &debug, &places),
            rearranged: places.is_rearranged(),
            symbols,
            damage,
        })
    }
}

/// What the debug-information stream (DBI) leads to.
struct Debug {
    key: PdbKey,
    machine: u16,
    /// Stream of the global symbol records.
    records: usize,
    modules: Vec<u8>,
    /// Which module each piece of the image came from.
    contributions: Vec<u8>,
    /// Stream numbers of the optional debug header.
    extra: Vec<u16>,
}

impl Debug {
    fn read(msf: &Msf<impl ReadAt>) -> Result<Self, PdbError> {
        let info = msf.part(STREAM_INFO, 0..28).ok_or(PdbError::Stream("identity"))?;
        let guid = info.bytes.get(12..28).and_then(|raw| raw.first_chunk().copied());
        let guid = guid.map(guid_number).ok_or(PdbError::Stream("identity"))?;
        let broken = || PdbError::Stream("debug information");
        let stream = msf.stream(STREAM_DEBUG).ok_or_else(broken)?;
        let head = |at| u32_at(&stream.bytes, at).ok_or_else(broken);
        let short = |at| u16_at(&stream.bytes, at).ok_or_else(broken);
        if head(0)? != u32::MAX {
            return Err(broken());
        }
        // Parts in the order of the file; their sizes stand in the header.
        let sizes = [0x18, 0x1c, 0x20, 0x24, 0x28, 0x34, 0x30].map(head);
        let [modules, contributions, map, sources, types, edit, optional] = sizes;
        let (modules_size, contributions_size) = (modules? as usize, contributions? as usize);
        let after_modules = 0x40_usize.saturating_add(modules_size);
        let at = [contributions_size as u32, map?, sources?, types?, edit?]
            .iter()
            .fold(after_modules, |at, size| at.saturating_add(*size as usize));
        let optional_size = optional? as usize;
        let part = |at: usize, size: usize| {
            let rest = stream.bytes.get(at..).unwrap_or_default();
            rest.get(..size).unwrap_or(rest)
        };
        let extra = part(at, optional_size).chunks_exact(2).filter_map(|raw| u16_at(raw, 0));
        Ok(Self {
            key: PdbKey { guid, age: head(8)? },
            machine: short(0x3a)?,
            records: short(0x14)?.into(),
            modules: part(0x40, modules_size).to_vec(),
            contributions: part(after_modules, contributions_size).to_vec(),
            extra: extra.collect(),
        })
    }
}

/// Gathers symbols from all streams.
struct Reading<'p> {
    places: &'p Places,
    builder: TableBuilder,
    procedures: usize,
    /// Parts of functions: their place and size, and the place of the function they are of.
    parts: Vec<(u32, u32, u32)>,
    damage: Option<String>,
}

impl<'p> Reading<'p> {
    fn new(places: &'p Places) -> Self {
        let builder = TableBuilder::new(How::Public);
        Self { places, builder, procedures: 0, parts: Vec::new(), damage: None }
    }

    /// Public symbols and variables.
    fn globals(&mut self, bytes: &[u8]) {
        for record in records::iter(bytes) {
            self.record(record);
        }
    }

    /// Functions, from the streams of the modules the image was linked of.
    fn modules(&mut self, msf: &Msf<impl ReadAt>, list: &[u8]) {
        // A stream that two modules claim would be read twice, and in a hostile file a million times.
        let mut seen = BTreeSet::new();
        for module in records::modules(list) {
            let Some(number) = module.stream.filter(|number| seen.insert(*number)) else { continue };
            match msf.stream(number) {
                Some(stream) => {
                    let end = module.symbols.min(stream.bytes.len());
                    if stream.cut {
                        self.damage.get_or_insert_with(|| "functions of some modules are cut off".to_owned());
                    }
                    self.globals(stream.bytes.get(4..end).unwrap_or_default());
                }
                None => self.damage = Some("functions of some modules are missing".to_owned()),
            }
        }
    }

    fn record(&mut self, record: Record<'_>) {
        let (place, name, size, kind, how) = match record {
            Record::Public { flags, place, name } => {
                (place, name, 0, self.places.kind(place, flags & 3 != 0, name), How::Public)
            }
            Record::Variable { place, name } => (place, name, 0, SymbolKind::Data, How::Variable),
            Record::Procedure { place, size, name } => (place, name, size, SymbolKind::Code, How::Procedure),
            Record::Part { place, size, whole } => {
                if let (Some(at), Some(whole)) = (self.places.rva(place), self.places.rva(whole)) {
                    self.parts.push((at, size, whole));
                }
                return;
            }
        };
        // Records of what the linker left out have no place.
        let Some(rva) = self.places.rva(place) else { return self.builder.skip() };
        // Where blocks were moved about, a length holds for the layout before.
        let size = if self.places.is_rearranged() { 0 } else { size };
        self.procedures += usize::from(size > 0);
        let name = &*String::from_utf8_lossy(name);
        self.builder.add_symbol(NewSymbol {
            name,
            rva: rva.into(),
            size,
            kind: Some(kind),
            how,
            cold: false,
        });
    }

    /// Names the parts by the functions they are of.
    fn finish(mut self) -> SymbolTable {
        if self.parts.is_empty() {
            return self.builder.finish();
        }
        let table = self.builder.finish();
        let mut builder = table.reopen();
        for (rva, size, whole) in std::mem::take(&mut self.parts) {
            if let Some(found) = table.lookup(whole).filter(|found| found.reach.names_the_place()) {
                builder.add_symbol(NewSymbol {
                    name: found.name,
                    rva: rva.into(),
                    size: if self.places.is_rearranged() { 0 } else { size },
                    kind: Some(SymbolKind::Code),
                    how: How::Procedure,
                    cold: true,
                });
            }
        }
        builder.finish()
    }
}

/// The first three fields of a GUID are numbers, stored little-endian; the rest are bytes.
fn guid_number(raw: [u8; 16]) -> u128 {
    let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7] = raw;
    u128::from_be_bytes([a3, a2, a1, a0, b1, b0, c1, c0, d0, d1, d2, d3, d4, d5, d6, d7])
}
