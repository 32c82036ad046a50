//! A PDB of which only what is asked for is read: names, lines and inlined functions of single addresses.

use super::lines::Lines;
use super::pieces::Pieces;
use super::places::Places;
use super::records::{self, Inline, Place, u16_at, u32_at};
use super::{Debug, Msf, PdbError, ReadAt, Reading, annotations};
use crate::buckets::Buckets;
use crate::types::{PdbTypes, Records, Type, TypeId, Types};
use crate::{Found, PdbKey, SymbolTable};
use std::ops::Range;
use std::sync::OnceLock;

const STREAM_INFO: usize = 1;
const STREAM_IDS: usize = 4;
const LF_FUNC_ID: u16 = 0x1601;
const LF_MFUNC_ID: u16 = 0x1602;
const LF_STRING_ID: u16 = 0x1605;

/// A PDB, read as it is asked: a name costs the records of one module, not of all.
///
/// [`super::Pdb`] is the way to all names at once.
#[derive(Debug)]
pub struct PdbFile<S> {
    msf: Msf<S>,
    /// Which image it is for.
    pub key: PdbKey,
    /// `IMAGE_FILE_MACHINE_*`.
    pub machine: u16,
    places: Places,
    /// The list of modules, which the entries refer to.
    list: Vec<u8>,
    modules: Vec<Module>,
    /// By address.
    contributions: Vec<Contribution>,
    buckets: Buckets,
    /// Stream of the global symbol records.
    records: usize,
    publics: OnceLock<SymbolTable>,
    names: OnceLock<Vec<u8>>,
    ids: OnceLock<Option<Records>>,
    types: OnceLock<Option<PdbTypes>>,
}

#[derive(Debug)]
struct Module {
    stream: Option<usize>,
    symbols: usize,
    lines: Range<usize>,
    object: Range<usize>,
    library: Range<usize>,
    loaded: OnceLock<Loaded>,
    read_lines: OnceLock<Lines>,
}

/// The symbols of one module.
#[derive(Debug)]
struct Loaded {
    bytes: Vec<u8>,
    table: SymbolTable,
    pieces: Pieces,
}

/// A piece of the image and the module it came from.
#[derive(Clone, Copy, Debug)]
struct Contribution {
    start: u32,
    size: u32,
    module: u16,
}

/// Where a piece of the image came from, as the linker was given it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleName {
    /// The object file, or the name of a library's member.
    pub object: String,
    /// The library; the object file again if it came from none.
    pub library: String,
}

/// A line of a source file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceLine {
    /// The file as the compiler was given it; data out of a file, never a path to open.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// What the file's content was, if that is told.
    pub checksum: Option<Checksum>,
}

/// The checksum of a source file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Checksum {
    /// 16 bytes.
    Md5(Vec<u8>),
    /// 20 bytes.
    Sha1(Vec<u8>),
    /// 32 bytes.
    Sha256(Vec<u8>),
}

/// A function that an address is in: in its own code, or in code the compiler took into another function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CodeFrame {
    /// Its name; `None` if the PDB does not tell.
    pub function: Option<String>,
    /// The line within it: of the address for the innermost, of the call for those around it.
    pub line: Option<SourceLine>,
    /// True for all but the outermost.
    pub inlined: bool,
}

impl<S: ReadAt> PdbFile<S> {
    /// Reads the headers: which modules there are, and which piece of the image is whose.
    ///
    /// # Errors
    /// If the bytes are no PDB, or nothing in it has a place.
    pub fn open(source: S) -> Result<Self, PdbError> {
        let msf = Msf::parse(source)?;
        let debug = Debug::read(&msf)?;
        let places = Places::read(&msf, &debug.extra).ok_or(PdbError::Stream("list of sections"))?;
        let base = debug.modules.as_ptr().addr();
        let within = |name: &[u8]| {
            let start = name.as_ptr().addr() - base;
            start..start + name.len()
        };
        let modules = records::modules(&debug.modules)
            .map(|module| Module {
                stream: module.stream,
                symbols: module.symbols,
                lines: module.lines,
                object: within(module.object),
                library: within(module.library),
                loaded: OnceLock::new(),
                read_lines: OnceLock::new(),
            })
            .collect();
        let contributions = contributions(&debug.contributions, &places);
        Ok(Self {
            msf,
            key: debug.key,
            machine: debug.machine,
            places,
            modules,
            list: debug.modules,
            buckets: Buckets::new(contributions.iter().map(|piece| piece.start)),
            contributions,
            records: debug.records,
            publics: OnceLock::new(),
            names: OnceLock::new(),
            ids: OnceLock::new(),
            types: OnceLock::new(),
        })
    }

    /// The best name for an address: of a function or variable of the module it came from, else the public symbol before
    /// it. [`Found`] says which, and how far it carries; names that share the address are counted within the module.
    pub fn lookup(&self, rva: u32) -> Option<Found<'_>> {
        let own = self.module(rva).and_then(|module| self.loaded(module).table.lookup(rva));
        own.filter(|found| found.size.is_some() && found.reach.names_the_place())
            .or_else(|| self.publics().lookup(rva))
            .or(own)
    }

    /// The object file and library that the code or data at an address came from.
    pub fn module_at(&self, rva: u32) -> Option<ModuleName> {
        let module = self.module(rva)?;
        let name = |range: &Range<usize>| {
            String::from_utf8_lossy(self.list.get(range.clone()).unwrap_or_default()).into_owned()
        };
        Some(ModuleName { object: name(&module.object), library: name(&module.library) })
    }

    /// The line of an address, in the file that its code was written in. `None` where there is none, and in an image that
    /// was rearranged after linking: lines are told for the code before.
    pub fn line(&self, rva: u32) -> Option<SourceLine> {
        let lines = self.lines(self.module(rva)?);
        let (file, line) = lines.at(rva)?;
        self.source_line(lines, file, line)
    }

    /// Every address at which a line begins.
    pub fn all_lines(&self) -> impl Iterator<Item = (u32, SourceLine)> {
        self.modules.iter().flat_map(|module| {
            let lines = self.lines(module);
            lines.all().filter_map(|(rva, file, line)| Some((rva, self.source_line(lines, file, line)?)))
        })
    }

    /// The functions an address is in, the innermost first: inlined ones, then the one that has the code. Empty where no
    /// function's record covers the address.
    pub fn frames(&self, rva: u32) -> Vec<CodeFrame> {
        let Some(module) = self.module(rva) else { return Vec::new() };
        let (loaded, lines) = (self.loaded(module), self.lines(module));
        let Some(piece) = loaded.pieces.at(rva) else { return Vec::new() };
        let name = loaded.table.lookup(rva).map(|found| found.name.to_owned());
        let mut frames = vec![CodeFrame { function: name, line: self.line(rva), inlined: false }];
        // How many of the sites that are open do not hold the address, and so none within them.
        let mut outside = 0_usize;
        for inline in records::inlines(&loaded.bytes, piece.scope.clone()) {
            match inline {
                Inline::End => outside = outside.saturating_sub(1),
                Inline::Site { .. } if outside > 0 => outside += 1,
                Inline::Site { function, annotations } => {
                    let at = rva - piece.start;
                    let row = annotations::rows(annotations).into_iter().rev().find(|row| {
                        row.piece == piece.number && row.start <= at && row.end.is_some_and(|end| at < end)
                    });
                    let Some(row) = row else {
                        outside += 1;
                        continue;
                    };
                    let line = lines.inlinee(function).and_then(|(file, line)| {
                        let line = u32::try_from(i64::from(line) + row.line).ok()?;
                        self.source_line(lines, row.file.unwrap_or(file), line)
                    });
                    frames.push(CodeFrame { function: self.function(function), line, inlined: true });
                }
            }
        }
        frames.reverse();
        frames
    }

    fn module(&self, rva: u32) -> Option<&Module> {
        let around = self.buckets.around(rva);
        let from = around.start;
        let after = from + self.contributions.get(around)?.partition_point(|piece| piece.start <= rva);
        let piece = self.contributions.get(after.checked_sub(1)?)?;
        self.modules.get(usize::from(piece.module)).filter(|_| rva - piece.start < piece.size)
    }

    fn loaded<'m>(&self, module: &'m Module) -> &'m Loaded {
        module.loaded.get_or_init(|| {
            let stream = module.stream.and_then(|number| self.msf.part(number, 0..module.symbols));
            let bytes = stream.map(|stream| stream.bytes).unwrap_or_default();
            let mut reading = Reading::new(&self.places);
            reading.globals(bytes.get(4..).unwrap_or_default());
            Loaded { table: reading.finish(), pieces: Pieces::of(&bytes, &self.places), bytes }
        })
    }

    fn lines<'m>(&self, module: &'m Module) -> &'m Lines {
        module.read_lines.get_or_init(|| {
            let stream = module.stream.and_then(|number| self.msf.part(number, module.lines.clone()));
            let bytes = stream.map(|stream| stream.bytes).unwrap_or_default();
            Lines::parse(&bytes, |place| self.places.rva(place).filter(|_| !self.places.is_rearranged()))
        })
    }

    fn publics(&self) -> &SymbolTable {
        self.publics.get_or_init(|| {
            let mut reading = Reading::new(&self.places);
            if let Some(stream) = self.msf.stream(self.records) {
                reading.globals(&stream.bytes);
            }
            reading.finish()
        })
    }

    fn source_line(&self, lines: &Lines, file: u32, line: u32) -> Option<SourceLine> {
        let (name, kind, checksum) = lines.file(file)?;
        let rest = self.names().get(name as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let checksum = match kind {
            1 => Some(Checksum::Md5(checksum.to_vec())),
            2 => Some(Checksum::Sha1(checksum.to_vec())),
            3 => Some(Checksum::Sha256(checksum.to_vec())),
            _ => None,
        };
        Some(SourceLine { file: String::from_utf8_lossy(rest.get(..end)?).into_owned(), line, checksum })
    }

    /// The strings that file names are among.
    fn names(&self) -> &[u8] {
        self.names.get_or_init(|| names(&self.msf))
    }

    /// The name of an inlined function, with the class or namespace it is in.
    fn function(&self, number: u32) -> Option<String> {
        let ids = self.ids.get_or_init(|| Some(Records::parse(self.msf.stream(STREAM_IDS)?)?.0)).as_ref()?;
        let (kind, body) = ids.get(number)?;
        let text = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
        };
        let (scope, name) = (u32_at(body, 0)?, text(body.get(8..)?));
        let scope = match kind {
            LF_FUNC_ID => ids
                .get(scope)
                .filter(|(kind, _)| *kind == LF_STRING_ID)
                .and_then(|(_, body)| body.get(4..))
                .map(text),
            LF_MFUNC_ID => {
                let types = self.types.get_or_init(|| PdbTypes::of(&self.msf).ok());
                match types.as_ref()?.get(TypeId(scope)) {
                    Type::Record(record) => Some(record.name),
                    _ => None,
                }
            }
            _ => return None,
        };
        Some(match scope {
            Some(scope) if !scope.is_empty() => format!("{scope}::{name}"),
            _ => name,
        })
    }
}

/// Reads the list of contributions: a version, then 28 bytes each, 32 in the second version.
fn contributions(bytes: &[u8], places: &Places) -> Vec<Contribution> {
    const VERSION_1: u32 = 0xeffe_0000 + 19_970_605;
    const VERSION_2: u32 = 0xeffe_0000 + 20_140_516;
    let each = match u32_at(bytes, 0) {
        Some(VERSION_1) => 28,
        Some(VERSION_2) => 32,
        _ => return Vec::new(),
    };
    // Pieces of an image that was rearranged are no longer pieces.
    if places.is_rearranged() {
        return Vec::new();
    }
    let piece = |raw: &[u8]| {
        let place = Place { section: u16_at(raw, 0)?, offset: u32_at(raw, 4)? };
        Some(Contribution { start: places.rva(place)?, size: u32_at(raw, 8)?, module: u16_at(raw, 16)? })
    };
    let list = bytes.get(4..).unwrap_or_default().chunks_exact(each);
    let mut pieces: Vec<Contribution> = list.filter_map(piece).filter(|piece| piece.size > 0).collect();
    pieces.sort_by_key(|piece| piece.start);
    pieces
}

/// The strings that records refer to, in the stream that is called `/names`.
pub(super) fn names(msf: &Msf<impl ReadAt>) -> Vec<u8> {
    let number = msf.stream(STREAM_INFO).and_then(|info| named_stream(&info.bytes, b"/names"));
    let stream = number.and_then(|number| msf.stream(number as usize));
    let strings = stream.and_then(|stream| {
        let size = u32_at(&stream.bytes, 8)? as usize;
        let rest = stream.bytes.get(12..)?;
        Some(rest.get(..size).unwrap_or(rest).to_vec())
    });
    strings.unwrap_or_default()
}

/// The number of a stream that has a name: a buffer of names, then a hash table with the sets of places that are in use
/// and that were, and for each in use the name's offset and the number.
fn named_stream(info: &[u8], name: &[u8]) -> Option<u32> {
    let size = u32_at(info, 28)? as usize;
    let names = info.get(32..32_usize.checked_add(size)?)?;
    let mut at = 32 + size;
    let count = u32_at(info, at)?;
    at += 8;
    for _ in 0..2 {
        at = at.checked_add(4 + (u32_at(info, at)? as usize).checked_mul(4)?)?;
    }
    info.get(at..)?.chunks_exact(8).take(count as usize).find_map(|pair| {
        let rest = names.get(u32_at(pair, 0)? as usize..)?;
        (rest.strip_prefix(name)?.first() == Some(&0)).then(|| u32_at(pair, 4))?
    })
}
