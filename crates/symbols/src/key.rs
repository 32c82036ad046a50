//! The identity of a PDB: what links an image, its symbols and their file names.

use std::fmt;

/// GUID and age of a PDB, as an image's RSDS record gives them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PdbKey {
    /// The GUID as the number its 32 hexadecimal digits make, in the order they are written.
    pub guid: u128,
    /// The age.
    pub age: u32,
}

impl PdbKey {
    /// Reads `GUID-age` (file names of ISF, age decimal) or `GUIDage` (symbol servers, age hexadecimal), where GUID is
    /// 32 hexadecimal digits in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let (guid, age) = text.split_at_checked(32)?;
        if !guid.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let guid = u128::from_str_radix(guid, 16).ok()?;
        let (digits, radix) = age.strip_prefix('-').map_or((age, 16), |age| (age, 10));
        // `from_str_radix` would take a sign.
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        Some(Self { guid, age: u32::from_str_radix(digits, radix).ok()? })
    }

    /// The name of the folder a symbol store keeps the PDB in: GUID and age in hexadecimal, nothing between.
    pub fn store_key(self) -> String {
        format!("{:032X}{:x}", self.guid, self.age)
    }

    /// The key in an ISF file's name, `<GUID>-<age>.json` or `.json.xz`.
    pub fn of_file_name(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".xz").unwrap_or(name).strip_suffix(".json")?;
        Self::parse(stem)
    }
}

/// `5278AFF86C341677D7D7835C85B7B844-1`.
impl fmt::Display for PdbKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032X}-{}", self.guid, self.age)
    }
}

impl fmt::Debug for PdbKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_file_names() {
        let key = PdbKey { guid: 0x5278AFF86C341677D7D7835C85B7B844, age: 1 };
        assert_eq!(PdbKey::parse("5278aff86c341677d7d7835c85b7b8441"), Some(key));
        assert_eq!(PdbKey::of_file_name("5278AFF86C341677D7D7835C85B7B844-1.json.xz"), Some(key));
        assert_eq!(PdbKey::of_file_name("5278AFF86C341677D7D7835C85B7B844-1.json"), Some(key));
        assert_eq!(key.to_string(), "5278AFF86C341677D7D7835C85B7B844-1");
        let aged = PdbKey { guid: 1, age: 10 };
        assert_eq!(PdbKey::parse("00000000000000000000000000000001A"), Some(aged));
        assert_eq!(PdbKey::parse("00000000000000000000000000000001-10"), Some(aged));
        for wrong in ["", "5278", "+278AFF86C341677D7D7835C85B7B8441", "5278AFF86C341677D7D7835C85B7B844-+1"]
        {
            assert_eq!(PdbKey::parse(wrong), None, "{wrong}");
        }
        assert_eq!(PdbKey::of_file_name("ntkrnlmp.json.xz"), None);
        assert_eq!(PdbKey::of_file_name("5278AFF86C341677D7D7835C85B7B844-1.txt"), None);
    }
}
