//! Opening a file, and the dump as a whole.

use crate::bytes::is_zero;
use crate::error::{Lookalike, OpenError};
use crate::header::{Attributes, Header};
use crate::kdbg::Kdbg;
use crate::kind::{Bits, Kind};
use crate::memory::Map;
use crate::secondary::{self, Blob};
use crate::triage::{self, Triage};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use stopcode_base::{Memory, MissReason, Problem, Severity, VirtAddr};

/// Bytes read of a dump that is not read whole: the header and the start of the container's own.
const HEAD: usize = 0x3000;
/// Largest small dump that is read.
const LARGEST_TRIAGE: u64 = 512 << 20;
/// Zeros counted at the start of a file that has no signature.
const MOST_ZEROS: u64 = 16 << 20;

/// A kernel dump: the facts of its header and, for 64-bit small dumps, all it holds.
///
/// As [`Memory`], it gives the bytes that the dump places at virtual addresses.
#[derive(Debug)]
pub struct Dump {
    bytes: Arc<Vec<u8>>,
    file_size: u64,
    kind: Kind,
    header: Header,
    triage: Option<Triage>,
    kdbg: Option<Kdbg>,
    secondary: Vec<Blob>,
    problems: Vec<Problem>,
    map: Map,
}

impl Dump {
    /// Opens the dump at `path`. A 64-bit small dump is read whole; of any other only the first pages, whatever its
    /// size. What is not a regular file is refused before it is read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        // Asked before opening, too: to open a pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(OpenError::NotAFile);
        }
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(OpenError::NotAFile);
        }
        let size = metadata.len();
        let mut bytes = Vec::new();
        read_up_to(&mut file, HEAD as u64, &mut bytes)?;
        let bits = match signature(&bytes) {
            Some(bits) => bits,
            None if !bytes.is_empty() && is_zero(&bytes) => {
                let zeros = bytes.len() as u64 + count_zeros(&mut file)?;
                return Err(OpenError::Zeros { zeros, size: size.max(zeros) });
            }
            None => return Err(refuse(&bytes)),
        };
        if is_read_whole(&bytes, bits) {
            if size > LARGEST_TRIAGE {
                return Err(OpenError::TooLarge { size, limit: LARGEST_TRIAGE });
            }
            bytes.reserve_exact(usize::try_from(size).unwrap_or(0).saturating_sub(bytes.len()));
            read_up_to(&mut file, LARGEST_TRIAGE - bytes.len() as u64, &mut bytes)?;
        }
        Self::new(bytes, size, bits)
    }

    /// The dump in `bytes`, the contents of a file.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Result<Self, OpenError> {
        let size = bytes.len() as u64;
        let Some(bits) = signature(&bytes) else {
            let head = bytes.get(..HEAD).unwrap_or(&bytes);
            if bytes.is_empty() || !is_zero(head) {
                return Err(refuse(&bytes));
            }
            let limit = bytes.get(..MOST_ZEROS as usize).unwrap_or(&bytes);
            let zeros = limit.iter().take_while(|byte| **byte == 0).count() as u64;
            return Err(OpenError::Zeros { zeros, size });
        };
        if !is_read_whole(&bytes, bits) {
            bytes.truncate(HEAD);
        } else if size > LARGEST_TRIAGE {
            return Err(OpenError::TooLarge { size, limit: LARGEST_TRIAGE });
        }
        Self::new(bytes, size, bits)
    }

    /// `bytes` are the whole file, or its first pages if the kind is not read whole.
    fn new(bytes: Vec<u8>, file_size: u64, bits: Bits) -> Result<Self, OpenError> {
        let bytes = Arc::new(bytes);
        let mut problems = Vec::new();
        let head = bytes.get(..bits.header_size()).unwrap_or(&bytes);
        let header = Header::parse(head, bits, &mut problems)
            .ok_or(OpenError::TooShort { size: bytes.len() as u64 })?;
        let kind = Kind::of(&bytes, bits);
        let mut dump = Self {
            bytes,
            file_size,
            kind,
            header,
            triage: None,
            kdbg: None,
            secondary: Vec::new(),
            problems,
            map: Map::default(),
        };
        if kind == Kind::Triage && bits == Bits::B64 {
            dump.read_triage();
        } else {
            dump.explain_unread();
        }
        Ok(dump)
    }

    fn read_triage(&mut self) {
        if self.header.dump_type != Some(4) {
            let what = "DumpType does not say so, but what follows the header is a small dump";
            self.problems.push(Problem::new(Severity::Warning, "dump header, DumpType", what));
        }
        let parsed = triage::parse(&self.bytes, &self.header, &mut self.problems);
        match parsed.end {
            Some(end) => self.secondary = secondary::parse(&self.bytes, end, &mut self.problems),
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

    /// Says why there is no more than the header.
    fn explain_unread(&mut self) {
        let encrypted = self.header.attributes.is_some_and(|a| a.contains(Attributes::ENCRYPTED));
        let problem = if encrypted {
            Problem::new(
                Severity::Error,
                "dump header, Attributes",
                "the dump is encrypted: only its header can be read",
            )
            .with_hint("Decrypt it with the key it was encrypted for, or use a small dump of the same crash.")
        } else if (self.bytes.len() as u64) < self.header.bits.header_size() as u64 {
            Problem::new(Severity::Error, "dump", "cut off inside its header: only some facts are left")
                .with_hint("If this is a copy, copy the original again.")
        } else {
            let bits = if self.header.bits == Bits::B64 { "64-bit" } else { "32-bit" };
            let what = format!(
                "a {bits} {}: recognised, but its memory is not readable yet; only its header is",
                self.kind
            );
            Problem::new(Severity::Warning, "dump", what)
                .with_hint("A small dump of the same crash is likely in C:\\Windows\\Minidump.")
        };
        self.problems.push(problem);
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

    /// The parts of a 64-bit small dump.
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

    /// Address and size of every run of memory that the dump holds, in ascending order.
    pub fn memory_runs(&self) -> impl Iterator<Item = (VirtAddr, u64)> {
        self.map.runs()
    }
}

impl Memory for Dump {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        if self.header.bits == Bits::B64 && !at.is_canonical() {
            return Err(MissReason::NotCanonical);
        }
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
    bits == Bits::B64 && Kind::of(head, bits) == Kind::Triage
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

fn read_up_to(file: &mut File, limit: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    file.take(limit).read_to_end(bytes).map(|_| ())
}

/// How many of the next bytes are zero, up to the first that is not, the end or [`MOST_ZEROS`].
fn count_zeros(file: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; 0x1_0000];
    let mut zeros = 0;
    while zeros < MOST_ZEROS {
        let read = file.read(&mut buffer)?;
        let chunk = buffer.get(..read).unwrap_or_default();
        let here = chunk.iter().take_while(|byte| **byte == 0).count();
        zeros += here as u64;
        if read == 0 || here < read {
            break;
        }
    }
    Ok(zeros)
}
