//! A kernel structure in memory, read a field at a time.
//!
//! Each value says where its offset comes from: the dump's own debugger data, else the kernel's own types where a file
//! with them was given, else a layout and how well that fits. Each miss says which of the two failed: the place of the field is not known, or its bytes are not in the dump.

use crate::core::Core;
use crate::reading::list::{self, Listed};
use stopcode_base::{Fact, Miss, VirtAddr};
use stopcode_symbols::Field;

/// A structure at an address. Nothing is read before a field is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Object<'c> {
    core: &'c Core,
    /// With its underscore: `_KTHREAD`.
    ty: &'static str,
    address: VirtAddr,
}

impl<'c> Object<'c> {
    pub(crate) fn new(core: &'c Core, ty: &'static str, address: VirtAddr) -> Self {
        Self { core, ty, address }
    }

    pub(crate) fn address(&self) -> VirtAddr {
        self.address
    }

    /// `KTHREAD.State`.
    fn words(&self, field: &str) -> String {
        format!("{}.{field}", self.ty.trim_start_matches('_'))
    }

    /// Where a field lies and what says so; else the reason why that is not known.
    fn place(&self, field: &str) -> Result<(Field, String), String> {
        let words = self.words(field);
        if let Some(offset) = self.core.kdbg_field(self.ty, field) {
            return Ok((Field { offset, bits: None }, format!("{words} (offset from the debugger data)")));
        }
        if let Some(types) = self.core.own_types()
            && let Some(offset) = types.place(self.ty, field)
        {
            return Ok((Field { offset, bits: None }, format!("{words} ({})", types.provenance)));
        }
        match self.core.layout() {
            Ok(layout) => layout
                .field(self.ty, field)
                .map(|place| (place, format!("{words} ({})", self.core.layout_words())))
                .ok_or_else(|| {
                    format!("where {words} lies in this kernel is not known ({})", self.core.layout_words())
                }),
            Err(why) => Err(format!("where {words} lies is not known: {why}")),
        }
    }

    /// The address of a field, with what says so.
    pub(crate) fn address_of(&self, field: &str) -> Fact<VirtAddr> {
        match self.place(field) {
            Ok((place, source)) => Fact::known(self.address.plus(place.offset.into()), source),
            Err(reason) => Fact::missing(reason),
        }
    }

    fn read<const N: usize>(&self, field: &str) -> Fact<[u8; N]> {
        match self.place(field) {
            Ok((place, source)) => self.read_at(self.address.plus(place.offset.into()), field, source),
            Err(reason) => Fact::missing(reason),
        }
    }

    fn read_at<const N: usize>(&self, at: VirtAddr, field: &str, source: String) -> Fact<[u8; N]> {
        let mut bytes = [0; N];
        match self.core.memory().read(at, &mut bytes) {
            Ok(()) => Fact::known(bytes, source),
            Err(miss) => self.miss(at, field, miss),
        }
    }

    /// A field's bytes, as many as `N`.
    pub(crate) fn bytes<const N: usize>(&self, field: &str) -> Fact<[u8; N]> {
        self.read(field)
    }

    pub(crate) fn u8(&self, field: &str) -> Fact<u8> {
        self.read(field).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&self, field: &str) -> Fact<u16> {
        self.read(field).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&self, field: &str) -> Fact<u32> {
        self.read(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&self, field: &str) -> Fact<u64> {
        self.read(field).map(u64::from_le_bytes)
    }

    /// A word as wide as a pointer.
    pub(crate) fn word(&self, field: &str) -> Fact<u64> {
        match self.place(field) {
            Ok((place, source)) => self.word_at(self.address.plus(place.offset.into()), field, source),
            Err(reason) => Fact::missing(reason),
        }
    }

    fn word_at(&self, at: VirtAddr, field: &str, source: String) -> Fact<u64> {
        match self.core.memory().read_word(self.core.arch, at) {
            Ok(value) => Fact::known(value, source),
            Err(miss) => self.miss(at, field, miss),
        }
    }

    fn miss<T>(&self, at: VirtAddr, field: &str, miss: Miss) -> Fact<T> {
        Fact::missing(format!("{} at {}: {}", self.words(field), self.core.arch.windbg(at), miss.reason))
    }

    /// An address, null included.
    pub(crate) fn pointer(&self, field: &str) -> Fact<VirtAddr> {
        self.word(field).map(VirtAddr)
    }

    /// A `UNICODE_STRING`; its text is not made visible.
    pub(crate) fn text(&self, field: &str) -> Fact<String> {
        let (at, source) = match self.address_of(field) {
            Fact::Known { value, source } => (value, source),
            Fact::Missing { reason } => return Fact::Missing { reason },
        };
        let memory = self.core.memory();
        let read = || {
            let length = memory.read_u16(at)?;
            let buffer = self.core.pointer(at.plus(self.core.arch.pointer_size()))?;
            let mut bytes = vec![0; usize::from(length & !1)];
            memory.read(buffer, &mut bytes)?;
            Ok(bytes)
        };
        let bytes: Vec<u8> = match read() {
            Ok(bytes) => bytes,
            Err(miss) => return self.miss(at, field, miss),
        };
        let units: Vec<u16> =
            bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(u16::from_le_bytes)).collect();
        Fact::Known { value: String::from_utf16_lossy(&units), source }
    }

    /// A word at an offset that the debugger data state by `name`; `None` where they do not.
    pub(crate) fn stated_word(&self, name: &str, field: &str) -> Option<Fact<u64>> {
        let offset = self.core.kdbg_offset(name)?;
        let source = format!("{} (offset from the debugger data)", self.words(field));
        Some(self.word_at(self.address.plus(offset), field, source))
    }
}

/// The structures on the list at `head`, each linked by `field`.
pub(crate) fn listed(
    core: &Core,
    head: VirtAddr,
    ty: &'static str,
    field: &str,
    words: &str,
) -> Fact<Listed> {
    match Object::new(core, ty, VirtAddr(0)).address_of(field) {
        Fact::Known { value: offset, source } => match list::walk(core.memory(), core.arch, head, offset.0) {
            Ok(found) => Fact::known(found, format!("{words}, {source}")),
            Err(reason) => Fact::missing(format!("{words}: {reason}")),
        },
        Fact::Missing { reason } => Fact::Missing { reason },
    }
}
