//! Against real symbol files and real dumps beside the checkout.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::print_stderr, reason = "figures and skipped tests are told")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stopcode_base::Arch;
use stopcode_symbols::{
    Identification, KDBG_OFFSETS, KnownOffset, Layout, Layouts, Reach, Sizes, SymbolKind, SymbolSource,
    Wanted, identify, kernel_builds,
};

fn shared(test: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if !path.exists() {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED: {test}: ../shared is not beside the checkout\n").as_bytes(),
        );
        return None;
    }
    Some(path)
}

/// As much of a 64-bit minidump as these tests need, read by places alone and not by the crate under test's siblings.
struct Dump {
    name: String,
    bytes: Vec<u8>,
}

impl Dump {
    /// The dumps that hold a triage header and KDBG; two in the collection are empty, one is all zeros.
    fn all(shared: &Path) -> Vec<Self> {
        let mut files = Vec::new();
        let mut folders = vec![shared.join("data/dumps")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        let dumps: Vec<Self> = files
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                Self { name, bytes: fs::read(path).unwrap() }
            })
            .filter(|dump| dump.bytes.starts_with(b"PAGEDU64"))
            .collect();
        assert!(dumps.len() >= 30, "{}", dumps.len());
        dumps
    }

    fn number(&self, at: u64, width: usize) -> u64 {
        let at = at as usize;
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(&self.bytes[at..at + width]);
        u64::from_le_bytes(bytes)
    }

    fn u64(&self, at: u64) -> u64 {
        self.number(at, 8)
    }

    fn u32(&self, at: u64) -> u64 {
        self.number(at, 4)
    }

    fn kdbg(&self, at: u64, width: usize) -> u64 {
        self.number(self.u32(0x2070) + at, width)
    }

    fn arch(&self) -> Arch {
        Arch::from_machine(self.u32(0x30) as u32).unwrap()
    }

    fn build(&self) -> u32 {
        self.u32(0xc) as u32
    }

    fn sizes(&self) -> Sizes {
        let size = |at| self.kdbg(at, 2) as u32;
        Sizes { prcb: size(0x2b0), ethread: size(0x2c0), eprocess: size(0x2a8) }
    }

    fn offsets(&self) -> Vec<KnownOffset> {
        let size = self.kdbg(0x14, 4) as u32;
        KDBG_OFFSETS
            .iter()
            .filter(|known| known.at + known.width <= size)
            .map(|known| KnownOffset {
                ty: known.ty,
                field: known.field,
                offset: self.kdbg(u64::from(known.at), known.width as usize) as u32,
            })
            .filter(|known| known.offset != 0 && known.offset != 0xffff)
            .collect()
    }

    fn layout(&self, offsets: &[KnownOffset]) -> Layout {
        let sizes = Some(self.sizes());
        let wanted = Wanted { arch: self.arch(), build: self.build(), revision: None, sizes, offsets };
        Layouts::for_kernel(&wanted).unwrap()
    }

    /// Pointers of KDBG and the header into the kernel, relative to its base. Names and places: wdbgexts.h.
    fn pointers(&self) -> Vec<(&'static str, u64)> {
        const PLACES: [(&str, u64); 21] = [
            ("KiCallUserMode", 0x38),
            ("PsLoadedModuleList", 0x48),
            ("PsActiveProcessHead", 0x50),
            ("PspCidTable", 0x58),
            ("ExpSystemResourcesList", 0x60),
            ("KeBugCheckCallbackListHead", 0x80),
            ("KiBugcheckData", 0x88),
            ("IopErrorLogListHead", 0x90),
            ("MmPfnDatabase", 0xc0),
            ("PoolTrackTable", 0x1b8),
            ("NtBuildLab", 0x208),
            ("KiProcessorBlock", 0x218),
            ("MmUnloadedDrivers", 0x220),
            ("MmLastUnloadedDriver", 0x228),
            ("MmSpecialPoolTag", 0x238),
            ("MmVerifierData", 0x248),
            ("CmNtCSDVersion", 0x268),
            ("MmPhysicalMemoryBlock", 0x270),
            ("KeLoaderBlock", 0x2d8),
            ("IopNumTriageDumpDataBlocks", 0x308),
            ("IopTriageDumpDataBlocks", 0x310),
        ];
        let base = self.kdbg(0x18, 8);
        let mut pointers: Vec<_> = PLACES.iter().map(|&(name, at)| (name, self.kdbg(at, 8))).collect();
        pointers.push(("KdDebuggerDataBlock", self.u64(0x80)));
        pointers
            .into_iter()
            .filter_map(|(name, at)| Some((name, at.checked_sub(base).filter(|rva| *rva < 0x200_0000)?)))
            .collect()
    }
}

#[test]
fn the_kernel_of_triage_x64_is_identified_and_named() {
    let Some(shared) = shared("the_kernel_of_triage_x64_is_identified_and_named") else { return };
    let dumps = Dump::all(&shared);
    let dump = dumps.iter().find(|dump| dump.name == "triage_x64.dmp").unwrap();
    let mut pointers = dump.pointers();
    let Identification::Exact { build, matched, of, runner_up } = identify(&pointers, None) else {
        panic!("{:?}", identify(&pointers, None))
    };
    eprintln!("triage_x64: {} matches {matched} of {of}, runner-up {runner_up}", build.version);
    assert_eq!(
        (build.version, build.key.to_string().as_str()),
        ("10.0.19041.804", "5278AFF86C341677D7D7835C85B7B844-1")
    );
    assert!(matched == of && runner_up * 2 < matched);

    let source = SymbolSource::new([shared.join("data/isf")]);
    let begun = std::time::Instant::now();
    let (_, isf) = source.find(build.key).unwrap().unwrap();
    eprintln!("{} symbols found and loaded in {:?}", isf.symbols.len(), begun.elapsed());
    assert_eq!((isf.key, isf.machine, isf.damage), (Some(build.key), Some(0x8664), None));
    assert_eq!(isf.symbols.len(), 39_832);

    // Every pointer lies at the symbol its field stands for, by address and by name.
    for (name, rva) in pointers.drain(..) {
        let names = stopcode_symbols::symbol_names(name);
        assert!(isf.symbols.names_at(rva as u32).any(|there| names.contains(&there)), "{name}");
        assert!(names.iter().any(|name| isf.symbols.address_of(name) == Some(rva as u32)), "{name}");
    }
    // A word of this dump's stack: the nearest public is a string literal that was moved into the code.
    let cold = isf.symbols.lookup((0xffff_f804_7be0_f4e1_u64 - dump.kdbg(0x18, 8)) as u32).unwrap();
    assert_eq!((cold.kind, cold.reach), (SymbolKind::StringLiteral, Reach::BehindLiteral));
    // rip of the idle processors.
    let idle = isf.symbols.lookup((0xffff_f804_7bd8_d14d_u64 - dump.kdbg(0x18, 8)) as u32).unwrap();
    assert_eq!(idle.reach, Reach::Within);
    eprintln!("idle rip: {}+{:#x} of {:?}", idle.name, idle.offset, idle.room);
}

/// Of all other dumps no kernel is in the pack, and none is named.
#[test]
fn kernels_that_are_not_in_the_pack_are_not_guessed() {
    let Some(shared) = shared("kernels_that_are_not_in_the_pack_are_not_guessed") else { return };
    for dump in Dump::all(&shared).iter().filter(|dump| dump.name != "triage_x64.dmp") {
        let outcome = identify(&dump.pointers(), None);
        match &outcome {
            Identification::None { best, of } => {
                let best = best
                    .as_ref()
                    .map_or("none".to_owned(), |best| format!("{} with {}", best.version, best.matched));
                eprintln!("{}: build {}, of {of} pointers the best is {best}", dump.name, dump.build());
            }
            _ => panic!("{}: {outcome:?}", dump.name),
        }
    }
}

#[test]
fn every_symbol_file_is_read_and_says_what_the_pack_says() {
    let Some(shared) = shared("every_symbol_file_is_read_and_says_what_the_pack_says") else { return };
    let source = SymbolSource::new([shared.join("data/isf")]);
    assert_eq!((source.candidates().len(), source.problems().len()), (31, 0));
    for candidate in source.candidates() {
        let key = candidate.key.unwrap();
        let (_, isf) = source.find(key).unwrap().unwrap();
        assert_eq!((isf.key, isf.damage.as_deref(), isf.symbols.skipped()), (Some(key), None, 0));
        let build = kernel_builds().iter().find(|build| build.key == key).unwrap();
        for name in ["KeBugCheckEx", "PsLoadedModuleList", "KiPageFault"] {
            assert_eq!(isf.symbols.address_of(name), build.address_of(name), "{name} of {}", build.version);
        }
        assert!(isf.symbols.len() > 10_000, "{} in {}", isf.symbols.len(), build.version);
    }
}

/// The layout chosen for each dump places every field where the dump says it is, and what is read there makes sense.
#[test]
fn layouts_agree_with_the_dumps() {
    let Some(shared) = shared("layouts_agree_with_the_dumps") else { return };
    let mut seen = BTreeMap::new();
    for dump in Dump::all(&shared) {
        let offsets = dump.offsets();
        if dump.arch() != Arch::X64 {
            let wanted = Wanted {
                arch: dump.arch(),
                build: dump.build(),
                revision: None,
                sizes: Some(dump.sizes()),
                offsets: &[],
            };
            assert!(Layouts::for_kernel(&wanted).is_err(), "nothing to infer from");
            check_inferred(&dump, &dump.layout(&offsets));
            continue;
        }
        // Chosen without the dump's own offsets: what it tells is compared with them, not taken from them.
        let blind = dump.layout(&[]);
        let mut compared = 0;
        for known in &offsets {
            if let Some(field) = blind.field(known.ty, known.field) {
                assert_eq!(field.offset, known.offset, "{}.{} in {}", known.ty, known.field, dump.name);
                compared += 1;
            }
        }
        let layout = dump.layout(&offsets);
        check_thread(&dump, &layout);
        check_process_and_processor(&dump, &layout);
        *seen.entry((dump.build(), layout.provenance(), compared, offsets.len())).or_insert(0) += 1;
    }
    for ((build, provenance, compared, of), dumps) in &seen {
        eprintln!("{dumps} dumps of build {build}: {compared} of {of} offsets compared; {provenance}");
    }
    assert!(seen.keys().all(|(_, _, compared, _)| *compared >= 6), "{seen:?}");
}

/// The saved stack bytes lie within the bounds the thread gives.
fn check_thread(dump: &Dump, layout: &Layout) {
    let thread = dump.u32(0x2024);
    let place =
        |ty, field| u64::from(layout.field(ty, field).unwrap_or_else(|| panic!("{ty}.{field}")).offset);
    let limit = dump.u64(thread + place("_KTHREAD", "StackLimit"));
    let base = dump.u64(thread + place("_KTHREAD", "StackBase"));
    let initial = dump.u64(thread + place("_KTHREAD", "InitialStack"));
    let (top, size) = (dump.u64(0x2048), dump.u32(0x202c));
    assert!(limit < base && limit.is_multiple_of(0x1000) && base.is_multiple_of(0x1000), "{}", dump.name);
    assert!(initial > limit && initial <= base, "{}", dump.name);
    // A crash on an interrupt or DPC stack saves that stack instead.
    if (limit..base).contains(&top) {
        assert!(top + size <= base, "{}: {top:x}+{size:x} beyond {base:x}", dump.name);
    }
    assert_eq!(dump.number(thread + place("_KTHREAD", "State"), 1), 2, "{}: the thread runs", dump.name);
    let process = dump.u64(thread + place("_KTHREAD", "Process"));
    assert!(process > 0xffff_8000_0000_0000, "{}", dump.name);
}

/// An ARM64 kernel's layout is inferred: its process and thread must be what the dump says they are.
fn check_inferred(dump: &Dump, layout: &Layout) {
    assert!(layout.provenance().contains("inferred"), "{layout}");
    let place =
        |ty, field| u64::from(layout.field(ty, field).unwrap_or_else(|| panic!("{ty}.{field}")).offset);
    let process = dump.u32(0x2020);
    let image = process + place("_EPROCESS", "ImageFileName");
    let name: Vec<u8> = (0..15).map(|at| dump.number(image + at, 1) as u8).take_while(|b| *b != 0).collect();
    assert!(!name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() || *b == b' '), "{}", dump.name);
    let id = dump.u64(process + place("_EPROCESS", "UniqueProcessId"));
    assert!(id.is_multiple_of(4) && id < 0x10_0000, "{}", dump.name);
    assert_eq!(id == 4, name == b"System", "{}", dump.name);
    let thread = dump.u32(0x2024);
    assert_eq!(dump.u64(thread + place("_ETHREAD", "Cid")), id, "{}: the thread is the process's", dump.name);
    let owner = dump.u64(thread + place("_KTHREAD", "Process"));
    assert!(owner > 0xffff_8000_0000_0000, "{}", dump.name);
}

fn check_process_and_processor(dump: &Dump, layout: &Layout) {
    let place =
        |ty, field| u64::from(layout.field(ty, field).unwrap_or_else(|| panic!("{ty}.{field}")).offset);
    let process = dump.u32(0x2020);
    let image = process + place("_EPROCESS", "ImageFileName");
    let name: Vec<u8> = (0..15).map(|at| dump.number(image + at, 1) as u8).take_while(|b| *b != 0).collect();
    assert!(!name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() || *b == b' '), "{}", dump.name);
    let id = dump.u64(process + place("_EPROCESS", "UniqueProcessId"));
    assert!(id.is_multiple_of(4) && id < 0x10_0000, "{}", dump.name);
    assert_eq!(id == 4, name == b"System", "{}", dump.name);
    let table = dump.u64(process + place("_KPROCESS", "DirectoryTableBase"));
    assert!(table != 0 && table >> 48 == 0, "{}", dump.name);

    let prcb = dump.u32(0x201c);
    let vendor = prcb + place("_KPRCB", "VendorString");
    let vendor: Vec<u8> = (0..12).map(|at| dump.number(vendor + at, 1) as u8).collect();
    assert!(vendor == b"AuthenticAMD" || vendor == b"GenuineIntel", "{}", dump.name);
    let mhz = dump.u32(prcb + place("_KPRCB", "MHz"));
    assert!((500..8000).contains(&mhz), "{}: {mhz} MHz", dump.name);
    if let Some(frozen) = layout.field("_KPRCB", "IpiFrozen") {
        let frozen = dump.u32(prcb + u64::from(frozen.offset));
        assert!(matches!(frozen & 0xf, 0..=5) && frozen & !0x2f == 0, "{}: IpiFrozen {frozen:x}", dump.name);
    }
}

/// The layout of every kernel that both the pack and an independent table of kernels know by its PDB: no field may lie
/// elsewhere.
#[test]
fn layouts_lie_where_an_independent_table_has_them() {
    let Some(shared) = shared("layouts_lie_where_an_independent_table_has_them") else { return };
    let packed = fs::read(shared.join("data/crosscheck/nt_kernels_by_pdb.json.xz")).unwrap();
    let (json, broken) = stopcode_symbols::unpack_xz(&packed, 64 << 20).unwrap();
    assert!(broken.is_none());
    let table: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let (mut kernels, mut fields, mut wrong) = (0, 0, Vec::new());
    for build in kernel_builds() {
        let key = format!("{:032X}{:X}", build.key.guid, build.key.age);
        let Some(offsets) = table.get(&key).and_then(|row| row.get("offsets")?.as_object()) else { continue };
        kernels += 1;
        let mut numbers = build.version.split('.').skip(2).map(|part| part.parse().unwrap());
        let (number, revision) = (numbers.next().unwrap(), numbers.next());
        let wanted = Wanted { arch: Arch::X64, build: number, revision, sizes: None, offsets: &[] };
        let layout = Layouts::for_kernel(&wanted).unwrap();
        for (name, offset) in offsets {
            let (ty, field) = name.split_once('.').unwrap();
            // What the table places in a structure inside the one it names is another field.
            let Some(ours) = layout.field(ty, field).filter(|ours| ours.bits.is_none()) else { continue };
            fields += 1;
            if Some(u64::from(ours.offset)) != offset.as_u64() {
                wrong.push(format!("{} {name}: {:#x}, there {offset}", build.version, ours.offset));
            }
        }
    }
    eprintln!("{fields} fields of {kernels} kernels compared");
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
    assert!(kernels >= 100 && fields > 3000, "{fields} fields of {kernels} kernels compared");
}

/// What is inferred of ARM64's processes and threads against the same table, which does not say what is ARM64: there
/// the TEB lies lower, and a trap frame has no `Rip`.
#[test]
fn inferred_layouts_lie_where_an_independent_table_has_them() {
    let Some(shared) = shared("inferred_layouts_lie_where_an_independent_table_has_them") else { return };
    let packed = fs::read(shared.join("data/crosscheck/nt_kernels_by_pdb.json.xz")).unwrap();
    let (json, _) = stopcode_symbols::unpack_xz(&packed, 64 << 20).unwrap();
    let table: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let (mut kernels, mut fields, mut wrong) = (0, 0, std::collections::BTreeSet::new());
    for row in table.as_object().unwrap().values() {
        let place = |name: &str| row["offsets"][name].as_u64();
        // One build of each time in which processes had one shape.
        let build = match place("_EPROCESS.Peb") {
            Some(0x508) => 22000,
            Some(0x2d0) => 26100,
            _ => continue,
        };
        if place("_KTHREAD.Teb") != Some(0xe8) || place("_KTRAP_FRAME.Rip").is_some() {
            continue;
        }
        kernels += 1;
        let given = |known: &stopcode_symbols::KdbgOffset| {
            let offset = place(&format!("{}.{}", known.ty, known.field))? as u32;
            Some(KnownOffset { ty: known.ty, field: known.field, offset })
        };
        let given: Vec<_> = KDBG_OFFSETS.iter().filter_map(given).collect();
        let wanted = Wanted { arch: Arch::Arm64, build, revision: None, sizes: None, offsets: &given };
        let layout = Layouts::for_kernel(&wanted).unwrap();
        for (name, offset) in row["offsets"].as_object().unwrap() {
            let (ty, field) = name.split_once('.').unwrap();
            if given.iter().any(|known| known.ty == ty && known.field == field) {
                continue;
            }
            let Some(ours) = layout.field(ty, field) else { continue };
            fields += 1;
            if Some(u64::from(ours.offset)) != offset.as_u64() {
                wrong.insert(format!("{build} {name}: {:#x}, there {offset}", ours.offset));
            }
        }
    }
    eprintln!("{fields} inferred fields of {kernels} kernels compared");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(kernels >= 100 && fields > 1000, "{fields} fields of {kernels} kernels compared");
}
