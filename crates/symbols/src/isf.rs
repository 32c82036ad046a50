//! Volatility 3 symbol tables: the JSON of format 6.x with `metadata`, `symbols` and, not read here, the types.
//!
//! A symbol's `address` is relative to the image. There are no lengths, and nothing says what is code.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::PdbKey;
use crate::table::{How, SymbolTable, TableBuilder};

/// The symbols of one image, and which image.
#[derive(Clone, Debug)]
pub struct Isf {
    /// The PDB it was made from, as the file itself says; `None` if it does not.
    pub key: Option<PdbKey>,
    /// The PDB's file name: `ntkrnlmp.pdb`.
    pub database: Option<String>,
    /// `IMAGE_FILE_MACHINE_*`: 0x8664 for x64.
    pub machine: Option<u32>,
    /// The symbols.
    pub symbols: SymbolTable,
    /// Where the JSON stops being readable, if it does: what came before is in [`Self::symbols`].
    pub damage: Option<String>,
}

/// Why bytes are no symbol table.
#[derive(Debug, thiserror::Error)]
pub enum IsfError {
    /// The XZ container is broken before the first symbol.
    #[error("not a readable .xz file: {0}")]
    Xz(io::Error),
    /// It unpacks to more than is taken.
    #[error("more than {0} MiB when unpacked")]
    TooLarge(u64),
    /// No JSON, or none with symbols in it.
    #[error("no symbol table in ISF form: {0}")]
    Json(String),
}

impl Isf {
    /// Reads the JSON. Of a damaged file, all symbols before the damage are kept.
    ///
    /// # Errors
    /// If no symbol could be read.
    pub fn parse(json: &[u8]) -> Result<Self, IsfError> {
        let mut content = Content::new();
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let result = Top(&mut content).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        let damage = result.err().map(|error| error.to_string());
        if content.builder.is_empty() {
            return Err(IsfError::Json(damage.unwrap_or_else(|| "no symbols".to_owned())));
        }
        let pdb = content.pdb.unwrap_or_default();
        Ok(Self {
            key: pdb.key(),
            machine: pdb.machine_type.and_then(|machine| u32::try_from(machine).ok()),
            database: pdb.database,
            symbols: content.builder.finish(),
            damage,
        })
    }
}

/// Unpacks an .xz file to at most `limit` bytes. If it breaks off after some bytes, those are given with the reason.
///
/// # Errors
/// If not one byte can be unpacked, there are more than `limit`, or the file asks for more working memory than any
/// preset of xz does.
pub fn unpack_xz(packed: &[u8], limit: u64) -> Result<(Vec<u8>, Option<io::Error>), IsfError> {
    if first_dictionary(packed).is_some_and(|property| property > LARGEST_DICTIONARY) {
        return Err(IsfError::Xz(io::Error::other("it asks for a dictionary of more than 64 MiB")));
    }
    let mut bytes = Vec::new();
    let mut reader = lzma_rust2::XzReader::new(packed, false).take(limit.saturating_add(1));
    let broken = reader.read_to_end(&mut bytes).err();
    match broken {
        Some(error) if bytes.is_empty() => Err(IsfError::Xz(error)),
        _ if bytes.len() as u64 > limit => Err(IsfError::TooLarge(limit >> 20)),
        broken => Ok((bytes, broken)),
    }
}

/// Dictionary sizes are written as a half-logarithmic code; this one is 64 MiB, what `xz -9` uses.
const LARGEST_DICTIONARY: u8 = 28;

/// The code of the dictionary size in the first block's header, which the decoder would allocate as it stands.
/// (Layout: the .xz file format, 3.1: stream header of 12 bytes; block header with size, flags, two optional sizes,
/// then filters of number, property size and properties; LZMA2 is number 0x21.)
fn first_dictionary(packed: &[u8]) -> Option<u8> {
    let mut header = packed.get(13..)?.iter().copied();
    let flags = header.next()?;
    for optional in [0x40, 0x80] {
        if flags & optional != 0 {
            header.by_ref().find(|byte| byte & 0x80 == 0)?;
        }
    }
    for _ in 0..=flags & 3 {
        let (filter, length) = (header.next()?, header.next()?);
        if filter == 0x21 {
            return header.next();
        }
        header.by_ref().take(usize::from(length)).for_each(drop);
    }
    None
}

/// What is gathered while the JSON is read, so that it survives the JSON breaking off.
struct Content {
    pdb: Option<Pdb>,
    builder: TableBuilder,
}

impl Content {
    fn new() -> Self {
        Self { pdb: None, builder: TableBuilder::new(How::Isf) }
    }
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Metadata {
    windows: Option<Windows>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Windows {
    pdb: Option<Pdb>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Pdb {
    #[serde(rename = "GUID")]
    guid: Option<String>,
    age: Option<u64>,
    database: Option<String>,
    machine_type: Option<u64>,
}

impl Pdb {
    fn key(&self) -> Option<PdbKey> {
        PdbKey::parse(&format!("{}-{}", self.guid.as_ref()?, self.age?))
    }
}

/// The outermost object.
struct Top<'c>(&'c mut Content);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `symbols`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "metadata" => {
                    self.0.pdb = map.next_value::<Metadata>()?.windows.and_then(|windows| windows.pdb);
                }
                "symbols" => map.next_value_seed(Symbols(&mut self.0.builder))?,
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

/// The object `symbols`: name to `{address, …}`.
struct Symbols<'c>(&'c mut TableBuilder);

impl<'de> DeserializeSeed<'de> for Symbols<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Symbols<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of symbols")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            match map.next_value::<Symbol>()?.address.and_then(|address| address.0) {
                Some(address) => self.0.add(&name, address),
                None => self.0.skip(),
            }
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Symbol {
    #[serde(default)]
    address: Option<Address>,
}

/// A string, borrowed from the JSON unless it holds escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A number that may be an address; anything else is none, and no reason to give up the file.
struct Address(Option<u64>);

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNumber;
        impl Visitor<'_> for AnyNumber {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Address, E> {
                Ok(Address(Some(value)))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Address, E> {
                Ok(Address(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Address, E> {
                Ok(Address(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Address, E> {
                Ok(Address(None))
            }
        }
        deserializer.deserialize_any(AnyNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{
        "base_types": {"x": [1, {"y": null}]},
        "metadata": {"format": "6.1.0", "windows": {"pdb":
            {"GUID": "5278AFF86C341677D7D7835C85B7B844", "age": 1, "database": "ntkrnlmp.pdb", "machine_type": 34404}}},
        "symbols": {
            "A\u0042": {"address": 16, "linkage_name": "_AB"},
            "Far": {"address": 5000000000}, "Below": {"address": -1}, "Odd": {"address": "x"}, "None": {},
            "KeBugCheckEx": {"type": {"kind": "base", "name": "void"}, "address": 4096}
        },
        "user_types": {"_X": {"size": 1}}
    }"#;

    #[test]
    fn symbols_and_identity() {
        let isf = Isf::parse(SMALL.as_bytes()).unwrap();
        assert_eq!(isf.key.unwrap().to_string(), "5278AFF86C341677D7D7835C85B7B844-1");
        assert_eq!((isf.database.as_deref(), isf.machine), (Some("ntkrnlmp.pdb"), Some(0x8664)));
        assert_eq!(isf.symbols.address_of("AB"), Some(16));
        assert_eq!(isf.symbols.lookup(0x1004).unwrap().name, "KeBugCheckEx");
        assert_eq!((isf.symbols.len(), isf.symbols.skipped(), isf.damage), (2, 4, None));
    }

    /// Cut anywhere, the file gives the symbols before the cut, and never fewer than a shorter one.
    #[test]
    fn a_cut_file_gives_what_came_before() {
        let mut most = 0;
        for end in 0..SMALL.len() {
            let kept = match Isf::parse(&SMALL.as_bytes()[..end]) {
                Ok(isf) => {
                    assert!(isf.damage.is_some());
                    isf.symbols.len()
                }
                Err(error) => {
                    assert!(matches!(error, IsfError::Json(_)));
                    0
                }
            };
            assert!(kept >= most);
            most = kept;
        }
        assert_eq!(most, 2);
    }

    #[test]
    fn what_is_no_symbol_table_is_said_so() {
        for wrong in ["", "[]", "{}", "null", "{\"symbols\": []}", "{\"symbols\": {\"a\": 1}}", "\u{feff}{}"]
        {
            assert!(matches!(Isf::parse(wrong.as_bytes()), Err(IsfError::Json(_))), "{wrong}");
        }
        let deep = "[".repeat(1_000_000);
        assert!(Isf::parse(format!("{{\"x\": {deep}").as_bytes()).is_err());
    }

    /// Whatever single byte is wrong, the file is read or refused.
    #[test]
    fn a_wrong_byte_anywhere_does_no_harm() {
        let mut json = SMALL.as_bytes().to_vec();
        for at in 0..json.len() {
            let right = json[at];
            for wrong in [0, b'"', b'{', b'}', b'[', b':', b'9', b'-', b'\\', 0xff] {
                json[at] = wrong;
                if let Ok(isf) = Isf::parse(&json) {
                    assert!(!isf.symbols.is_empty() && isf.symbols.lookup(u32::MAX).is_some());
                }
            }
            json[at] = right;
        }
    }

    #[test]
    fn unpacking_is_bounded() {
        assert!(matches!(unpack_xz(b"not xz", 100), Err(IsfError::Xz(_))));
        assert!(matches!(unpack_xz(b"", 100), Err(IsfError::Xz(_))));
        let mut packed = XZ.to_vec();
        let (json, broken) = unpack_xz(&packed, 100).unwrap();
        assert!(broken.is_none() && json == b"{\"symbols\": {\"A\": {\"address\": 1}}}\n");
        assert!(matches!(unpack_xz(&packed, 10), Err(IsfError::TooLarge(_))));
        assert_eq!(first_dictionary(&packed), Some(22));
        for cut in 1..packed.len() {
            let whole = matches!(unpack_xz(&packed[..cut], 100), Ok((_, None)));
            assert!(!whole, "cut at {cut} of {}", packed.len());
        }
        // A dictionary of 4 GiB.
        packed[16] = 40;
        assert!(unpack_xz(&packed, 100).unwrap_err().to_string().contains("64 MiB"));
    }

    /// `{"symbols": {"A": {"address": 1}}}` by `xz -6`.
    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x0, 0x0, 0x4, 0xe6, 0xd6, 0xb4, 0x46, 0x2, 0x0, 0x21, 0x1, 0x16, 0x0,
        0x0, 0x0, 0x74, 0x2f, 0xe5, 0xa3, 0x1, 0x0, 0x22, 0x7b, 0x22, 0x73, 0x79, 0x6d, 0x62, 0x6f, 0x6c,
        0x73, 0x22, 0x3a, 0x20, 0x7b, 0x22, 0x41, 0x22, 0x3a, 0x20, 0x7b, 0x22, 0x61, 0x64, 0x64, 0x72, 0x65,
        0x73, 0x73, 0x22, 0x3a, 0x20, 0x31, 0x7d, 0x7d, 0x7d, 0xa, 0x0, 0x0, 0xd9, 0x5e, 0x22, 0x7f, 0xd1,
        0xd4, 0xdb, 0xbc, 0x0, 0x1, 0x3b, 0x23, 0x61, 0x2b, 0x53, 0xbe, 0x1f, 0xb6, 0xf3, 0x7d, 0x1, 0x0,
        0x0, 0x0, 0x0, 0x4, 0x59, 0x5a,
    ];
}
