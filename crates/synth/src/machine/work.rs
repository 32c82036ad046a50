//! Work under way: requests to drivers, deferred calls.

use crate::Hex;
use serde::{Deserialize, Serialize};

/// A driver object, and the device objects it made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// Where its DRIVER_OBJECT lies; its name lies behind it.
    pub at: Hex,
    /// `DRIVER_OBJECT.DriverName`: `\Driver\disk`.
    pub name: String,
    /// Where its DEVICE_OBJECTs lie, the newest first.
    pub devices: Vec<Hex>,
}

/// An I/O request packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Irp {
    /// Where it lies; its stack locations lie behind it.
    pub at: Hex,
    /// The thread it is for, in whose list it is; zero for none.
    pub thread: Hex,
    /// `IoStatus.Status`.
    #[serde(default)]
    pub status: Hex,
    /// `CurrentLocation`, counted from one; one more than there are locations before it was sent or once it is done.
    pub current_location: u8,
    /// True where it was asked to be cancelled.
    #[serde(default)]
    pub cancel: bool,
    /// Its cancel routine; zero for none.
    #[serde(default)]
    pub cancel_routine: Hex,
    /// Its memory descriptor list; zero for none.
    #[serde(default)]
    pub mdl: Hex,
    /// Its stack locations, in the order they lie in memory: the first is the lowest driver's.
    pub locations: Vec<Location>,
}

/// An `IO_STACK_LOCATION`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// `IRP_MJ_*`.
    pub major: u8,
    /// `IRP_MN_*`.
    #[serde(default)]
    pub minor: u8,
    /// `SL_*` of the major function.
    #[serde(default)]
    pub flags: u8,
    /// When the completion routine is called (0x40 success, 0x80 error, 0x20 cancel), and 1 where it is pending.
    #[serde(default)]
    pub control: u8,
    /// The parameters, as words.
    #[serde(default)]
    pub arguments: [Hex; 4],
    /// The device it is for.
    pub device: Hex,
    /// The file it is about; zero for none.
    #[serde(default)]
    pub file: Hex,
    /// The completion routine; zero for none.
    #[serde(default)]
    pub completion: Hex,
    /// What is passed to it.
    #[serde(default)]
    pub context: Hex,
}

/// A deferred procedure call that waits in the queue of a processor, or runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpc {
    /// Where its KDPC lies.
    pub at: Hex,
    /// The processor whose queue it is in.
    pub processor: u32,
    /// `DeferredRoutine`.
    pub routine: Hex,
    /// `DeferredContext`.
    #[serde(default)]
    pub context: Hex,
    /// `SystemArgument1` and `SystemArgument2`.
    #[serde(default)]
    pub arguments: [Hex; 2],
    /// True for one that left the queue and runs. Windows notes this since Windows 8.
    #[serde(default)]
    pub active: bool,
}
