//! The least of a triage-dump reader that these tests need: blocks of memory, modules, the crashing stack, and
//! symbols out of a Volatility ISF file.

#![allow(clippy::indexing_slicing, clippy::print_stderr, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use stopcode_base::{Memory, MissReason, VirtAddr};
use stopcode_unwind::{Code, CodeAt, StackKind, StackRange};

pub(crate) fn shared(what: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")).join(what);
    path.exists().then_some(path)
}

pub(crate) struct Dump {
    bytes: Vec<u8>,
    /// Start, end, file offset.
    blocks: Vec<(u64, u64, usize)>,
    /// Base, size.
    pub(crate) modules: Vec<(u64, u64)>,
}

impl Dump {
    pub(crate) fn open(test: &str, what: &str) -> Option<Self> {
        let Some(path) = shared(what) else {
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("SKIPPED: {test}: ../shared is not beside the checkout\n").as_bytes(),
            );
            return None;
        };
        let bytes = std::fs::read(path).unwrap();
        if bytes.len() < 0x2080 || !bytes.starts_with(b"PAGEDU64") {
            return None;
        }
        let mut dump = Self { bytes, blocks: Vec::new(), modules: Vec::new() };
        let (at, count) = (dump.u32(0x2078) as usize, dump.u32(0x207c) as usize);
        for entry in (0..count).map(|index| at + index * 16) {
            dump.add(dump.u64(entry), dump.u32(entry + 8) as usize, dump.u32(entry + 12));
        }
        dump.add(dump.u64(0x2048), dump.u32(0x2028) as usize, dump.u32(0x202c));
        let (at, count) = (dump.u32(0x2030) as usize, dump.u32(0x2034) as usize);
        dump.modules = (0..count)
            .map(|index| at + index * 0x90)
            .map(|entry| (dump.u64(entry + 0x38), u64::from(dump.u32(entry + 0x48))))
            .collect();
        Some(dump)
    }

    fn add(&mut self, start: u64, offset: usize, size: u32) {
        if start != 0 {
            self.blocks.push((start, start.wrapping_add(u64::from(size)), offset));
        }
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        self.bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes(b.try_into().unwrap()))
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        self.bytes.get(at..at + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap()))
    }

    /// The stack from the lowest stored word up.
    pub(crate) fn crash_stack(&self) -> StackRange {
        let low = self.u64(0x2048);
        let high = VirtAddr(low + u64::from(self.u32(0x202c)));
        StackRange { low: VirtAddr(low), high, kind: StackKind::Thread }
    }

    pub(crate) fn image(&self, isf: Option<&str>) -> Image {
        let mut image =
            Image { modules: self.modules.clone(), symbols: BTreeMap::new(), families: BTreeMap::new() };
        if let Some(isf) = isf {
            let file = std::fs::File::open(shared(isf).unwrap()).unwrap();
            let reader = lzma_rust2::XzReader::new(std::io::BufReader::new(file), true);
            let json: serde_json::Value = serde_json::from_reader(std::io::BufReader::new(reader)).unwrap();
            for (name, symbol) in json["symbols"].as_object().unwrap() {
                let at = self.modules[0].0 + symbol["address"].as_u64().unwrap();
                let known = image.symbols.entry(at).or_default();
                *known = (*known).max(size_of_literal(name));
                image.families.insert(at, family(name));
            }
        }
        image
    }
}

/// A string literal's mangled name begins with its length: `??_C@_1` (wide) or `_0`, then one digit for 1 to 10, or
/// hexadecimal digits from `A` on and an `@`.
fn size_of_literal(name: &str) -> Option<u64> {
    let rest = name.strip_prefix("??_C@_")?.get(1..)?;
    match rest.as_bytes().first()? {
        digit @ b'0'..=b'9' => Some(u64::from(digit - b'0') + 1),
        _ => rest
            .bytes()
            .take_while(|byte| *byte != b'@')
            .try_fold(0u64, |sum, byte| Some(sum * 16 + u64::from(byte.checked_sub(b'A')?))),
    }
}

impl Memory for Dump {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let (start, end, offset) = self
            .blocks
            .iter()
            .filter(|(start, end, _)| *start <= at.0 && at.0 < *end)
            .max_by_key(|(_, end, _)| *end)
            .ok_or(MissReason::NotInDump)?;
        let from = offset + (at.0 - start) as usize;
        let count = buffer.len().min((end - at.0) as usize);
        let bytes = self.bytes.get(from..from + count).ok_or(MissReason::FileTruncated)?;
        buffer[..count].copy_from_slice(bytes);
        Ok(count)
    }
}

/// What a module list and a list of named addresses tell. An ISF does not say which names are data.
pub(crate) struct Image {
    modules: Vec<(u64, u64)>,
    /// Size of the string literal that stands there, if it is one.
    symbols: BTreeMap<u64, Option<u64>>,
    /// The first two letters of the name that stands there.
    families: BTreeMap<u64, Option<u16>>,
}

fn family(name: &str) -> Option<u16> {
    let letters = name.trim_start_matches('_').as_bytes().first_chunk::<2>()?;
    letters.iter().all(u8::is_ascii_alphabetic).then(|| u16::from_be_bytes(*letters))
}

/// Few functions of the kernel are longer.
const FAR: u64 = 0x4000;

impl Code for Image {
    fn family(&self, address: VirtAddr) -> Option<u16> {
        let CodeAt::Function { offset, .. } = self.at(address) else { return None };
        *self.families.get(&(address.0 - offset))?
    }

    fn at(&self, address: VirtAddr) -> CodeAt {
        let Some((base, size)) =
            self.modules.iter().find(|(base, size)| address.0.wrapping_sub(*base) < *size)
        else {
            return CodeAt::NotCode;
        };
        if address.0 - base < 0x1000 {
            return CodeAt::Data; // the headers
        }
        let end = base + size;
        let Some((start, literal)) = self.symbols.range(*base..=address.0).next_back() else {
            return CodeAt::Module;
        };
        let offset = address.0 - start;
        let next = self.symbols.range(address.0 + 1..end).next().map(|(next, _)| *next);
        match literal {
            _ if offset == 0 => CodeAt::Start,
            Some(size) if offset < *size => CodeAt::Data,
            Some(_) => CodeAt::FarFromSymbol,
            None if offset > FAR => CodeAt::FarFromSymbol,
            None => CodeAt::Function { offset, size: next.map(|next| next - start) },
        }
    }
}
