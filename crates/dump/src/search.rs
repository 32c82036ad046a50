//! What a scan of memory finds where nothing tells: top page tables, the kernel's image, its debugger data block.
//!
//! Every scan has a limit, and what it finds must prove itself by its content.

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::kdbg::Kdbg;
use crate::paging::{AddressSpace, EntryKind, Form, Mapping, Paging};
use crate::physical::{PAGE_SIZE, PhysicalMemory};
use std::ops::Range;
use stopcode_base::{Arch, Memory, MissReason, PhysAddr, VirtAddr};

/// Pages in which a top table is looked for, from the lowest on: 256 MiB. The loader puts the first one low.
const MOST_PAGES: u64 = 1 << 16;
/// Pages of virtual memory in which a kernel is looked for.
const MOST_STEPS: u32 = 4 << 20;
/// Bytes of a kernel's image in which the block is looked for.
const MOST_DATA: u64 = 16 << 20;

/// Where every process sees `KUSER_SHARED_DATA`, and what is known of it in all versions.
const SHARED_DATA64: VirtAddr = VirtAddr(0xffff_f780_0000_0000);
const SHARED_DATA32: VirtAddr = VirtAddr(0xffdf_0000);

/// `KUSER_SHARED_DATA`: facts that the kernel shows to every process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SharedData {
    /// Build number; 0 before Windows 10.
    pub(crate) build: u32,
    pub(crate) product_type: u32,
    pub(crate) suite_mask: u32,
    /// FILETIME, and time since start in 100 ns.
    pub(crate) system_time: u64,
    pub(crate) interrupt_time: u64,
}

impl SharedData {
    /// The one that `space` shows, if what lies there is one.
    pub(crate) fn read(space: &AddressSpace<'_>) -> Option<Self> {
        let at = match space.paging() {
            Paging::X86 | Paging::X86Pae => SHARED_DATA32,
            _ => SHARED_DATA64,
        };
        let mut bytes = [0; 0x2d4];
        space.read(at, &mut bytes).ok()?;
        let (major, minor) = (u32_at(&bytes, 0x26c)?, u32_at(&bytes, 0x270)?);
        let root = bytes.get(0x30..0x36)?;
        // NtSystemRoot is a path on a drive: `C:\`.
        let is_path = matches!(root, [b'A'..=b'Z' | b'a'..=b'z', 0, b':', 0, b'\\', 0]);
        if !matches!((major, minor), (5..=6 | 10, 0..=3)) || !is_path {
            return None;
        }
        let time =
            |offset| Some(u64::from(u32_at(&bytes, offset)?) | u64::from(u32_at(&bytes, offset + 4)?) << 32);
        Some(Self {
            build: u32_at(&bytes, 0x260)? & 0xffff,
            product_type: u32_at(&bytes, 0x264)?,
            suite_mask: u32_at(&bytes, 0x2d0)?,
            system_time: time(0x14)?,
            interrupt_time: time(8)?,
        })
    }
}

/// The first top page table, from the lowest page on, that `accept` takes, and its form. A table proves itself by the
/// entry that leads back to it.
pub(crate) fn top_table<'m>(
    memory: &'m dyn PhysicalMemory,
    forms: &[Form],
    accept: impl Fn(&AddressSpace<'m>) -> bool,
) -> Option<AddressSpace<'m>> {
    let wide: Vec<Form> = forms.iter().copied().filter(|form| form.paging.entry_size() == 8).collect();
    let mut page = vec![0; PAGE_SIZE as usize];
    let (mut from, mut read) = (0, 0);
    while let Some((first, count)) = memory.next_run(from) {
        for pfn in first..first.saturating_add(count) {
            if read >= MOST_PAGES {
                return None;
            }
            read += 1;
            let at = PhysAddr(pfn * PAGE_SIZE);
            match memory.read_physical(at, &mut page) {
                Ok(got) if got == page.len() => {}
                // The rest of the run lies behind it in the file.
                Err(MissReason::FileTruncated) => break,
                _ => continue,
            }
            let found = wide
                .iter()
                .filter(|form| shows_itself(**form, at, &page))
                .map(|form| (*form, at))
                .chain(x86_roots(memory, forms, at, &page))
                .map(|(form, root)| AddressSpace::with_form(memory, form, root))
                .find(|space| accept(space));
            if found.is_some() {
                return found;
            }
        }
        from = first.saturating_add(count);
    }
    None
}

/// An entry of the upper half of the 64-bit table `page`, which lies at `at`, leads back to it.
fn shows_itself(form: Form, at: PhysAddr, page: &[u8]) -> bool {
    let level = form.paging.levels();
    let leads_back = |entry: &[u8; 8]| {
        let value = u64::from_le_bytes(*entry);
        // The whole question only where a glance does not answer it.
        value & 0xffff_f001 == at.0 & 0xffff_f000 | 1 && form.kind(level, value) == EntryKind::Valid(at)
    };
    form.paging != Paging::X86Pae && page.as_chunks::<8>().0.iter().skip(0x100).any(leads_back)
}

/// Top tables of x86 in `page`: all of it without PAE, any 32 bytes with.
fn x86_roots(
    memory: &dyn PhysicalMemory,
    forms: &[Form],
    at: PhysAddr,
    page: &[u8],
) -> Vec<(Form, PhysAddr)> {
    let of = |paging| forms.iter().copied().find(move |form| form.paging == paging);
    let mut roots = Vec::new();
    if let Some(form) = of(Paging::X86) {
        let own = u32_at(page, 0x300 * 4).map(|entry| form.kind(2, entry.into()));
        roots.extend((own == Some(EntryKind::Valid(at))).then_some((form, at)));
    }
    if let Some(form) = of(Paging::X86Pae) {
        let starts = (0..PAGE_SIZE).step_by(32).filter(|start| {
            let directory =
                |n: usize| u64_at(page, *start as usize + 8 * n).filter(|entry| entry & 0x1e7 == 1);
            let Some(directories) = (0..4).map(directory).collect::<Option<Vec<u64>>>() else { return false };
            // The last directory maps all four as page tables.
            let mut last = [0; 32];
            let place = PhysAddr(directories.last().copied().unwrap_or(0) & 0x000f_ffff_ffff_f000);
            memory.read_physical(place, &mut last) == Ok(32)
                && directories.iter().enumerate().all(|(n, directory)| {
                    u64_at(&last, 8 * n).is_some_and(|entry| {
                        entry & 1 == 1 && (entry ^ directory) & 0x000f_ffff_ffff_f000 == 0
                    })
                })
        });
        roots.extend(starts.map(|start| (form, at.plus(start))));
    }
    roots
}

/// The kernel's image in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KernelImage {
    pub(crate) base: VirtAddr,
    /// `IMAGE_FILE_MACHINE_*`.
    pub(crate) machine: u32,
    pub(crate) arch: Option<Arch>,
    /// Sections that hold data: where, and how many bytes.
    data: Vec<(VirtAddr, u64)>,
}

/// Looks for the kernel's image where Windows loads it.
pub(crate) fn kernel_image(space: &AddressSpace<'_>) -> Option<KernelImage> {
    let range: Range<u64> = match space.paging() {
        Paging::X86 | Paging::X86Pae => 0x8000_0000..0xffc0_0000,
        _ => 0xffff_f800_0000_0000..0xffff_f880_0000_0000,
    };
    let mut at = range.start;
    for _ in 0..MOST_STEPS {
        if !range.contains(&at) {
            break;
        }
        let step = match space.translate(VirtAddr(at)) {
            Ok(Mapping::Physical(..)) => {
                if let Some(image) = KernelImage::at(space, VirtAddr(at)) {
                    return Some(image);
                }
                PAGE_SIZE
            }
            Err(MissReason::NotMapped { level } | MissReason::TableNotInDump { level }) => {
                space.paging().reach(level)
            }
            _ => PAGE_SIZE,
        };
        at = (at & !(step - 1)).checked_add(step)?;
    }
    None
}

impl KernelImage {
    /// The kernel's image at `base`, if one is there: by its own name, or by sections that no other image has.
    pub(crate) fn at(memory: &dyn Memory, base: VirtAddr) -> Option<Self> {
        const NAMES: [&[u8]; 5] =
            [b"ntoskrnl.exe\0", b"ntkrnlmp.exe\0", b"ntkrnlpa.exe\0", b"ntkrpamp.exe\0", b"ntkrla57.exe\0"];
        const SECTIONS: [&[u8; 8]; 2] = [b"INITKDBG", b"ALMOSTRO"];
        const WRITABLE: u32 = 1 << 31;
        const EXECUTABLE: u32 = 1 << 29;
        if memory.read_u16(base).ok()? != u16::from_le_bytes(*b"MZ") {
            return None;
        }
        let head = memory.read_available(base, PAGE_SIZE as usize);
        let pe = u32_at(&head, 0x3c)? as usize;
        if head.get(pe..pe.checked_add(4)?)? != b"PE\0\0" {
            return None;
        }
        let optional = pe + 0x18;
        let directories = if u16_at(&head, optional)? == 0x20b { 0x70 } else { 0x60 };
        let table = optional + usize::from(u16_at(&head, pe + 0x14)?);
        let sections: Vec<&[u8]> =
            head.get(table..)?.chunks_exact(0x28).take(usize::from(u16_at(&head, pe + 6)?)).collect();
        let exports = u32_at(&head, optional + directories).filter(|rva| *rva != 0);
        let name = exports
            .and_then(|rva| memory.read_u32(base.plus(u64::from(rva) + 0xc)).ok())
            .map(|rva| memory.read_available(base.plus(rva.into()), 16));
        let named = name.is_some_and(|name| NAMES.iter().any(|known| name.starts_with(known)));
        let marked = || sections.iter().any(|section| SECTIONS.iter().any(|name| section.starts_with(*name)));
        if !named && !marked() {
            return None;
        }
        let data = sections.iter().filter_map(|section| {
            let flags = u32_at(section, 0x24)?;
            let place = base.plus(u32_at(section, 0xc)?.into());
            (flags & WRITABLE != 0 && flags & EXECUTABLE == 0)
                .then_some((place, u64::from(u32_at(section, 8)?)))
        });
        let machine = u16_at(&head, pe + 4)?.into();
        Some(Self { base, machine, arch: Arch::from_machine(machine), data: data.collect() })
    }

    /// The base as the block has it: with the sign of an x86 address extended.
    fn extended_base(&self) -> VirtAddr {
        match self.arch {
            Some(Arch::X86) => VirtAddr(i64::from(self.base.0 as i32) as u64),
            _ => self.base,
        }
    }

    /// The debugger data block in the image's data, plain or encoded, and where it lies.
    pub(crate) fn kdbg(&self, memory: &dyn Memory) -> Option<(VirtAddr, Kdbg)> {
        let mut left = MOST_DATA;
        for &(start, size) in &self.data {
            let size = size.min(left);
            left -= size;
            for page in (0..size).step_by(PAGE_SIZE as usize) {
                // Some bytes of the page before, so that a block may begin at a page's end.
                let at = start.plus(page);
                let bytes = memory.read_available(at, PAGE_SIZE as usize + 0x18);
                let (words, _) = bytes.as_chunks::<8>();
                let base = self.extended_base();
                for (window, offset) in words.array_windows::<4>().zip((0_u64..).step_by(8)) {
                    let words = window.map(u64::from_le_bytes);
                    if !Kdbg::may_start_with(words, base) {
                        continue;
                    }
                    let at = at.plus(offset);
                    let block = memory.read_available(at, 0x1000);
                    let kdbg = Kdbg::parse(&block).or_else(|| Kdbg::decode(&block, base));
                    if let Some(kdbg) = kdbg.filter(|kdbg| kdbg.kern_base() == Some(self.base)) {
                        return Some((at, kdbg));
                    }
                }
            }
        }
        None
    }
}
