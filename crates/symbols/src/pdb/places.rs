//! From a section and an offset to an address in the image, also where a tool rearranged the image after linking.

use super::msf::Msf;
use super::read_at::ReadAt;
use super::records::{Place, u32_at};
use crate::kind::SymbolKind;

/// Positions in the optional debug header.
const OMAP_FROM_SOURCE: usize = 4;
const SECTIONS: usize = 5;
const SECTIONS_BEFORE: usize = 10;
/// `IMAGE_SCN_MEM_EXECUTE`.
const EXECUTE: u32 = 0x2000_0000;

/// Where sections lie.
#[derive(Debug)]
pub(super) struct Places {
    sections: Vec<Section>,
    /// Addresses before and after the rearrangement, by the former.
    moved: Option<Vec<(u32, u32)>>,
}

#[derive(Debug)]
struct Section {
    rva: u32,
    size: u32,
    execute: bool,
}

impl Places {
    pub(super) fn read(msf: &Msf<impl ReadAt>, extra: &[u16]) -> Option<Self> {
        let stream = |index: usize| {
            let number = extra.get(index).filter(|number| **number != u16::MAX)?;
            msf.stream((*number).into()).map(|stream| stream.bytes).filter(|bytes| !bytes.is_empty())
        };
        let moved = stream(OMAP_FROM_SOURCE).map(|raw| {
            let pair = |raw: &[u8]| Some((u32_at(raw, 0)?, u32_at(raw, 4)?));
            let mut pairs: Vec<(u32, u32)> = raw.chunks_exact(8).filter_map(pair).collect();
            pairs.sort_by_key(|pair| pair.0);
            pairs
        });
        // With a map, symbols are in terms of the sections before.
        let raw = match moved {
            Some(_) => stream(SECTIONS_BEFORE)?,
            None => stream(SECTIONS)?,
        };
        let section = |raw: &[u8]| {
            let (rva, size) = (u32_at(raw, 12)?, u32_at(raw, 8)?.max(u32_at(raw, 16)?));
            Some(Section { rva, size, execute: u32_at(raw, 36)? & EXECUTE != 0 })
        };
        Some(Self { sections: raw.chunks_exact(40).filter_map(section).collect(), moved })
    }

    pub(super) fn is_rearranged(&self) -> bool {
        self.moved.is_some()
    }

    /// The address; `None` if the place is in no section or its code was left out.
    pub(super) fn rva(&self, place: Place) -> Option<u32> {
        let section = self.section(place)?;
        // One past the end is where tables put their ends.
        let rva = section.rva.checked_add(place.offset).filter(|_| place.offset <= section.size)?;
        let Some(moved) = &self.moved else { return Some(rva) };
        let after = moved.partition_point(|pair| pair.0 <= rva);
        let (from, to) = *moved.get(after.checked_sub(1)?)?;
        (to != 0).then(|| to.checked_add(rva - from))?
    }

    /// What a public symbol names: code as its flags say, else data if nothing can be executed there.
    pub(super) fn kind(&self, place: Place, code: bool, name: &[u8]) -> SymbolKind {
        let told = str::from_utf8(name).map_or(SymbolKind::Unknown, SymbolKind::of);
        match told {
            SymbolKind::StringLiteral => told,
            _ if code => SymbolKind::Code,
            SymbolKind::Unknown if self.section(place).is_some_and(|section| !section.execute) => {
                SymbolKind::Data
            }
            _ => told,
        }
    }

    fn section(&self, place: Place) -> Option<&Section> {
        self.sections.get(usize::from(place.section).checked_sub(1)?)
    }
}
