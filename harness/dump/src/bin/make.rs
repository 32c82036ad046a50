//! Writes a sparse bitmap dump: `make PATH GIB all|half`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use stopcode_dump_harness::{BASE, MAPPED, Numbers};

const PAGE: u64 = 0x1000;
const HEADER: u64 = 0x2000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let gib: u64 = arguments[2].parse().unwrap();
    let half = arguments[3] == "half";
    let bits = gib << 18;
    let mut bitmap: Vec<u64> = vec![u64::MAX; bits as usize / 64];
    if half {
        bitmap.iter_mut().zip(Numbers(1)).for_each(|(word, random)| *word = random);
    }
    let is_set = |pfn: u64| bitmap[pfn as usize / 64] >> (pfn % 64) & 1 == 1;
    let next_set = |from: u64| (from..bits).find(|pfn| is_set(*pfn)).unwrap();
    let first_page = (HEADER + 0x38 + bits / 8).next_multiple_of(PAGE);
    let mut before = Vec::with_capacity(bitmap.len());
    let mut total = 0;
    for word in &bitmap {
        before.push(total);
        total += u64::from(word.count_ones());
    }
    let place = |pfn: u64| {
        let word = bitmap[pfn as usize / 64] & ((1 << (pfn % 64)) - 1);
        first_page + PAGE * (before[pfn as usize / 64] + u64::from(word.count_ones()))
    };

    let file = File::create(&arguments[1]).unwrap();
    file.set_len(first_page + total * PAGE).unwrap();
    let mut header = vec![0; HEADER as usize + 0x38];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    // Tables from 16 MiB on: one each of the upper levels, then as many as the mapped pages need.
    let mut frame = 0x1000;
    let mut table = || {
        frame = next_set(frame + 1);
        frame
    };
    let (top, second) = (table(), table());
    put(0, b"PAGEDU64");
    for (at, value) in [(0x8, 0xf_u32), (0xc, 19041), (0x30, 0x8664), (0x34, 1), (0x38, 0xd1), (0xf98, 5)] {
        put(at, &value.to_le_bytes());
    }
    for (at, value) in [(0x10, top * PAGE), (0x20, BASE + 0x1000), (0x28, BASE), (0x80, BASE)] {
        put(at, &value.to_le_bytes());
    }
    put(0x2000, b"FDMPDUMP");
    for (at, value) in [(0x2020, first_page), (0x2028, total), (0x2030, bits)] {
        put(at, &value.to_le_bytes());
    }
    file.write_all_at(&header, 0).unwrap();
    let bytes: Vec<u8> = bitmap.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.write_all_at(&bytes, HEADER + 0x38).unwrap();

    let entry = |pfn: u64| (pfn << 12 | 0x63).to_le_bytes();
    file.write_all_at(&entry(second), place(top) + 8 * 0x100).unwrap();
    let step = (bits - 0x1_0000) / MAPPED;
    let mut first = None;
    for third in 0..MAPPED / (512 * 512) {
        let directory = table();
        file.write_all_at(&entry(directory), place(second) + 8 * third).unwrap();
        for fourth in 0..512 {
            let leaf = table();
            file.write_all_at(&entry(leaf), place(directory) + 8 * fourth).unwrap();
            let pages = (0..512).map(|n| next_set(0x1_0000 + ((third * 512 + fourth) * 512 + n) * step));
            let pages: Vec<u64> = pages.collect();
            first = first.or(pages.first().copied());
            let entries: Vec<u8> = pages.into_iter().flat_map(entry).collect();
            file.write_all_at(&entries, place(leaf)).unwrap();
        }
    }
    // A debugger data block, as every reader looks for one.
    let mut block = vec![0; 0x380];
    block[0x10..0x14].copy_from_slice(b"KDBG");
    block[0x14..0x18].copy_from_slice(&0x380_u32.to_le_bytes());
    file.write_all_at(&block, place(first.unwrap())).unwrap();
}
