//! I/O request packets. Their layout is that of the public `wdm.h`, the same in every 64-bit kernel.

use crate::core::Core;
use crate::reading::bytes::Bytes;
use stopcode_base::{Fact, Memory, VirtAddr, visible};

/// `IO_TYPE_IRP`, `IO_TYPE_DEVICE`, `IO_TYPE_DRIVER`.
const IRP_TYPE: u16 = 6;
const DEVICE_TYPE: u16 = 3;
const DRIVER_TYPE: u16 = 4;
/// Bytes of an IRP before its stack locations, and of each of those.
const IRP_SIZE: u64 = 0xd0;
const LOCATION_SIZE: u64 = 0x48;
/// Longest name of a driver that is read, in bytes.
const LONGEST_NAME: u16 = 512;

/// An IRP.
#[derive(Clone, PartialEq, Debug)]
pub struct Irp {
    /// Where it is.
    pub address: VirtAddr,
    /// Its size with its stack locations, as it states.
    pub size: u16,
    /// `IoStatus.Status`; says something once it is completed.
    pub status: u32,
    /// `PendingReturned`.
    pub pending_returned: bool,
    /// Somebody asked for it to be cancelled.
    pub cancel: bool,
    /// What would cancel it; null if nothing.
    pub cancel_routine: VirtAddr,
    /// Its first MDL; null if it has none.
    pub mdl: VirtAddr,
    /// The thread it was made for.
    pub thread: VirtAddr,
    /// How many stack locations it has.
    pub stack_count: u8,
    /// The current one, from 1; past [`Self::stack_count`] when it is completed.
    pub current_location: u8,
    /// The stack locations, lowest first; the driver that got it first has the last one.
    pub locations: Vec<StackLocation>,
}

/// One driver's part of an IRP.
#[derive(Clone, PartialEq, Debug)]
pub struct StackLocation {
    /// Where it is.
    pub address: VirtAddr,
    /// `IRP_MJ_*`.
    pub major: u8,
    /// `IRP_MN_*`.
    pub minor: u8,
    /// Flags.
    pub flags: u8,
    /// `SL_*`: bit 0 pending, bits 5 to 7 when the completion routine is called.
    pub control: u8,
    /// `Parameters`.
    pub arguments: [u64; 4],
    /// Its device; null if the location was not used yet.
    pub device: VirtAddr,
    /// Its file object.
    pub file: VirtAddr,
    /// What is called when it is completed; null if nothing.
    pub completion: VirtAddr,
    /// What is given to that.
    pub context: VirtAddr,
    /// The device's driver: `\Driver\disk`.
    pub driver: Fact<String>,
}

/// The name of an `IRP_MJ_*` number.
pub fn major_name(major: u8) -> Option<&'static str> {
    const NAMES: [&str; 28] = [
        "IRP_MJ_CREATE",
        "IRP_MJ_CREATE_NAMED_PIPE",
        "IRP_MJ_CLOSE",
        "IRP_MJ_READ",
        "IRP_MJ_WRITE",
        "IRP_MJ_QUERY_INFORMATION",
        "IRP_MJ_SET_INFORMATION",
        "IRP_MJ_QUERY_EA",
        "IRP_MJ_SET_EA",
        "IRP_MJ_FLUSH_BUFFERS",
        "IRP_MJ_QUERY_VOLUME_INFORMATION",
        "IRP_MJ_SET_VOLUME_INFORMATION",
        "IRP_MJ_DIRECTORY_CONTROL",
        "IRP_MJ_FILE_SYSTEM_CONTROL",
        "IRP_MJ_DEVICE_CONTROL",
        "IRP_MJ_INTERNAL_DEVICE_CONTROL",
        "IRP_MJ_SHUTDOWN",
        "IRP_MJ_LOCK_CONTROL",
        "IRP_MJ_CLEANUP",
        "IRP_MJ_CREATE_MAILSLOT",
        "IRP_MJ_QUERY_SECURITY",
        "IRP_MJ_SET_SECURITY",
        "IRP_MJ_POWER",
        "IRP_MJ_SYSTEM_CONTROL",
        "IRP_MJ_DEVICE_CHANGE",
        "IRP_MJ_QUERY_QUOTA",
        "IRP_MJ_SET_QUOTA",
        "IRP_MJ_PNP",
    ];
    NAMES.get(usize::from(major)).copied()
}

/// The IRP at `address`; missing if the dump does not hold it, or if that is none.
pub(crate) fn irp(core: &Core, address: VirtAddr) -> Fact<Irp> {
    let memory = core.memory();
    let mut header = [0; IRP_SIZE as usize];
    if let Err(miss) = memory.read(address, &mut header) {
        return Fact::missing(format!("the IRP at {}: {}", address.windbg(), miss.reason));
    }
    let fields = Bytes(&header);
    let kind = fields.u16(0).unwrap_or(0);
    let size = fields.u16(2).unwrap_or(0);
    let (count, current) = (fields.u8(0x42).unwrap_or(0), fields.u8(0x43).unwrap_or(0));
    let needed = IRP_SIZE + u64::from(count) * LOCATION_SIZE;
    if kind != IRP_TYPE || u64::from(size) < needed || current > count.saturating_add(2) {
        return Fact::missing(format!(
            "what lies at {} is no IRP: type {kind}, size {size:#x}, {count} stack locations",
            address.windbg()
        ));
    }
    let pointer = |at| VirtAddr(fields.u64(at).unwrap_or(0));
    let locations = (0..u64::from(count))
        .map_while(|index| location(memory, address.plus(IRP_SIZE + index * LOCATION_SIZE)));
    Fact::known(
        Irp {
            address,
            size,
            status: fields.u32(0x30).unwrap_or(0),
            pending_returned: fields.u8(0x41) == Some(1),
            cancel: fields.u8(0x44) == Some(1),
            cancel_routine: pointer(0x68),
            mdl: pointer(8),
            thread: pointer(0x98),
            stack_count: count,
            current_location: current,
            locations: locations.collect(),
        },
        "IRP, whose type and size are one's",
    )
}

fn location(memory: &dyn Memory, address: VirtAddr) -> Option<StackLocation> {
    let mut raw = [0; LOCATION_SIZE as usize];
    memory.read(address, &mut raw).ok()?;
    let fields = Bytes(&raw);
    let pointer = |at| fields.u64(at).map(VirtAddr);
    let device = pointer(0x28)?;
    Some(StackLocation {
        address,
        major: fields.u8(0)?,
        minor: fields.u8(1)?,
        flags: fields.u8(2)?,
        control: fields.u8(3)?,
        arguments: [fields.u64(8)?, fields.u64(0x10)?, fields.u64(0x18)?, fields.u64(0x20)?],
        device,
        file: pointer(0x30)?,
        completion: pointer(0x38)?,
        context: pointer(0x40)?,
        driver: driver_of(memory, device),
    })
}

/// The name of the driver of a device, through `DEVICE_OBJECT.DriverObject` and `DRIVER_OBJECT.DriverName`.
fn driver_of(memory: &dyn Memory, device: VirtAddr) -> Fact<String> {
    if !device.is_kernel() {
        return Fact::missing("no device");
    }
    let name = || -> Result<Option<String>, stopcode_base::Miss> {
        let driver = VirtAddr(memory.read_u64(device.plus(8))?);
        if memory.read_u16(device)? != DEVICE_TYPE || memory.read_u16(driver)? != DRIVER_TYPE {
            return Ok(None);
        }
        let size = memory.read_u16(driver.plus(0x38))?.min(LONGEST_NAME);
        let mut raw = vec![0; usize::from(size)];
        memory.read(VirtAddr(memory.read_u64(driver.plus(0x40))?), &mut raw)?;
        let units: Vec<u16> =
            raw.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(u16::from_le_bytes)).collect();
        Ok(Some(visible(&String::from_utf16_lossy(&units))))
    };
    match name() {
        Ok(Some(name)) => Fact::known(name, "DRIVER_OBJECT.DriverName"),
        Ok(None) => Fact::missing("the device object is none, or its driver object is none"),
        Err(miss) => Fact::missing(format!("the device or driver object: {}", miss.reason)),
    }
}
