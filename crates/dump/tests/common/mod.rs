//! Builds small dumps by hand, field by field, without a line of the reader's code.

#![allow(dead_code)] // Each test file uses its own part.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Helpers of tests are tests.

/// Where the kernel of the built dump lies.
pub(crate) const KERNEL: u64 = 0xffff_f800_1000_0000;
/// Addresses of the structures of the built dump.
pub(crate) const PRCB: u64 = 0xffff_f800_2000_0180;
pub(crate) const THREAD: u64 = 0xffff_a000_0000_1080;
pub(crate) const PROCESS: u64 = 0xffff_a000_0000_8080;
pub(crate) const STACK: u64 = 0xffff_b000_0000_2f00;
pub(crate) const KDBG: u64 = KERNEL + 0x10_0000;
pub(crate) const HEAP: u64 = 0xffff_c000_0000_0000;

pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A 64-bit header full of filler but for what every dump has.
pub(crate) fn header(dump_type: u32) -> Vec<u8> {
    let mut h = b"PAGE".repeat(0x800);
    h[4..8].copy_from_slice(b"DU64");
    put32(&mut h, 0x8, 0xf);
    put32(&mut h, 0xc, 19041);
    put64(&mut h, 0x10, 0x1ad000);
    put64(&mut h, 0x18, KERNEL + 0x2000);
    put64(&mut h, 0x20, KERNEL + 0x3000);
    put64(&mut h, 0x28, KERNEL + 0x4000);
    put32(&mut h, 0x30, 0x8664);
    put32(&mut h, 0x34, 4);
    put32(&mut h, 0x38, 0xd1);
    for n in 0..4 {
        put64(&mut h, 0x40 + 8 * n, 0x11 * (n as u64 + 1));
    }
    put64(&mut h, 0x80, KDBG);
    put32(&mut h, 0xf98, dump_type);
    put64(&mut h, 0xfa8, 132_584_027_029_877_650);
    put64(&mut h, 0x1030, 37_470_697);
    h
}

/// A 32-bit header, likewise.
pub(crate) fn header32(dump_type: u32) -> Vec<u8> {
    let mut h = b"PAGE".repeat(0x400);
    h[4..8].copy_from_slice(b"DUMP");
    put32(&mut h, 0xc, 7601);
    put32(&mut h, 0x20, 0x14c);
    put32(&mut h, 0x24, 2);
    put32(&mut h, 0x28, 0xa);
    for n in 0..4 {
        put32(&mut h, 0x2c + 4 * n, n as u32 + 1);
    }
    put32(&mut h, 0xf88, dump_type);
    put64(&mut h, 0xfc0, 132_584_027_029_877_650);
    h
}

/// A copied structure with `lists` empty lists in its second half.
fn structure(base: u64, size: usize, object_type: u8, lists: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    bytes[0] = object_type;
    for n in 0..lists {
        let at = size / 2 + 0x10 * n;
        put64(&mut bytes, at, base + at as u64);
        put64(&mut bytes, at + 8, base + at as u64);
    }
    bytes
}

fn kdbg() -> Vec<u8> {
    let mut k = vec![0; 0x380];
    k[0x10..0x14].copy_from_slice(b"KDBG");
    put32(&mut k, 0x14, 0x380);
    put64(&mut k, 0x18, KERNEL);
    put64(&mut k, 0x48, KERNEL + 0x3000);
    put16(&mut k, 0x2a0, 0xb8);
    put16(&mut k, 0x2a8, 0x100);
    put16(&mut k, 0x2b0, 0x200);
    put16(&mut k, 0x2b4, 8);
    put16(&mut k, 0x2c0, 0x140);
    put32(&mut k, 0x340, 0x30);
    k
}

/// What goes into a built dump.
pub(crate) struct Plan {
    pub(crate) drivers: Vec<(&'static str, u64)>,
    pub(crate) unloaded: Vec<&'static str>,
    pub(crate) blocks: Vec<(u64, Vec<u8>)>,
    pub(crate) blobs: Vec<(u128, Vec<u8>)>,
    pub(crate) lists: usize,
    pub(crate) tail: Vec<u8>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            drivers: vec![
                (r"\SystemRoot\system32\ntoskrnl.exe", KERNEL),
                (r"\Driver\b.sys", KERNEL + 0x200_0000),
            ],
            unloaded: vec!["dam.sys", "dump_storport.sys"],
            blocks: vec![
                (HEAP, (0..=255).collect()),
                (HEAP + 0x1000, vec![7; 16]),
                (HEAP + 0x80, vec![0xee; 8]),
            ],
            blobs: vec![
                (0xf57308df_cc45_4e01_ad76_29a4ebb010ec, vec![0xc0, 0, 0, 0, 1]),
                (0x11111111_2222_3333_4444_555566667777, vec![]),
            ],
            lists: 4,
            tail: vec![],
        }
    }
}

/// Puts `part` at the end of `file` and its offset into the triage header's `field`.
fn place(file: &mut Vec<u8>, field: usize, part: &[u8]) {
    file.resize(file.len().next_multiple_of(8), 0);
    let at = file.len() as u32;
    put32(file, field, at);
    file.extend(part);
}

impl Plan {
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut f = header(4);
        f.resize(0x2080, 0);
        put32(&mut f, 0x200c, 0x348);
        put32(&mut f, 0x2010, 0xf00);
        put32(&mut f, 0x2044, u32::MAX);
        put64(&mut f, 0x2048, STACK);
        let mut mm = vec![0; 0x50];
        put32(&mut mm, 0, 1);
        place(&mut f, 0x2014, &mm);
        place(&mut f, 0x2018, &self.unloaded_table());
        let mut prcb = structure(PRCB, 0x200, 0, self.lists);
        put64(&mut prcb, 8, THREAD);
        place(&mut f, 0x201c, &prcb);
        place(&mut f, 0x2020, &structure(PROCESS, 0x100, 3, self.lists));
        let mut thread = structure(THREAD, 0x140, 6, self.lists);
        put64(&mut thread, 0xb8, PROCESS);
        place(&mut f, 0x2024, &thread);
        place(&mut f, 0x2028, &[0x5a; 0x100]);
        put32(&mut f, 0x202c, 0x100);
        place(&mut f, 0x2070, &kdbg());
        put32(&mut f, 0x2074, 0x380);
        self.place_drivers(&mut f);
        self.place_blocks(&mut f);
        let mark = f.len() as u32;
        put32(&mut f, 0x2008, mark);
        put32(&mut f, 0x2004, mark + 4);
        f.extend(b"TRGD");
        if !self.blobs.is_empty() {
            f.extend(self.blob_chain());
        }
        f.extend(&self.tail);
        f
    }

    fn unloaded_table(&self) -> Vec<u8> {
        let mut table = (self.unloaded.len() as u64).to_le_bytes().to_vec();
        for name in &self.unloaded {
            let mut entry = vec![0; 0x38];
            let text = wide(name);
            put16(&mut entry, 0, text.len() as u16);
            let kept = text.len().min(24);
            entry[0x10..0x10 + kept].copy_from_slice(&text[..kept]);
            put64(&mut entry, 0x28, KERNEL + 0x900_0000);
            put64(&mut entry, 0x30, KERNEL + 0x900_8000);
            table.extend(entry);
        }
        table
    }

    fn place_drivers(&self, f: &mut Vec<u8>) {
        let table_size = self.drivers.len() * 0x90;
        f.resize(f.len().next_multiple_of(8), 0);
        let pool_start = f.len() + table_size;
        let (mut table, mut pool) = (Vec::new(), Vec::new());
        for (n, (path, base)) in self.drivers.iter().enumerate() {
            let mut entry = vec![0; 0x90];
            put32(&mut entry, 0, (pool_start + pool.len()) as u32);
            put32(&mut entry, 4, 0xdead_beef); // garbage, as Windows 8.1 leaves it
            put64(&mut entry, 0x38, *base);
            put32(&mut entry, 0x48, 0x1000 * (n as u32 + 1));
            put32(&mut entry, 0x80, 0x1234);
            put32(&mut entry, 0x88, 0x5eed_0000 + n as u32);
            table.extend(entry);
            pool.extend((path.encode_utf16().count() as u32).to_le_bytes());
            pool.extend(wide(path));
            pool.extend([0, 0]);
            pool.resize(pool.len().next_multiple_of(8), 0);
        }
        place(f, 0x2030, &table);
        put32(f, 0x2034, self.drivers.len() as u32);
        place(f, 0x2038, &pool);
        put32(f, 0x203c, pool.len() as u32);
    }

    fn place_blocks(&self, f: &mut Vec<u8>) {
        let mut table = vec![0; self.blocks.len() * 16];
        f.resize(f.len().next_multiple_of(8), 0);
        let mut offset = f.len() + table.len();
        for (entry, (address, bytes)) in table.chunks_mut(16).zip(&self.blocks) {
            put64(entry, 0, *address);
            put32(entry, 8, offset as u32);
            put32(entry, 12, bytes.len() as u32);
            offset += bytes.len();
        }
        place(f, 0x2078, &table);
        put32(f, 0x207c, self.blocks.len() as u32);
        for (_, bytes) in &self.blocks {
            f.extend(bytes);
        }
    }

    fn blob_chain(&self) -> Vec<u8> {
        let mut chain = b"DumpBlob\x10\0\0\0\x61\x4a\0\xf0".to_vec();
        for (guid, data) in &self.blobs {
            let mut guid = guid.to_be_bytes();
            guid[..4].reverse();
            guid[4..6].reverse();
            guid[6..8].reverse();
            let padding = data.len().next_multiple_of(8) - data.len();
            chain.extend(0x20_u32.to_le_bytes());
            chain.extend(guid);
            for word in [data.len(), 0, padding] {
                chain.extend((word as u32).to_le_bytes());
            }
            chain.extend(data);
            chain.resize(chain.len() + padding, 0);
        }
        chain
    }
}

/// Reads everything that a dump offers, so that nothing lazy hides a fault; returns a bound on what it gave.
pub(crate) fn exercise(dump: &stopcode_dump::Dump) -> usize {
    use stopcode_base::{Memory, VirtAddr};
    let mut given = format!("{} {} {:?}", dump.kind(), dump.kind_id(), dump.header()).len();
    given += dump.problems().iter().map(|p| p.what.len() + p.place.len()).sum::<usize>();
    if let Some(kdbg) = dump.kdbg() {
        given += kdbg.fields().count();
    }
    for blob in dump.secondary() {
        given += blob.data().len() + blob.guid.to_string().len();
        given += blob.content().map_or(0, |content| format!("{content:?}").len());
    }
    if let Some(triage) = dump.triage() {
        given += triage.drivers.iter().map(|d| d.path.len() + 32).sum::<usize>();
        given += triage.strings().map(|s| s.len()).sum::<usize>();
        given += triage.unloaded.len() + triage.data_blocks.len();
        given += triage.prcb_bytes().len() + triage.process_bytes().len() + triage.thread_bytes().len();
        let mut buffer = [0; 64];
        for block in triage.data_blocks.iter().take(500) {
            for at in [block.address, block.address.plus(u64::from(block.size)), block.address.minus(1)] {
                given += dump.read_some(at, &mut buffer).unwrap_or(0);
            }
        }
    }
    given += dump.memory_runs().map(|(_, size)| usize::try_from(size.min(1)).unwrap()).sum::<usize>();
    for at in [0, 1, KDBG, PRCB, u64::MAX, 0x8000_0000_0000_0000] {
        given += usize::from(dump.read_u64(VirtAddr(at)).is_ok());
    }
    given
}
