//! Names and keys of files in a store.

use crate::{Pdb, PdbKey};
use std::path::PathBuf;
use stopcode_image::Image;

/// One file of a store: a name that is safe to be one, and the key that tells it from others of that name.
///
/// The name may come out of a dump. It can only be made from characters that file names are made of, so that no name
/// leads out of the store's folder, to a device, or into another part of an address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StoreFile {
    name: String,
    key: String,
    identity: Identity,
}

/// What the file itself must say it is: a name and a folder prove nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Identity {
    Pdb(PdbKey),
    Image { time_date_stamp: u32, size_of_image: u32 },
}

/// Longer than any image's or PDB's name in practice.
const MAX_NAME: usize = 128;

impl StoreFile {
    /// A PDB; of a path the last part is taken. `None` if that cannot be a file's name.
    pub fn pdb(path: &str, key: PdbKey) -> Option<Self> {
        Some(Self { name: safe(path)?, key: key.store_key(), identity: Identity::Pdb(key) })
    }

    /// An image by the time stamp and size of its header. `None` if the path's last part cannot be a file's name.
    pub fn image(path: &str, time_date_stamp: u32, size_of_image: u32) -> Option<Self> {
        let identity = Identity::Image { time_date_stamp, size_of_image };
        Some(Self { name: safe(path)?, key: format!("{time_date_stamp:08X}{size_of_image:x}"), identity })
    }

    /// True if these bytes are the file: a PDB of this identity, an image whose header has this time stamp and size.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        match self.identity {
            Identity::Pdb(key) => Pdb::identity(bytes) == Ok(key),
            Identity::Image { time_date_stamp, size_of_image } => Image::of_file(bytes).is_ok_and(|image| {
                let headers = image.headers();
                (headers.time_date_stamp, headers.size_of_image) == (time_date_stamp, size_of_image)
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its key: a folder's name in a store.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its name where it is compressed: the last character becomes `_`.
    pub fn compressed_name(&self) -> String {
        let mut name = self.name.clone();
        name.pop();
        name.push('_');
        name
    }

    /// `name/key/name`; in two tiers `na/name/key/name`.
    pub fn relative(&self, two_tier: bool) -> PathBuf {
        relative(&self.name, &self.key, two_tier)
    }

    /// Where a server has the file called `name` of this one's folder, below its address: `own name/key/name`, with what has a
    /// meaning in an address escaped.
    pub fn url_path(&self, name: &str) -> String {
        format!("{}/{}/{}", escaped(&self.name), self.key, escaped(name))
    }

    /// The same place as it may be spelled where case matters: Windows, which made the store, does not care.
    pub(super) fn spellings(&self, two_tier: bool) -> Vec<PathBuf> {
        let lower = self.name.to_ascii_lowercase();
        let keys = [self.key.clone(), self.key.to_ascii_uppercase(), self.key.to_ascii_lowercase()];
        let mut paths: Vec<PathBuf> = Vec::new();
        for name in [&self.name, &lower] {
            for key in &keys {
                let path = relative(name, key, two_tier);
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
        paths
    }
}

fn escaped(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn relative(name: &str, key: &str, two_tier: bool) -> PathBuf {
    let tier = name.get(..2).filter(|_| two_tier).unwrap_or_default();
    [tier, name, key, name].iter().filter(|part| !part.is_empty()).collect()
}

/// The last part of a path, if it can be a file's name on every system and nothing else.
fn safe(path: &str) -> Option<String> {
    let name = stopcode_base::file_name(path);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+ $@~()[]{}!#%&'=,".contains(c);
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let numbered = |stem: &str| {
        ["COM", "LPT"].iter().any(|device| stem.strip_prefix(device).is_some_and(|rest| rest.len() == 1))
    };
    let device = matches!(&*stem, "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") || numbered(&stem);
    let good = (3..=MAX_NAME).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with(['.', ' '])
        && !name.ends_with(['.', ' '])
        && !name.contains("..")
        && !device;
    good.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Component;

    #[test]
    fn keys_as_stores_have_them() {
        let key = PdbKey::parse("5278AFF86C341677D7D7835C85B7B844-26").unwrap();
        let pdb = StoreFile::pdb(r"d:\build\ntkrnlmp.pdb", key).unwrap();
        assert_eq!(pdb.url_path(pdb.name()), "ntkrnlmp.pdb/5278AFF86C341677D7D7835C85B7B8441a/ntkrnlmp.pdb");
        assert_eq!(pdb.compressed_name(), "ntkrnlmp.pd_");
        let image = StoreFile::image("ntoskrnl.exe", 0x0d83_33e6, 0x0104_6000).unwrap();
        assert_eq!(image.key(), "0D8333E61046000");
        let odd = StoreFile::image("a b#%.sys", 1, 1).unwrap();
        assert_eq!(odd.url_path(odd.name()), "a%20b%23%25.sys/000000011/a%20b%23%25.sys");
    }

    #[test]
    fn no_name_leads_out_of_the_store() {
        for name in [
            "",
            ".",
            "..",
            "...",
            "a/..",
            r"a\..",
            "..a..pdb",
            "a..pdb",
            ".hidden",
            "a.pdb.",
            "a.pdb ",
            "c:a.pdb",
            "a.pdb:x",
            "con.pdb",
            "NUL",
            "com1.sys",
            "lpt9.pdb",
            "a\0.pdb",
            "a\n.pdb",
            "a*.pdb",
            "a?.pdb",
            "a|b.pdb",
            "ä.pdb",
            "a\u{202e}.pdb",
        ] {
            assert_eq!(StoreFile::image(name, 1, 1), None, "{name:?}");
        }
        assert_eq!(StoreFile::image(&"a".repeat(129), 1, 1), None);
        for path in ["../../etc/passwd", r"..\..\windows\win.ini", "/etc/shadow", r"\\server\share\x.pdb"] {
            let file = StoreFile::image(path, 1, 1).unwrap();
            for two_tier in [false, true] {
                let relative = file.relative(two_tier);
                assert!(relative.components().all(|part| matches!(part, Component::Normal(_))), "{path}");
            }
        }
    }
}
