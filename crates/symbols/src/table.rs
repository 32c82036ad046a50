//! Symbols of one image by address and by name.

use crate::buckets::Buckets;
use crate::demangle::windbg_literal;
use crate::kind::SymbolKind;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Where a table's names come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum How {
    /// A Volatility 3 symbol table (ISF), made from the image's PDB.
    Isf,
    /// The image's export directory.
    Export,
    /// The public symbols of a PDB.
    Public,
    /// A PDB's own record of a function, with its length; private PDBs only.
    Procedure,
    /// A PDB's own record of a variable; private PDBs only.
    Variable,
}

/// How far a name carries to the address asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reach {
    /// The address is the symbol's own.
    Start,
    /// Between this symbol and the next, not far in. Inside the symbol if [`Found::size`] is
    /// known; otherwise an unnamed thing may lie between.
    Within,
    /// Behind the symbol's last byte, which is known: padding, or something without a name.
    PastEnd,
    /// More than [`SymbolTable::FAR`] bytes behind the symbol, or behind an export of unknown size: it is only the
    /// nearest name.
    Far,
    /// The nearest name is a string literal. For an address in code this is the cold part of some other function,
    /// which only `.pdata` can name.
    BehindLiteral,
}

impl Reach {
    /// True if `name+offset` may be shown as the place; otherwise it is no more than a landmark.
    pub fn names_the_place(self) -> bool {
        matches!(self, Self::Start | Self::Within)
    }
}

/// The symbol an address belongs to, or the nearest one below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found<'a> {
    /// The name as the table has it; from a file, so it passes `stopcode_base::visible` before it is shown.
    pub name: &'a str,
    /// The symbol's address relative to the image.
    pub rva: u32,
    /// Bytes from the symbol to the address.
    pub offset: u32,
    /// Bytes it takes, where its source tells; for a label inside a function the bytes to the function's end.
    pub size: Option<u32>,
    /// Bytes from the symbol to the next one; `None` behind the last.
    pub room: Option<u32>,
    /// How many names share this address. More than one: identical functions were folded into one, and the name may
    /// be that of another caller's function.
    pub names: usize,
    /// True if the symbol is a part of the function `name` that lies apart from it: code its author or the profile
    /// expects to run seldom.
    pub cold: bool,
    /// What the source or else the name tells of the kind.
    pub kind: SymbolKind,
    /// Where the name comes from.
    pub how: How,
    /// How far it carries.
    pub reach: Reach,
}

/// A symbol to add to a table.
#[derive(Clone, Copy, Debug)]
pub struct NewSymbol<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address relative to the image.
    pub rva: u64,
    /// Bytes it takes; 0 if that is not known.
    pub size: u32,
    /// What it names; `None` leaves that to the name.
    pub kind: Option<SymbolKind>,
    /// Where it comes from.
    pub how: How,
    /// True for a part of the function of this name that lies apart from it.
    pub cold: bool,
}

/// The name is `len` bytes from `start` on in the table's text.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rva: u32,
    /// 0: not known.
    size: u32,
    start: u32,
    len: u16,
    kind: Option<SymbolKind>,
    how: How,
    cold: bool,
}

/// Symbols of one image, by address and by name.
#[derive(Clone, Debug)]
pub struct SymbolTable {
    how: How,
    text: String,
    /// By address; at one address the name to show first.
    by_rva: Vec<Entry>,
    /// Each address that has names, and the first of them.
    places: Vec<(u32, u32)>,
    buckets: Buckets,
    /// Indexes into `by_rva`, by name; put in order at the first question by name.
    by_name: OnceLock<Vec<u32>>,
    skipped: usize,
}

impl SymbolTable {
    /// A name further away than this is only a landmark: few kernel functions are longer than 64 KiB.
    pub const FAR: u32 = 0x1_0000;
    /// More symbols than this are not kept.
    pub const MAX_SYMBOLS: usize = 4_000_000;
    /// Longer names are not kept: the compiler cuts decorated names at 4096.
    pub const MAX_NAME: usize = 4096;

    /// How many symbols there are.
    pub fn len(&self) -> usize {
        self.by_rva.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.by_rva.is_empty()
    }

    /// How many entries of the source were not kept: no 32-bit address, too long a name, or too many of them.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The best name for the address, or the nearest below it; `None` below the first symbol.
    #[inline] // So that callers pay for what they read of the answer.
    pub fn lookup(&self, rva: u32) -> Option<Found<'_>> {
        let around = self.buckets.around(rva);
        let mut after = around.start;
        if !around.is_empty() {
            after += self.places.get(around)?.partition_point(|(start, _)| *start <= rva);
        }
        let (start_rva, start) = *self.places.get(after.checked_sub(1)?)?;
        let next = self.places.get(after);
        let entry = self.by_rva.get(start as usize)?;
        let name = self.name(entry);
        let offset = rva - start_rva;
        let kind = entry.kind.unwrap_or_else(|| SymbolKind::of(name));
        let reach = match (offset, kind) {
            (0, _) => Reach::Start,
            _ if entry.size > 0 && offset < entry.size => Reach::Within,
            _ if entry.size > 0 => Reach::PastEnd,
            (_, SymbolKind::StringLiteral) => Reach::BehindLiteral,
            // Between two exports lie many functions that are none.
            _ if entry.how == How::Export => Reach::Far,
            (Self::FAR.., _) => Reach::Far,
            _ => Reach::Within,
        };
        let room = next.map(|(next, _)| next - start_rva);
        let size = (entry.size > 0).then_some(entry.size);
        let names = next.map_or(self.by_rva.len(), |(_, end)| *end as usize) - start as usize;
        let (how, cold) = (entry.how, entry.cold);
        Some(Found { name, rva: start_rva, offset, size, room, names, cold, kind, how, reach })
    }

    /// The name WinDbg would show for an address that lies apart from its function: of a string literal that optimisation
    /// moved into the code, if no other public name stands between, and the bytes from it to the address.
    pub fn literal_before(&self, rva: u32) -> Option<(String, u32)> {
        let after = self.by_rva.partition_point(|entry| entry.rva <= rva);
        // Only publics: parts have no name of their own in them.
        let public = |entry: &&Entry| matches!(entry.how, How::Public | How::Isf) && !entry.cold;
        let before = self.by_rva.get(..after)?.iter().rev().take(Self::FAR as usize);
        let nearest = before.into_iter().find(public)?;
        Some((windbg_literal(self.name(nearest))?, rva - nearest.rva))
    }

    /// Every symbol by address, the best name of an address first, each as found at its start.
    pub fn iter(&self) -> impl Iterator<Item = Found<'_>> {
        self.by_rva.chunk_by(|a, b| a.rva == b.rva).flat_map(move |same| {
            let room = || {
                let rva = same.first()?.rva;
                Some(self.by_rva.get(self.by_rva.partition_point(|entry| entry.rva <= rva))?.rva - rva)
            };
            let room = room();
            same.iter().map(move |entry| {
                let name = self.name(entry);
                Found {
                    name,
                    rva: entry.rva,
                    offset: 0,
                    size: (entry.size > 0).then_some(entry.size),
                    room,
                    names: same.len(),
                    cold: entry.cold,
                    kind: entry.kind.unwrap_or_else(|| SymbolKind::of(name)),
                    how: entry.how,
                    reach: Reach::Start,
                }
            })
        })
    }

    /// Every name at exactly this address, best first.
    pub fn names_at(&self, rva: u32) -> impl Iterator<Item = &str> {
        let start = self.by_rva.partition_point(|entry| entry.rva < rva);
        let rest = self.by_rva.get(start..).unwrap_or_default();
        rest.iter().take_while(move |entry| entry.rva == rva).map(|entry| self.name(entry))
    }

    /// The address of a symbol by its exact name; the lowest if several carry it.
    pub fn address_of(&self, name: &str) -> Option<u32> {
        let by_name = self.by_name();
        let at = by_name.partition_point(|&index| self.indexed(index).is_some_and(|(n, _)| n < name));
        let (found, rva) = self.indexed(*by_name.get(at)?)?;
        (found == name).then_some(rva)
    }

    /// Names that begin with `prefix` and their addresses, in the order of the names.
    pub fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, u32)> {
        let by_name = self.by_name();
        let at = by_name.partition_point(|&index| self.indexed(index).is_some_and(|(n, _)| n < prefix));
        let rest = by_name.get(at..).unwrap_or_default();
        rest.iter()
            .filter_map(|&index| self.indexed(index))
            .take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// A builder that holds this table's symbols, for more.
    pub(crate) fn reopen(&self) -> TableBuilder {
        TableBuilder { table: Self { by_name: OnceLock::new(), ..self.clone() } }
    }

    fn by_name(&self) -> &[u32] {
        self.by_name.get_or_init(|| {
            let mut by_name: Vec<u32> = (0..self.by_rva.len() as u32).collect();
            // Sources list their names in order, so that the place in the text is nearly the order wanted.
            by_name.sort_by_key(|&index| self.by_rva.get(index as usize).map_or(0, |entry| entry.start));
            by_name.sort_by(|&a, &b| self.indexed(a).cmp(&self.indexed(b)));
            by_name
        })
    }

    fn indexed(&self, index: u32) -> Option<(&str, u32)> {
        self.by_rva.get(index as usize).map(|entry| (self.name(entry), entry.rva))
    }

    #[inline]
    fn name(&self, entry: &Entry) -> &str {
        let start = entry.start as usize;
        self.text.get(start..start + entry.len as usize).unwrap_or_default()
    }
}

/// Collects symbols in any order.
#[derive(Debug)]
pub struct TableBuilder {
    table: SymbolTable,
}

impl TableBuilder {
    /// An empty builder for names of this origin.
    pub fn new(how: How) -> Self {
        let table = SymbolTable {
            how,
            text: String::new(),
            by_rva: Vec::new(),
            places: Vec::new(),
            buckets: Buckets::default(),
            by_name: OnceLock::new(),
            skipped: 0,
        };
        Self { table }
    }

    /// Adds a symbol; one that cannot be kept is counted.
    pub fn add(&mut self, name: &str, rva: u64) {
        let how = self.table.how;
        self.add_symbol(NewSymbol { name, rva, size: 0, kind: None, how, cold: false });
    }

    /// Adds a symbol of which more is known; one that cannot be kept is counted.
    pub fn add_symbol(&mut self, symbol: NewSymbol<'_>) {
        let NewSymbol { name, rva, size, kind, how, cold } = symbol;
        let table = &mut self.table;
        let fits = table.by_rva.len() < SymbolTable::MAX_SYMBOLS && name.len() <= SymbolTable::MAX_NAME;
        match (u32::try_from(rva), u32::try_from(table.text.len()), u16::try_from(name.len())) {
            (Ok(rva), Ok(start), Ok(len)) if fits && len > 0 => {
                table.text.push_str(name);
                table.by_rva.push(Entry { rva, size, start, len, kind, how, cold });
            }
            _ => self.skip(),
        }
    }

    /// Gives symbols that begin where something of a known size does that size, unless they have one.
    pub(crate) fn set_sizes(&mut self, sizes: &BTreeMap<u32, u32>) {
        for entry in self.table.by_rva.iter_mut().filter(|entry| entry.size == 0) {
            entry.size = sizes.get(&entry.rva).copied().unwrap_or_default();
        }
    }

    /// Counts an entry of the source that has no usable address.
    pub fn skip(&mut self) {
        self.table.skipped += 1;
    }

    /// Symbols so far.
    pub fn len(&self) -> usize {
        self.table.by_rva.len()
    }

    /// True if there is none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The finished table.
    pub fn finish(mut self) -> SymbolTable {
        let table = &mut self.table;
        let mut entries = std::mem::take(&mut table.by_rva);
        entries.sort_unstable_by_key(|entry| (entry.rva, entry.start));
        settle_sizes(&mut entries);
        prefer(&mut entries, |entry| table.name(entry));
        // A PDB lists most functions twice: as public and as procedure.
        entries.dedup_by(|next, kept| {
            (next.rva, next.cold) == (kept.rva, kept.cold) && table.name(next) == table.name(kept)
        });
        table.by_rva = entries;
        table.places = (0..).zip(&table.by_rva).map(|(index, entry)| (entry.rva, index)).collect();
        table.places.dedup_by_key(|(rva, _)| *rva);
        table.buckets = Buckets::new(table.places.iter().map(|(rva, _)| *rva));
        self.table
    }
}

/// Names of one address share the size one of them has, and a label inside a function ends with it.
fn settle_sizes(entries: &mut [Entry]) {
    let mut end = 0;
    for same in entries.chunk_by_mut(|a, b| a.rva == b.rva) {
        let Some(rva) = same.first().map(|entry| entry.rva) else { continue };
        match same.iter().map(|entry| entry.size).max() {
            Some(size) if size > 0 => {
                end = rva.saturating_add(size);
                same.iter_mut().filter(|entry| entry.size == 0).for_each(|entry| entry.size = size);
            }
            _ => same.iter_mut().for_each(|entry| entry.size = end.saturating_sub(rva)),
        }
    }
}

/// Puts the name to show first among those of one address: a name of a thing before the stand-ins of the linker and
/// the compiler, plain before decorated, with a record of its own before public, whole before part, short before long.
fn prefer<'a>(entries: &mut [Entry], name: impl Fn(&Entry) -> &'a str) {
    let rank = |name: &str| {
        let stand_in = name.starts_with("$$")
            || name.starts_with("_guard_")
            || name.starts_with("guard_")
            || name.starts_with("xHal")
            || name.starts_with("ext_ms_win_");
        match SymbolKind::of(name) {
            SymbolKind::StringLiteral => 3,
            _ if stand_in => 2,
            _ => u8::from(name.starts_with('?')),
        }
    };
    for same in entries.chunk_by_mut(|a, b| a.rva == b.rva) {
        if same.len() > 1 {
            same.sort_by_cached_key(|entry| {
                let name = name(entry);
                (
                    rank(name),
                    entry.cold,
                    entry.how == How::Public,
                    name.len(),
                    name.to_owned(),
                    entry.how == How::Variable,
                )
            });
        }
    }
}

/// A table of a few symbols, for tests and for hosts that know names by other means.
impl FromIterator<(String, u32)> for SymbolTable {
    fn from_iter<T: IntoIterator<Item = (String, u32)>>(symbols: T) -> Self {
        let symbols: BTreeMap<String, u32> = symbols.into_iter().collect();
        let mut builder = TableBuilder::new(How::Public);
        for (name, rva) in &symbols {
            builder.add(name, u64::from(*rva));
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(symbols: &[(&str, u64)]) -> SymbolTable {
        let mut builder = TableBuilder::new(How::Isf);
        for (name, rva) in symbols {
            builder.add(name, *rva);
        }
        builder.finish()
    }

    #[test]
    fn an_address_gets_the_symbol_before_it_and_how_far_that_carries() {
        let table = table(&[("B", 0x2000), ("A", 0x1000), ("??_C@_0x@FNODOBFM@", 0x3000), ("Last", 0x90000)]);
        assert_eq!(table.lookup(0xfff), None);
        let found = table.lookup(0x1010).unwrap();
        assert_eq!((found.name, found.offset, found.room), ("A", 0x10, Some(0x1000)));
        assert_eq!(found.reach, Reach::Within);
        assert_eq!(table.lookup(0x2000).unwrap().reach, Reach::Start);
        let cold = table.lookup(0x3611).unwrap();
        assert_eq!((cold.kind, cold.reach), (SymbolKind::StringLiteral, Reach::BehindLiteral));
        assert!(!cold.reach.names_the_place());
        let last = table.lookup(u32::MAX).unwrap();
        assert_eq!((last.name, last.room, last.reach), ("Last", None, Reach::Far));
        assert_eq!(table.lookup(0x9ffff).unwrap().reach, Reach::Within);
        assert_eq!(table.lookup(0xa0000).unwrap().reach, Reach::Far);
    }

    #[test]
    fn a_part_apart_is_known_by_the_literal_before_it() {
        let literal = "??_C@_1BG@CABLGOII@?$AAS@FNODOBFM@";
        let plain = table(&[("A", 0x1000), (literal, 0x2000), ("B", 0x9000)]);
        let mut builder = plain.reopen();
        let part = |rva| NewSymbol { name: "B", rva, size: 16, kind: None, how: How::Isf, cold: true };
        builder.add_symbol(part(0x3000));
        builder.add_symbol(part(0x1800));
        let table = builder.finish();
        let shown = Some(("?? ::FNODOBFM::`string'".to_owned(), 0x1008));
        assert_eq!(table.literal_before(0x3008), shown);
        // Behind a function WinDbg shows the function; before all names nothing.
        assert_eq!(table.literal_before(0x1808), None);
        assert_eq!(table.literal_before(0x9008), None);
        assert_eq!(table.literal_before(0x10), None);
    }

    #[test]
    fn several_names_at_one_address() {
        let names = [
            "guard_check_icall_nop",
            "xHalStop",
            "KiProcessorCallbackNop",
            "KeFlushWriteBuffer",
            "?n@@YAXXZ",
        ];
        let table = table(&names.map(|name| (name, 0x500)));
        let found = table.lookup(0x500).unwrap();
        assert_eq!((found.name, found.names), ("KeFlushWriteBuffer", 5));
        assert_eq!(table.names_at(0x500).last(), Some("guard_check_icall_nop"));
        assert_eq!(table.names_at(0x501).next(), None);
    }

    /// The buckets find what a search through all would, wherever symbols crowd.
    #[test]
    fn every_address_gets_the_last_symbol_before_it() {
        let rvas = [0, 0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 100, 0x1000, 0x1001, 0xffff_0000, u32::MAX];
        for count in 0..rvas.len() {
            let symbols: Vec<(String, u64)> = rvas[..count]
                .iter()
                .enumerate()
                .map(|(i, rva)| (format!("s{i:02}"), (*rva).into()))
                .collect();
            let symbols: Vec<(&str, u64)> = symbols.iter().map(|(name, rva)| (&**name, *rva)).collect();
            let table = table(&symbols);
            for rva in (0..110).chain(0xff0..0x1010).chain(0xfffe_fff0..0xffff_0010).chain([u32::MAX]) {
                let wanted = rvas[..count].iter().rev().find(|start| **start <= rva);
                let found = table.lookup(rva);
                assert_eq!(found.map(|found| found.rva), wanted.copied(), "{rva:#x} of {count}");
                if let Some(found) = found {
                    let same: Vec<&str> = table.names_at(found.rva).collect();
                    assert_eq!((found.name, found.names), (same[0], same.len()), "{rva:#x} of {count}");
                }
            }
        }
    }

    #[test]
    fn names_are_found_whatever_order_they_came_in() {
        let table = table(&[("Zw", 3), ("Ab", 9), ("Ac", 7), ("Ab", 2), ("", 1), ("Far", u64::MAX)]);
        assert_eq!(table.address_of("Ab"), Some(2));
        assert_eq!(table.address_of("Zw"), Some(3));
        assert_eq!(table.address_of("A"), None);
        assert_eq!(table.address_of("Zx"), None);
        assert_eq!(table.starting_with("A").map(|(_, rva)| rva).collect::<Vec<_>>(), [2, 9, 7]);
        assert_eq!((table.len(), table.skipped()), (4, 2));
    }

    #[test]
    fn what_a_name_tells() {
        for (name, kind) in [
            ("KeBugCheckEx", SymbolKind::Unknown),
            ("??_C@_1DO@KDEG@?$AAS@FNODOBFM@", SymbolKind::StringLiteral),
            ("__imp_VidInitialize", SymbolKind::Data),
            ("?Free@SC_ENV@@SAXPEAX@Z", SymbolKind::Code),
            ("?SmFreeWrapper@@YAXPEAX0@Z", SymbolKind::Code),
            ("?EnumKeyPrefix@?1??_CmDeleteDeviceRegKeyWorker@@9@9", SymbolKind::Data),
            ("??_7SC_DISK@@6B@", SymbolKind::Data),
            ("?Head@@3PEAU_NODE@@EA", SymbolKind::Data),
            ("?Count@?1??Work@@YAXXZ@4HA", SymbolKind::Unknown),
            ("?", SymbolKind::Unknown),
        ] {
            assert_eq!(SymbolKind::of(name), kind, "{name}");
        }
    }
}
