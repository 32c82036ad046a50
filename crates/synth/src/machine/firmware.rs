//! What the firmware tells of the machine.

use serde::{Deserialize, Serialize};

/// The firmware's tables (SMBIOS), as `mssmbios.sys` adds them to a dump.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firmware {
    /// Version of the tables: major, minor.
    pub version: [u8; 2],
    /// Type 0: maker, version and date of the firmware.
    pub bios_vendor: String,
    /// Its version.
    pub bios_version: String,
    /// Its date, month/day/year.
    pub bios_date: String,
    /// Type 1: maker of the machine.
    pub manufacturer: String,
    /// Its model.
    pub product: String,
    /// Type 17: the slots for memory.
    pub memory: Vec<Slot>,
}

/// A slot for memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slot {
    /// As printed on the board: `DIMM_A1`.
    pub locator: String,
    /// MiB of what it holds; zero where it is empty.
    pub size_mib: u32,
    /// What that can do, in MT/s.
    pub speed: u16,
    /// What it is run at, in MT/s.
    pub configured_speed: u16,
    /// Its maker.
    pub manufacturer: String,
    /// Its model.
    pub part_number: String,
}
