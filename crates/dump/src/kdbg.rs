//! `KDDEBUGGER_DATA64`: the kernel's own table of what a debugger needs to know about it.
//!
//! x86 keeps it in the same 64-bit form, with the sign of its addresses extended; here they are as wide as the
//! processor's. It only grows: a field beyond the `Size` that the block states does not exist in that kernel, which is not the
//! same as being zero. The table of fields is in `fields.rs`.

mod encoded;
mod fields;

use crate::bytes::{u16_at, u32_at, u64_at};
use encoded::Coding;
use stopcode_base::VirtAddr;

/// Smallest and largest block that is taken for one: Windows XP has 0x290 bytes, 24H2 0x3a0.
const SIZES: std::ops::RangeInclusive<usize> = 0x200..=0x1000;

/// What a field's value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldKind {
    /// The address of the kernel variable of that name.
    Pointer,
    /// The value itself: an offset, a size, an address of code.
    Value,
}

/// The name, place and kind of one field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Field {
    name: &'static str,
    offset: u16,
    size: u8,
    kind: FieldKind,
    /// For bit fields: the lowest bit and how many.
    bits: Option<(u8, u8)>,
}

/// A decoded debugger data block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kdbg {
    bytes: Vec<u8>,
    size: usize,
    encoded: bool,
}

impl Kdbg {
    /// The block at the start of `bytes`, which may be cut off; `None` without the owner's tag or a likely size.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let size = u32_at(bytes, 0x14)? as usize;
        if bytes.get(0x10..0x14)? != b"KDBG" || !SIZES.contains(&size) {
            return None;
        }
        Some(Self { bytes: bytes.get(..size).unwrap_or(bytes).to_vec(), size, encoded: false })
    }

    /// The block at the start of `bytes`, encoded as a running system keeps it, of a kernel that is loaded at `base`.
    pub(crate) fn decode(bytes: &[u8], base: VirtAddr) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<8>();
        let first = words.first_chunk::<4>()?.map(u64::from_le_bytes);
        let coding = Coding::of(first, base.0)?;
        let plain: Vec<u8> =
            words.iter().flat_map(|word| coding.plain(u64::from_le_bytes(*word)).to_le_bytes()).collect();
        Some(Self { encoded: true, ..Self::parse(&plain)? })
    }

    /// False for most places in memory that no block starts at.
    pub(crate) fn may_start_with(words: [u64; 4], base: VirtAddr) -> bool {
        words[2] as u32 == u32::from_le_bytes(*b"KDBG") || Coding::of(words, base.0).is_some()
    }

    /// It was encoded in memory, as a running system keeps it; a crash leaves it decoded.
    pub fn was_encoded(&self) -> bool {
        self.encoded
    }

    /// The size that the block states, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The block as it is in the dump; shorter than [`Self::size`] if the dump is cut off.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the kernel is loaded.
    pub fn kern_base(&self) -> Option<VirtAddr> {
        self.get("KernBase").map(VirtAddr)
    }

    /// The value of the field called `name` in the public headers (`OffsetKThreadStackLimit`); `None` if this
    /// kernel's block has no such field, or no field is called that.
    pub fn get(&self, name: &str) -> Option<u64> {
        fields::FIELDS.iter().find(|field| field.name == name).and_then(|field| self.value(*field))
    }

    /// Like [`Self::get`] for offsets and sizes, where zero also means that the kernel does not tell.
    pub fn offset(&self, name: &str) -> Option<usize> {
        self.get(name).filter(|value| *value != 0).and_then(|value| usize::try_from(value).ok())
    }

    /// Every field that this block has: name, kind, value, in the order of the block.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, FieldKind, u64)> {
        fields::FIELDS.iter().filter_map(|field| Some((field.name, field.kind, self.value(*field)?)))
    }

    /// An address without its sign extended, where the kernel's own address says that it is x86's: no 64-bit Windows
    /// lies that high.
    fn own_width(&self, word: u64) -> u64 {
        const KERN_BASE: usize = 0x18;
        let is_extended = |address: u64| address >> 31 == 0x1_ffff_ffff;
        let narrow = is_extended(word) && u64_at(&self.bytes, KERN_BASE).is_some_and(is_extended);
        if narrow { word & 0xffff_ffff } else { word }
    }

    fn value(&self, field: Field) -> Option<u64> {
        let at = usize::from(field.offset);
        let word = match field.size {
            2 => u64::from(u16_at(&self.bytes, at)?),
            4 => u64::from(u32_at(&self.bytes, at)?),
            _ => self.own_width(u64_at(&self.bytes, at)?),
        };
        Some(match field.bits {
            Some((lowest, count)) => word >> lowest & ((1 << count) - 1),
            None => word,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(size: u32, present: usize) -> Vec<u8> {
        let mut bytes = vec![0; present];
        bytes[0x10..0x14].copy_from_slice(b"KDBG");
        bytes[0x14..0x18].copy_from_slice(&size.to_le_bytes());
        bytes
    }

    #[test]
    fn absent_is_not_zero() {
        let old = Kdbg::parse(&block(0x340, 0x400)).unwrap();
        assert_eq!(old.get("OffsetPrcbContext"), Some(0));
        assert_eq!(old.offset("OffsetPrcbContext"), None);
        assert_eq!(old.get("OffsetKThreadStackLimit"), None);
        assert_eq!(old.get("NoSuchField"), None);
        let new = Kdbg::parse(&block(0x360, 0x400)).unwrap();
        assert_eq!(new.get("OffsetKThreadStackLimit"), Some(0));
        assert_eq!(new.get("PteBase"), None);
    }

    #[test]
    fn x86_addresses_are_as_wide_as_its_own() {
        let with = |base: u64| {
            let mut bytes = block(0x340, 0x340);
            bytes[0x18..0x20].copy_from_slice(&base.to_le_bytes());
            bytes[0x48..0x50].copy_from_slice(&0xffff_ffff_8054_a6c0_u64.to_le_bytes());
            Kdbg::parse(&bytes).unwrap()
        };
        let x86 = with(0xffff_ffff_804d_7000);
        assert_eq!(x86.kern_base(), Some(VirtAddr(0x804d_7000)));
        assert_eq!(x86.get("PsLoadedModuleList"), Some(0x8054_a6c0));
        assert_eq!(with(0xffff_f800_0280_0000).get("PsLoadedModuleList"), Some(0xffff_ffff_8054_a6c0));
    }

    #[test]
    fn bit_fields_come_apart() {
        let mut bytes = block(0x380, 0x380);
        bytes[0x36] = 0b01_0101;
        let kdbg = Kdbg::parse(&bytes).unwrap();
        assert_eq!(kdbg.get("PaeEnabled"), Some(1));
        assert_eq!(kdbg.get("KiBugCheckRecoveryActive"), Some(0));
        assert_eq!(kdbg.get("PagingLevels"), Some(5));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        assert_eq!(Kdbg::parse(&[]), None);
        assert_eq!(Kdbg::parse(&[0; 0x380]), None);
        assert_eq!(Kdbg::parse(&block(0x10, 0x380)), None);
        assert_eq!(Kdbg::parse(&block(u32::MAX, 0x380)), None);
        assert_eq!(Kdbg::parse(&block(0x380, 0x100)).unwrap().size(), 0x380);
    }

    #[test]
    fn the_table_is_in_order_and_does_not_overlap() {
        let mut end = 0;
        let mut previous = u16::MAX;
        for field in fields::FIELDS {
            assert!(
                field.offset >= end || field.offset == previous && field.bits.is_some(),
                "{}",
                field.name
            );
            (previous, end) = (field.offset, field.offset + u16::from(field.size));
        }
    }
}
