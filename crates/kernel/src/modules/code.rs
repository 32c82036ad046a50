//! What stands where in the address space: modules, unloaded drivers, and the kernel's names.

use crate::modules::module::{Module, UnloadedModule};
use crate::stacks::stack::Place;
use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;
use stopcode_base::VirtAddr;
use stopcode_image::CodeView;
use stopcode_symbols::{Found, ImageNames, Reach, SymbolSource, SymbolTable, WantedImage, demangle};
use stopcode_unwind::{Code, CodeAt};

/// The first page of an image holds its headers, not code.
const HEADERS: u64 = 0x1000;

struct Range {
    start: VirtAddr,
    end: VirtAddr,
    image: String,
    display: String,
    time_date_stamp: Option<u32>,
    /// Loaded when first asked for: a symbol file takes longer to read than the rest of a dump.
    names: OnceCell<Option<Arc<SymbolTable>>>,
}

/// Answers "what is at this address" for stacks and for readers.
pub(crate) struct CodeMap {
    /// Sorted by start; overlapping ranges keep their order.
    loaded: Vec<Range>,
    unloaded: Vec<Range>,
    kernel: VirtAddr,
    symbols: SymbolSource,
}

impl CodeMap {
    pub(crate) fn new(
        modules: &[Module],
        unloaded: &[UnloadedModule],
        kernel: VirtAddr,
        names: Option<&Arc<SymbolTable>>,
        symbols: &SymbolSource,
    ) -> Self {
        let mut loaded: Vec<Range> = modules
            .iter()
            .map(|m| Range {
                start: m.base,
                end: m.end(),
                image: m.image.clone(),
                display: m.display.clone(),
                time_date_stamp: m.time_date_stamp,
                names: if m.base == kernel { OnceCell::from(names.cloned()) } else { OnceCell::new() },
            })
            .collect();
        loaded.sort_by_key(|range| range.start);
        let unloaded = unloaded
            .iter()
            .map(|u| {
                let image = u.name.to_ascii_lowercase();
                let display = u.name.clone();
                // An unloaded driver leaves no time stamp, so that nothing is provably its symbols.
                let names = OnceCell::from(None);
                Range { start: u.start, end: u.end, display, image, time_date_stamp: None, names }
            })
            .collect();
        Self { loaded, unloaded, kernel, symbols: symbols.clone() }
    }

    fn loaded(&self, address: VirtAddr) -> Option<&Range> {
        let after = self.loaded.partition_point(|range| range.start <= address);
        self.loaded.get(..after)?.last().filter(|range| address < range.end)
    }

    pub(crate) fn place(&self, address: VirtAddr) -> Place {
        if let Some(range) = self.loaded(address) {
            let offset = address.0 - range.start.0;
            let mut place = Place {
                image: Some(range.image.clone()),
                display: Some(range.display.clone()),
                offset,
                ..Place::default()
            };
            if let Some(found) = self.found(range, offset) {
                place.offset = found.offset;
                place.uncertain = found.uncertain;
                place.symbol = Some(found.name);
                place.literal = found.literal;
            }
            return place;
        }
        let gone = self.unloaded.iter().find(|range| range.start <= address && address < range.end);
        gone.map_or_else(Place::default, |range| Place {
            image: Some(range.image.clone()),
            display: Some(range.display.clone()),
            offset: address.0 - range.start.0,
            unloaded: true,
            ..Place::default()
        })
    }

    /// The names of the image loaded at exactly this address.
    pub(crate) fn symbols_at(&self, base: VirtAddr) -> Option<&SymbolTable> {
        self.names(self.loaded(base).filter(|range| range.start == base)?)
    }

    /// The file that a module's names came from.
    pub(crate) fn symbol_file(&self, module: &Module) -> Option<PathBuf> {
        names_of(&self.symbols, &module.image, module.time_date_stamp, module.size, None)
            .map(|names| names.path)
    }

    /// The image's own names; the kernel's were looked for before.
    fn names<'a>(&self, range: &'a Range) -> Option<&'a SymbolTable> {
        let find = || {
            let size = range.end.offset_from(range.start)?;
            let found = names_of(&self.symbols, &range.image, range.time_date_stamp, size, None)?;
            Some(found.symbols)
        };
        range.names.get_or_init(find).as_deref()
    }

    fn lookup<'a>(&self, range: &'a Range, rva: u64) -> Option<Found<'a>> {
        self.names(range)?.lookup(u32::try_from(rva).ok()?)
    }

    fn found(&self, range: &Range, offset: u64) -> Option<Named> {
        let found = self.lookup(range, offset)?;
        found.reach.names_the_place().then(|| Named {
            name: if found.cold {
                format!("{} (cold)", demangle(found.name))
            } else {
                demangle(found.name).into_owned()
            },
            offset: found.offset.into(),
            literal: self
                .names(range)
                .filter(|_| found.cold)
                .and_then(|names| names.literal_before(found.rva))
                .map(|(name, before)| (name, before.into())),
            uncertain: found.kind.is_data() == Some(true) && found.offset > 0,
        })
    }
}

/// The names of an image, by its name and what its header says, and by the PDB it names where that can be read.
pub(crate) fn names_of(
    symbols: &SymbolSource,
    image: &str,
    time_date_stamp: Option<u32>,
    size: u64,
    codeview: Option<CodeView>,
) -> Option<ImageNames> {
    symbols.names_of(&WantedImage {
        names: &names_for(image),
        time_date_stamp: time_date_stamp?,
        size_of_image: u32::try_from(size).ok()?,
        codeview,
    })
}

/// The names an image's file may have: a symbol server keeps the kernel under the name it was built with.
pub(crate) fn names_for(image: &str) -> Vec<&str> {
    if image == "ntoskrnl.exe" { vec![image, "ntkrnlmp.exe"] } else { vec![image] }
}

struct Named {
    name: String,
    offset: u64,
    literal: Option<(String, u64)>,
    uncertain: bool,
}

impl Code for CodeMap {
    fn at(&self, address: VirtAddr) -> CodeAt {
        let Some(range) = self.loaded(address) else { return CodeAt::NotCode };
        let rva = address.0 - range.start.0;
        if rva < HEADERS {
            return CodeAt::Data;
        }
        let Some(found) = self.lookup(range, rva) else { return CodeAt::Module };
        match found.reach {
            Reach::Start => CodeAt::Start,
            // Cold parts of functions lie behind string literals: code, with no name to go by.
            // Behind a function's end lies another without a name.
            Reach::BehindLiteral | Reach::PastEnd => CodeAt::Module,
            Reach::Far => CodeAt::FarFromSymbol,
            Reach::Within if found.kind.is_data() == Some(true) => CodeAt::Data,
            Reach::Within => CodeAt::Function {
                offset: found.offset.into(),
                size: found.size.or(found.room).map(u64::from),
            },
        }
    }

    /// The first two letters of the kernel's functions: `Mi`, `Io`, `Ps`.
    fn family(&self, address: VirtAddr) -> Option<u16> {
        let range = self.loaded(address).filter(|range| range.start == self.kernel)?;
        let found = self.lookup(range, address.0 - range.start.0)?;
        let letters = found.name.trim_start_matches('_').as_bytes().first_chunk::<2>()?;
        let names_it =
            matches!(found.reach, Reach::Start | Reach::Within) && found.kind.is_data() != Some(true);
        (names_it && letters.iter().all(u8::is_ascii_alphabetic)).then(|| u16::from_be_bytes(*letters))
    }

    fn is_trap_entry(&self, address: VirtAddr) -> Option<bool> {
        let range = self.loaded(address)?;
        if range.start != self.kernel {
            return Some(false);
        }
        let found = self.lookup(range, address.0 - range.start.0)?;
        let name = found.name.strip_suffix("Shadow").unwrap_or(found.name);
        let entry =
            ["Fault", "Abort", "Trap", "Interrupt", "Failure", "Assertion", "TrapOrFault", "Exception"];
        Some(name.starts_with("Ki") && entry.iter().any(|suffix| name.ends_with(suffix)))
    }
}
