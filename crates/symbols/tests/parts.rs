//! Functions of which the compiler moved a part elsewhere, as kernels have them: no PDB at hand to test with has one, so that it
//! is written here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod written;

use stopcode_symbols::{Pdb, PdbFile};
use written::{TEXT, record, words};

const S_END: u16 = 0x6;
const S_GPROC32: u16 = 0x1110;
const S_SEPCODE: u16 = 0x1132;
const S_INLINESITE: u16 = 0x114d;
const S_INLINESITE_END: u16 = 0x114e;

/// Where a function begins in `.text`, its parts, and for each piece the code of a function that was taken into it.
const FUNCTION: (u32, u32) = (0x100, 0x40);
const PARTS: [(u32, u32); 2] = [(0x600, 0x20), (0x500, 0x30)];
const TAKEN_IN: [(u32, u32); 3] = [(0x10, 8), (4, 6), (2, 9)];

fn place(offset: u32) -> Vec<u8> {
    [offset.to_le_bytes().to_vec(), 1_u16.to_le_bytes().to_vec()].concat()
}

/// The function, with one site of an inlined function in it, and a neighbour that has no parts.
fn module() -> Vec<u8> {
    let mut annotations = Vec::new();
    for (piece, (start, length)) in TAKEN_IN.into_iter().enumerate() {
        if piece > 0 {
            annotations.extend([2, piece as u8]);
        }
        annotations.extend([3, start as u8, 4, length as u8]);
    }
    let site = record(S_INLINESITE, &[words(&[4, 0, 0x1000]), annotations].concat());
    let site = [site, record(S_INLINESITE_END, &[])].concat();
    let parts: Vec<u8> = PARTS
        .into_iter()
        .flat_map(|(offset, size)| {
            let places = [offset, FUNCTION.0].map(u32::to_le_bytes).concat();
            let sections = [1_u16, 1].map(u16::to_le_bytes).concat();
            record(S_SEPCODE, &[words(&[0, 0, size, 3]), places, sections].concat())
        })
        .collect();
    let procedure = |name: &str, (offset, size): (u32, u32), end: usize| {
        let head = words(&[0, end as u32, 0, size, 0, 0, 0]);
        record(S_GPROC32, &[head, place(offset), vec![0], name.as_bytes().to_vec(), vec![0]].concat())
    };
    // Records count from the signature, and a scope ends at its end record.
    let length = procedure("Function", FUNCTION, 0).len() + site.len();
    let function = procedure("Function", FUNCTION, 4 + length);
    let neighbour = procedure("Neighbour", (0x200, 0x10), 4 + length + 4 + parts.len() + function.len() + 4);
    [function, site, record(S_END, &[]), parts, neighbour, record(S_END, &[])].concat()
}

#[test]
fn an_inlined_function_is_found_in_every_piece() {
    let bytes = written::pdb(&[], &module(), None);
    let file = PdbFile::open(&*bytes).unwrap();
    let pieces = std::iter::once(FUNCTION).chain(PARTS);
    for ((offset, size), (start, length)) in pieces.zip(TAKEN_IN) {
        for at in 0..size {
            let frames = file.frames(TEXT + offset + at);
            let inlined: Vec<bool> = frames.iter().map(|frame| frame.inlined).collect();
            let inside = (start..start + length).contains(&at);
            assert_eq!(inlined, if inside { vec![true, false] } else { vec![false] }, "{offset:#x}+{at:#x}");
            assert_eq!(frames.last().unwrap().function.as_deref(), Some("Function"));
        }
        assert_eq!(file.frames(TEXT + offset + size), []);
    }
    assert_eq!(file.frames(TEXT + 0x204).len(), 1);
}

/// The part bears its function's name and says that it is a part, whichever reader is asked.
#[test]
fn a_part_is_named_by_its_function() {
    let bytes = written::pdb(&[], &module(), None);
    let (whole, file) = (Pdb::parse(&bytes).unwrap(), PdbFile::open(&*bytes).unwrap());
    for (offset, size) in PARTS {
        let rva = TEXT + offset + 1;
        let found = whole.symbols.lookup(rva).unwrap();
        assert_eq!((found.name, found.cold, found.size, found.offset), ("Function", true, Some(size), 1));
        assert_eq!(file.lookup(rva), Some(found));
    }
    assert!(!whole.symbols.lookup(TEXT + FUNCTION.0).unwrap().cold);
}
