//! What several tests need.

use std::fs;
use std::path::PathBuf;

/// A folder of its own for one test, removed when done.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stopcode-symbols-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        self.write_bytes(name, text.as_bytes())
    }

    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The smallest PDB that says which one it is: the container, its identity, and a header without anything behind it.
pub(crate) fn tiny_pdb(key: crate::PdbKey) -> Vec<u8> {
    const BLOCK: usize = 512;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut blocks = vec![vec![0u8; BLOCK]; 7];
    let mut put = |block: usize, bytes: &[u8]| blocks[block][..bytes.len()].copy_from_slice(bytes);
    let directory = words(&[4, 0, 28, 0, 64, 5, 6]);
    put(0, b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0");
    put(3, &words(&[4]));
    put(4, &directory);
    let guid = key.guid.to_be_bytes();
    let mut identity = words(&[20_000_404, 0, key.age]);
    // The first three parts of a GUID are numbers, written low byte first.
    identity.extend([3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(|at: usize| guid[at]));
    put(5, &identity);
    put(6, &words(&[u32::MAX, 19_990_903, key.age]));
    let mut file = blocks.concat();
    file[0x20..0x38].copy_from_slice(&words(&[BLOCK as u32, 1, 7, directory.len() as u32, 0, 3]));
    file
}
