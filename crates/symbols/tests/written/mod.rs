//! PDBs that are written for a test.

const BLOCK: usize = 512;
/// Sections before and after: `.text` first, then `.data`.
pub(crate) const TEXT: u32 = 0x1000;
pub(crate) const TEXT_SIZE: u32 = 0x800;
pub(crate) const DATA: u32 = 0x2000;
pub(crate) const DATA_SIZE: u32 = 0x400;
/// The rearranged code lies in a section that is larger.
pub(crate) const MOVED_SIZE: u32 = 0x1_0000;

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An MSF container of these streams.
fn container(streams: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0; 3 * BLOCK];
    let mut blocks_of = |bytes: &[u8]| {
        let first = file.len() / BLOCK;
        file.extend(bytes);
        file.resize(file.len().next_multiple_of(BLOCK), 0);
        (first..file.len() / BLOCK).map(|block| block as u32).collect::<Vec<_>>()
    };
    let blocks: Vec<Vec<u32>> = streams.iter().map(|bytes| blocks_of(bytes)).collect();
    let mut directory = vec![streams.len() as u32];
    directory.extend(streams.iter().map(|bytes| bytes.len() as u32));
    directory.extend(blocks.concat());
    let directory = words(&directory);
    let list = blocks_of(&directory);
    let map = blocks_of(&words(&list))[0];
    let all = (file.len() / BLOCK) as u32;
    file[..32].copy_from_slice(b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0");
    file[0x20..0x38].copy_from_slice(&words(&[BLOCK as u32, 1, all, directory.len() as u32, 0, map]));
    file
}

fn section(name: [u8; 8], rva: u32, size: u32, flags: u32) -> Vec<u8> {
    let mut header = name.to_vec();
    header.extend(words(&[size, rva, size, 0x400, 0, 0, 0, flags]));
    header
}

/// A record of this kind, padded to a multiple of four.
pub(crate) fn record(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = (body.len() + 4).next_multiple_of(4);
    let mut record = (length as u16 - 2).to_le_bytes().to_vec();
    record.extend(kind.to_le_bytes());
    record.extend(body);
    record.resize(length, 0);
    record
}

/// A PDB with these global symbol records, and a module with these of its own to which all code belongs, if there are any;
/// whose image was rearranged by this map, or not at all without one.
pub(crate) fn pdb(records: &[u8], module: &[u8], map: Option<&[(u32, u32)]>) -> Vec<u8> {
    const CODE: u32 = 0x6000_0020;
    const NUMBERS: u32 = 0xc000_0040;
    let before =
        [section(*b".text\0\0\0", TEXT, TEXT_SIZE, CODE), section(*b".data\0\0\0", DATA, DATA_SIZE, NUMBERS)];
    let after = [
        section(*b".text\0\0\0", TEXT, MOVED_SIZE, CODE),
        section(*b".data\0\0\0", 0x2_0000, DATA_SIZE, NUMBERS),
    ];
    let mut info = words(&[20_000_404, 0, 1]);
    info.extend([7; 16]);
    info.extend(words(&[0]));
    // Sections at 5, those before at 10, the maps to and from what was before at 3 and 4.
    let mut extra = [u16::MAX; 11];
    extra[5] = 5;
    if map.is_some() {
        (extra[3], extra[4], extra[5], extra[10]) = (7, 6, 8, 5);
    }
    let extra: Vec<u8> = extra.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut debug = words(&[u32::MAX, 19_990_903, 1]);
    // Streams of globals and publics, which nobody reads here; versions; and that of the records.
    debug.extend([0xffff_u16, 0, 0xffff, 0, 4, 0].iter().flat_map(|number| number.to_le_bytes()));
    let own = if module.is_empty() { Vec::new() } else { [words(&[4]), module.to_vec()].concat() };
    let (list, pieces) =
        if own.is_empty() { (Vec::new(), Vec::new()) } else { (listed(own.len()), contribution()) };
    debug.extend(words(&[list.len() as u32, pieces.len() as u32, 0, 0, 0, 0, extra.len() as u32, 0]));
    debug.extend([0, 0, 0x64, 0x86]);
    debug.extend(words(&[0]));
    assert_eq!(debug.len(), 0x40);
    debug.extend([list, pieces].concat());
    debug.extend(extra);
    let from = map.unwrap_or_default();
    let mut to: Vec<(u32, u32)> =
        from.iter().filter(|pair| pair.1 != 0).map(|pair| (pair.1, pair.0)).collect();
    to.sort_unstable();
    let pairs =
        |pairs: &[(u32, u32)]| words(&pairs.iter().flat_map(|pair| [pair.0, pair.1]).collect::<Vec<_>>());
    container(&[
        Vec::new(),
        info,
        Vec::new(),
        debug,
        records.to_vec(),
        before.concat(),
        pairs(from),
        pairs(&to),
        after.concat(),
        own,
    ])
}

/// The list of modules: one, whose stream is the ninth.
fn listed(symbols: usize) -> Vec<u8> {
    let mut module = vec![0; 64];
    module[34..36].copy_from_slice(&9_u16.to_le_bytes());
    module[36..40].copy_from_slice(&(symbols as u32).to_le_bytes());
    module.extend(b"part.obj\0part.lib\0");
    module.resize(module.len().next_multiple_of(4), 0);
    module
}

/// What the module gave to the image: all of `.text`.
fn contribution() -> Vec<u8> {
    words(&[0xeffe_0000 + 19_970_605, 1, 0, TEXT_SIZE, 0, 0, 0, 0])
}
