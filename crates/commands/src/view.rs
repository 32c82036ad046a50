//! Memory as the selected process sees it.

use stopcode_base::{Arch, Memory, MissReason, VirtAddr};
use stopcode_dump::paging::AddressSpace;
use stopcode_kernel::CodeMemory;

/// What addresses that are not the selected process' go through.
pub(crate) enum Usual<'m> {
    /// What the dump holds.
    Held(&'m dyn Memory),
    /// The same, with the files of images behind it.
    Code(CodeMemory<'m>),
}

/// The machine's memory; addresses of user mode are those of one process, where one was selected with its pages.
pub(crate) struct View<'m> {
    arch: Arch,
    usual: Usual<'m>,
    user: Option<AddressSpace<'m>>,
}

impl<'m> View<'m> {
    pub(crate) fn new(arch: Arch, usual: Usual<'m>, user: Option<AddressSpace<'m>>) -> Self {
        Self { arch, usual, user }
    }
}

impl Memory for View<'_> {
    fn read_some(&self, at: VirtAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
        match &self.user {
            Some(user) if self.arch.is_user(at) => user.read_some(at, buffer),
            _ => match &self.usual {
                Usual::Held(memory) => memory.read_some(at, buffer),
                Usual::Code(memory) => memory.read_some(at, buffer),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopcode_base::{PhysAddr, SliceMemory};
    use stopcode_dump::PhysicalMemory;
    use stopcode_dump::paging::Paging;

    /// Five pages: a table of each level, and a page of data.
    struct Pages(Vec<u8>);

    impl PhysicalMemory for Pages {
        fn read_physical(&self, at: PhysAddr, buffer: &mut [u8]) -> Result<usize, MissReason> {
            let rest = self.0.get(at.0 as usize..).ok_or(MissReason::NotInDump)?;
            let count = rest.len().min(buffer.len()).min(0x1000 - (at.0 as usize & 0xfff));
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn page_count(&self) -> u64 {
            5
        }

        fn next_run(&self, from: u64) -> Option<(u64, u64)> {
            (from < 5).then(|| (from, 5 - from))
        }
    }

    #[test]
    fn user_addresses_are_the_selected_process_own() {
        let mut pages = vec![0; 0x5000];
        // Address 0x10000 is entry 0x10 of the lowest table, and 0 of those above.
        for (at, next) in
            [(0x0000, 0x1000_u64), (0x1000, 0x2000), (0x2000, 0x3000), (0x3000 + 0x10 * 8, 0x4000)]
        {
            pages[at..at + 8].copy_from_slice(&(next | 7).to_le_bytes());
        }
        pages[0x4000..0x4008].copy_from_slice(b"of user ");
        let pages = Pages(pages);
        let kernel = SliceMemory { base: VirtAddr(0xffff_8000_0000_0000), bytes: b"of kernel" };
        let user = AddressSpace::new(&pages, Paging::X64FourLevel, PhysAddr(0));
        let view = View::new(Arch::X64, Usual::Held(&kernel), Some(user));
        assert_eq!(view.read_available(VirtAddr(0x1_0000), 8), b"of user ");
        assert_eq!(view.read_available(VirtAddr(0xffff_8000_0000_0000), 9), b"of kernel");
        assert!(view.read_u8(VirtAddr(0x2_0000)).is_err());
        let view = View::new(Arch::X64, Usual::Held(&kernel), None);
        assert!(view.read_u8(VirtAddr(0x1_0000)).is_err());
    }
}
