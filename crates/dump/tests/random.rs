//! Random and mutated files: nothing panics, and nothing grows beyond the file.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // Helpers of tests are tests.

mod common;

use common::{Plan, exercise, header, put32};
use proptest::prelude::*;
use stopcode_dump::Dump;

/// What a file may at most make us hand out: text is at most some characters for each of its bytes.
fn bound(file: usize) -> usize {
    64 * file + 0x10_0000
}

fn try_all(bytes: Vec<u8>) {
    let size = bytes.len();
    if let Ok(dump) = Dump::from_bytes(bytes) {
        let given = exercise(&dump);
        assert!(given <= bound(size), "{given} bytes given for a file of {size}");
        assert!(dump.problems().len() < 200, "{} problems", dump.problems().len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        try_all(bytes);
    }

    #[test]
    fn a_random_body(body in prop::collection::vec(any::<u8>(), 0..4096), small in any::<bool>()) {
        let mut bytes = header(4);
        bytes.extend(body);
        if small && bytes.len() >= 0x2080 {
            // Offsets that point into the file reach deeper than random ones.
            let length = bytes.len() as u32;
            for field in (0x2004..0x2080).step_by(4) {
                let value = u32::from_le_bytes(bytes[field..field + 4].try_into().unwrap());
                put32(&mut bytes, field, value % (length + 16));
            }
        }
        try_all(bytes);
    }

    #[test]
    fn a_mutated_dump(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        header_words in prop::collection::vec((0_usize..32, any::<u32>(), 0_u8..3), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = Plan::default().build();
        for (index, value) in changes {
            let at = index.index(bytes.len() - 8) + 8;
            bytes[at] = value;
        }
        for (word, value, how) in header_words {
            let value = match how {
                0 => value,
                1 => value % (bytes.len() as u32 + 8),
                _ => u32::MAX - value % 64,
            };
            put32(&mut bytes, 0x2000 + 4 * word, value);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        try_all(bytes);
    }
}

#[test]
fn a_long_name_shared_by_many_drivers_is_not_copied_for_each() {
    let mut bytes = header(4);
    bytes.resize(0x2080, 0);
    let (drivers, pool) = (0x2080_u32, 0x2080 + 7000 * 0x90);
    bytes.resize(pool as usize + 0x1_0010, 0x41);
    put32(&mut bytes, pool as usize, 0x7fff);
    for n in 0..7000 {
        put32(&mut bytes, drivers as usize + n * 0x90, pool);
    }
    for (field, value) in [(0x2030, drivers), (0x2034, 7000), (0x2038, pool), (0x203c, 0x1_0010)] {
        put32(&mut bytes, field, value);
    }
    let dump = Dump::from_bytes(bytes.clone()).unwrap();
    let drivers = &dump.triage().unwrap().drivers;
    assert_eq!((drivers.len(), drivers[0].path.chars().count()), (7000, 0x7fff));
    assert!(drivers.iter().map(|d| d.path.len()).sum::<usize>() <= 2 * bytes.len());
    assert!(dump.problems().iter().any(|p| p.what.contains("no readable name")));
}
