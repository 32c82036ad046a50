//! Types and their values laid out as WinDbg's `dt` shows them.

use super::spelling::label;
use super::value::{number, read};
use super::{MAX_NESTING, Member, Role, Type, TypeId, Types, Value};
use std::fmt;
use stopcode_base::{Memory, Miss, VirtAddr, visible};

/// How to lay a type out.
#[derive(Clone, Copy)]
pub struct Dt<'a> {
    /// Where the types are.
    pub types: &'a dyn Types,
    /// Where values are read; `None` for the layout alone.
    pub at: Option<(&'a dyn Memory, VirtAddr)>,
    /// How many levels of records, and of what pointers point to, are opened: `-r1` is 1. At most 32.
    pub depth: u32,
    /// Lines after which the listing is cut.
    pub limit: usize,
}

/// One line: a member of a record, or of a record within it.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// How deep it is nested.
    pub depth: u32,
    /// Bytes from the start of the record it is in; `None` for what has no place in it.
    pub offset: Option<u64>,
    /// The member's name.
    pub name: String,
    /// Its type, as `dt` spells it: `Ptr64 _KTHREAD`, `Pos 0, 1 Bit`.
    pub ty: String,
    /// What it holds, or why that is not known; `None` where no value was asked for or the type has none.
    pub value: Option<Result<Value, Miss>>,
}

/// A type laid out.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Listing {
    /// Members of a record.
    pub lines: Vec<Line>,
    /// Names and numbers of an enum.
    pub values: Vec<(String, i128)>,
    /// True if the source has only some of a record's members.
    pub partial: bool,
    /// True if there are more lines than were wanted.
    pub cut: bool,
}

impl<'a> Dt<'a> {
    /// The layout of types alone, without opening any member.
    pub fn new(types: &'a dyn Types) -> Self {
        Self { types, at: None, depth: 0, limit: 0x1_0000 }
    }

    /// Lays a type out. With `fields`, only these members are shown: a name, a pattern with `*`, or a path; `Pcb.` opens
    /// the member, `Pcb.Header.` both.
    pub fn list(&self, id: TypeId, fields: &[&str]) -> Listing {
        let mut walk = Walk {
            dt: self,
            out: Listing { values: self.types.values(id), ..Listing::default() },
            visits: self.limit.saturating_mul(4),
        };
        let wanted: Option<Vec<Path<'_>>> = (!fields.is_empty())
            .then(|| fields.iter().map(|field| Path(field.split('.').collect())).collect());
        let at = self.at.map(|(_, at)| at);
        walk.record(id, at, Level { depth: 0, open: self.depth, base: 0, nested: 0 }, wanted.as_deref());
        walk.out
    }
}

/// What is left of a field's path; an empty last step opens what came before.
#[derive(Clone)]
struct Path<'p>(Vec<&'p str>);

impl<'p> Path<'p> {
    /// What is wanted of a member: `None` if nothing, else the rest of the path.
    fn of(&self, name: &str) -> Option<&[&'p str]> {
        let (first, rest) = self.0.split_first()?;
        (first.is_empty()
            || *first == name
            || (first.contains(['*', '?']) && stopcode_base::fits(first, name)))
        .then_some(rest)
    }
}

#[derive(Clone, Copy)]
struct Level {
    depth: u32,
    /// Levels yet to open.
    open: u32,
    /// Offset of a base class within the record shown.
    base: u64,
    /// Base classes above.
    nested: usize,
}

struct Walk<'w> {
    dt: &'w Dt<'w>,
    out: Listing,
    /// Members yet to look at: base classes without members make no line, and a file may nest them without end.
    visits: usize,
}

impl Walk<'_> {
    fn record(&mut self, id: TypeId, at: Option<VirtAddr>, level: Level, wanted: Option<&[Path<'_>]>) {
        let members = self.dt.types.members(id);
        self.out.partial |= members.partial;
        for member in members.list {
            if self.visits == 0 || self.out.lines.len() >= self.dt.limit {
                self.out.cut = true;
                return;
            }
            self.visits -= 1;
            if member.role == Role::Base && level.nested < MAX_NESTING {
                let base = level.base.saturating_add(member.offset);
                self.record(member.ty, at, Level { base, nested: level.nested + 1, ..level }, wanted);
                continue;
            }
            match wanted {
                None => self.member(&member, at, level, None),
                Some(paths) => {
                    let rests: Vec<&[&str]> = paths.iter().filter_map(|path| path.of(&member.name)).collect();
                    if !rests.is_empty() {
                        let deeper: Vec<Path<'_>> = rests
                            .into_iter()
                            .filter(|rest| !rest.is_empty())
                            .map(|rest| Path(rest.to_vec()))
                            .collect();
                        self.member(&member, at, level, Some(&deeper));
                    }
                }
            }
        }
    }

    /// The line of a member, and those of what it opens to.
    fn member(&mut self, member: &Member, at: Option<VirtAddr>, level: Level, deeper: Option<&[Path<'_>]>) {
        let types = self.dt.types;
        let placed = !matches!(member.role, Role::Static | Role::VirtualBase);
        let offset = level.base.saturating_add(member.offset);
        let at = at.filter(|_| placed).map(|at| at.plus(offset));
        let value = self.dt.at.zip(at).and_then(|((memory, _), at)| read(types, memory, member.ty, at));
        let name = match member.role {
            Role::VirtualBase => "<virtual base>".to_owned(),
            _ => member.name.clone(),
        };
        self.out.lines.push(Line {
            depth: level.depth,
            offset: placed.then_some(offset),
            name,
            ty: label(types, member.ty),
            value,
        });
        let by_path = deeper.filter(|paths| !paths.is_empty());
        if (level.open == 0 && by_path.is_none()) || !placed || level.depth as usize >= MAX_NESTING {
            return;
        }
        let Some((inner, at)) = self.inner(member.ty, at) else { return };
        let level = Level {
            depth: level.depth + 1,
            open: level.open.saturating_sub(u32::from(by_path.is_none())),
            base: 0,
            nested: 0,
        };
        self.record(inner, at, level, by_path);
    }

    /// The record that a member is, or points to, and where it lies; `None` if it opens to nothing.
    fn inner(&self, id: TypeId, at: Option<VirtAddr>) -> Option<(TypeId, Option<VirtAddr>)> {
        let types = self.dt.types;
        match types.get(id) {
            Type::Record(_) => Some((id, at)),
            Type::Pointer { target, size } if matches!(types.get(target), Type::Record(_)) => {
                let Some((memory, _)) = self.dt.at else { return Some((target, None)) };
                let to = number(memory, at?, size)?.ok().filter(|to| *to != 0)?;
                Some((target, Some(VirtAddr(to))))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Line {
    /// In WinDbg's columns: `   +0x018 InitialStack     : Ptr64 Void`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = 3 + 3 * self.depth as usize;
        match self.offset {
            Some(offset) => write!(f, "{:indent$}+0x{offset:03x} ", "")?,
            None => write!(f, "{:indent$} ------ ", "")?,
        }
        write!(f, "{:<16} : ", visible(&self.name))?;
        match &self.value {
            None => f.write_str(&visible(&self.ty)),
            Some(Ok(value)) => value.fmt(f),
            Some(Err(miss)) => write!(f, "?? ({})", miss.reason),
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        for (name, value) in &self.values {
            writeln!(f, "   {} = 0n{value}", visible(name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuiltinTypes, IsfTypes, Layouts, Wanted};
    use stopcode_base::{Arch, SliceMemory};

    const TABLE: &str = r#"{
        "base_types": {
            "char": {"size": 1, "signed": true, "kind": "char"},
            "unsigned char": {"size": 1, "signed": false, "kind": "char"},
            "wchar": {"size": 2, "signed": true, "kind": "int"},
            "unsigned short": {"size": 2, "signed": false, "kind": "int"},
            "unsigned long": {"size": 4, "signed": false, "kind": "int"},
            "int": {"size": 4, "signed": true, "kind": "int"},
            "unsigned long long": {"size": 8, "signed": false, "kind": "int"},
            "pointer": {"size": 8, "signed": false, "kind": "int"},
            "void": {"size": 0, "signed": true, "kind": "void"}
        },
        "enums": {"_MODE": {"base": "int", "size": 4, "constants": {"User": 1, "Kernel": 0, "Odd": -1}}},
        "user_types": {
            "_LIST_ENTRY": {"kind": "struct", "size": 16, "fields": {
                "Flink": {"offset": 0, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "_LIST_ENTRY"}}},
                "Blink": {"offset": 8, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "_LIST_ENTRY"}}}}},
            "_UNICODE_STRING": {"kind": "struct", "size": 16, "fields": {
                "Length": {"offset": 0, "type": {"kind": "base", "name": "unsigned short"}},
                "Buffer": {"offset": 8, "type": {"kind": "pointer", "subtype": {"kind": "base", "name": "wchar"}}}}},
            "_X": {"kind": "struct", "size": 96, "fields": {
                "Links": {"offset": 0, "type": {"kind": "struct", "name": "_LIST_ENTRY"}},
                "Name": {"offset": 16, "type": {"kind": "struct", "name": "_UNICODE_STRING"}},
                "Routine": {"offset": 32, "type": {"kind": "pointer", "subtype": {"kind": "function"}}},
                "Mode": {"offset": 40, "type": {"kind": "enum", "name": "_MODE"}},
                "Alert": {"offset": 44, "type": {"kind": "bitfield", "bit_position": 3, "bit_length": 1,
                    "type": {"kind": "base", "name": "unsigned long"}}},
                "Spare": {"offset": 44, "type": {"kind": "bitfield", "bit_position": 4, "bit_length": 6,
                    "type": {"kind": "base", "name": "unsigned long"}}},
                "Flags": {"offset": 44, "type": {"kind": "base", "name": "unsigned long"}},
                "File": {"offset": 48, "type": {"kind": "array", "count": 8, "subtype": {"kind": "base", "name": "unsigned char"}}},
                "Count": {"offset": 56, "type": {"kind": "array", "count": 2, "subtype": {"kind": "base", "name": "int"}}},
                "Time": {"offset": 64, "type": {"kind": "base", "name": "unsigned long long"}},
                "Next": {"offset": 72, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "_X"}}},
                "Priority": {"offset": 80, "type": {"kind": "base", "name": "char"}},
                "Gone": {"offset": 88, "type": {"kind": "base", "name": "unsigned long long"}}}}
        }
    }"#;

    fn memory() -> Vec<u8> {
        let mut bytes = vec![0; 88];
        let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(0, 0xffff_8000_0000_1000);
        put(8, 0xffff_8000_0000_2000);
        put(16, 4);
        put(24, 0xffff_8000_0000_0030);
        put(32, 0xffff_f800_1234_5678);
        put(40, 0xffff_ffff | 0xa8 << 32);
        put(48, u64::from_le_bytes(*b"a\0b\0\0\0\0\0"));
        put(56, 0xffff_fffe);
        put(64, 0x1_0000_0002);
        put(72, 0xffff_8000_0000_0000);
        put(80, 8);
        bytes
    }

    const BASE: VirtAddr = VirtAddr(0xffff_8000_0000_0000);

    #[test]
    fn a_layout_as_windbg_prints_it() {
        let types = IsfTypes::parse(TABLE.as_bytes()).unwrap();
        let listing = Dt::new(&types).list(types.find("_X").unwrap(), &[]);
        assert_eq!(
            listing.to_string(),
            "   +0x000 Links            : _LIST_ENTRY
   +0x010 Name             : _UNICODE_STRING
   +0x020 Routine          : Ptr64     function
   +0x028 Mode             : _MODE
   +0x02c Flags            : Uint4B
   +0x02c Alert            : Pos 3, 1 Bit
   +0x02c Spare            : Pos 4, 6 Bits
   +0x030 File             : [8] UChar
   +0x038 Count            : [2] Int4B
   +0x040 Time             : Uint8B
   +0x048 Next             : Ptr64 _X
   +0x050 Priority         : Char
   +0x058 Gone             : Uint8B
"
        );
        let listing = Dt::new(&types).list(types.find("_MODE").unwrap(), &[]);
        assert_eq!(listing.to_string(), "   Odd = 0n-1\n   Kernel = 0n0\n   User = 0n1\n");
        assert_eq!(types.matching("_l*").len(), 1);
    }

    #[test]
    fn values_as_windbg_prints_them_and_why_one_is_missing() {
        let types = IsfTypes::parse(TABLE.as_bytes()).unwrap();
        let bytes = memory();
        let memory = SliceMemory { base: BASE, bytes: &bytes };
        let dt = Dt { at: Some((&memory, BASE)), ..Dt::new(&types) };
        assert_eq!(
            dt.list(types.find("_X").unwrap(), &[]).to_string(),
            "   +0x000 Links            : _LIST_ENTRY [ 0xffff8000`00001000 - 0xffff8000`00002000 ]
   +0x010 Name             : _UNICODE_STRING \"ab\"
   +0x020 Routine          : 0xfffff800`12345678 function
   +0x028 Mode             : 0n-1 ( Odd )
   +0x02c Flags            : 0xa8
   +0x02c Alert            : 0y1
   +0x02c Spare            : 0y001010 (0xa)
   +0x030 File             : [8]  \"a\"
   +0x038 Count            : [2] 0n-2
   +0x040 Time             : 0x00000001`00000002
   +0x048 Next             : 0xffff8000`00000000 _X
   +0x050 Priority         : 8 ''
   +0x058 Gone             : ?? (not in this dump)
"
        );
    }

    #[test]
    fn paths_open_what_they_lead_to() {
        let types = IsfTypes::parse(TABLE.as_bytes()).unwrap();
        let id = types.find("_X").unwrap();
        let lines = |depth, fields: &[&str]| {
            let listing = Dt { depth, ..Dt::new(&types) }.list(id, fields);
            listing.lines.iter().map(|line| format!("{}{}", line.depth, line.name)).collect::<Vec<_>>()
        };
        assert_eq!(lines(0, &["Mode", "Name."]), ["0Name", "1Length", "1Buffer", "0Mode"]);
        assert_eq!(lines(0, &["Next.Links.Fl*"]), ["0Next", "1Links", "2Flink"]);
        assert_eq!(lines(1, &["Links"]), ["0Links", "1Flink", "1Blink"]);
        assert_eq!(lines(0, &["mode"]), Vec::<String>::new());
        assert_eq!(lines(0, &["*me"]), ["0Name", "0Time"]);
    }

    /// A structure that points to itself has no end: the listing has one.
    #[test]
    fn a_listing_ends() {
        let types = IsfTypes::parse(TABLE.as_bytes()).unwrap();
        let bytes = memory();
        let memory = SliceMemory { base: BASE, bytes: &bytes };
        let dt = Dt { at: Some((&memory, BASE)), depth: u32::MAX, ..Dt::new(&types) };
        let id = types.find("_X").unwrap();
        let listing = dt.list(id, &[]);
        assert!(!listing.cut && listing.lines.len() > 300, "{}", listing.lines.len());
        assert!(listing.lines.iter().all(|line| line.depth as usize <= MAX_NESTING));
        let listing = Dt { limit: 100, ..dt }.list(id, &[]);
        assert!(listing.cut && listing.lines.len() == 100);
    }

    #[test]
    fn the_built_in_layouts_tell_places_and_that_they_are_not_whole() {
        let wanted = Wanted { arch: Arch::X64, build: 19041, revision: Some(804), sizes: None, offsets: &[] };
        let types = BuiltinTypes::new(&Layouts::for_kernel(&wanted).unwrap());
        let id = types.find("_KTHREAD").unwrap();
        let listing = Dt::new(&types).list(id, &["StackBase", "InitialStack"]);
        assert!(listing.partial && types.provenance().contains("19041"));
        assert_eq!(listing.to_string(), "   +0x028 InitialStack     : ?\n   +0x038 StackBase        : ?\n");
    }
}
