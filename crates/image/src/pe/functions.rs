//! The function table (`.pdata`): where code begins and ends, without any symbols.

use super::{Image, MACHINE_ARM64, MACHINE_X64, u32_at};

const DIRECTORY_EXCEPTION: usize = 3;
/// ntoskrnl has 40 thousand.
const MAX_FUNCTIONS: usize = 1 << 20;
/// A part of a function leads to the one it is a part of; real chains have one or two links.
const MAX_CHAIN: usize = 32;
/// `UNW_FLAG_CHAININFO`.
const CHAINED: u8 = 4;

/// A function, or a part of one that lies apart, as the function table has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its first byte.
    pub start: u32,
    /// Its length in bytes; `None` if its unwind data is not there (ARM64 keeps it there). On ARM64
    /// without the constants that may follow the code.
    pub size: Option<u32>,
    /// Its unwind data: an RVA, on ARM64 possibly packed.
    pub unwind: u32,
}

impl Function {
    /// True if the address lies in it.
    pub fn contains(&self, rva: u32) -> bool {
        rva.checked_sub(self.start).is_some_and(|offset| self.size.is_some_and(|size| offset < size))
    }
}

impl Image<'_> {
    /// RVA and size in bytes of the function table, as the headers say; `None` if the image has none.
    pub fn function_table(&self) -> Option<(u32, u32)> {
        self.directory(DIRECTORY_EXCEPTION)
    }

    /// The function table in its own order, which is by address in a sound image, but for entries in pages that are
    /// missing ([`Self::functions_missing`]). Empty for machines without one.
    pub fn functions(&self) -> Vec<Function> {
        let count = self.function_count();
        let Some((rva, _)) = self.function_table() else { return Vec::new() };
        match self.headers().machine {
            MACHINE_X64 => self.table::<12>(rva, count).iter().flatten().filter_map(|raw| x64(raw)).collect(),
            _ => self.table::<8>(rva, count).iter().flatten().filter_map(|raw| self.arm64(raw)).collect(),
        }
    }

    /// How many entries of the function table are not there.
    pub fn functions_missing(&self) -> usize {
        let count = self.function_count();
        let Some((rva, _)) = self.function_table() else { return 0 };
        let there = match self.headers().machine {
            MACHINE_X64 => self.table::<12>(rva, count).iter().flatten().count(),
            _ => self.table::<8>(rva, count).iter().flatten().count(),
        };
        count - there
    }

    /// How many entries the function table has.
    fn function_count(&self) -> usize {
        let size = self.function_table().map_or(0, |(_, size)| size as usize);
        let entries = match self.headers().machine {
            MACHINE_X64 => size / 12,
            MACHINE_ARM64 => size / 8,
            _ => 0,
        };
        entries.min(MAX_FUNCTIONS)
    }

    /// The function that a part of one belongs to (x64: its unwind data is chained to the whole's); the part itself if
    /// it is none. `None` if the chain leads to what is not there.
    pub fn whole(&self, part: Function) -> Option<Function> {
        let mut function = part;
        for _ in 0..MAX_CHAIN {
            if self.headers().machine != MACHINE_X64 {
                return Some(function);
            }
            // An odd value points at another entry of the function table.
            let next = if function.unwind & 1 != 0 {
                function.unwind - 1
            } else {
                let head = self.bytes(function.unwind, 4);
                let (flags, codes) = (head.first()? >> 3, *head.get(2)?);
                if flags & CHAINED == 0 {
                    return Some(function);
                }
                // Codes come in pairs.
                let after = 4 + 2 * ((u32::from(codes) + 1) & !1);
                function.unwind.checked_add(after)?
            };
            function = x64(&self.bytes(next, 12))?;
        }
        None
    }

    fn arm64(&self, raw: &[u8]) -> Option<Function> {
        let (start, unwind) = (u32_at(raw, 0)?, u32_at(raw, 4)?);
        let size = match unwind & 3 {
            0 => self.u32(unwind).map(|header| (header & 0x3_ffff) * 4),
            _ => Some((unwind >> 2 & 0x7ff) * 4),
        };
        (start != 0).then_some(Function { start, size, unwind })
    }
}

fn x64(raw: &[u8]) -> Option<Function> {
    let (start, end, unwind) = (u32_at(raw, 0)?, u32_at(raw, 4)?, u32_at(raw, 8)?);
    (start != 0).then_some(Function { start, size: end.checked_sub(start), unwind })
}
