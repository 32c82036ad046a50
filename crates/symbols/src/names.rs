//! The names of one image out of everything a [`SymbolSource`] was given: only those that are provably its own.

use crate::source::{Given, ImageNames, once};
use crate::store::{MAX_FILE, StoreFile, SymbolPath, read};
use crate::{Fetched, Pdb, PdbKey, SymbolSource, exports};
use std::path::PathBuf;
use std::sync::Arc;
use stopcode_image::{CodeView, Image};

/// An image whose names are wanted, as a loaded-module list tells it.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Names its file may have; on a symbol server the kernel is `ntkrnlmp.exe` or `ntoskrnl.exe`.
    pub names: &'a [&'a str],
    /// `TimeDateStamp` of its header.
    pub time_date_stamp: u32,
    /// `SizeOfImage` of its header.
    pub size_of_image: u32,
    /// Its PDB, where the dump holds that part of the image.
    pub codeview: Option<CodeView>,
}

/// The last part of the path in a PDB record, and its key.
fn pdb_of(codeview: &CodeView) -> (&str, PdbKey) {
    (stopcode_base::file_name(&codeview.path), PdbKey { guid: codeview.guid, age: codeview.age })
}

impl SymbolSource {
    /// The names of an image: from its PDB, found by the identity that the image itself records; else its exports. For
    /// the former either the dump holds that record or the image's own file is among what was given, under its time
    /// stamp and size. A PDB that merely has the right name is not taken.
    ///
    /// Looked at, in this order: files named outright; then folders and symbol paths as they were given.
    pub fn names_of(&self, wanted: &Wanted<'_>) -> Option<ImageNames> {
        if !self.has_paths() {
            return None;
        }
        let pdb = wanted.codeview.as_ref().map(|codeview| pdb_of(codeview).1);
        let name = wanted.names.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        let key = (name, wanted.time_date_stamp, wanted.size_of_image, pdb);
        once(&self.memo.images, key, || self.read_names_of(wanted))
    }

    fn read_names_of(&self, wanted: &Wanted<'_>) -> Option<ImageNames> {
        let image = wanted
            .names
            .iter()
            .find_map(|name| self.find_image(name, wanted.time_date_stamp, wanted.size_of_image));
        let image = image.as_ref().and_then(|(path, bytes)| Some((path, Image::of_file(bytes).ok()?)));
        let codeview = wanted.codeview.clone().or_else(|| image.as_ref()?.1.codeview());
        let pdb = codeview.as_ref().map(pdb_of).and_then(|(name, key)| self.find_pdb(name, key));
        match (pdb, image) {
            (Some((path, pdb)), image) => {
                // The function table is laid out as the image is, whatever was done to it after linking.
                let symbols = image
                    .map_or_else(|| pdb.symbols.clone(), |(_, image)| pdb.symbols.with_functions(&image));
                let frames = Arc::new(pdb.frames);
                Some(ImageNames { symbols: Arc::new(symbols), path, key: Some(pdb.key), frames })
            }
            (None, Some((path, image))) => {
                let symbols = exports(&image);
                (!symbols.is_empty()).then(|| ImageNames {
                    symbols: Arc::new(symbols),
                    path: path.clone(),
                    key: None,
                    frames: Arc::default(),
                })
            }
            (None, None) => None,
        }
    }

    /// The PDB of this identity. Folders and stores are asked for it by `name`.
    pub fn find_pdb(&self, name: &str, key: PdbKey) -> Option<(PathBuf, Pdb)> {
        let outright =
            self.given().iter().find(|(_, given)| matches!(given, Given::Pdb(other) if *other == key));
        let outright = outright.and_then(|(path, _)| Some((path.clone(), read(path, MAX_FILE).ok()?)));
        let found = outright.or_else(|| {
            let file = StoreFile::pdb(name, key)?;
            self.file(&file)
        });
        let (path, bytes) = found?;
        Some((path, Pdb::parse(&bytes).ok()?))
    }

    /// The file of an image by the time stamp and size of its header. Folders and stores are asked for it by `name`.
    pub fn find_image(&self, name: &str, stamp: u32, size: u32) -> Option<(PathBuf, Vec<u8>)> {
        let is_it = |given: &Given| {
            matches!(given, Given::Image { time_date_stamp, size_of_image }
                if (*time_date_stamp, *size_of_image) == (stamp, size))
        };
        let outright = self.given().iter().find(|(_, given)| is_it(given));
        let outright = outright.and_then(|(path, _)| Some((path.clone(), read(path, MAX_FILE).ok()?)));
        outright.or_else(|| {
            let file = StoreFile::image(name, stamp, size)?;
            self.file(&file)
        })
    }

    /// A file out of folders and stores, and where it lies: on this machine first, whatever the order of the paths; then,
    /// where the host allows it, at their servers.
    pub fn file(&self, file: &StoreFile) -> Option<(PathBuf, Vec<u8>)> {
        let here = self.symbol_paths().iter().find_map(|path| path.find(file, |bytes| file.fits(bytes)));
        here.or_else(|| self.fetch(file))
    }

    fn fetch(&self, file: &StoreFile) -> Option<(PathBuf, Vec<u8>)> {
        let online = self.online.as_ref()?;
        self.symbol_paths().iter().flat_map(SymbolPath::servers).find_map(|(server, stores)| {
            match online.get(file, server, &stores) {
                Fetched::Have { path, bytes } => Some((path.unwrap_or_else(|| server.into()), bytes)),
                Fetched::Absent | Fetched::Failed(_) => None,
            }
        })
    }
}
