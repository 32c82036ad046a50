//! What the programs of this harness share: the dumps they measure, and how figures are taken.
//!
//! A dump here is a bitmap dump of any size that takes little room on the disk: its pages are holes, but for the page
//! tables, which map [`MAPPED`] pages spread over all of the memory.

use std::time::{Duration, Instant};

/// The first virtual address that the dumps map.
pub const BASE: u64 = 0xffff_8000_0000_0000;
/// Pages that are mapped from there on: 2 GiB.
pub const MAPPED: u64 = 1 << 19;

/// Numbers that look random and are the same in every run (SplitMix64).
pub struct Numbers(pub u64);

impl Iterator for Numbers {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(z ^ (z >> 31))
    }
}

/// Mapped addresses of eight bytes each.
pub fn addresses(count: usize) -> Vec<u64> {
    Numbers(7).take(count).map(|n| BASE + ((n >> 12) % MAPPED << 12) + (n & 0xff8)).collect()
}

/// The median time of `runs` runs, after one that does not count.
pub fn median(runs: usize, mut run: impl FnMut()) -> Duration {
    run();
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[runs / 2]
}

/// Memory of this process that it shares with no file, in KiB.
pub fn private_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Opens `path` and reads from it, as the command line asks: `measure PATH open|reads|once`.
///
/// `open` gives the median time of opening, and the private memory of one; `reads` the time of a random read of eight
/// bytes; `once` opens a single time, for a count of instructions.
pub fn measure<D>(open: impl Fn(&str) -> D, read: impl Fn(&D, u64) -> Option<u64>) {
    let arguments: Vec<String> = std::env::args().collect();
    let (path, what) = (&arguments[1], &arguments[2]);
    match what.as_str() {
        "open" => {
            let before = private_kib();
            let first = Instant::now();
            let dump = open(path);
            let first = first.elapsed();
            let taken = private_kib() - before;
            drop(dump);
            let runs = if first > Duration::from_secs(2) { 3 } else { 15 };
            let time = median(runs, || drop(open(path)));
            println!("open: {:.3} ms, {taken} KiB private", time.as_secs_f64() * 1e3);
        }
        "reads" => {
            const READS: usize = 1_000_000;
            let dump = open(path);
            let places = addresses(READS);
            let mut held = 0;
            let time = median(5, || {
                held = places.iter().filter(|at| read(&dump, **at).is_some()).count();
            });
            println!("reads: {:.0} ns each, {held} of {READS} there", time.as_secs_f64() * 1e9 / READS as f64);
        }
        _ => drop(open(path)),
    }
}
