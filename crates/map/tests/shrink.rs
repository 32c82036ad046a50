//! Files that shrink under a reader.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use stopcode_map::Map;

const SIZE: usize = 0x10_0000;

fn filled() -> (File, Map) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![0xa5; SIZE]).unwrap();
    let map = Map::new(&file, SIZE as u64).unwrap();
    (file, map)
}

#[test]
fn a_mapping_reads_what_the_file_holds() {
    let (_file, map) = filled();
    let mut buffer = [0; 16];
    assert_eq!(map.read(0x1234, &mut buffer), Some(16));
    assert_eq!(buffer, [0xa5; 16]);
    assert_eq!(map.read(SIZE as u64 - 3, &mut buffer), Some(3));
    assert_eq!((map.read(SIZE as u64, &mut buffer), map.read(u64::MAX, &mut buffer)), (Some(0), Some(0)));
}

#[test]
fn pages_that_are_gone_are_told_and_do_not_kill() {
    let (file, map) = filled();
    let (_other_file, other) = filled();
    file.set_len(0x2800).unwrap();
    let mut buffer = [1; 64];
    assert_eq!(map.read(0x8000, &mut buffer), None);
    assert_eq!(map.read(0, &mut buffer), None, "from then on nothing is read through it");
    // A read that starts in what is left and runs into what is not.
    let (file, map) = filled();
    file.set_len(0x1000).unwrap();
    assert_eq!(map.read(0xff0, &mut buffer), None);
    assert_eq!(other.read(0x8000, &mut buffer), Some(64), "other mappings are as they were");
}

#[test]
fn readers_on_many_threads_see_no_zero() {
    for _ in 0..20 {
        let (file, map) = filled();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (map, stop) = (&map, &stop);
                scope.spawn(move || {
                    let mut buffer = [0; 256];
                    let mut at = thread * 0x1000;
                    while !stop.load(Ordering::Relaxed) {
                        match map.read(at, &mut buffer) {
                            Some(count) => assert!(buffer[..count].iter().all(|byte| *byte == 0xa5)),
                            None => return,
                        }
                        at = (at + 0x3000) % (SIZE as u64 - 0x1000);
                    }
                });
            }
            file.set_len(0x4000).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn mappings_are_given_back() {
    for _ in 0..1000 {
        let (_file, map) = filled();
        drop(map);
    }
    assert!(Map::new(&tempfile::tempfile().unwrap(), 0).is_err(), "nothing to map");
}

/// A bus error that is none of ours still ends the process: this test runs itself as a child that raises one.
#[test]
fn the_signal_of_another_still_kills() {
    const CHILD: &str = "STOPCODE_MAP_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let (_file, _map) = filled();
        let own = std::process::id().to_string();
        // Twice: the first time the guard restores the default action.
        for _ in 0..2 {
            Command::new("kill").args(["-BUS", &own]).status().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        return;
    }
    let this = std::env::current_exe().unwrap();
    let status = Command::new(this)
        .args(["--exact", "the_signal_of_another_still_kills", "--nocapture"])
        .env(CHILD, "1")
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(7), "{status}");
}
