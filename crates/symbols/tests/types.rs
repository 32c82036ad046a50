//! Types against other readers: every record of every real PDB against `llvm-pdbutil`, kernel structures as they are
//! printed against the JSON of Volatility's tables, and both against each other.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what failed and prints what it measured"
)]

use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use stopcode_symbols::{Dt, IsfTypes, PdbTypes, Role, Type, TypeId, Types, unpack_xz};

fn shared(part: &str, test: &str) -> Option<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(part);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {test}: ../shared is not beside the checkout");
    None
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|ext| ext == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What `llvm-pdbutil dump --types` says, by type.
#[derive(Default)]
struct Oracle {
    /// Lines of each record, the first without its number.
    records: BTreeMap<u32, Vec<String>>,
}

impl Oracle {
    fn of(pdb: &Path) -> Option<Self> {
        let output = Command::new("llvm-pdbutil").args(["dump", "--types"]).arg(pdb).output().ok()?;
        assert!(output.status.success(), "llvm-pdbutil: {}", String::from_utf8_lossy(&output.stderr));
        let mut oracle = Self::default();
        let mut current = None;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let line = line.trim();
            if let Some((number, rest)) = line.split_once(" | LF_")
                && let Some(number) = number.strip_prefix("0x")
            {
                let number = u32::from_str_radix(number, 16).unwrap();
                oracle.records.insert(number, vec![format!("LF_{rest}")]);
                current = Some(number);
            } else if let Some(record) = current.and_then(|number| oracle.records.get_mut(&number)) {
                record.push(line.to_owned());
            }
        }
        Some(oracle)
    }

    /// The number behind a word in a record: `field list: 0x1000`.
    fn number(record: &[String], word: &str) -> Option<u64> {
        record.iter().find_map(|line| number_behind(line, word))
    }
}

fn number_behind(line: &str, word: &str) -> Option<u64> {
    let rest = line.split_once(word)?.1.trim_start();
    let digits = |text: &str| text.chars().take_while(char::is_ascii_hexdigit).collect::<String>();
    match rest.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(&digits(hex), 16).ok(),
        None => digits(rest).parse().ok(),
    }
}

fn quoted<'l>(line: &'l str, open: &str) -> Option<&'l str> {
    let rest = line.split_once(open)?.1;
    // Names of templates hold back quotes themselves: the last one before what follows closes.
    let end = rest.rfind("`, ").or_else(|| rest.rfind('`'))?;
    Some(&rest[..end])
}

/// A member as both tell it: name, offset, type, and whether it is in the record.
type Told = (String, u64, u32, bool);

fn oracle_members(oracle: &Oracle, list: u64) -> (Vec<Told>, Vec<(String, i128)>) {
    let (mut members, mut values) = (Vec::new(), Vec::new());
    let Some(record) = oracle.records.get(&(list as u32)) else { return (members, values) };
    let mut lines = record.iter().peekable();
    while let Some(line) = lines.next() {
        let ty = |line: &str, word: &str| number_behind(line, word).unwrap() as u32;
        if line.starts_with("- LF_MEMBER") {
            // The fields behind the name are always the last ones.
            let (head, tail) = line.rsplit_once("`, Type = ").unwrap();
            let name = head.split_once("[name = `").unwrap().1.to_owned();
            members.push((
                name,
                number_behind(tail, "offset = ").unwrap(),
                ty(&format!("x {tail}"), "x "),
                true,
            ));
        } else if line.starts_with("- LF_STMEMBER") {
            let (head, tail) = line.rsplit_once("`, type = ").unwrap();
            let name = head.split_once("[name = `").unwrap().1.to_owned();
            members.push((name, 0, ty(&format!("x {tail}"), "x "), false));
        } else if line.starts_with("- LF_BCLASS") {
            let next = lines.peek().unwrap();
            members.push((
                String::new(),
                number_behind(next, "offset = ").unwrap(),
                ty(next, "type = "),
                true,
            ));
        } else if line.starts_with("- LF_VBCLASS") || line.starts_with("- LF_IVBCLASS") {
            let next = lines.peek().unwrap();
            members.push((String::new(), 0, ty(next, "base = "), false));
        } else if line.starts_with("- LF_VFUNCTAB") {
            members.push(("__VFN_table".to_owned(), 0, ty(line, "type = "), true));
        } else if let Some(rest) = line.strip_prefix("- LF_ENUMERATE [") {
            let (name, value) = rest.trim_end_matches(']').rsplit_once(" = ").unwrap();
            values.push((name.to_owned(), value.parse().unwrap()));
        } else if line.starts_with("- LF_INDEX") {
            let next = lines.peek().map_or("", |next| next.as_str());
            let more = number_behind(line, "= ").or_else(|| number_behind(next, "= ")).unwrap();
            let (more_members, more_values) = oracle_members(oracle, more);
            members.extend(more_members);
            values.extend(more_values);
        }
    }
    (members, values)
}

/// Records, fields, enumerators, pointers, arrays, bit fields and functions of all PDBs, each by its own number.
#[test]
fn every_type_is_what_llvm_pdbutil_says() {
    const TEST: &str = "every_type_is_what_llvm_pdbutil_says";
    let Some(folder) = shared("pe", TEST) else { return };
    if Command::new("llvm-pdbutil").arg("--version").output().is_err() {
        eprintln!("SKIPPED: {TEST}: llvm-pdbutil is not installed");
        return;
    }
    let (mut all_records, mut all_members) = (0, 0);
    for path in files(&folder, "pdb") {
        let bytes = fs::read(&path).unwrap();
        let types = PdbTypes::parse(&bytes).unwrap();
        assert_eq!(types.damage, None);
        let oracle = Oracle::of(&path).unwrap();
        assert_eq!(types.ids().count(), oracle.records.len(), "{}", path.display());
        let (mut records, mut fields) = (0, 0);
        for (number, record) in &oracle.records {
            let id = TypeId(*number);
            let head = &record[0];
            let place = || format!("{} {number:#x} {record:?}", path.display());
            let whole = record.join(" ");
            let forward = whole.contains("forward ref");
            let kind = head.split_whitespace().next().unwrap();
            match kind {
                "LF_STRUCTURE" | "LF_CLASS" | "LF_UNION" | "LF_INTERFACE" | "LF_ENUM" => {
                    let name = quoted(head, "] `").unwrap();
                    let ty = types.get(id);
                    let told = match &ty {
                        Type::Record(record) => &record.name,
                        Type::Enum(of) => &of.name,
                        other => panic!("{}: {other:?}", place()),
                    };
                    assert_eq!(told, name, "{}", place());
                    if forward {
                        continue;
                    }
                    records += 1;
                    if kind == "LF_ENUM" {
                        let base = Oracle::number(record, "underlying type: ").unwrap();
                        assert!(matches!(&ty, Type::Enum(of) if u64::from(of.base.0) == base), "{}", place());
                    } else {
                        assert_eq!(types.size_of(id), Oracle::number(record, "sizeof "), "{}", place());
                    }
                    let (members, values) =
                        oracle_members(&oracle, Oracle::number(record, "field list: ").unwrap_or(0));
                    let ours = types.members(id);
                    assert!(!ours.partial, "{}", place());
                    let ours: Vec<Told> = ours
                        .list
                        .into_iter()
                        .map(|member| {
                            let placed = !matches!(member.role, Role::Static | Role::VirtualBase);
                            (member.name, member.offset, member.ty.0, placed)
                        })
                        .collect();
                    assert_eq!(ours, members, "{}", place());
                    assert_eq!(types.values(id), values, "{}", place());
                    fields += members.len() + values.len();
                }
                "LF_POINTER" => {
                    let Type::Pointer { target, size } = types.get(id) else { panic!("{}", place()) };
                    assert_eq!(u64::from(target.0), Oracle::number(record, "referent = ").unwrap());
                    match quoted_kind(&whole) {
                        Some("ptr64") => assert_eq!(size, 8, "{}", place()),
                        Some("ptr32") => assert_eq!(size, 4, "{}", place()),
                        _ => {}
                    }
                }
                "LF_ARRAY" => {
                    let Type::Array { element, count } = types.get(id) else { panic!("{}", place()) };
                    assert_eq!(u64::from(element.0), Oracle::number(record, "element type: ").unwrap());
                    let size = Oracle::number(record, "size: ").unwrap();
                    assert_eq!(types.size_of(id), Some(size), "{}", place());
                    if let Some(each) = types.size_of(element).filter(|each| *each > 0) {
                        assert_eq!(count * each, size, "{}", place());
                    }
                }
                "LF_BITFIELD" => {
                    let Type::Bits { base, position, length } = types.get(id) else { panic!("{}", place()) };
                    let words = ["type = ", "bit offset = ", "# bits = "];
                    let wanted = words.map(|word| Oracle::number(record, word).unwrap());
                    assert_eq!([base.0, position, length].map(u64::from), wanted, "{}", place());
                }
                "LF_PROCEDURE" | "LF_MFUNCTION" => {
                    let Type::Function { returns, arguments } = types.get(id) else { panic!("{}", place()) };
                    let returned = Oracle::number(record, "return type = ").unwrap();
                    assert_eq!(u64::from(returns.unwrap().0), returned, "{}", place());
                    let list = Oracle::number(record, "param list = ").unwrap() as u32;
                    let arguments: Vec<u64> = arguments.iter().map(|ty| ty.0.into()).collect();
                    // `...` is an argument without type.
                    let theirs = oracle.records[&list].iter().skip(1).map(|line| match &**line {
                        line if line.starts_with("<no type>") => 0,
                        line => number_behind(line, "").unwrap(),
                    });
                    assert_eq!(arguments, theirs.collect::<Vec<_>>(), "{}", place());
                }
                "LF_MODIFIER" => {
                    let of = Oracle::number(record, "referent = ").unwrap();
                    assert_eq!(types.get(id), types.get(TypeId(of as u32)), "{}", place());
                }
                _ => {}
            }
        }
        println!(
            "{}: {} type records, {records} definitions with {fields} members and enumerators",
            path.strip_prefix(&folder).unwrap().display(),
            oracle.records.len(),
        );
        (all_records, all_members) = (all_records + records, all_members + fields);
    }
    println!("{all_records} definitions with {all_members} members and enumerators are equal");
    assert!(all_records > 5000 && all_members > 20_000);
}

fn quoted_kind(record: &str) -> Option<&str> {
    record.split_once("kind = ")?.1.split_whitespace().next()
}

/// Structures that everybody who reads dumps looks at.
const KERNEL: [&str; 22] = [
    "_KTHREAD",
    "_ETHREAD",
    "_KPROCESS",
    "_EPROCESS",
    "_KPRCB",
    "_KPCR",
    "_KTRAP_FRAME",
    "_CONTEXT",
    "_DISPATCHER_HEADER",
    "_DRIVER_OBJECT",
    "_DEVICE_OBJECT",
    "_IRP",
    "_IO_STACK_LOCATION",
    "_FILE_OBJECT",
    "_MDL",
    "_MMPFN",
    "_MMPTE",
    "_OBJECT_HEADER",
    "_ERESOURCE",
    "_KDPC",
    "_KTIMER",
    "_POOL_TRACKER_TABLE",
];

/// A type in the JSON as `dt` spells it, written anew from the file format's description.
fn isf_words(ty: &Json) -> String {
    let bases = [
        ("void", "Void"),
        ("unsigned char", "UChar"),
        ("char", "Char"),
        ("wchar", "Wchar"),
        ("short", "Int2B"),
        ("unsigned short", "Uint2B"),
        ("int", "Int4B"),
        ("unsigned int", "Uint4B"),
        ("long", "Int4B"),
        ("unsigned long", "Uint4B"),
        ("long long", "Int8B"),
        ("unsigned long long", "Uint8B"),
        ("HRESULT", "HRESULT"),
        ("double", "Double"),
        ("f32", "Float"),
    ];
    let name = ty["name"].as_str().unwrap_or_default();
    match ty["kind"].as_str().unwrap() {
        "base" => bases.iter().find(|(base, _)| *base == name).unwrap().1.to_owned(),
        "pointer" if ty["subtype"]["kind"] == "function" => "Ptr64     function".to_owned(),
        "pointer" => format!("Ptr64 {}", isf_words(&ty["subtype"])),
        "array" => format!("[{}] {}", ty["count"], isf_words(&ty["subtype"])),
        "bitfield" if ty["bit_length"] == 1 => format!("Pos {}, 1 Bit", ty["bit_position"]),
        "bitfield" => format!("Pos {}, {} Bits", ty["bit_position"], ty["bit_length"]),
        _ => name.to_owned(),
    }
}

#[test]
fn kernel_structures_are_printed_as_the_tables_have_them() {
    let Some(folder) = shared("isf", "kernel_structures_are_printed_as_the_tables_have_them") else { return };
    let tables = files(&folder, "xz");
    // Unpacking takes a while without optimisation: the first, the last and the one of a dump.
    let chosen = tables.iter().enumerate().filter(|(index, path)| {
        std::env::var_os("STOPCODE_LONG").is_some()
            || [0, tables.len() - 1].contains(index)
            || path.to_string_lossy().contains("5278AFF86C341677D7D7835C85B7B844")
    });
    for (_, path) in chosen {
        let (json, broken) = unpack_xz(&fs::read(path).unwrap(), 1 << 30).unwrap();
        assert!(broken.is_none());
        let types = IsfTypes::parse(&json).unwrap();
        let table: Json = serde_json::from_slice(&json).unwrap();
        let (mut structures, mut members) = (0, 0);
        for name in KERNEL {
            let Some(wanted) = table["user_types"].get(name) else {
                assert!(types.find(name).is_none(), "{name}");
                continue;
            };
            structures += 1;
            let id = types.find(name).unwrap();
            assert_eq!(types.size_of(id), wanted["size"].as_u64(), "{name}");
            let listing = Dt::new(&types).list(id, &[]);
            assert!(!listing.cut && !listing.partial);
            let mut ours: Vec<String> = listing.lines.iter().map(ToString::to_string).collect();
            let fields = wanted["fields"].as_object().unwrap();
            let mut theirs: Vec<String> = fields
                .iter()
                .map(|(name, field)| {
                    let offset = field["offset"].as_u64().unwrap();
                    format!("   +0x{offset:03x} {name:<16} : {}", isf_words(&field["type"]))
                })
                .collect();
            assert!(listing.lines.is_sorted_by_key(|line| line.offset), "{name}");
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs, "{name}");
            members += ours.len();
        }
        println!("{structures} structures with {members} members are equal");
        assert!(structures >= 20 && members > 1200, "{structures} {members}");
    }
}

/// Where a driver's PDB and a kernel's table of another build describe a structure of equal size, they agree on it.
#[test]
fn a_pdb_and_a_table_agree_on_what_both_have() {
    const TEST: &str = "a_pdb_and_a_table_agree_on_what_both_have";
    let (Some(isf), Some(pe)) = (shared("isf", TEST), shared("pe", TEST)) else { return };
    let path = files(&isf, "xz")
        .into_iter()
        .find(|path| path.to_string_lossy().contains("5278AFF86C341677D7D7835C85B7B844"))
        .unwrap();
    let table = IsfTypes::parse(&unpack_xz(&fs::read(path).unwrap(), 1 << 30).unwrap().0).unwrap();
    let pdb =
        PdbTypes::parse(&fs::read(pe.join("systeminformer/amd64/systeminformer.pdb")).unwrap()).unwrap();
    let places = |types: &dyn Types, id: TypeId| {
        let mut places: Vec<_> = types
            .members(id)
            .list
            .into_iter()
            .map(|member| {
                let bits = match types.get(member.ty) {
                    Type::Bits { position, length, .. } => Some((position, length)),
                    _ => None,
                };
                (member.offset, member.name, types.size_of(member.ty), bits)
            })
            .collect();
        places.sort();
        places
    };
    let (mut same, mut other) = (Vec::new(), Vec::new());
    for (name, in_table) in table.names() {
        let Some(in_pdb) = pdb.find(&name).filter(|id| pdb.size_of(*id) == table.size_of(in_table)) else {
            continue;
        };
        if !matches!(table.get(in_table), Type::Record(_)) {
            continue;
        }
        let alike = places(&table, in_table) == places(&pdb, in_pdb);
        if alike { same.push(name) } else { other.push(name) }
    }
    println!("{} structures are the same, of equal size but changed since: {other:?}", same.len());
    let known = KERNEL.iter().filter(|name| same.iter().any(|other| other == *name));
    println!("of the well-known: {:?}", known.collect::<Vec<_>>());
    for name in [
        "_DRIVER_OBJECT",
        "_DEVICE_OBJECT",
        "_IO_STACK_LOCATION",
        "_FILE_OBJECT",
        "_OBJECT_HEADER",
        "_KDPC",
        "_CONTEXT",
    ] {
        assert!(same.iter().any(|other| other == name), "{name}");
    }
    assert!(same.len() > 100 && other.len() < same.len() / 5, "{} {}", same.len(), other.len());
}

/// Cut or changed anywhere, types are read in part or refused, and what refers to them goes nowhere.
#[test]
fn damage_does_no_harm() {
    let Some(folder) = shared("pe", "types: damage_does_no_harm") else { return };
    let bytes = fs::read(folder.join("systeminformer/amd64/ksi.pdb")).unwrap();
    let read = |bytes: &[u8]| {
        let Ok(types) = PdbTypes::parse(bytes) else { return };
        for id in types.ids().step_by(7) {
            let dt = Dt { depth: 3, limit: 200, ..Dt::new(&types) };
            let listing = dt.list(id, &[]);
            assert!(listing.lines.len() <= 200);
            _ = (listing.to_string(), types.size_of(id));
        }
        _ = types.matching("_K*");
    };
    for end in (0..bytes.len()).step_by(40_009) {
        read(&bytes[..end]);
    }
    let mut state = 4711_u64;
    let mut damaged = bytes.clone();
    for _ in 0..60 {
        for _ in 0..40 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = 0x60 + (state >> 33) as usize % (bytes.len() - 0x60);
            damaged[at] = (state >> 20) as u8;
        }
        read(&damaged);
        damaged.copy_from_slice(&bytes);
    }
}
