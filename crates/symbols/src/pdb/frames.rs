//! What x86 functions do to the stack, as a PDB tells it: compilers of 32-bit code leave no unwind data in the image.
//!
//! Two lists: `FPO_DATA` (`winnt.h`: 16 bytes, for hand-written code), and frame data (`cvinfo.h`, `FRAMEDATA`: 32 bytes,
//! with a program that computes the caller's registers). Numbers of their streams lie in the optional debug header.

use super::file::names;
use super::places::Places;
use super::{Debug, Msf, ReadAt, u16_at, u32_at};

/// Positions in the optional debug header.
const FPO: usize = 0;
const FRAME_DATA: usize = 9;

/// The program of a function that `FPO_DATA` says has no frame pointer, and of one that has.
const WITHOUT_FRAME_POINTER: &[u8] = b"$T0 .raSearch = $eip $T0 ^ = $esp $T0 4 + =";
const WITH_FRAME_POINTER: &[u8] = b"$T0 $ebp = $eip $T0 4 + ^ = $ebp $T0 ^ = $esp $T0 8 + =";

/// Several times what compilers write.
const LONGEST_PROGRAM: usize = 0x400;

/// A function nests no deeper: one record for each register it saves.
const DEEPEST: usize = 64;

/// The stack frames of an image's x86 functions; empty for other processors.
#[derive(Clone, Default, Debug)]
pub struct StackFrames {
    /// By start; where starts are the same, the longest first.
    records: Vec<Record>,
    names: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    start: u32,
    size: u32,
    locals: u32,
    parameters: u32,
    prolog: u32,
    saved: u32,
    is_function: bool,
    keeps_ebp: bool,
    program: Program,
}

#[derive(Clone, Copy, Debug)]
enum Program {
    Fixed(&'static [u8]),
    /// From here on in the names.
    Named(u32),
}

/// How a function, or a part of it, uses the stack; all in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StackFrame<'a> {
    /// RVA of the first byte it holds for.
    pub start: u32,
    /// How many bytes of code it holds for.
    pub size: u32,
    /// Local variables.
    pub locals: u32,
    /// Parameters on the stack.
    pub parameters: u32,
    /// How many bytes from `start` on are the prologue.
    pub prolog: u32,
    /// Saved registers.
    pub saved: u32,
    /// True if `start` is a function's.
    pub is_function: bool,
    /// False if EBP is used for something else and the program does not tell what becomes of it.
    pub keeps_ebp: bool,
    /// How the caller's registers are computed, in the reverse notation of frame data.
    pub program: &'a str,
}

impl StackFrames {
    pub(super) fn read(msf: &Msf<impl ReadAt>, debug: &Debug, places: &Places) -> Self {
        // What is told of code that was moved about holds for the layout before.
        if places.is_rearranged() {
            return Self::default();
        }
        let stream = |index: usize| {
            let number = debug.extra.get(index).filter(|number| **number != u16::MAX)?;
            msf.stream((*number).into()).map(|stream| stream.bytes)
        };
        let (fpo, data) = (stream(FPO).unwrap_or_default(), stream(FRAME_DATA).unwrap_or_default());
        let mut records: Vec<Record> = fpo.chunks_exact(16).filter_map(of_fpo).collect();
        records.extend(data.chunks_exact(32).filter_map(of_frame_data));
        records.sort_by_key(|record| (record.start, u32::MAX - record.size));
        let names = if records.is_empty() { Vec::new() } else { names(msf) };
        Self { records, names }
    }

    /// True if nothing is told.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All that is told, by address.
    pub fn iter(&self) -> impl Iterator<Item = StackFrame<'_>> {
        self.records.iter().filter_map(|record| self.frame(record))
    }

    /// What holds at an address: the innermost, where one lies within the other.
    pub fn at(&self, rva: u32) -> Option<StackFrame<'_>> {
        let after = self.records.partition_point(|record| record.start <= rva);
        let before = self.records.get(..after)?.iter().rev().take(DEEPEST);
        before.filter(|record| rva - record.start < record.size).find_map(|record| self.frame(record))
    }

    fn frame(&self, record: &Record) -> Option<StackFrame<'_>> {
        let program = match record.program {
            Program::Fixed(program) => program,
            Program::Named(at) => {
                let rest = self.names.get(at as usize..)?;
                rest.get(..rest.iter().take(LONGEST_PROGRAM).position(|byte| *byte == 0)?)?
            }
        };
        let Record { start, size, locals, parameters, prolog, saved, is_function, keeps_ebp, .. } = *record;
        let program = str::from_utf8(program).ok()?;
        Some(StackFrame { start, size, locals, parameters, prolog, saved, is_function, keeps_ebp, program })
    }
}

/// Start, size, locals and parameters in words; then prologue:8, saved registers:3, SEH:1, uses EBP:1, reserved:1, kind:2.
fn of_fpo(raw: &[u8]) -> Option<Record> {
    const NO_FRAME_POINTER: u16 = 0;
    const FRAME_POINTER: u16 = 3;
    let (parameters, flags) = (u16_at(raw, 12)?, u16_at(raw, 14)?);
    let program = match flags >> 14 {
        NO_FRAME_POINTER => WITHOUT_FRAME_POINTER,
        FRAME_POINTER => WITH_FRAME_POINTER,
        // Trap frames and task state segments are known by themselves.
        _ => return None,
    };
    Some(Record {
        start: u32_at(raw, 0)?,
        size: u32_at(raw, 4)?,
        locals: u32_at(raw, 8)?.checked_mul(4)?,
        parameters: u32::from(parameters) * 4,
        prolog: u32::from(flags & 0xff),
        saved: u32::from(flags >> 8 & 7) * 4,
        is_function: true,
        keeps_ebp: flags >> 12 & 1 == 0,
        program: Program::Fixed(program),
    })
}

/// Start, size, locals, parameters, largest stack, program, prologue, saved registers, flags (4: a function's start).
fn of_frame_data(raw: &[u8]) -> Option<Record> {
    Some(Record {
        start: u32_at(raw, 0)?,
        size: u32_at(raw, 4)?,
        locals: u32_at(raw, 8)?,
        parameters: u32_at(raw, 12)?,
        prolog: u16_at(raw, 24)?.into(),
        saved: u16_at(raw, 26)?.into(),
        is_function: u32_at(raw, 28)? & 4 != 0,
        keeps_ebp: true,
        program: Program::Named(u32_at(raw, 20)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No locals, two parameters, a prologue of 3 bytes, one saved register, EBP used.
    #[test]
    fn fields_of_fpo_data() {
        let raw = [0, 0x10, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0x11];
        let record = of_fpo(&raw).unwrap();
        assert_eq!((record.start, record.size, record.locals, record.parameters), (0x1000, 0x40, 0, 8));
        assert_eq!((record.prolog, record.saved, record.keeps_ebp), (3, 4, false));
        let trap = [0, 0x10, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0x51];
        assert!(of_fpo(&trap).is_none());
    }

    #[test]
    fn the_innermost_record_counts() {
        let record = |start, size, saved| Record {
            start,
            size,
            locals: 0,
            parameters: 0,
            prolog: 0,
            saved,
            is_function: saved == 0,
            keeps_ebp: true,
            program: Program::Named(0),
        };
        let records = vec![record(0x10, 0x20, 0), record(0x12, 0x1c, 4), record(0x13, 0x1a, 8)];
        let frames = StackFrames { records, names: b"$eip\0".to_vec() };
        let saved = |rva| frames.at(rva).map(|frame| frame.saved);
        assert_eq!(
            [0xf, 0x10, 0x12, 0x13, 0x2c, 0x2d, 0x2f, 0x30].map(saved),
            [None, Some(0), Some(4), Some(8), Some(8), Some(4), Some(0), None]
        );
        assert_eq!(frames.at(0x10).unwrap().program, "$eip");
    }
}
