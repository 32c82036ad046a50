//! The sources of hardware errors that Windows knows of: `WheapErrorSourceTable`. Only the kernel's own symbols lead there.

use crate::core::Core;
use crate::reading::object::{Object, listed};
use stopcode_base::{Fact, VirtAddr};

/// The table of error sources.
#[derive(Clone, PartialEq, Debug)]
pub struct ErrorSources {
    /// `WHEAP_ERROR_SOURCE_TABLE`.
    pub address: VirtAddr,
    /// How many there are, as the table says.
    pub count: Fact<u32>,
    /// Those that were found, in the table's order.
    pub sources: Vec<ErrorSource>,
    /// Why there may be more of them; `None` if the list was walked to its end.
    pub broken: Option<String>,
}

/// A source of hardware errors: `WHEAP_ERROR_SOURCE` and the `WHEA_ERROR_SOURCE_DESCRIPTOR` in it.
#[derive(Clone, PartialEq, Debug)]
pub struct ErrorSource {
    /// Where it lies.
    pub address: VirtAddr,
    /// `WHEA_ERROR_SOURCE_TYPE`; [`source_kind`] has the words.
    pub kind: Fact<u32>,
    /// `WHEA_ERROR_SOURCE_STATE`; [`source_state`] has the words.
    pub state: Fact<u32>,
    /// Its number.
    pub id: Fact<u32>,
    /// Errors it has told of.
    pub errors: Fact<u32>,
    /// Error records that are kept ready for it.
    pub records: Fact<u32>,
    /// Bytes of one.
    pub record_length: Fact<u32>,
    /// The first of them, with the wrapper around it; null if there are none.
    pub first_record: Fact<VirtAddr>,
    /// Bytes of raw data that it tells of an error at most.
    pub raw_data_length: Fact<u32>,
    /// Sections of an error record at most.
    pub sections: Fact<u32>,
    /// Flags of the descriptor.
    pub flags: Fact<u32>,
}

/// The name of a `WHEA_ERROR_SOURCE_TYPE`, as the WDK's `ntddk.h` has it.
pub fn source_kind(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0 => "machine check exception (MCE)",
        1 => "corrected machine check (CMC)",
        2 => "corrected platform error (CPE)",
        3 => "nonmaskable interrupt (NMI)",
        4 => "PCI Express",
        5 => "generic",
        6 => "INIT of IA-64",
        7 => "boot error record",
        8 => "generic, by SCI",
        9 => "machine check abort of IA-64",
        10 => "corrected machine check of IA-64",
        11 => "corrected platform error of IA-64",
        12 => "generic, version 2",
        13 => "generic, version 2, by SCI",
        14 => "baseboard management controller (BMC)",
        15 => "persistent memory (PMEM)",
        16 => "device driver",
        _ => return None,
    })
}

/// The name of a `WHEA_ERROR_SOURCE_STATE`.
pub fn source_state(state: u32) -> Option<&'static str> {
    Some(match state {
        1 => "stopped",
        2 => "started",
        3 => "removed",
        4 => "about to be removed",
        _ => return None,
    })
}

pub(crate) fn sources(core: &Core) -> Fact<ErrorSources> {
    const TABLE: &str = "_WHEAP_ERROR_SOURCE_TABLE";
    const SOURCE: &str = "_WHEAP_ERROR_SOURCE";
    let address = match core.variable("WheapErrorSourceTable") {
        Ok(address) => address,
        Err(reason) => return Fact::missing(reason),
    };
    let table = Object::new(core, TABLE, address);
    let items = match table.address_of("Items") {
        Fact::Known { value, .. } => value,
        Fact::Missing { reason } => return Fact::Missing { reason },
    };
    let found = listed(core, items, SOURCE, "ListEntry", "WheapErrorSourceTable.Items");
    found.map(|list| ErrorSources {
        address,
        count: table.u32("Count"),
        sources: list.entries.into_iter().map(|at| source(&Object::new(core, SOURCE, at), core)).collect(),
        broken: list.broken,
    })
}

fn source(source: &Object<'_>, core: &Core) -> ErrorSource {
    let descriptor = source.address_of("Descriptor");
    let of_descriptor = |field| match &descriptor {
        Fact::Known { value, .. } => Object::new(core, "_WHEA_ERROR_SOURCE_DESCRIPTOR", *value).u32(field),
        Fact::Missing { reason } => Fact::Missing { reason: reason.clone() },
    };
    ErrorSource {
        address: source.address(),
        kind: source.u32("Type"),
        state: of_descriptor("State"),
        id: of_descriptor("ErrorSourceId"),
        errors: source.u32("ErrorCount"),
        records: source.u32("RecordCount"),
        record_length: source.u32("RecordLength"),
        first_record: source.pointer("Records"),
        raw_data_length: of_descriptor("MaxRawDataLength"),
        sections: of_descriptor("MaxSectionsPerRecord"),
        flags: of_descriptor("Flags"),
    }
}
