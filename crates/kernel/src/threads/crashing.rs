//! The thread that ran on the crashing processor, and its process.

use crate::core::Core;
use crate::facts::Thread;
use crate::reading::bytes::word;
use stopcode_base::{Fact, VirtAddr, visible};

/// Letters in `EPROCESS.ImageFileName`.
const IMAGE_FILE_NAME: usize = 15;

pub(crate) fn thread(core: &Core) -> Thread {
    let current = core.current();
    let bytes = Some(current.thread.as_slice()).filter(|bytes| !bytes.is_empty());
    let stack_word = |offset: Option<u64>, field: &str| -> Fact<VirtAddr> {
        let (Some(bytes), Some(offset)) = (bytes, offset) else {
            return Fact::missing("the thread is not in this dump");
        };
        match word(core.arch, bytes, offset) {
            Some(value) if core.arch.is_kernel(VirtAddr(value)) => {
                Fact::known(VirtAddr(value), format!("KTHREAD.{field}"))
            }
            _ => Fact::missing(format!("KTHREAD.{field} in this dump is no kernel address")),
        }
    };
    let process = Some(current.process.as_slice()).filter(|bytes| !bytes.is_empty());
    let name_offset = core.field("_EPROCESS", "ImageFileName");
    let name = match (process, name_offset) {
        (Some(bytes), Some(offset)) => image_file_name(bytes, offset),
        _ => None,
    };
    let id = process
        .zip(core.field("_EPROCESS", "UniqueProcessId"))
        .and_then(|(bytes, offset)| word(core.arch, bytes, offset));
    let layout = || core.layout().map_or_else(|_| String::new(), |_| format!(" ({})", core.layout_words()));
    Thread {
        address: address(core),
        stack_limit: stack_word(offset(core, "OffsetKThreadStackLimit", "StackLimit"), "StackLimit"),
        stack_base: stack_word(offset(core, "OffsetKThreadStackBase", "StackBase"), "StackBase"),
        process: match name {
            Some(name) => Fact::known(name, format!("EPROCESS.ImageFileName{}", layout())),
            None if process.is_none() => Fact::missing("the process is not in this dump"),
            None => Fact::missing("this kernel's EPROCESS layout is not known"),
        },
        process_id: match id {
            Some(id) if id < 1 << 32 => Fact::known(id, format!("EPROCESS.UniqueProcessId{}", layout())),
            _ => Fact::missing("this kernel's EPROCESS layout is not known"),
        },
    }
}

/// From the debugger data where it says so (Windows 8 and later), else from the layout of the build.
fn offset(core: &Core, kdbg: &str, field: &str) -> Option<u64> {
    core.kdbg_offset(kdbg).or_else(|| core.field("_KTHREAD", field))
}

/// ETHREAD: what the PRCB of the crashing processor calls its current thread.
fn address(core: &Core) -> Fact<VirtAddr> {
    let thread = word(core.arch, &core.current().prcb, core.current_thread_offset()).map(VirtAddr);
    match thread.filter(|thread| core.arch.is_kernel(*thread)) {
        Some(thread) => Fact::known(thread, "KPRCB.CurrentThread"),
        None => Fact::missing("the processor's PRCB is not in this dump"),
    }
}

/// The name, if it looks like one: a wrong layout gives other bytes.
pub(crate) fn image_file_name(process: &[u8], offset: u64) -> Option<String> {
    let start = usize::try_from(offset).ok()?;
    let raw = process.get(start..start.checked_add(IMAGE_FILE_NAME)?)?;
    let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
    let name = raw.get(..end)?;
    let plain = !name.is_empty() && name.iter().all(|byte| (0x20..0x7f).contains(byte));
    plain.then(|| visible(&String::from_utf8_lossy(name)))
}
