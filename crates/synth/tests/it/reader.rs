//! A little reader of small dumps with every offset written out by hand, so that a mistake in the writer's tables is
//! not repeated here. Offsets: mindumpdef.h, wdbgexts.h, and the public symbols of the two builds.

use std::path::PathBuf;
use stopcode_synth::Machine;

pub(crate) struct Dump {
    pub(crate) file: Vec<u8>,
    /// Address, file offset, size.
    pub(crate) blocks: Vec<(u64, usize, usize)>,
}

pub(crate) fn sample_path(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples")).join(file)
}

pub(crate) fn sample(name: &str) -> Machine {
    Machine::read(&sample_path(&format!("{name}.json"))).unwrap()
}

pub(crate) const SAMPLES: [&str; 3] = ["seed-double-fault", "driver-null-write", "memory-bit-flip"];
/// Those whose stacks are described, not recorded.
pub(crate) const INVENTED: [&str; 2] = ["driver-null-write", "memory-bit-flip"];

impl Dump {
    pub(crate) fn new(file: Vec<u8>) -> Self {
        assert_eq!(&file[..8], b"PAGEDU64");
        let mut dump = Self { file, blocks: Vec::new() };
        let (table, count) = (dump.u32(0x2078) as usize, dump.u32(0x207c) as usize);
        for row in (0..count).map(|n| table + 16 * n) {
            let block = (dump.u64(row), dump.u32(row + 8) as usize, dump.u32(row + 12) as usize);
            dump.blocks.push(block);
        }
        dump
    }

    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.file[at..at + 2].try_into().unwrap())
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.file[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.file[at..at + 8].try_into().unwrap())
    }

    /// File offset of a virtual address whose `size` bytes are there.
    pub(crate) fn place(&self, address: u64, size: usize) -> Option<usize> {
        let inside = |(at, offset, length): &(u64, usize, usize)| {
            let from = usize::try_from(address.checked_sub(*at)?).ok()?;
            (from + size <= *length).then_some(offset + from)
        };
        self.blocks.iter().find_map(inside)
    }

    pub(crate) fn word(&self, address: u64) -> Option<u64> {
        self.place(address, 8).map(|at| self.u64(at))
    }

    /// The self-mapped entries of an address: PTE, PDE, PPE, PXE.
    pub(crate) fn tables(&self, pte_base: u64, address: u64) -> [Option<u64>; 4] {
        let mut at = address;
        [(); 4].map(|()| {
            at = pte_base + ((at & 0xffff_ffff_ffff) >> 12) * 8;
            self.word(at)
        })
    }

    pub(crate) fn kdbg(&self) -> usize {
        self.u32(0x2070) as usize
    }

    /// Load addresses, sizes, time stamps and paths of the driver list.
    pub(crate) fn modules(&self) -> Vec<(u64, u32, u32, String)> {
        let (list, count) = (self.u32(0x2030) as usize, self.u32(0x2034) as usize);
        let one = |n| {
            let entry = list + 0x90 * n;
            let name = self.u32(entry) as usize;
            let length = self.u32(name) as usize;
            let text: Vec<u16> = (0..length).map(|c| self.u16(name + 4 + 2 * c)).collect();
            assert_eq!(self.u16(name + 4 + 2 * length), 0, "strings end in a zero");
            let text = String::from_utf16(&text).unwrap();
            (self.u64(entry + 0x38), self.u32(entry + 0x48), self.u32(entry + 0x88), text)
        };
        (0..count).map(one).collect()
    }

    /// File offsets of the KPRCBs in the order of `KiProcessorBlock`.
    pub(crate) fn processors(&self) -> Vec<usize> {
        let array = self.u64(self.kdbg() + 0x218);
        let size = usize::from(self.u16(self.kdbg() + 0x2b0));
        let count = u64::from(self.u32(0x34));
        (0..count).map(|n| self.place(self.word(array + 8 * n).unwrap(), size).unwrap()).collect()
    }

    /// What every small dump keeps to, whatever it tells.
    pub(crate) fn check(&self) {
        let at = |field: usize| self.u32(field) as usize;
        assert_eq!((self.u32(0x30), self.u32(0xf98)), (0x8664, 4), "x64, triage");
        for unset in [0x60, 0x88, 0x340, 0xf20, 0xfb0, 0x103c, 0x1050, 0x1058, 0x1ffc] {
            assert_eq!(&self.file[unset..unset + 4], b"PAGE", "unset field at {unset:#x}");
        }
        let marker = at(0x2008);
        assert_eq!(&self.file[marker..marker + 4], b"TRGD");
        assert_eq!(at(0x2004), marker + 4, "SizeOfDump");
        let kdbg = self.kdbg();
        assert_eq!(&self.file[kdbg + 0x10..kdbg + 0x14], b"KDBG");
        assert_eq!(at(0x2074), at(kdbg + 0x14), "size of the debugger data");
        assert_eq!(self.u64(kdbg + 0x48), self.u64(0x20), "PsLoadedModuleList");
        assert_eq!(self.u64(kdbg + 0x50), self.u64(0x28), "PsActiveProcessHead");
        assert_eq!(self.u64(kdbg + 0xc0), self.u64(0x18), "MmPfnDatabase");
        let size = |field: usize| usize::from(self.u16(kdbg + field));
        assert_eq!(at(0x201c), at(0x2018) + 8 + 0x38 * at(at(0x2018)), "unloaded drivers");
        assert_eq!(at(0x2020), at(0x201c) + size(0x2b0), "SizePrcb");
        assert_eq!(at(0x2024), at(0x2020) + size(0x2a8), "SizeEProcess");
        assert_eq!(at(0x2028), at(0x2024) + size(0x2c0), "SizeEThread");
        let modules = self.modules();
        assert_eq!(modules[0].0, self.u64(kdbg + 0x18), "the kernel comes first");
        assert!(
            self.blocks.iter().all(|(_, offset, size)| offset + size <= marker),
            "blocks before the marker"
        );
        self.check_blobs();
    }

    /// The chain of secondary data ends exactly with the file.
    fn check_blobs(&self) {
        let start = self.u32(0x2004) as usize;
        assert_eq!(&self.file[start..start + 8], b"DumpBlob");
        assert_eq!(self.u32(start + 12) & 0xffff, self.u32(0xc), "build of the secondary data");
        let mut next = start + self.u32(start + 8) as usize;
        let mut count = 0;
        while next < self.file.len() {
            assert_eq!(self.u32(next), 0x20);
            let size = self.u32(next + 0x14) + self.u32(next + 0x18) + self.u32(next + 0x1c);
            next += 0x20 + size as usize;
            count += 1;
        }
        assert_eq!((next, count), (self.file.len(), 2));
    }
}
