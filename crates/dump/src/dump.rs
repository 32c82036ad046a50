//! Opening a file, and the dump as a whole.

use crate::bytes::is_zero;
use crate::error::{Lookalike, OpenError};
use crate::header::{Attributes, Header};
use crate::kdbg::Kdbg;
use crate::kind::{Bits, Kind};
use crate::memory::Map;
use crate::paged::Paged;
use crate::paging::{AddressSpace, Form, Paging, SelfMap, Walk};
use crate::physical::PhysicalMemory;
use crate::raw;
use crate::secondary::{self, Blob};
use crate::source::{FileSource, Source, read_full};
use crate::triage::{self, Triage};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use stopcode_base::{Arch, Memory, MissReason, PhysAddr, Problem, Severity, VirtAddr};

/// Bytes read of every dump: the header and the start of the container's own.
const HEAD: usize = 0x3000;
/// Largest small dump that is read.
const LARGEST_TRIAGE: u64 = 512 << 20;
/// Zeros counted at the start of a file that has no signature.
const MOST_ZEROS: u64 = 16 << 20;

/// A kernel dump: the facts of its header, and the memory it holds.
///
/// As [`Memory`], it gives bytes at virtual addresses: a small dump those of the blocks it holds, any other those
/// that the page tables of the crashed processor's context lead to.
#[derive(Debug)]
pub struct Dump {
    bytes: Arc<Vec<u8>>,
    file_size: u64,
    kind: Kind,
    header: Header,
    triage: Option<Triage>,
    paged: Option<Paged>,
    kdbg: Option<Kdbg>,
    secondary: Vec<Blob>,
    problems: Vec<Problem>,
    map: Map,
}

impl Dump {
    /// Opens the dump at `path`. A small dump is read whole; of any other only its header and the map of its
    /// pages, whatever its size. What is not a regular file is refused before it is read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        // Asked before opening, too: to open a pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(OpenError::NotAFile);
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(OpenError::NotAFile);
        }
        let source: Arc<dyn Source> = Arc::new(FileSource::new(file, metadata.len()));
        Self::from_source(&source)
    }

    /// The dump in `bytes`, the contents of a file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, OpenError> {
        let bytes = Arc::new(bytes);
        Self::start(&(Arc::clone(&bytes) as Arc<dyn Source>), Some(bytes))
    }

    /// The dump in `source`, which is read as [`Self::open`] reads a file and kept for later reads.
    pub fn from_source(source: &Arc<dyn Source>) -> Result<Self, OpenError> {
        Self::start(source, None)
    }

    /// `whole` is all of `source`, if it is in memory anyway.
    fn start(source: &Arc<dyn Source>, whole: Option<Arc<Vec<u8>>>) -> Result<Self, OpenError> {
        let size = source.size();
        let head = read_from_start(source.as_ref(), HEAD as u64)?;
        let Some(bits) = signature(&head) else { return Self::without_header(source, head) };
        if !is_read_whole(&head, bits) {
            return Self::new(Arc::new(head), source, bits);
        }
        if size > LARGEST_TRIAGE {
            return Err(OpenError::TooLarge { size, limit: LARGEST_TRIAGE });
        }
        let bytes = match whole {
            Some(bytes) => bytes,
            None => Arc::new(read_from_start(source.as_ref(), LARGEST_TRIAGE)?),
        };
        Self::new(bytes, source, bits)
    }

    /// A machine's memory without a dump header, or the reason why this is none.
    fn without_header(source: &Arc<dyn Source>, head: Vec<u8>) -> Result<Self, OpenError> {
        let size = source.size();
        let zeros = if is_zero(&head) { count_zeros(source.as_ref()) } else { 0 };
        let mut problems = Vec::new();
        // The first page of a machine may be empty; a file that goes on so is no memory.
        let raw = if zeros < size.min(MOST_ZEROS) { raw::open(source, &head, &mut problems) } else { None };
        let Some(raw) = raw else {
            let was_reserved = zeros > 0 && !head.is_empty();
            return Err(if was_reserved { OpenError::Zeros { zeros, size } } else { refuse(&head) });
        };
        Ok(Self {
            bytes: Arc::new(head),
            file_size: size,
            kind: raw.kind,
            header: raw.header,
            triage: None,
            paged: Some(raw.paged),
            kdbg: Some(raw.kdbg),
            secondary: Vec::new(),
            problems,
            map: Map::default(),
        })
    }

    /// `bytes` are the whole file, or its first pages if the kind is not read whole.
    fn new(bytes: Arc<Vec<u8>>, source: &Arc<dyn Source>, bits: Bits) -> Result<Self, OpenError> {
        let mut problems = Vec::new();
        let head = bytes.get(..bits.header_size()).unwrap_or(&bytes);
        let header = Header::parse(head, bits, &mut problems)
            .ok_or(OpenError::TooShort { size: bytes.len() as u64 })?;
        let kind = Kind::of(&bytes, bits);
        let mut dump = Self {
            bytes,
            file_size: source.size(),
            kind,
            header,
            triage: None,
            paged: None,
            kdbg: None,
            secondary: Vec::new(),
            problems,
            map: Map::default(),
        };
        if kind == Kind::Triage {
            dump.read_triage();
        } else if let Some(problem) = dump.only_header() {
            dump.problems.push(problem);
        } else {
            dump.read_pages(source);
        }
        Ok(dump)
    }

    /// Finds the pages and, through them, what the kernel keeps in virtual memory.
    fn read_pages(&mut self, source: &Arc<dyn Source>) {
        let Some(paged) = Paged::open(source, self.kind, &self.header, &self.bytes, &mut self.problems)
        else {
            return;
        };
        self.kdbg = paged.kdbg(&self.header, &mut self.problems);
        self.secondary = paged.secondary(source, &mut self.problems);
        self.paged = Some(paged);
    }

    fn read_triage(&mut self) {
        if self.header.dump_type != Some(4) {
            let what = "DumpType does not say so, but what follows the header is a small dump";
            self.problems.push(Problem::new(Severity::Warning, "dump header, DumpType", what));
        }
        let parsed = triage::parse(&self.bytes, &self.header, &mut self.problems);
        match parsed.end {
            Some(end) => self.secondary = secondary::parse(&self.bytes, end, 0, &mut self.problems),
            // Without the end mark, the dump's own bytes could be taken for what follows it.
            None if (parsed.triage.size_of_dump as usize) < self.bytes.len() => {
                let what = "not looked for: where the dump proper ends is in doubt";
                self.problems.push(Problem::new(Severity::Warning, "secondary data", what));
            }
            None => {}
        }
        self.map = parsed.pieces.into_map();
        self.triage = Some(parsed.triage);
        self.kdbg = parsed.kdbg;
    }

    /// Why there is no more than the header, where there is not.
    fn only_header(&self) -> Option<Problem> {
        let encrypted = self.header.attributes.is_some_and(|a| a.contains(Attributes::ENCRYPTED));
        if encrypted {
            let what = "the dump is encrypted: only its header can be read";
            let problem = Problem::new(Severity::Error, "dump header, Attributes", what);
            let hint = "Decrypt it with the key it was encrypted for, or use a small dump of the same crash.";
            return Some(problem.with_hint(hint));
        }
        if (self.bytes.len() as u64) < self.header.bits.header_size() as u64 {
            let problem =
                Problem::new(Severity::Error, "dump", "cut off inside its header: only some facts are left");
            return Some(problem.with_hint("If this is a copy, copy the original again."));
        }
        if self.kind != Kind::HeaderOnly {
            return None;
        }
        let what = "it holds no memory, only its header";
        let problem = Problem::new(Severity::Warning, "dump", what);
        Some(problem.with_hint("A larger dump of the same crash may be C:\\Windows\\MEMORY.DMP."))
    }

    /// What kind of dump it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// [`Kind::id`] for this dump: `triage64`.
    pub fn kind_id(&self) -> &'static str {
        self.kind.id(self.header.bits)
    }

    /// Size of the file in bytes.
    pub fn file_size(&self) -> u64 {
        self.file_size
    }

    /// Facts of the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The parts of a small dump.
    pub fn triage(&self) -> Option<&Triage> {
        self.triage.as_ref()
    }

    /// The kernel's debugger data block.
    pub fn kdbg(&self) -> Option<&Kdbg> {
        self.kdbg.as_ref()
    }

    /// What is damaged, missing or worth knowing; a bounded number of entries, whatever the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What drivers added to the dump.
    pub fn secondary(&self) -> &[Blob] {
        &self.secondary
    }

    /// Physical memory, for dumps that hold pages: every kind but the small dump.
    pub fn physical(&self) -> Option<&dyn PhysicalMemory> {
        self.paged.as_ref().map(Paged::physical)
    }

    /// The address space that the crashed processor was in, for dumps that hold pages.
    pub fn address_space(&self) -> Option<AddressSpace<'_>> {
        self.paged.as_ref()?.space()
    }

    /// The address space of a process whose `DirectoryTableBase` is `base`, for dumps that hold pages.
    pub fn address_space_at(&self, base: PhysAddr) -> Option<AddressSpace<'_>> {
        self.paged.as_ref().map(|paged| paged.space_at(base))
    }

    /// Walks the page tables for `at`, as `!pte` and `!vtop` do: those of a process whose `DirectoryTableBase` is
    /// `base`, or of the crashed processor. A small dump holds a few entries, at their own virtual addresses, and no
    /// other process'. `None` if the dump does not tell where the tables are.
    pub fn walk(&self, base: Option<PhysAddr>, at: VirtAddr) -> Option<Walk> {
        match &self.paged {
            Some(paged) => paged.walk(base, at),
            None if base.is_none() => Some(self.self_map()?.walk(self, at)),
            None => None,
        }
    }

    /// Where page tables appear in virtual memory: as the debugger data tells, or where it was before that did.
    fn self_map(&self) -> Option<SelfMap> {
        const FIXED: u64 = 0xffff_f680_0000_0000;
        const FIRST_RANDOM: u32 = 14_393;
        let build = self.header.minor_version;
        let kdbg = |name| self.kdbg.as_ref().and_then(|kdbg| kdbg.get(name));
        let paging = match self.header.arch? {
            Arch::X64 if kdbg("PagingLevels") == Some(5) => Paging::X64FiveLevel,
            Arch::X64 => Paging::X64FourLevel,
            Arch::Arm64 => Paging::Arm64,
            Arch::X86 if self.header.pae_enabled == Some(false) => Paging::X86,
            Arch::X86 => Paging::X86Pae,
            _ => return None,
        };
        let form = Form { build, ..Form::new(paging) };
        if paging.entry_size() == 4 || paging == Paging::X86Pae {
            return Some(SelfMap::x86(form));
        }
        let stated = kdbg("PteBase").filter(|base| *base != 0);
        let fixed = (paging == Paging::X64FourLevel && build < FIRST_RANDOM).then_some(FIXED);
        stated.or(fixed).map(|base| SelfMap::new(form, VirtAddr(base)))
    }

    /// Address and size of every run of memory that a small dump holds, in ascending order.
    pub fn memory_runs(&self) -> impl Iterator<Item = (VirtAddr, u64)> {
        self.map.runs()
    }
}

impl Memory for Dump {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        if self.paged.is_some() {
            return self.address_space().ok_or(MissReason::NotInDump)?.read_some(at, buffer);
        }
        let at = match self.header.bits {
            Bits::B64 if !at.is_canonical() => return Err(MissReason::NotCanonical),
            Bits::B64 => at,
            // Debuggers extend the sign of 32-bit addresses.
            Bits::B32 => VirtAddr(at.0 & 0xffff_ffff),
        };
        let bytes = self.map.at(&self.bytes, at)?;
        let count = bytes.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

/// Pointer width by the first eight bytes; `None` if they are not those of a kernel dump.
fn signature(head: &[u8]) -> Option<Bits> {
    match head.get(..8)? {
        b"PAGEDU64" => Some(Bits::B64),
        b"PAGEDUMP" => Some(Bits::B32),
        _ => None,
    }
}

fn is_read_whole(head: &[u8], bits: Bits) -> bool {
    Kind::of(head, bits) == Kind::Triage
}

/// The error for a file that starts with `head`, which is neither a dump nor zeros.
fn refuse(head: &[u8]) -> OpenError {
    match head {
        [] => OpenError::Empty,
        _ if head.len() < 8 && b"PAGEDU".starts_with(head.get(..6).unwrap_or(head)) => {
            OpenError::TooShort { size: head.len() as u64 }
        }
        _ => OpenError::NotADump { what: Lookalike::of(head) },
    }
}

/// Up to `limit` of the first bytes; here an error of the system is one, as nothing can be known of the file.
fn read_from_start(source: &dyn Source, limit: u64) -> io::Result<Vec<u8>> {
    let size = source.size().min(limit);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut got = 0;
    while let Some(rest) = bytes.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match source.read_at(got as u64, rest) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(got);
    Ok(bytes)
}

/// How many of the first bytes are zero, up to the first that is not, the end or [`MOST_ZEROS`].
fn count_zeros(source: &dyn Source) -> u64 {
    let mut buffer = vec![0; 0x1_0000];
    let mut zeros = 0;
    while zeros < MOST_ZEROS {
        let read = read_full(source, zeros, &mut buffer);
        let chunk = buffer.get(..read).unwrap_or_default();
        let here = chunk.iter().take_while(|byte| **byte == 0).count();
        zeros += here as u64;
        if read == 0 || here < read {
            break;
        }
    }
    zeros
}
