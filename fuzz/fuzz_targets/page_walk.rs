//! Page tables that hold anything: a walk ends, tells no more entries than there are levels, and a read agrees with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stopcode_base::{Memory, MissReason, PhysAddr, VirtAddr};
use stopcode_dump::PhysicalMemory;
use stopcode_dump::paging::{AddressSpace, Form, Mapping, Paging};

const PAGE: usize = 0x1000;

/// Pages from frame 0 on.
struct Pages(Vec<u8>);

impl PhysicalMemory for Pages {
    fn read_physical(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        let start = usize::try_from(at.0).map_err(|_| MissReason::NotInDump)?;
        let rest = self.0.get(start..).filter(|rest| !rest.is_empty()).ok_or(MissReason::NotInDump)?;
        let count = buffer.len().min(rest.len()).min(PAGE - start % PAGE);
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn page_count(&self) -> u64 {
        (self.0.len() / PAGE) as u64
    }

    fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        self.page_count().checked_sub(from).filter(|count| *count > 0).map(|count| (from, count))
    }
}

// Entries as frame and flags, so that they lead somewhere more often than not.
fuzz_target!(|input: (Vec<(u16, u8, u16, u32)>, u8, [u64; 4], u32, Option<u64>)| {
    let (entries, root, addresses, build, invalid_mask) = input;
    let mut pages = Pages(vec![0; 8 * PAGE]);
    for (slot, frame, low, high) in entries.into_iter().take(4096) {
        let at = usize::from(slot) % PAGE * 8;
        let value = u64::from(frame % 16) << 12 | u64::from(low) & 0xfff | u64::from(high) << 32;
        pages.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    for paging in [Paging::X64FourLevel, Paging::X64FiveLevel, Paging::X86, Paging::X86Pae, Paging::Arm64] {
        let form = Form { build, invalid_mask, memory_end: Some(8 * PAGE as u64), ..Form::new(paging) };
        let root = PhysAddr(u64::from(root) * 0x100);
        let space = AddressSpace::with_form(&pages, form, root).with_kernel_table(PhysAddr(0x1000));
        for at in addresses.map(VirtAddr) {
            let walk = space.walk(at);
            assert!(walk.entries().count() <= usize::from(paging.levels()));
            assert!(walk.entries().all(|entry| entry.kind.to_string().len() > 4));
            match (walk.outcome, space.read_u8(at)) {
                (Ok(Mapping::Physical(place, size)), Ok(byte)) => {
                    assert!(size > 0);
                    assert_eq!(pages.0.get(place.0 as usize).copied(), Some(byte));
                }
                (Ok(Mapping::Zeros(_)), read) => assert_eq!(read, Ok(0)),
                (Ok(_), Err(miss)) => assert_eq!(miss.reason, MissReason::NotInDump),
                (Err(reason), read) => assert_eq!(read.unwrap_err().reason, reason),
            }
            if let Some(map) = space.self_map() {
                let _ = map.walk(&space, at);
            }
        }
    }
});
