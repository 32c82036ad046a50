//! What the verdict cites is there to be seen: every command of every item of evidence runs, and shows the figures that
//! the item quotes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use common::{real_dumps, samples, session_with, shared};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use stopcode_analysis::{Evidence, MachineWitness, Witness};
use stopcode_base::Memory;
use stopcode_commands::{Answer, Session, Status, run};
use stopcode_dump::Dump;
use stopcode_kernel::Machine;
use stopcode_symbols::SymbolSource;
use stopcode_synth::{plant, triage};

/// Seeds of planted machines; each class is planted with each.
const SEEDS: std::ops::Range<u64> = 40..50;

/// A figure or a name that an item quotes.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Quoted {
    /// `0x7e`, ``fffff880`03dccfd0``.
    Value(u64),
    /// `0x30 bytes`: from one place to another.
    Distance(u64),
    /// `iaStor.sys`.
    Image(String),
    /// `nt!KiPageFault+0x35`.
    Place(String),
    /// An instruction.
    Code(String),
    /// An instruction that is not there: what one with a bit turned would be.
    Turned(String),
    /// `bit 13`: of a value, or in which two differ.
    Bit(u32),
    /// `ECX bit 31` of CPUID.
    Feature,
    /// `36 bits` of a value.
    Bits(u32),
    /// `10 frames`.
    Rows(usize),
    /// Any other number of two digits and more.
    Count(String),
}

/// Ends of names of images.
const IMAGES: [&str; 3] = [".sys", ".exe", ".dll"];

/// What an item quotes: values in hexadecimal, names of images, places in code, instructions.
fn quoted(text: &str) -> Vec<Quoted> {
    let mut found = Vec::new();
    let mut rest = String::new();
    let mut parts = text.split('`').peekable();
    while let Some(part) = parts.next() {
        rest.push_str(part);
        let Some(next) = parts.peek() else { break };
        // A back quote stands in the middle of an address, too.
        if !is_half_address(part.chars().rev()) || !is_half_address(next.chars()) {
            let code = parts.next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            found.push(if part.ends_with("turned it is ") {
                Quoted::Turned(code)
            } else {
                Quoted::Code(code)
            });
        }
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '[' | ']');
    let words = rest.split(ends).map(|word| word.trim_matches(['.', ':', '-', '\'', '"']).to_lowercase());
    let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    for (index, word) in words.iter().enumerate() {
        let next = words.get(index + 1).map_or("", String::as_str);
        let before = index.checked_sub(1).map_or("", |before| &words[before]);
        let hex = word.strip_prefix("0x").or_else(|| (word.len() == 16).then_some(word));
        if let Some(value) = hex.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            found.push(if next == "bytes" { Quoted::Distance(value) } else { Quoted::Value(value) });
        } else if let Ok(number) = word.parse::<u32>() {
            match (before, next) {
                ("bit", _) if index > 1 && words[index - 2] == "ecx" => found.push(Quoted::Feature),
                ("bit", _) => found.push(Quoted::Bit(number)),
                (_, "bits") => found.push(Quoted::Bits(number)),
                (_, "frames") => found.push(Quoted::Rows(number as usize)),
                _ if number > 9 => found.push(Quoted::Count(word.clone())),
                _ => {}
            }
        } else if word.contains("+0x") {
            found.push(Quoted::Place(word.clone()));
        } else if IMAGES.iter().any(|end| word.ends_with(end)) {
            found.push(Quoted::Image(word.clone()));
        }
    }
    found
}

fn is_half_address(mut characters: impl Iterator<Item = char>) -> bool {
    (0..8).all(|_| characters.next().is_some_and(|c| c.is_ascii_hexdigit()))
}

/// What a command showed, to look for figures in.
struct Shown {
    text: String,
    values: BTreeSet<u64>,
    rows: Vec<usize>,
}

impl Shown {
    fn new(answers: &[Answer]) -> Self {
        let text =
            answers.iter().map(|answer| answer.text.to_lowercase().replace('`', "")).collect::<String>();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let values =
            words.filter_map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()).collect();
        // A row of a stack begins with an address; between them stand gaps.
        let is_row = |line: &&str| line.split('`').next().is_some_and(|start| start.len() == 8);
        let rows = answers.iter().map(|answer| answer.text.lines().filter(is_row).count()).collect();
        Self { text, values, rows }
    }

    /// `item` is where the instruction lies that another one is worked out from.
    fn holds(&self, quoted: &Quoted, session: &Session, item: &Evidence) -> bool {
        match quoted {
            Quoted::Value(value) => self.values.contains(value),
            Quoted::Distance(bytes) => {
                self.values.iter().any(|from| self.values.contains(&from.wrapping_add(*bytes)))
            }
            Quoted::Count(count) => {
                self.text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == count)
            }
            Quoted::Code(code) => self.text.contains(&code.to_lowercase()),
            Quoted::Turned(code) => one_bit_makes(session, item, code),
            Quoted::Bit(bit) => {
                let one = 1_u64.checked_shl(*bit).unwrap_or_default();
                self.values.contains(&one)
                    || self.values.iter().any(|value| self.values.contains(&(value ^ one)))
            }
            Quoted::Feature => self.text.contains("ecx"),
            Quoted::Bits(bits) => self.values.iter().any(|value| value.count_ones() == *bits),
            Quoted::Rows(rows) => self.rows.contains(rows),
            // WinDbg calls a module by its image's name without the extension.
            Quoted::Image(name) => {
                self.text.contains(IMAGES.iter().find_map(|end| name.strip_suffix(end)).unwrap())
            }
            Quoted::Place(name) => {
                let (place, offset) = name.split_once("+0x").unwrap();
                let offset = u64::from_str_radix(offset, 16).unwrap();
                self.text.contains(name) || self.text.contains(place) && self.values.contains(&offset)
            }
        }
    }
}

/// The instruction at the item's address becomes `code` by turning the bit it names.
fn one_bit_makes(session: &Session, item: &Evidence, code: &str) -> bool {
    let at = item.address.unwrap();
    let machine = session.machine();
    let memory = machine.code();
    let mut bytes: Vec<u8> = (0..15).map_while(|n| memory.read_u8(at.plus(n)).ok()).collect();
    (0..bytes.len()).any(|byte| {
        bytes[byte] ^= 1 << item.flipped_bit.unwrap();
        let decoded = stopcode_image::decode_x64(&bytes, at, None);
        bytes[byte] ^= 1 << item.flipped_bit.unwrap();
        decoded.is_some_and(|turned| turned.text.split_whitespace().eq(code.split_whitespace()))
    })
}

/// What is wrong with an item: a command that does not answer, or that does not show what the item quotes.
fn fault(session: &mut Session, item: &Evidence) -> Option<String> {
    let Some(line) = &item.command else { return Some(format!("no command: {}", item.text)) };
    run(session, ".cxr");
    let answers = run(session, line);
    if let Some(answer) = answers.iter().find(|answer| answer.status != Status::Answer) {
        return Some(format!("{line}: {answer:?}: {}", item.text));
    }
    let shown = Shown::new(&answers);
    let missing: Vec<Quoted> =
        quoted(&item.text).into_iter().filter(|quoted| !shown.holds(quoted, session, item)).collect();
    (!missing.is_empty()).then(|| format!("{line}: does not show {missing:x?}: {}", item.text))
}

fn faults(session: &mut Session, name: &str, found: &mut BTreeMap<String, String>) -> usize {
    let verdict = session.verdict();
    let items = verdict.hypotheses.iter().flat_map(|h| h.supports.iter().chain(&h.contradicts));
    let mut count = 0;
    for item in items {
        count += 1;
        if let Some(fault) = fault(session, item) {
            found.entry(fault).or_insert_with(|| name.to_owned());
        }
    }
    count
}

fn listed(found: &BTreeMap<String, String>) -> String {
    found.iter().map(|(fault, name)| format!("{name}: {fault}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn evidence_of_dumps_shows_what_it_quotes() {
    let mut found = BTreeMap::new();
    let mut count = 0;
    for path in samples().into_iter().chain(real_dumps("evidence_of_dumps_shows_what_it_quotes")) {
        let mut session = session_with(&path, None).unwrap();
        count += faults(&mut session, &name(&path), &mut found);
    }
    if let Some(data) = shared("evidence_of_dumps_shows_what_it_quotes, with symbols") {
        let path = data.join("dumps/triage_x64.dmp");
        let mut session = session_with(&path, Some(&data.join("isf"))).unwrap();
        count += faults(&mut session, &name(&path), &mut found);
    }
    assert!(count > 20, "{count}");
    assert!(found.is_empty(), "{} of {count}:\n{}", found.len(), listed(&found));
}

#[test]
fn evidence_of_planted_faults_shows_what_it_quotes() {
    let mut found = BTreeMap::new();
    let mut count = 0;
    for class in plant::Class::ALL {
        for seed in SEEDS {
            let (machine, truth) = plant::plant(seed, class).unwrap();
            let files = tempfile::tempdir().unwrap();
            let (file, bytes) = truth.file_of_driver(&machine).unwrap();
            std::fs::write(files.path().join(file), bytes).unwrap();
            let dump = Dump::from_bytes(triage::write(&machine).unwrap()).unwrap();
            let mut session =
                Session::new(Machine::new(dump, &SymbolSource::new([files.path().to_path_buf()])), "");
            count += faults(&mut session, &format!("{} {seed}", class.name()), &mut found);
        }
    }
    assert!(count > 100, "{count}");
    assert!(found.is_empty(), "{} of {count}:\n{}", found.len(), listed(&found));
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A run of bytes is found where it stands in an image, over the end of a page as well; what does not stand there is not.
#[test]
fn constants_are_found_in_images() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/seed-double-fault-kernel.dmp");
    let machine = Machine::new(Dump::open(Path::new(path)).unwrap(), &SymbolSource::new([]));
    let witness = MachineWitness::new(&machine);
    let module = witness.modules().iter().find(|module| module.image == "iastor.sys").unwrap();
    let read = |offset: u64| {
        let mut bytes = [0; 6];
        machine.memory().read(module.base.plus(offset), &mut bytes).unwrap();
        bytes.to_vec()
    };
    let first = |pattern: &Vec<u8>| witness.first_in(module, std::slice::from_ref(pattern));
    let header = read(0);
    assert_eq!(first(&header), Some(module.base));
    let code = read(0x253f0);
    let found = first(&code).unwrap();
    assert_eq!(read(found.0 - module.base.0), code);
    assert!(found <= module.base.plus(0x253f0));
    assert_eq!(first(&b"nobody wrote this".to_vec()), None);
    assert_eq!(witness.first_in(module, &[]), None);
}
