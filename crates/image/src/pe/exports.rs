//! The export directory.

use super::{Image, u32_at};

const DIRECTORY_EXPORT: usize = 0;
/// Ordinals have 16 bits.
const MAX_EXPORTS: u32 = 0x1_0000;
const MAX_NAME: usize = 4096;
/// All names of one image together: ntoskrnl has 60 KB of them, and every entry of a hostile image may point at the
/// same long name.
const MAX_TEXT: usize = 8 << 20;

/// What an image exports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exports {
    /// The image's own name for itself: `ntoskrnl.exe`. Text out of the image.
    pub image: Option<String>,
    /// By ordinal.
    pub entries: Vec<Export>,
    /// How many more the directory announces than could be read, addresses and names.
    pub missing: u32,
}

/// One exported function or variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// Its ordinal.
    pub ordinal: u32,
    /// Its names: usually one; none if exported by ordinal only. Text out of the image.
    pub names: Vec<String>,
    /// Where it is; for a forwarder where its text is.
    pub rva: u32,
    /// `DLL.Function` if it is another image's function.
    pub forward: Option<String>,
}

impl Image<'_> {
    /// The exports; empty if there are none or the directory is not there.
    pub fn exports(&self) -> Exports {
        let Some((at, size)) = self.directory(DIRECTORY_EXPORT) else { return Exports::default() };
        let raw = self.bytes(at, 40);
        let word = |offset| u32_at(&raw, offset);
        let (Some(image), Some(base), Some(functions), Some(names)) =
            (word(12), word(16), word(20), word(24))
        else {
            return Exports::default();
        };
        let (Some(function_table), Some(name_table), Some(ordinal_table)) = (word(28), word(32), word(36))
        else {
            return Exports::default();
        };
        let count = |count: u32| count.min(MAX_EXPORTS) as usize;
        let mut budget = MAX_TEXT;
        let mut there = 0;
        let mut entries: Vec<Option<Export>> = Vec::new();
        for (index, raw) in (0..).zip(self.table::<4>(function_table, count(functions))) {
            let entry = raw.map(u32::from_le_bytes).map(|rva| {
                there += 1;
                let inside = rva.checked_sub(at).is_some_and(|offset| offset < size);
                let forward = if inside { self.within(rva, &mut budget) } else { None };
                Export { ordinal: base.wrapping_add(index), names: Vec::new(), rva, forward }
            });
            entries.push(entry);
        }
        let mut missing = functions.saturating_sub(there);
        let name_rvas = self.table::<4>(name_table, count(names));
        let indexes = self.table::<2>(ordinal_table, count(names));
        let mut named = 0;
        for (name, index) in name_rvas.into_iter().zip(indexes) {
            let index = index.map(|raw| usize::from(u16::from_le_bytes(raw)));
            let entry = index.and_then(|index| entries.get_mut(index)?.as_mut());
            let name = name.and_then(|raw| self.within(u32::from_le_bytes(raw), &mut budget));
            if let (Some(entry), Some(name)) = (entry, name) {
                entry.names.push(name);
                named += 1;
            }
        }
        missing = missing.max(names.saturating_sub(named));
        // Ordinals that are not used have no address.
        let entries = entries.into_iter().flatten().filter(|entry| entry.rva != 0).collect();
        Exports { image: self.text(image, MAX_NAME), entries, missing }
    }

    fn within(&self, rva: u32, budget: &mut usize) -> Option<String> {
        let text = self.text(rva, MAX_NAME.min(*budget))?;
        *budget = budget.checked_sub(text.len() + 1)?;
        Some(text)
    }
}
