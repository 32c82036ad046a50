//! Drivers, devices, IRPs and DPCs, as the public `wdm.h` has them.

use crate::block::Block;
use crate::layout::Layout;
use crate::machine::{Dpc, Driver, Irp, Location, Machine, Processor};
use crate::record::{Record, Structure, neighbours};
use crate::{Error, blobs};

/// `IO_TYPE_*` and `DpcObject`.
const DEVICE_TYPE: u16 = 3;
const DRIVER_TYPE: u16 = 4;
const IRP_TYPE: u16 = 6;
const DPC_TYPE: u8 = 19;
/// `MediumImportance`.
const DPC_IMPORTANCE: u8 = 1;
/// An IRP has room in its header for no more locations than a byte counts.
const MOST_LOCATIONS: usize = 127;

/// All of the machine's.
pub(crate) fn blocks(machine: &Machine, layout: &Layout) -> Result<Vec<Block>, Error> {
    let mut blocks = Vec::new();
    for driver in &machine.drivers {
        blocks.push(Block { at: driver.at.0, bytes: driver_object(layout, driver)? });
        for (n, device) in driver.devices.iter().enumerate() {
            let next = driver.devices.get(n + 1).map_or(0, |next| next.0);
            blocks.push(Block { at: device.0, bytes: device_object(layout, driver, next)? });
        }
    }
    for irp in &machine.irps {
        blocks.push(Block { at: irp.at.0, bytes: packet(machine, layout, irp)? });
    }
    for dpc in &machine.dpcs {
        blocks.push(Block { at: dpc.at.0, bytes: deferred(machine, layout, dpc)? });
    }
    Ok(blocks)
}

fn driver_object(layout: &Layout, driver: &Driver) -> Result<Vec<u8>, Error> {
    let name = blobs::wide(&driver.name);
    let size = layout.size("_DRIVER_OBJECT")?;
    let mut s = Structure::new(layout, "_DRIVER_OBJECT")?;
    s.put("Type", &DRIVER_TYPE.to_le_bytes()).put("Size", &(size as u16).to_le_bytes());
    s.pointer("DeviceObject", driver.devices.first().map_or(0, |device| device.0));
    let at = layout.field("_DRIVER_OBJECT", "DriverName")?;
    let length = name.len() as u16;
    s.record().u16(at, length - 2).u16(at + 2, length);
    s.record().pointer(layout.arch, at + layout.arch.pointer(), driver.at.0.wrapping_add(size as u64));
    let mut bytes = s.into_bytes()?;
    bytes.extend(name);
    Ok(bytes)
}

fn device_object(layout: &Layout, driver: &Driver, next: u64) -> Result<Vec<u8>, Error> {
    let size = layout.size("_DEVICE_OBJECT")? as u16;
    let mut s = Structure::new(layout, "_DEVICE_OBJECT")?;
    s.put("Type", &DEVICE_TYPE.to_le_bytes()).put("Size", &size.to_le_bytes());
    s.u32("ReferenceCount", 1).pointer("DriverObject", driver.at.0).pointer("NextDevice", next);
    s.into_bytes()
}

fn packet(machine: &Machine, layout: &Layout, irp: &Irp) -> Result<Vec<u8>, Error> {
    let count = irp.locations.len();
    if count > MOST_LOCATIONS {
        return Err(Error::TooLarge(format!("the IRP at {:?}", irp.at)));
    }
    let (header, one) = (layout.size("_IRP")?, layout.size("_IO_STACK_LOCATION")?);
    let mut s = Structure::new(layout, "_IRP")?;
    s.put("Type", &IRP_TYPE.to_le_bytes()).put("Size", &((header + count * one) as u16).to_le_bytes());
    s.pointer("MdlAddress", irp.mdl.0).u32("IoStatus", irp.status.0 as u32);
    s.u8("StackCount", count as u8).u8("CurrentLocation", irp.current_location);
    s.u8("Cancel", u8::from(irp.cancel)).pointer("CancelRoutine", irp.cancel_routine.0);
    let current = irp.locations.get(usize::from(irp.current_location).wrapping_sub(1));
    s.u8("PendingReturned", u8::from(current.is_some_and(|location| location.control & 1 != 0)));
    let here = irp.at.0.wrapping_add(layout.field("_IRP", "ThreadListEntry")? as u64);
    s.links("ThreadListEntry", list_of(machine, layout, irp.thread.0, Some(here))?);
    // Tail.Overlay: the thread behind four words for the driver, the current location behind the list entry.
    let (tail, word) = (layout.field("_IRP", "Tail")?, layout.arch.pointer());
    let at = u64::from(irp.current_location).wrapping_sub(1).wrapping_mul(one as u64);
    let current = irp.at.0.wrapping_add(header as u64).wrapping_add(at);
    s.record().pointer(layout.arch, tail + 4 * word, irp.thread.0);
    s.record().pointer(layout.arch, tail + 8 * word, current);
    let mut bytes = s.into_bytes()?;
    for location in &irp.locations {
        bytes.extend(stack_location(layout, location)?);
    }
    Ok(bytes)
}

fn stack_location(layout: &Layout, location: &Location) -> Result<Vec<u8>, Error> {
    let mut s = Structure::new(layout, "_IO_STACK_LOCATION")?;
    s.u8("MajorFunction", location.major).u8("MinorFunction", location.minor);
    s.u8("Flags", location.flags).u8("Control", location.control);
    s.pointer("DeviceObject", location.device.0).pointer("FileObject", location.file.0);
    s.pointer("CompletionRoutine", location.completion.0).pointer("Context", location.context.0);
    let parameters = layout.field("_IO_STACK_LOCATION", "Parameters")?;
    for (n, argument) in location.arguments.into_iter().enumerate() {
        s.record().pointer(layout.arch, parameters + n * layout.arch.pointer(), argument.0);
    }
    s.into_bytes()
}

/// The neighbours of the IRP whose list entry is `here` in its thread's list; without one, those of the list's head. An IRP of
/// no thread is alone.
pub(crate) fn list_of(
    machine: &Machine,
    layout: &Layout,
    thread: u64,
    here: Option<u64>,
) -> Result<(u64, u64), Error> {
    if let Some(here) = here.filter(|_| thread == 0) {
        return Ok((here, here));
    }
    let head = thread.wrapping_add(layout.field("_ETHREAD", "IrpList")? as u64);
    let irps: Vec<&Irp> = machine.irps.iter().filter(|irp| irp.thread.0 == thread).collect();
    if irps.is_empty() {
        return Ok((head, head));
    }
    let link = layout.field("_IRP", "ThreadListEntry")? as u64;
    let entries: Vec<u64> = irps.iter().map(|irp| irp.at.0.wrapping_add(link)).collect();
    Ok(neighbours(&entries, head, here.unwrap_or(head)))
}

/// Those that wait in the queue of a processor, by their list entries.
fn waiting(machine: &Machine, layout: &Layout, processor: u32) -> Result<Vec<u64>, Error> {
    let queued = machine.dpcs.iter().filter(|dpc| dpc.processor == processor && !dpc.active);
    let link = layout.field("_KDPC", "DpcListEntry")? as u64;
    Ok(queued.map(|dpc| dpc.at.0.wrapping_add(link)).collect())
}

/// Where the queue of a processor begins, by the offset of its head in the KPRCB. Since Windows 8 it is linked one way.
fn queue(layout: &Layout) -> Result<(usize, bool), Error> {
    let data = layout.field("_KPRCB", "DpcData")?;
    match layout.at("_KDPC_DATA", "DpcListHead") {
        Some(head) => Ok((data + head, false)),
        None => Ok((data + layout.field("_KDPC_DATA", "DpcList")?, true)),
    }
}

fn deferred(machine: &Machine, layout: &Layout, dpc: &Dpc) -> Result<Vec<u8>, Error> {
    let cpu = machine.processors.iter().find(|cpu| cpu.number == dpc.processor);
    let cpu = cpu.ok_or_else(|| Error::Missing(format!("processor {} of a DPC", dpc.processor)))?;
    let mut s = Structure::new(layout, "_KDPC")?;
    s.u8("Type", DPC_TYPE).u8("Importance", DPC_IMPORTANCE);
    s.pointer("DeferredRoutine", dpc.routine.0).pointer("DeferredContext", dpc.context.0);
    let [first, second] = dpc.arguments;
    s.pointer("SystemArgument1", first.0).pointer("SystemArgument2", second.0);
    if !dpc.active {
        let (head, one_way) = queue(layout)?;
        let data = layout.field("_KPRCB", "DpcData")? as u64;
        s.put_if_known("DpcData", &layout.arch.word(cpu.prcb.0.wrapping_add(data)).collect::<Vec<u8>>());
        let entries = waiting(machine, layout, dpc.processor)?;
        let here = dpc.at.0.wrapping_add(layout.field("_KDPC", "DpcListEntry")? as u64);
        let (next, previous) = neighbours(&entries, cpu.prcb.0.wrapping_add(head as u64), here);
        if one_way {
            let is_last = entries.last() == Some(&here);
            s.pointer("DpcListEntry", if is_last { 0 } else { next });
        } else {
            s.links("DpcListEntry", (next, previous));
        }
    }
    s.into_bytes()
}

/// The queue of a processor, in its KPRCB. One without DPCs is left as it is.
pub(crate) fn fill_queue(
    record: &mut Record,
    machine: &Machine,
    layout: &Layout,
    cpu: &Processor,
) -> Result<(), Error> {
    if machine.dpcs.iter().all(|dpc| dpc.processor != cpu.number) {
        return Ok(());
    }
    let (head, one_way) = queue(layout)?;
    let (arch, word) = (layout.arch, layout.arch.pointer());
    let entries = waiting(machine, layout, cpu.number)?;
    let here = cpu.prcb.0.wrapping_add(head as u64);
    let (next, previous) = match (one_way, entries.as_slice()) {
        // With nothing on it the last entry is the head itself.
        (true, []) => (0, here),
        (true, [first, ..]) => (*first, entries.last().copied().unwrap_or(here)),
        (false, _) => neighbours(&entries, here, here),
    };
    record.pointer(arch, head, next).pointer(arch, head + word, previous);
    let data = layout.field("_KPRCB", "DpcData")?;
    record.u32(data + layout.field("_KDPC_DATA", "DpcQueueDepth")?, entries.len() as u32);
    let active = machine.dpcs.iter().find(|dpc| dpc.processor == cpu.number && dpc.active);
    if let (Some(active), Some(place)) = (active, layout.at("_KDPC_DATA", "ActiveDpc")) {
        record.pointer(arch, data + place, active.at.0);
    }
    Ok(())
}
