//! Names of many builds in one file.
//!
//! Builds of one kernel share nearly all their names, so that a pack holds each name once, and for every build the list of
//! its symbols by address as numbers into it. In the order of addresses the numbers mostly go up by one, which is what
//! makes the list small. The same form, not compressed, is what a cache keeps of a symbol file that was slow to read.
//!
//! All numbers little-endian; a *varint* is seven bits a byte, low bits first.
//!
//! ```text
//! 0x00  "stopcode names 1"
//! 0x10  u32 builds · u32 1 if blocks are .xz, 0 if stored
//! 0x18  block of the names: u64 offset · u32 bytes in the file · u32 bytes unpacked
//! 0x28  each build: u128 GUID · u32 age · u32 symbols · its block, as above · u32 bytes of its label
//! ...   the labels, one behind the other; then the blocks
//! ```
//! The block of names has one a line. A build's block has per symbol, by address: varint of the zigzag difference to the
//! number of the name before; varint of the distance from the address before; varint of its size, 0 if not known; a byte of
//! kind, origin and whether it is the cold part of the function.

use crate::PdbKey;
use crate::isf::{IsfError, unpack_xz};
use crate::kind::SymbolKind;
use crate::table::{How, NewSymbol, SymbolTable, TableBuilder};
use std::collections::HashMap;
use std::io::Write;
use std::sync::OnceLock;

const MAGIC: &[u8; 16] = b"stopcode names 1";
const HEADER: usize = 0x28;
const BUILD: usize = 16 + 4 + 4 + 16 + 4;
/// A block may unpack to this many bytes: a kernel has 2 MB of names, a build half a megabyte of numbers.
const MAX_BLOCK: u64 = 1 << 28;
/// A name's bytes and the three numbers of a symbol take more than this: what claims more symbols is damaged.
const LEAST: u64 = 4;

/// Why a pack, or a build in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NamePackError {
    /// It begins with something else.
    #[error("not a pack of names")]
    NotAPack,
    /// Cut or inconsistent; where.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// A block cannot be unpacked.
    #[error("{0}")]
    Xz(#[from] IsfError),
}

/// How blocks are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// As they are: quick to read.
    Stored,
    /// As .xz: small.
    Xz,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    offset: u64,
    size: u32,
    unpacked: u32,
}

/// One build in a pack.
#[derive(Clone, Debug)]
pub struct PackedBuild {
    /// Its PDB.
    pub key: PdbKey,
    /// What whoever wrote the pack called it; from a file, so it passes `stopcode_base::visible` before it is shown.
    pub label: String,
    /// How many symbols it has.
    pub symbols: u32,
    block: Block,
}

/// A pack: its list of builds is read at once, the names of one when they are asked for.
#[derive(Debug)]
pub struct NamePack {
    bytes: Vec<u8>,
    packing: Packing,
    names: Block,
    builds: Vec<PackedBuild>,
    text: OnceLock<Result<String, NamePackError>>,
}

impl NamePack {
    /// Reads the list of builds.
    ///
    /// # Errors
    /// If it is no pack, or that list is damaged.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, NamePackError> {
        if !bytes.starts_with(MAGIC) {
            return Err(NamePackError::NotAPack);
        }
        let cut = NamePackError::Damaged("the list of builds is cut");
        let head = |at| u32_at(&bytes, at).ok_or(NamePackError::Damaged("the header is cut"));
        let packing = match head(0x14)? {
            0 => Packing::Stored,
            1 => Packing::Xz,
            _ => return Err(NamePackError::Damaged("unknown compression")),
        };
        let names =
            block_at(&bytes, 0x18).ok_or(NamePackError::Damaged("the block of names lies outside"))?;
        let count = head(0x10)? as usize;
        let list = count.checked_mul(BUILD).and_then(|size| bytes.get(HEADER..HEADER.checked_add(size)?));
        let Some(list) = list else { return Err(cut) };
        let mut label_at = HEADER + list.len();
        let mut builds = Vec::with_capacity(count);
        for entry in list.chunks_exact(BUILD) {
            let build = || {
                let guid = u128::from_le_bytes(*entry.first_chunk()?);
                let (age, symbols) = (u32_at(entry, 16)?, u32_at(entry, 20)?);
                let label_size = u32_at(entry, 40)? as usize;
                let label = bytes.get(label_at..label_at.checked_add(label_size)?)?;
                label_at += label_size;
                let label = String::from_utf8_lossy(label).into_owned();
                let block = block_of(entry, 24, bytes.len())?;
                Some(PackedBuild { key: PdbKey { guid, age }, label, symbols, block })
            };
            builds.push({ build }().ok_or(NamePackError::Damaged("a build lies outside the file"))?);
        }
        Ok(Self { packing, names, builds, text: OnceLock::new(), bytes })
    }

    /// The builds it holds, in the order they were added.
    pub fn builds(&self) -> &[PackedBuild] {
        &self.builds
    }

    /// The names of one of its builds.
    ///
    /// # Errors
    /// If its block or that of the names is damaged.
    pub fn table(&self, build: &PackedBuild) -> Result<SymbolTable, NamePackError> {
        let text = self.text.get_or_init(|| {
            String::from_utf8(self.unpack(self.names)?)
                .map_err(|_| NamePackError::Damaged("the names are no text"))
        });
        let Ok(text) = text else { return Err(NamePackError::Damaged("the names cannot be unpacked")) };
        let names: Vec<&str> = text.lines().collect();
        let block = self.unpack(build.block)?;
        if u64::from(build.symbols) * LEAST > block.len() as u64 {
            return Err(NamePackError::Damaged("more symbols than its block can hold"));
        }
        let mut builder = TableBuilder::new(How::Public);
        let mut numbers = Numbers(&block);
        let (mut name_at, mut rva) = (0i64, 0u64);
        for _ in 0..build.symbols {
            let symbol = (|| {
                name_at = name_at.checked_add(unzigzag(numbers.next()?))?;
                rva = rva.checked_add(numbers.next()?)?;
                let size = u32::try_from(numbers.next()?).ok()?;
                let flags = numbers.byte()?;
                let name = names.get(usize::try_from(name_at).ok()?)?;
                Some(NewSymbol {
                    name,
                    rva,
                    size,
                    kind: KINDS.get(usize::from(flags & 7)).copied().flatten(),
                    how: *HOWS.get(usize::from(flags >> 3 & 7))?,
                    cold: flags & 0x40 != 0,
                })
            })();
            builder.add_symbol(symbol.ok_or(NamePackError::Damaged("a symbol cannot be read"))?);
        }
        Ok(builder.finish())
    }

    fn unpack(&self, block: Block) -> Result<Vec<u8>, NamePackError> {
        let start = usize::try_from(block.offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(block.size as usize).and_then(|end| self.bytes.get(start..end));
        let bytes = bytes.ok_or(NamePackError::Damaged("a block lies outside the file"))?;
        let unpacked = match self.packing {
            Packing::Stored => bytes.to_vec(),
            Packing::Xz => {
                let (unpacked, broken) = unpack_xz(bytes, MAX_BLOCK.min(block.unpacked.into()))?;
                if let Some(error) = broken {
                    return Err(IsfError::Xz(error).into());
                }
                unpacked
            }
        };
        if unpacked.len() != block.unpacked as usize {
            return Err(NamePackError::Damaged("a block has another size than the list says"));
        }
        Ok(unpacked)
    }
}

/// Kinds and origins by their number in the file.
const KINDS: [Option<SymbolKind>; 5] = [
    None,
    Some(SymbolKind::Code),
    Some(SymbolKind::Data),
    Some(SymbolKind::StringLiteral),
    Some(SymbolKind::Unknown),
];
const HOWS: [How; 5] = [How::Isf, How::Export, How::Public, How::Procedure, How::Variable];

/// Puts a pack together.
#[derive(Default)]
pub struct NamePackWriter {
    numbers: HashMap<String, u32>,
    text: String,
    builds: Vec<(PdbKey, String, u32, Vec<u8>)>,
}

impl NamePackWriter {
    /// Adds a build. Names that hold a line break cannot be kept and are left out.
    pub fn add(&mut self, key: PdbKey, label: &str, table: &SymbolTable) {
        let mut block = Vec::new();
        let (mut name_before, mut rva_before) = (0, 0);
        let mut count = 0;
        for found in table.iter().filter(|found| !found.name.contains(['\n', '\r'])) {
            let name = self.number(found.name);
            varint(&mut block, zigzag(i64::from(name) - name_before));
            varint(&mut block, u64::from(found.rva - rva_before));
            varint(&mut block, found.size.unwrap_or(0).into());
            let kind = KINDS.iter().position(|kind| *kind == Some(found.kind)).unwrap_or(0);
            let how = HOWS.iter().position(|how| *how == found.how).unwrap_or(0);
            block.push((kind | how << 3 | usize::from(found.cold) << 6) as u8);
            (name_before, rva_before) = (i64::from(name), found.rva);
            count += 1;
        }
        self.builds.push((key, label.to_owned(), count, block));
    }

    /// How many builds there are.
    pub fn len(&self) -> usize {
        self.builds.len()
    }

    /// True if there is none yet.
    pub fn is_empty(&self) -> bool {
        self.builds.is_empty()
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.text.push_str(name);
        self.text.push('\n');
        number
    }

    /// The file.
    ///
    /// # Errors
    /// If the compressor fails.
    pub fn finish(self, packing: Packing) -> std::io::Result<Vec<u8>> {
        let pack = |bytes: &[u8]| match packing {
            Packing::Stored => Ok(bytes.to_vec()),
            Packing::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(6);
                let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options)?;
                writer.write_all(bytes)?;
                writer.finish()
            }
        };
        let labels: usize = self.builds.iter().map(|(_, label, ..)| label.len()).sum();
        let mut offset = HEADER + self.builds.len() * BUILD + labels;
        let mut blocks = Vec::new();
        let mut place = |packed: Vec<u8>, unpacked: usize| {
            let mut entry = Vec::with_capacity(16);
            entry.extend((offset as u64).to_le_bytes());
            entry.extend((packed.len() as u32).to_le_bytes());
            entry.extend((unpacked as u32).to_le_bytes());
            offset += packed.len();
            blocks.extend(packed);
            entry
        };
        let mut file = MAGIC.to_vec();
        file.extend((self.builds.len() as u32).to_le_bytes());
        file.extend(u32::from(packing == Packing::Xz).to_le_bytes());
        file.extend(place(pack(self.text.as_bytes())?, self.text.len()));
        for (key, label, count, block) in &self.builds {
            file.extend(key.guid.to_le_bytes());
            file.extend(key.age.to_le_bytes());
            file.extend(count.to_le_bytes());
            file.extend(place(pack(block)?, block.len()));
            file.extend((label.len() as u32).to_le_bytes());
        }
        for (_, label, ..) in &self.builds {
            file.extend(label.as_bytes());
        }
        file.extend(blocks);
        Ok(file)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn block_at(bytes: &[u8], at: usize) -> Option<Block> {
    block_of(bytes, at, bytes.len())
}

/// The description of a block at `at` that lies in a file of `file` bytes.
fn block_of(bytes: &[u8], at: usize, file: usize) -> Option<Block> {
    let offset = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let (size, unpacked) = (u32_at(bytes, at + 8)?, u32_at(bytes, at + 12)?);
    (offset.checked_add(size.into())? <= file as u64).then_some(Block { offset, size, unpacked })
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads varints from the front.
struct Numbers<'b>(&'b [u8]);

impl Numbers<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn next(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: PdbKey = PdbKey { guid: 7, age: 1 };

    fn table(symbols: &[(&str, u64, u32, bool)]) -> SymbolTable {
        let mut builder = TableBuilder::new(How::Isf);
        for (name, rva, size, cold) in symbols {
            let symbol =
                NewSymbol { name, rva: *rva, size: *size, kind: None, how: How::Procedure, cold: *cold };
            builder.add_symbol(symbol);
        }
        builder.finish()
    }

    fn all(table: &SymbolTable) -> Vec<String> {
        table.iter().map(|found| format!("{found:?}")).collect()
    }

    #[test]
    fn builds_come_out_as_they_went_in() {
        let one = table(&[("A", 0x1000, 16, false), ("B", 0x1000, 0, false), ("??_C@x", 0x3000, 0, false)]);
        let two = table(&[("B", 0x1010, 4, false), ("A", 0x1800, 16, true), ("C", 0xffff_fff0, 0, false)]);
        for packing in [Packing::Stored, Packing::Xz] {
            let mut writer = NamePackWriter::default();
            writer.add(KEY, "one", &one);
            writer.add(PdbKey { age: 2, ..KEY }, "two", &two);
            let pack = NamePack::parse(writer.finish(packing).unwrap()).unwrap();
            let labels: Vec<_> = pack.builds().iter().map(|build| (build.key.age, &*build.label)).collect();
            assert_eq!(labels, [(1, "one"), (2, "two")]);
            for (build, table) in pack.builds().iter().zip([&one, &two]) {
                assert_eq!(all(&pack.table(build).unwrap()), all(table));
            }
        }
    }

    #[test]
    fn a_damaged_pack_is_told_and_does_no_harm() {
        let names: Vec<(String, u32)> = (0..50).map(|i| (format!("Name{i}"), i * 16)).collect();
        let table: SymbolTable = names.into_iter().collect();
        let mut writer = NamePackWriter::default();
        writer.add(KEY, "label", &table);
        let good = writer.finish(Packing::Xz).unwrap();
        let whole = |bytes: Vec<u8>| {
            let pack = NamePack::parse(bytes).ok()?;
            let table = pack.table(pack.builds().first()?).ok()?;
            Some(table.len())
        };
        assert_eq!(whole(good.clone()), Some(50));
        for end in 0..good.len() {
            assert_eq!(whole(good[..end].to_vec()), None, "cut at {end}");
        }
        assert!(matches!(NamePack::parse(b"GIF89a".to_vec()), Err(NamePackError::NotAPack)));
    }

    proptest! {
        #[test]
        fn numbers_come_back(number in any::<i64>()) {
            let mut bytes = Vec::new();
            varint(&mut bytes, zigzag(number));
            let mut numbers = Numbers(&bytes);
            prop_assert_eq!(numbers.next().map(unzigzag), Some(number));
            prop_assert_eq!(numbers.byte(), None);
        }

        #[test]
        fn any_change_of_a_byte_is_borne(at in 0..600usize, value in any::<u8>()) {
            let table: SymbolTable = (0..20).map(|i| (format!("Name{i}"), i * 16)).collect();
            let mut writer = NamePackWriter::default();
            writer.add(KEY, "label", &table);
            let mut bytes = writer.finish(Packing::Stored).unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(pack) = NamePack::parse(bytes) {
                for build in pack.builds() {
                    if let Ok(table) = pack.table(build) {
                        prop_assert!(table.len() <= 20);
                    }
                }
            }
        }
    }
}
