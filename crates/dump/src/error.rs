//! Why a file is not a dump that can be read, and what its owner can do.

use std::fmt;
use std::io;

/// Why a file could not be opened as a kernel dump.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file starts with zeros where a dump has its signature: space that was reserved and never written.
    #[error("the first {zeros} of {size} bytes are all zero: the dump was never written")]
    Zeros {
        /// Zero bytes counted from the start (counting stops at 16 MiB).
        zeros: u64,
        /// Size of the file.
        size: u64,
    },
    /// The file is something else.
    #[error("not a kernel dump: {what}")]
    NotADump {
        /// What it looks like.
        what: Lookalike,
    },
    /// A dump whose header ends before its stop code.
    #[error("the dump is cut off after {size} bytes, before its stop code")]
    TooShort {
        /// Size of the file.
        size: u64,
    },
    /// A directory, pipe, device or socket.
    #[error("not a regular file")]
    NotAFile,
    /// A minidump larger than any that Windows writes.
    #[error("a small dump of {size} bytes: larger than the {limit} bytes we read")]
    TooLarge {
        /// Size of the file.
        size: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// The file could not be read.
    #[error("the file could not be read: {0}")]
    Io(#[from] io::Error),
}

impl OpenError {
    /// What the owner of the file can do about it, in a sentence or two.
    pub fn hint(&self) -> &str {
        match self {
            Self::Empty => {
                "Windows made the file and never filled it: the machine lost power or its disk did not answer. \
                 Look for other dumps of the same crash, in C:\\Windows\\Minidump and C:\\Windows\\MEMORY.DMP."
            }
            Self::Zeros { .. } => {
                "Windows reserved the space and the contents never reached the disk, as when power is lost or the \
                 disk fails during the crash. Use another dump. If it happens again, check the disk and its cable, \
                 and keep a page file on the system drive: the dump passes through it."
            }
            Self::NotADump { what } => what.hint(),
            Self::TooShort { .. } => "The copy or upload was cut off. Copy the original file again.",
            Self::NotAFile => "Give the path of a .dmp file.",
            Self::TooLarge { .. } => {
                "A small dump has a few megabytes. Whatever follows in this file is not part of the dump."
            }
            Self::Io(_) => {
                "Dumps in C:\\Windows\\Minidump belong to the system: copy the file to your own folder first \
                 (as administrator), and check that the path is right."
            }
        }
    }
}

/// What a file that is no kernel dump looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Lookalike {
    /// A zip archive.
    Zip,
    /// A cabinet, as `.dump /b` and Windows Error Reporting write.
    Cab,
    /// A gzip file.
    Gzip,
    /// A 7-Zip archive.
    SevenZip,
    /// A RAR archive.
    Rar,
    /// An xz file.
    Xz,
    /// A Zstandard file.
    Zstd,
    /// `MDMP`: the minidump of a user-mode program.
    UserMinidump,
    /// `Raw_Dmp!`: a raw dump that firmware wrote.
    UefiRaw,
    /// An ELF file: a Linux program, or a virtual machine's core.
    Elf,
    /// A Windows program or driver.
    PortableExecutable,
    /// `hibr`, `wake` and their like: a hibernation file.
    Hibernation,
    /// An event trace, as `LiveKernelEvent` and WPA use.
    EventLog,
    /// Readable text.
    Text,
    /// None of these.
    Unknown,
}

impl Lookalike {
    /// What a file that starts with `head` looks like.
    pub(crate) fn of(head: &[u8]) -> Self {
        const SIGNATURES: &[(&[u8], Lookalike)] = &[
            (b"PK\x03\x04", Lookalike::Zip),
            (b"PK\x05\x06", Lookalike::Zip),
            (b"MSCF", Lookalike::Cab),
            (b"\x1f\x8b", Lookalike::Gzip),
            (b"7z\xbc\xaf\x27\x1c", Lookalike::SevenZip),
            (b"Rar!\x1a\x07", Lookalike::Rar),
            (b"\xfd7zXZ\0", Lookalike::Xz),
            (b"\x28\xb5\x2f\xfd", Lookalike::Zstd),
            (b"MDMP", Lookalike::UserMinidump),
            (b"Raw_Dmp!", Lookalike::UefiRaw),
            (b"\x7fELF", Lookalike::Elf),
            (b"MZ", Lookalike::PortableExecutable),
            (b"hibr", Lookalike::Hibernation),
            (b"HIBR", Lookalike::Hibernation),
            (b"wake", Lookalike::Hibernation),
            (b"WAKE", Lookalike::Hibernation),
            (b"RSTR", Lookalike::Hibernation),
            (b"ElfFile\0", Lookalike::EventLog),
        ];
        SIGNATURES
            .iter()
            .find_map(|(signature, what)| head.starts_with(signature).then_some(*what))
            .unwrap_or_else(|| if is_text(head) { Self::Text } else { Self::Unknown })
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Zip | Self::Cab | Self::Gzip | Self::SevenZip | Self::Rar | Self::Xz | Self::Zstd => {
                "Unpack it and give the .dmp file inside."
            }
            Self::UserMinidump => {
                "This is the dump of one program, not of Windows. The dumps of a blue screen are in \
                 C:\\Windows\\Minidump and C:\\Windows\\MEMORY.DMP."
            }
            Self::UefiRaw => {
                "No Windows kernel was found in the memory it holds. Use another dump of the same crash."
            }
            Self::Elf => {
                "If it is the core of a virtual machine, no Windows kernel was found in it: take it without paging \
                 (dump-guest-memory without -p), or convert it with elf2dmp."
            }
            Self::Text => "Text copied out of WinDbg can be analysed as text.",
            Self::PortableExecutable | Self::Hibernation | Self::EventLog | Self::Unknown => {
                "Give a .dmp file from C:\\Windows\\Minidump, or C:\\Windows\\MEMORY.DMP."
            }
        }
    }
}

/// Text in UTF-8 or UTF-16, judged by its first bytes.
fn is_text(head: &[u8]) -> bool {
    let sample = head.get(..512).unwrap_or(head);
    let printable = |b: &u8| matches!(*b, 9 | 10 | 13 | 32..=126) || *b >= 0x80;
    match sample {
        [] => false,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0xef, 0xbb, 0xbf, ..] => true,
        // A cut in the middle of a character is no error.
        _ => {
            sample.iter().all(printable)
                && std::str::from_utf8(sample).map_or_else(|e| e.error_len().is_none(), |_| true)
        }
    }
}

impl fmt::Display for Lookalike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "a zip archive",
            Self::Cab => "a cabinet (.cab)",
            Self::Gzip => "a gzip file",
            Self::SevenZip => "a 7-Zip archive",
            Self::Rar => "a RAR archive",
            Self::Xz => "an xz file",
            Self::Zstd => "a Zstandard file",
            Self::UserMinidump => "the minidump of a user-mode program",
            Self::UefiRaw => "a raw dump written by firmware",
            Self::Elf => "an ELF file",
            Self::PortableExecutable => "a Windows program or driver",
            Self::Hibernation => "a hibernation file",
            Self::EventLog => "a Windows event log",
            Self::Text => "text",
            Self::Unknown => "no known signature",
        })
    }
}
