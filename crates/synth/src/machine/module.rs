//! Modules, loaded and gone, and what Driver Verifier counted of them.

use crate::{Error, Hex, image};
use serde::{Deserialize, Serialize};

/// A loaded module.
///
/// What it is made of is either described here, and the dump then holds made-up headers; or it is a PE file, which is
/// loaded at [`Self::base`] as the system's loader would, and then says its size, time stamp and checksum itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Full path as the loader knows it.
    pub path: String,
    /// First address.
    pub base: Hex,
    /// `SizeOfImage`.
    #[serde(default)]
    pub size: Hex,
    /// `TimeDateStamp`.
    #[serde(default)]
    pub time_stamp: Hex,
    /// `CheckSum`.
    #[serde(default)]
    pub checksum: Hex,
    /// The PDB its debug directory names; for a module that is no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdb: Option<Pdb>,
    /// The PE file, seen from the folder of the description.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The bytes of that file, as [`crate::Machine::read`] finds them.
    #[serde(skip)]
    pub contents: Vec<u8>,
}

impl Module {
    /// True if `at` lies in the image.
    pub(crate) fn holds(&self, at: u64) -> bool {
        at.wrapping_sub(self.base.0) < self.size.0
    }

    /// Size, time stamp and checksum out of the file; what the description says of them too has to be the same.
    pub(crate) fn take_headers(&mut self) -> Result<(), Error> {
        let headers = image::headers(&self.contents)
            .ok_or_else(|| Error::File { path: self.file.clone(), reason: "not a PE file".to_owned() })?;
        let found = [headers.size_of_image, headers.time_stamp, headers.checksum];
        let said = [&mut self.size, &mut self.time_stamp, &mut self.checksum];
        for ((said, found), what) in said.into_iter().zip(found).zip(["size", "time_stamp", "checksum"]) {
            if said.0 != 0 && said.0 != u64::from(found) {
                return Err(Error::Contradiction(format!(
                    "{what} of {} is {found:#x}, not {said:?}",
                    self.file
                )));
            }
            said.0 = u64::from(found);
        }
        Ok(())
    }
}

/// The identity of a PDB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pdb {
    /// Its file name.
    pub name: String,
    /// Its GUID: 32 digits of base 16, as symbol servers spell it.
    pub guid: String,
    /// Its age.
    pub age: u32,
}

impl Pdb {
    /// The GUID as a file stores it: the first three fields with their bytes reversed.
    pub(crate) fn stored_guid(&self) -> [u8; 16] {
        let mut stored = u128::from_str_radix(&self.guid, 16).unwrap_or(0).to_be_bytes();
        let mut rest = stored.as_mut_slice();
        for field in [4, 2, 2] {
            let (here, behind) = rest.split_at_mut(field);
            here.reverse();
            rest = behind;
        }
        stored
    }
}

/// A driver that is no longer there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unloaded {
    /// Its file name; the dump holds the first twelve letters.
    pub name: String,
    /// First address it had.
    pub start: Hex,
    /// First address above it.
    pub end: Hex,
}

/// Driver Verifier's counters, `MM_DRIVER_VERIFIER_DATA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verifier {
    /// What is checked: 2 forces IRQL checking, 0x209bb is the standard set.
    pub level: Hex,
    /// How often a driver raised the interrupt level.
    pub raise_irqls: u32,
    /// How often one took a spin lock.
    pub acquire_spin_locks: u32,
    /// How often pageable memory was to be trimmed.
    pub trim_requests: u32,
    /// How often it was.
    pub trims: u32,
    /// Drivers loaded under the verifier.
    pub loads: u32,
}
