//! Numbers and bytes as a machine description spells them: `"0xfffff80003216000"`, `"5e 5d c3"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A number that is read best in base 16; in JSON a string with `0x` in front, or a plain number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hex(pub u64);

impl Hex {
    /// True for zero.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    pub(crate) fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Hex;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a string such as \"0x1f\"")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Hex, E> {
                Ok(Hex(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hex, E> {
                parse(text).map(Hex).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The value of `0x` and base-16 digits, where a back quote or an underscore may group them.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let digits: String = text.strip_prefix("0x")?.chars().filter(|c| !matches!(c, '`' | '_')).collect();
    // from_str_radix would take a sign.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(&digits, 16).ok()).flatten()
}

/// Bytes; in JSON a string of base-16 pairs, blanks allowed between them, or `{"file": "stack.bin"}`, which
/// [`crate::Machine::read`] replaces by what the file holds.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>, pub(crate) Option<String>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes, None)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&pairs(&self.0))
    }
}

/// The two spellings.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Spelling {
    Pairs(String),
    File { file: String },
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.1 {
            Some(file) => Spelling::File { file: file.clone() }.serialize(serializer),
            None => serializer.serialize_str(&pairs(&self.0)),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Spelling::deserialize(deserializer)? {
            Spelling::File { file } => Ok(Self(Vec::new(), Some(file))),
            Spelling::Pairs(text) => unpair(&text).map(Self::from).ok_or_else(|| {
                de::Error::invalid_value(
                    de::Unexpected::Str(&text),
                    &"pairs of base-16 digits such as \"5e 5d c3\", or a file",
                )
            }),
        }
    }
}

fn pairs(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

fn unpair(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        text.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| if let [h, l] = pair { Some((h << 4 | l) as u8) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling() {
        assert_eq!(parse("0xfffff880`03dccfd0"), Some(0xfffff880_03dccfd0));
        assert_eq!(parse("0x+1"), None);
        assert_eq!(parse("10"), None);
        assert_eq!(unpair("66 89 4c2420"), Some(vec![0x66, 0x89, 0x4c, 0x24, 0x20]));
        assert_eq!(unpair("6"), None);
        assert_eq!(unpair("zz"), None);
        assert_eq!(serde_json::from_str::<Hex>("\"0x1f\"").unwrap(), Hex(31));
        assert_eq!(serde_json::from_str::<Hex>("31").unwrap(), Hex(31));
        assert_eq!(serde_json::to_string(&Bytes::from(vec![1, 0xff])).unwrap(), "\"01 ff\"");
    }
}
