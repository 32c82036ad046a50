//! Damaged dumps, all the way to the verdict: never a panic, never a silence. A panic fails the test by itself, and
//! so does a hang; what each input must give are facts with what is wrong named, or an error with a hint.
//!
//! `STOPCODE_LONG=1` does twenty times as much (`cargo xtask long`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use common::form::{each, faults_of_series};
use common::plain::Plain;
use common::random::Random;
use common::*;
use std::path::Path;
use stopcode_analysis::{MachineWitness, Witness, judge};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;

/// The real dumps that differ most in form: Windows 10, ARM64, 24H2 (parts in another order), Windows 8.1.
const REAL: [&str; 4] =
    ["triage_x64.dmp", "triage_arm64.dmp", "training/1a.dmp", "laptop-81/111217-27671-01.dmp"];
/// Where the arguments of the stop code end: shorter files have no facts to give.
const STOP_CODE_END: usize = 0x60;

/// How much more than usual is asked for.
fn effort() -> usize {
    if std::env::var_os("STOPCODE_LONG").is_some() { 20 } else { 1 }
}

/// What came of an input.
enum Outcome {
    Refused,
    Judged { stop: u32, modules: usize, problems: usize },
}

/// Takes bytes the whole way, as the command does, and checks what must hold of any input.
fn examine(bytes: Vec<u8>, what: &dyn Fn() -> String) -> Outcome {
    let size = bytes.len();
    let dump = match Dump::from_bytes(bytes) {
        Ok(dump) => dump,
        Err(error) => {
            assert!(!error.to_string().is_empty() && error.hint().len() > 20, "{}: {error}", what());
            return Outcome::Refused;
        }
    };
    let symbols = SymbolSource::new([]);
    let machine = Machine::new(dump, &symbols);
    let witness = MachineWitness::new(&machine);
    let verdict = judge(&witness);
    let confidences: Vec<f64> = verdict.hypotheses.iter().map(|hypothesis| hypothesis.confidence).collect();
    assert!(!confidences.is_empty() && !verdict.summary.is_empty(), "{}", what());
    assert!(confidences.iter().all(|c| (0.0..=1.0).contains(c)), "{}: {confidences:?}", what());
    assert!(confidences.iter().sum::<f64>() <= 1.0 + 1e-9, "{}: {confidences:?}", what());
    assert!(confidences.is_sorted_by(|a, b| a >= b), "{}: {confidences:?}", what());
    let named =
        machine.problems().iter().all(|problem| !problem.what.is_empty() && !problem.place.is_empty());
    assert!(named && machine.problems().len() < 200, "{}: {:?}", what(), machine.problems());
    // Nothing grows beyond what the file can hold.
    let frames: usize = machine.stacks().iter().map(|stack| stack.frames.len()).sum();
    assert!(frames <= size / 8 + 64 && machine.modules().len() <= size / 0x90 + 1, "{}", what());
    assert!(witness.processors().len() <= 4096, "{}", what());
    Outcome::Judged {
        stop: machine.stop().code,
        modules: machine.modules().len(),
        problems: machine.problems().len(),
    }
}

/// A dump to damage: its name and its bytes.
struct Subject {
    name: String,
    bytes: Vec<u8>,
    real: bool,
}

fn subject(path: &Path, real: bool) -> Subject {
    Subject { name: name(path), bytes: bytes(path), real }
}

/// The small dumps among the samples, and real ones where they are.
fn subjects(test: &str) -> Vec<Subject> {
    let mut subjects: Vec<Subject> = samples().iter().map(|path| subject(path, false)).collect();
    subjects.retain(|subject| Plain(&subject.bytes).is_small());
    if let Some(root) = shared(test, "data/dumps") {
        subjects.extend(REAL.iter().map(|file| subject(&root.join(file), true)));
    }
    subjects
}

/// Cuts a dump and checks that what is missing is named, and that what is there is still told.
fn cut(subject: &Subject, length: usize) {
    let plain = Plain(&subject.bytes);
    let what = || format!("{} cut to {length:#x}", subject.name);
    match examine(subject.bytes[..length].to_vec(), &what) {
        Outcome::Refused => assert!(length < STOP_CODE_END, "{}: its facts are lost", what()),
        Outcome::Judged { stop, modules, problems } => {
            assert_eq!(stop, plain.stop_code(), "{}", what());
            assert!(modules <= plain.module_count(), "{}", what());
            assert!(problems > 0 || length >= plain.size_of_dump(), "{}: in silence", what());
        }
    }
}

#[test]
fn every_length_up_to_0x3000() {
    for (index, subject) in subjects("every_length_up_to_0x3000").iter().enumerate() {
        let step = match (index, subject.real) {
            _ if effort() > 1 => 1,
            (0, _) => 1,
            (_, false) => 11,
            (_, true) => 101,
        };
        // Each subject starts elsewhere, so that together they meet other remainders.
        for length in (index % step..=0x3000).step_by(step) {
            cut(subject, length);
        }
    }
}

#[test]
fn every_edge_of_a_section() {
    for subject in &subjects("every_edge_of_a_section") {
        for edge in Plain(&subject.bytes).section_edges() {
            for length in edge - 1..=(edge + 1).min(subject.bytes.len()) {
                cut(subject, length);
            }
        }
    }
}

#[test]
fn every_edge_of_a_data_block() {
    for subject in &subjects("every_edge_of_a_data_block") {
        let edges = Plain(&subject.bytes).block_edges();
        // A real dump has thousands: some of them each time, all of them in the long run.
        let step = if subject.real { (edges.len() / (60 * effort())).max(1) } else { 1 };
        for edge in edges.iter().step_by(step) {
            for length in edge - 1..=(edge + 1).min(subject.bytes.len()) {
                cut(subject, length);
            }
        }
    }
}

/// Flipped, zeroed and set bytes in 500 places: half of them where the structure is, half anywhere.
#[test]
fn random_places() {
    for (index, subject) in subjects("random_places").iter().enumerate() {
        let mut random = Random(0x5eed ^ index as u64);
        let places = if subject.real { 125 } else { 500 } * effort();
        for place in 0..places {
            let limit = if place % 2 == 0 { 0x2100 } else { subject.bytes.len() };
            let at = 8 + random.below(limit - 8);
            let mut damaged = subject.bytes.clone();
            let run = (1 << random.below(9)).min(damaged.len() - at);
            let how = match place % 3 {
                0 => {
                    damaged[at] ^= 1 << random.below(8);
                    "one bit flipped"
                }
                1 => {
                    damaged[at..at + run].fill(0);
                    "a run zeroed"
                }
                _ => {
                    damaged[at..at + run].fill(0xff);
                    "a run set"
                }
            };
            let outcome = examine(damaged, &|| format!("{}: {how} at {at:#x}", subject.name));
            assert!(matches!(outcome, Outcome::Judged { .. }), "{}: {how} at {at:#x}: refused", subject.name);
        }
    }
}

/// Every count, offset and size that the file states of itself, as a liar would state it.
#[test]
fn every_word_that_is_believed() {
    for subject in &subjects("every_word_that_is_believed") {
        let plain = Plain(&subject.bytes);
        let length = subject.bytes.len() as u32;
        let lies = [0, 1, 0x2080, length - 1, length, 0x7fff_ffff, 0x8000_0000, u32::MAX];
        let (debugger_data, size) = plain.debugger_data();
        let headers = (0x08..0x88).chain(0xf98..0xfa0).chain(0x1030..0x1058).chain(0x2000..0x2080).step_by(4);
        let tables = [plain.u32(0x2018), plain.u32(0x2038), plain.u32(0x2078) + 8, plain.u32(0x2078) + 12];
        let blobs = plain.size_of_dump();
        let words = headers
            .chain(tables.map(|at| at as usize))
            .chain((debugger_data..debugger_data + size).step_by(4))
            .chain((blobs..blobs + 0x30).step_by(4));
        for (index, word) in words.enumerate() {
            for (nth, lie) in lies.into_iter().enumerate() {
                // Usually every word is told some of the lies, in turn.
                let share = if subject.real { 24 } else { 4 };
                if effort() == 1 && (index + nth) % share != 0 {
                    continue;
                }
                let mut damaged = subject.bytes.clone();
                damaged[word..word + 4].copy_from_slice(&lie.to_le_bytes());
                examine(damaged, &|| format!("{}: {lie:#x} at {word:#x}", subject.name));
            }
        }
    }
}

#[test]
fn files_that_are_no_dumps() {
    let mut random = Random(1);
    let mut inputs: Vec<Vec<u8>> =
        vec![Vec::new(), b"PAGE".to_vec(), b"PAGEDU64".to_vec(), b"PAGEDUMP".to_vec()];
    for size in [1, 7, 8, 0x60, 0x1000, 0x2000, 0x2080, 0x3000, 0x4_0000] {
        inputs.extend([vec![0; size], vec![0xff; size], b"PAGE".repeat(size.div_ceil(4))]);
        inputs.push((0..size).map(|_| random.next() as u8).collect());
        for signature in [b"PAGEDU64", b"PAGEDUMP"] {
            for fill in [0x00, 0xff] {
                inputs.push([&signature[..], &vec![fill; size]].concat());
            }
            inputs.push(signature.iter().copied().chain((0..size).map(|_| random.next() as u8)).collect());
        }
    }
    for input in inputs {
        let (size, start) = (input.len(), input[..input.len().min(12)].to_vec());
        let dump = start.starts_with(b"PAGEDU") && size >= STOP_CODE_END;
        let outcome = examine(input, &|| format!("{size:#x} bytes, {start:02x?}"));
        assert_eq!(matches!(outcome, Outcome::Judged { .. }), dump, "{size:#x} bytes, {start:02x?}");
    }
}

/// The command itself over a folder of damaged files, with little memory and time: it ends by its exit code, and
/// the report on each file keeps the form.
#[test]
#[cfg(target_os = "linux")]
fn the_command_survives_a_folder_of_damage() {
    let test = "the_command_survives_a_folder_of_damage";
    let folder = Folder::new("damage");
    let mut random = Random(7);
    for subject in &subjects(test) {
        for round in 0..12 * effort() {
            let mut damaged = subject.bytes.clone();
            for _ in 0..1 << random.below(8) {
                let limit = if random.below(2) == 0 { 0x2100 } else { damaged.len() };
                damaged[8 + random.below(limit - 8)] = random.next() as u8;
            }
            if round % 3 == 0 {
                damaged.truncate(STOP_CODE_END + random.below(subject.bytes.len() - STOP_CODE_END));
            }
            folder.write(&format!("{}-{round:03}.dmp", subject.name), &damaged);
        }
    }
    folder.write("empty.dmp", b"");
    folder.write("zeros.dmp", &[0; 0x1000]);
    let count = dumps(folder.path()).len();
    for format in ["json", "text", "markdown"] {
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", "ulimit -v 1048576 && ulimit -t 300 && exec \"$@\"", "sh"]);
        limited.arg(env!("CARGO_BIN_EXE_stopcode")).args(["analyze", "--format", format]).arg(folder.path());
        // The limit is on addresses, of which each thread reserves some.
        let run = finish(limited.env("RAYON_NUM_THREADS", "2").env("MALLOC_ARENA_MAX", "2"));
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{format}");
        assert!(!run.stdout.contains('\x1b'), "{format}");
        if format == "json" {
            let series = run.json();
            assert_eq!(faults_of_series(&series), [""; 0]);
            assert_eq!(each(&series, "dumps/*").len(), count);
            assert_eq!(
                each(&series, "dumps/*/verdict").len(),
                count - 2,
                "all but the empty and the zero-filled file"
            );
        }
    }
}
