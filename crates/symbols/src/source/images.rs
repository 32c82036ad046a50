//! Images: those that were given, and the names of one.

use crate::store::{MAX_FILE, read};
use crate::{Pdb, PdbKey, StackFrames, SymbolTable};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stopcode_image::Image;

/// The names of an image.
#[derive(Clone, Debug)]
pub struct ImageNames {
    /// The names.
    pub symbols: Arc<SymbolTable>,
    /// The file they were read from: a PDB, or the image itself if these are only its exports.
    pub path: PathBuf,
    /// The PDB's identity, if it is one.
    pub key: Option<PdbKey>,
    /// How its x86 functions use the stack, where the PDB tells.
    pub frames: Arc<StackFrames>,
}

/// A file named outright, by what its content says it is.
#[derive(Debug)]
pub(crate) enum Given {
    Pdb(PdbKey),
    Image { time_date_stamp: u32, size_of_image: u32 },
}

impl Given {
    /// Reads a file's identity; `None` if it is neither.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        let bytes = read(path, MAX_FILE).ok()?;
        if let Ok(key) = Pdb::identity(&bytes) {
            return Some(Self::Pdb(key));
        }
        let image = Image::of_file(&bytes).ok()?;
        let headers = image.headers();
        Some(Self::Image { time_date_stamp: headers.time_date_stamp, size_of_image: headers.size_of_image })
    }
}
