//! I/O request packets. Their layout is that of the public `wdm.h`, the same in every kernel of one width.

use crate::core::Core;
use crate::reading::bytes::{Bytes, word};
use stopcode_base::{Arch, Fact, VirtAddr, visible};

/// `IO_TYPE_IRP`, `IO_TYPE_DEVICE`, `IO_TYPE_DRIVER`.
const IRP_TYPE: u16 = 6;
const DEVICE_TYPE: u16 = 3;
const DRIVER_TYPE: u16 = 4;
/// Bytes of the larger of the two forms.
const MOST_IRP: usize = 0xd0;
const MOST_LOCATION: usize = 0x48;

/// Where the fields lie.
struct Shape {
    /// Bytes of an IRP before its stack locations, and of each of those.
    irp: usize,
    location: usize,
    mdl: usize,
    status: usize,
    /// `PendingReturned`, with `StackCount`, `CurrentLocation` and `Cancel` behind it.
    pending_returned: usize,
    cancel_routine: usize,
    thread: usize,
    /// Of a stack location: its parameters, then device, file object, completion routine and context, a pointer each.
    arguments: usize,
    device: usize,
    /// `DRIVER_OBJECT.DriverName`.
    driver_name: u64,
}

impl Shape {
    const fn of(arch: Arch) -> Self {
        match arch {
            Arch::X86 => Self {
                irp: 0x70,
                location: 0x24,
                mdl: 4,
                status: 0x18,
                pending_returned: 0x21,
                cancel_routine: 0x38,
                thread: 0x50,
                arguments: 4,
                device: 0x14,
                driver_name: 0x1c,
            },
            _ => Self {
                irp: MOST_IRP,
                location: MOST_LOCATION,
                mdl: 8,
                status: 0x30,
                pending_returned: 0x41,
                cancel_routine: 0x68,
                thread: 0x98,
                arguments: 8,
                device: 0x28,
                driver_name: 0x38,
            },
        }
    }
}

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
    let (memory, arch, shape) = (core.memory(), core.arch, Shape::of(core.arch));
    let mut room = [0; MOST_IRP];
    let header = room.get_mut(..shape.irp).unwrap_or_default();
    if let Err(miss) = memory.read(address, header) {
        return Fact::missing(format!("the IRP at {}: {}", arch.windbg(address), miss.reason));
    }
    let fields = Bytes(header);
    let kind = fields.u16(0).unwrap_or(0);
    let size = fields.u16(2).unwrap_or(0);
    let byte = |behind: usize| fields.u8(shape.pending_returned + behind).unwrap_or(0);
    let (count, current) = (byte(1), byte(2));
    let needed = shape.irp + usize::from(count) * shape.location;
    if kind != IRP_TYPE || usize::from(size) < needed || current > count.saturating_add(2) {
        return Fact::missing(format!(
            "what lies at {} is no IRP: type {kind}, size {size:#x}, {count} stack locations",
            arch.windbg(address)
        ));
    }
    let pointer = |at: usize| VirtAddr(word(arch, header, at as u64).unwrap_or(0));
    let locations = (0..usize::from(count))
        .map_while(|index| location(core, &shape, address.plus((shape.irp + index * shape.location) as u64)));
    Fact::known(
        Irp {
            address,
            size,
            status: fields.u32(shape.status).unwrap_or(0),
            pending_returned: byte(0) == 1,
            cancel: byte(3) == 1,
            cancel_routine: pointer(shape.cancel_routine),
            mdl: pointer(shape.mdl),
            thread: pointer(shape.thread),
            stack_count: count,
            current_location: current,
            locations: locations.collect(),
        },
        "IRP, whose type and size are one's",
    )
}

fn location(core: &Core, shape: &Shape, address: VirtAddr) -> Option<StackLocation> {
    let mut room = [0; MOST_LOCATION];
    let raw = room.get_mut(..shape.location)?;
    core.memory().read(address, raw).ok()?;
    let fields = Bytes(raw);
    let pointers =
        |first: usize, index: u64| word(core.arch, raw, first as u64 + index * core.arch.pointer_size());
    let argument = |index| pointers(shape.arguments, index);
    let pointer = |index| pointers(shape.device, index).map(VirtAddr);
    let device = pointer(0)?;
    Some(StackLocation {
        address,
        major: fields.u8(0)?,
        minor: fields.u8(1)?,
        flags: fields.u8(2)?,
        control: fields.u8(3)?,
        arguments: [argument(0)?, argument(1)?, argument(2)?, argument(3)?],
        device,
        file: pointer(1)?,
        completion: pointer(2)?,
        context: pointer(3)?,
        driver: driver_of(core, shape, device),
    })
}

/// The name of the driver of the device object at an address: `\Driver\disk`.
pub(crate) fn driver_of_device(core: &Core, device: VirtAddr) -> Fact<String> {
    driver_of(core, &Shape::of(core.arch), device)
}

/// The name of the driver of a device, through `DEVICE_OBJECT.DriverObject` and `DRIVER_OBJECT.DriverName`.
fn driver_of(core: &Core, shape: &Shape, device: VirtAddr) -> Fact<String> {
    /// `DEVICE_OBJECT.DriverObject`, in every kernel.
    const DRIVER_OBJECT: u64 = 8;
    let memory = core.memory();
    if !core.arch.is_kernel(device) {
        return Fact::missing("no device: not an address of the kernel's half");
    }
    let name = || -> Result<Option<String>, stopcode_base::Miss> {
        let driver = core.pointer(device.plus(DRIVER_OBJECT))?;
        if memory.read_u16(device)? != DEVICE_TYPE || memory.read_u16(driver)? != DRIVER_TYPE {
            return Ok(None);
        }
        let name = driver.plus(shape.driver_name);
        let mut raw = vec![0; usize::from(memory.read_u16(name)?.min(LONGEST_NAME))];
        memory.read(core.pointer(name.plus(core.arch.pointer_size()))?, &mut raw)?;
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
