//! Every container a described machine can be written into.
//!
//! Headers as the public readers of these containers have them; see `physical` for the memory itself. Pages that were
//! never written to take no memory here and, on a file system that can leave holes, no room in the file.

mod bitmap;
mod elf;
mod ranges;
mod uefi;

use crate::machine::{Arch, Machine};
use crate::physical::{self, PAGE_SIZE, Physical};
use crate::record::Record;
use crate::triage::header_size;
use crate::{Error, blobs, kdbg, memory, triage};
use std::io::{Cursor, Seek, SeekFrom, Write};

/// Bit of the header's attributes: written from a live system.
const LIVE: u32 = 1 << 4;

/// A container to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// DumpType 1: a complete dump, pages in runs.
    Full,
    /// DumpType 2: the kernel dump of Windows XP to 7, behind a bitmap of its own.
    Summary,
    /// DumpType 3: a header and nothing else.
    Header,
    /// DumpType 4: the small dump.
    Triage,
    /// DumpType 5: a complete dump behind a bitmap.
    BitmapFull,
    /// DumpType 6: a kernel dump behind a bitmap.
    BitmapKernel,
    /// DumpType 7: the same, with the number that Windows uses for the setting.
    Automatic,
    /// DumpType 8: a kernel dump as newer debuggers write it.
    RdmpKernel,
    /// DumpType 9: kernel and user memory as newer debuggers write it.
    RdmpUser,
    /// DumpType 10: a complete dump as newer debuggers write it.
    RdmpFull,
    /// DumpType 6 of a system that went on running.
    Live,
    /// Physical memory from address 0 on, and nothing else; the debugger data is as the running kernel keeps it.
    Raw,
    /// The ELF core that QEMU's `dump-guest-memory` writes.
    QemuElf,
    /// The form that firmware writes: `Raw_Dmp!`.
    Uefi,
}

impl Kind {
    /// Every kind: by the number of their type, then those without one.
    pub const ALL: [Self; 14] = [
        Self::Full,
        Self::Summary,
        Self::Header,
        Self::Triage,
        Self::BitmapFull,
        Self::BitmapKernel,
        Self::Automatic,
        Self::RdmpKernel,
        Self::RdmpUser,
        Self::RdmpFull,
        Self::Live,
        Self::Raw,
        Self::QemuElf,
        Self::Uefi,
    ];

    /// The word for it on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "complete",
            Self::Summary => "summary",
            Self::Header => "header",
            Self::Triage => "triage",
            Self::BitmapFull => "bitmap-full",
            Self::BitmapKernel => "bitmap-kernel",
            Self::Automatic => "automatic",
            Self::RdmpKernel => "rdmp-kernel",
            Self::RdmpUser => "rdmp-user",
            Self::RdmpFull => "rdmp-complete",
            Self::Live => "live-kernel",
            Self::Raw => "raw",
            Self::QemuElf => "qemu-elf",
            Self::Uefi => "uefi",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// DumpType as the header records it; zero for what has no such header.
    #[must_use]
    pub const fn dump_type(self) -> u32 {
        match self {
            Self::Full => 1,
            Self::Summary => 2,
            Self::Header => 3,
            Self::Triage => 4,
            Self::BitmapFull => 5,
            Self::BitmapKernel | Self::Live => 6,
            Self::Automatic => 7,
            Self::RdmpKernel => 8,
            Self::RdmpUser => 9,
            Self::RdmpFull => 10,
            Self::Raw | Self::QemuElf | Self::Uefi => 0,
        }
    }

    /// True where Windows, its debuggers or the machines it runs on write this kind for `arch`, and so does this crate.
    /// Of 32 bits neither newer debuggers' dumps nor firmware's are documented; QEMU's form is written for x64 only.
    #[must_use]
    pub const fn is_of(self, arch: Arch) -> bool {
        match self {
            Self::RdmpKernel | Self::RdmpUser | Self::RdmpFull | Self::Uefi => !matches!(arch, Arch::X86),
            Self::QemuElf => matches!(arch, Arch::X64),
            _ => true,
        }
    }

    /// True for an image of physical memory without a dump header: no kernel has prepared it for debuggers.
    const fn is_image(self) -> bool {
        matches!(self, Self::Raw | Self::QemuElf | Self::Uefi)
    }
}

/// Writes the machine as a dump of this kind into memory.
///
/// # Errors
/// As [`write_to`].
pub fn write(machine: &Machine, kind: Kind) -> Result<Vec<u8>, Error> {
    let mut out = Cursor::new(Vec::new());
    write_to(machine, kind, &mut out)?;
    Ok(out.into_inner())
}

/// Writes the machine as a dump of this kind, from the start of `out`, which is empty.
///
/// What a small dump holds in blocks, the others hold in pages, under page tables that lead to them: those that
/// [`Machine::pages`] describes as they are described, and made-up ones for all else. Pages of installed memory that
/// nothing was written to are left out of `out` by seeking over them.
///
/// # Errors
/// If the description contradicts itself, lacks a part that no dump is without, or does not fit the container;
/// [`Error`] names it. [`Error::File`] if `out` cannot be written.
pub fn write_to(machine: &Machine, kind: Kind, out: &mut (impl Write + Seek)) -> Result<(), Error> {
    let mut out = Out(out);
    if !kind.is_of(machine.arch) {
        return Err(Error::Contradiction(format!(
            "the kind {} is not written for this processor",
            kind.name()
        )));
    }
    if kind == Kind::Triage {
        return out.bytes(&triage::write(machine)?);
    }
    if kind == Kind::Header {
        return out.bytes(&header(machine, kind, header_size(machine.arch) as u64)?.into_bytes());
    }
    let (image, layout) = memory::of(machine)?;
    let block = kdbg::block(machine, &layout)?;
    let block = if kind.is_image() { kdbg::encode(machine, block)? } else { block };
    let pages = physical::build(machine, &layout, &image, &block)?;
    match kind {
        Kind::Raw => return raw(&pages, &mut out),
        Kind::QemuElf => return elf::write(machine, &pages, &mut out),
        Kind::Uefi => return uefi::write(machine, &pages, &mut out),
        _ => {}
    }
    let mut header = header(machine, kind, 0)?;
    let body = match kind {
        Kind::Full => {
            ranges::in_header(machine.arch, &mut header, &pages)?;
            Vec::new()
        }
        Kind::Summary => bitmap::old(machine.arch, &pages)?,
        Kind::BitmapFull => bitmap::new(machine.arch, &pages, *b"FDMP")?,
        Kind::BitmapKernel | Kind::Automatic | Kind::Live => bitmap::new(machine.arch, &pages, *b"SDMP")?,
        _ => ranges::rdmp(&pages, kind == Kind::RdmpFull)?,
    };
    let first = (header_size(machine.arch) + body.len()) as u64;
    header.u64(0xfa0, first + pages.count() * PAGE_SIZE as u64);
    out.bytes(&header.into_bytes())?;
    out.bytes(&body)?;
    pages.for_each_written(|rank, _, page| out.at(first + rank * PAGE_SIZE as u64, page))?;
    out.at(first + pages.count() * PAGE_SIZE as u64, &blobs::chain(machine))
}

/// The dump header with its type.
fn header(machine: &Machine, kind: Kind, size: u64) -> Result<Record, Error> {
    let (dump_type, parts, attributes) = match machine.arch {
        Arch::X64 | Arch::Arm64 => (0xf98, 0x1038, 0x1050),
        Arch::X86 => (0xf88, 0xf8c, 0x8a0),
    };
    let mut header = Record::filled(header_size(machine.arch), *b"PAGE");
    header.put(0, &triage::header(machine, 0)?);
    header.u32(dump_type, kind.dump_type()).put(parts, b"PAGE").u64(0xfa0, size);
    if kind == Kind::Live {
        header.u32(attributes, LIVE);
    }
    Ok(header)
}

/// Physical memory as it lies; what is not present reads as zeros. The first page holds what firmware leaves there: the
/// vectors of real mode, all at the dummy handler of a PC.
fn raw(pages: &Physical, out: &mut Out<'_, impl Write + Seek>) -> Result<(), Error> {
    const DUMMY_HANDLER: u32 = 0xf000_ff53;
    let vectors = std::iter::repeat_n(DUMMY_HANDLER, 256).flat_map(u32::to_le_bytes);
    out.bytes(&vectors.collect::<Vec<u8>>())?;
    pages.for_each_written(|_, pfn, page| out.at(pfn * PAGE_SIZE as u64, page))?;
    out.end(pages.end() * PAGE_SIZE as u64)
}

/// What is written to, with errors of this crate.
struct Out<'a, W>(&'a mut W);

impl<W: Write + Seek> Out<'_, W> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.write_all(bytes).map_err(failed)
    }

    fn at(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.0.seek(SeekFrom::Start(at)).map_err(failed)?;
        self.bytes(bytes)
    }

    /// Makes the output `size` bytes long, if it is shorter.
    fn end(&mut self, size: u64) -> Result<(), Error> {
        let now = self.0.seek(SeekFrom::End(0)).map_err(failed)?;
        if now < size { self.at(size - 1, &[0]) } else { Ok(()) }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn failed(error: std::io::Error) -> Error {
    Error::File { path: "the dump".to_owned(), reason: error.to_string() }
}
