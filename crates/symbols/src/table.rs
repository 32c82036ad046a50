//! Symbols of one image by address and by name.

use std::collections::BTreeMap;

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
}

/// What a symbol names, as far as its name tells: neither ISF nor public symbols say whether it is code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SymbolKind {
    /// A decorated function name.
    Code,
    /// A decorated variable, an import pointer, a GUID, a vtable.
    Data,
    /// A string literal (`??_C@`): data; and where basic-block optimisation moved one into the code
    /// (`FNODOBFM`), the only name near the cold parts of functions.
    StringLiteral,
    /// The name does not tell.
    Unknown,
}

impl SymbolKind {
    /// What `name` tells. (Decorated names: `?` opens one; after the `@@` that ends the scope, letters are functions,
    /// digits variables and tables. Scopes with templates or functions in them have more `@@` and are left alone.)
    pub fn of(name: &str) -> Self {
        if name.starts_with("??_C@") {
            return Self::StringLiteral;
        }
        if name.starts_with("__imp_") || name.starts_with("_imp_") || name.ends_with("_NULL_THUNK_DATA") {
            return Self::Data;
        }
        let Some(decorated) = name.strip_prefix('?') else { return Self::Unknown };
        let Some((scope, code)) = decorated.split_once("@@") else { return Self::Unknown };
        let local = scope.get(1..).is_some_and(|scope| scope.contains("??"));
        match code.bytes().next() {
            Some(b'0'..=b'9') => Self::Data,
            Some(b'A'..=b'Z') if !local => Self::Code,
            _ => Self::Unknown,
        }
    }

    /// True if it is surely data; false if surely code; `None` if the name does not tell.
    pub fn is_data(self) -> Option<bool> {
        match self {
            Self::Code => Some(false),
            Self::Data | Self::StringLiteral => Some(true),
            Self::Unknown => None,
        }
    }
}

/// How far a name carries to the address asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reach {
    /// The address is the symbol's own.
    Start,
    /// Between this symbol and the next, not far in. No length is known: an unnamed thing may lie between.
    Within,
    /// More than [`SymbolTable::FAR`] bytes behind the symbol: it is only the nearest name.
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
    /// Bytes from the symbol to the next one; `None` behind the last.
    pub room: Option<u32>,
    /// How many names share this address. More than one: identical functions were folded into one, and the name may
    /// be that of another caller's function.
    pub names: usize,
    /// What the name tells of the kind.
    pub kind: SymbolKind,
    /// Where the name comes from.
    pub how: How,
    /// How far it carries.
    pub reach: Reach,
}

/// Bytes from `start` on in the table's text.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rva: u32,
    start: u32,
    len: u16,
}

/// Symbols of one image, by address and by name.
#[derive(Clone, Debug)]
pub struct SymbolTable {
    how: How,
    text: String,
    /// By address; at one address the name to show first.
    by_rva: Vec<Entry>,
    /// Indexes into `by_rva`, by name.
    by_name: Vec<u32>,
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
    pub fn lookup(&self, rva: u32) -> Option<Found<'_>> {
        let end = self.by_rva.partition_point(|entry| entry.rva <= rva);
        let start_rva = self.by_rva.get(end.checked_sub(1)?)?.rva;
        let start = self.by_rva.partition_point(|entry| entry.rva < start_rva);
        let name = self.name(self.by_rva.get(start)?);
        let offset = rva - start_rva;
        let kind = SymbolKind::of(name);
        let reach = match (offset, kind) {
            (0, _) => Reach::Start,
            (_, SymbolKind::StringLiteral) => Reach::BehindLiteral,
            (Self::FAR.., _) => Reach::Far,
            _ => Reach::Within,
        };
        let room = self.by_rva.get(end).map(|next| next.rva - start_rva);
        Some(Found { name, rva: start_rva, offset, room, names: end - start, kind, how: self.how, reach })
    }

    /// Every name at exactly this address, best first.
    pub fn names_at(&self, rva: u32) -> impl Iterator<Item = &str> {
        let start = self.by_rva.partition_point(|entry| entry.rva < rva);
        let rest = self.by_rva.get(start..).unwrap_or_default();
        rest.iter().take_while(move |entry| entry.rva == rva).map(|entry| self.name(entry))
    }

    /// The address of a symbol by its exact name; the lowest if several carry it.
    pub fn address_of(&self, name: &str) -> Option<u32> {
        let at = self.by_name.partition_point(|&index| self.indexed(index).is_some_and(|(n, _)| n < name));
        let (found, rva) = self.indexed(*self.by_name.get(at)?)?;
        (found == name).then_some(rva)
    }

    /// Names that begin with `prefix` and their addresses, in the order of the names.
    pub fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, u32)> {
        let at = self.by_name.partition_point(|&index| self.indexed(index).is_some_and(|(n, _)| n < prefix));
        let rest = self.by_name.get(at..).unwrap_or_default();
        rest.iter()
            .filter_map(|&index| self.indexed(index))
            .take_while(move |(name, _)| name.starts_with(prefix))
    }

    fn indexed(&self, index: u32) -> Option<(&str, u32)> {
        self.by_rva.get(index as usize).map(|entry| (self.name(entry), entry.rva))
    }

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
        let table =
            SymbolTable { how, text: String::new(), by_rva: Vec::new(), by_name: Vec::new(), skipped: 0 };
        Self { table }
    }

    /// Adds a symbol; one that cannot be kept is counted.
    pub fn add(&mut self, name: &str, rva: u64) {
        let table = &mut self.table;
        let fits = table.by_rva.len() < SymbolTable::MAX_SYMBOLS && name.len() <= SymbolTable::MAX_NAME;
        match (u32::try_from(rva), u32::try_from(table.text.len()), u16::try_from(name.len())) {
            (Ok(rva), Ok(start), Ok(len)) if fits && len > 0 => {
                table.text.push_str(name);
                table.by_rva.push(Entry { rva, start, len });
            }
            _ => self.skip(),
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
        prefer(&mut entries, |entry| table.name(entry));
        table.by_rva = entries;
        let mut by_name: Vec<u32> = (0..table.by_rva.len() as u32).collect();
        // Sources list their names in order, so that the place in the text is nearly the order wanted.
        by_name.sort_by_key(|&index| table.by_rva.get(index as usize).map_or(0, |entry| entry.start));
        by_name.sort_by(|&a, &b| table.indexed(a).cmp(&table.indexed(b)));
        table.by_name = by_name;
        self.table
    }
}

/// Puts the name to show first among those of one address: a name of a thing before the stand-ins of the linker and
/// the compiler, plain before decorated, short before long.
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
                (rank(name), name.len(), name.to_owned())
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
