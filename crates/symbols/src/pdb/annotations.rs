//! Binary annotations: the code ranges of an inlined function and the lines they are of, packed. Opcodes and coding:
//! Microsoft's `cvinfo.h`.

/// Code of an inlined function that is of one line. Offsets count from the start of a piece of the function it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    /// Which piece: 0 is where the function begins, 1 the first part that was moved elsewhere.
    pub(super) piece: u32,
    pub(super) start: u32,
    /// `None` if nothing says where it ends.
    pub(super) end: Option<u32>,
    /// Offset among the file checksums, where it is not the file of the declaration.
    pub(super) file: Option<u32>,
    /// Lines from that of the declaration.
    pub(super) line: i64,
}

/// The rows, up to the first annotation that is broken.
pub(super) fn rows(mut bytes: &[u8]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let (mut piece, mut code, mut line, mut file) = (0_u32, 0_u32, 0_i64, None);
    loop {
        let Some(op) = number(&mut bytes).filter(|op| *op != 0) else { return rows };
        let Some(first) = number(&mut bytes) else { return rows };
        let mut length = None;
        match op {
            // CodeOffset, ChangeCodeOffsetBase
            1 => code = first,
            // An offset in one piece says nothing of another.
            2 => (piece, code) = (first, 0),
            // ChangeCodeOffset
            3 => code = code.wrapping_add(first),
            // ChangeCodeLength: of the row before.
            4 => {
                if let Some(row) = rows.last_mut().filter(|row| row.end.is_none()) {
                    row.end = Some(row.start.saturating_add(first));
                }
                code = code.wrapping_add(first);
            }
            // ChangeFile, ChangeLineOffset
            5 => file = Some(first),
            6 => line += signed(first),
            // ChangeCodeOffsetAndLineOffset: the line in the upper part, the code in four bits.
            11 => {
                code = code.wrapping_add(first & 0xf);
                line += signed(first >> 4);
            }
            // ChangeCodeLengthAndCodeOffset
            12 => {
                let Some(delta) = number(&mut bytes) else { return rows };
                length = Some(first);
                code = code.wrapping_add(delta);
            }
            // Where a statement ends, the kind of range, columns.
            7..=10 | 13 => {}
            _ => return rows,
        }
        if matches!(op, 3 | 11 | 12) {
            let start = code;
            // A row without an end of its own goes to the next.
            if let Some(before) = rows.last_mut().filter(|row| row.end.is_none() && row.piece == piece) {
                before.end = Some(start.max(before.start));
            }
            rows.push(Row {
                piece,
                start,
                end: length.map(|length| start.saturating_add(length)),
                file,
                line,
            });
        }
    }
}

/// One, two or four bytes, big-endian; the first bits say which.
fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (value, length) = match **bytes {
        [a @ 0..0x80, ..] => (a.into(), 1),
        [a @ 0x80..0xc0, b, ..] => (u32::from(a & 0x3f) << 8 | u32::from(b), 2),
        [a @ 0xc0..0xe0, b, c, d, ..] => (u32::from_be_bytes([a & 0x1f, b, c, d]), 4),
        _ => return None,
    };
    *bytes = bytes.get(length..)?;
    Some(value)
}

/// The lowest bit is the sign.
fn signed(value: u32) -> i64 {
    let size = i64::from(value >> 1);
    if value & 1 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_real_annotations() {
        // A site of a driver: lines +4, +13, +17, +19, as llvm-pdbutil shows them.
        let bytes = [
            0x06, 0x08, 0x0c, 0x03, 0x0f, 0x06, 0x12, 0x03, 0x06, 0x06, 0x08, 0x03, 0x0f, 0x06, 0x04, 0x0c,
            0x1a, 0x05, 0x00, 0x00,
        ];
        let row = |start, end, line| Row { piece: 0, start, end: Some(end), file: None, line };
        let wanted = [row(0xf, 0x12, 4), row(0x15, 0x24, 13), row(0x24, 0x29, 17), row(0x29, 0x43, 19)];
        assert_eq!(rows(&bytes), wanted);
    }

    #[test]
    fn numbers_of_every_width() {
        let coded = |bytes: &[u8]| number(&mut { bytes });
        assert_eq!(coded(&[0x7f]), Some(0x7f));
        assert_eq!(coded(&[0x81, 0x02]), Some(0x102));
        assert_eq!(coded(&[0xc1, 2, 3, 4]), Some(0x0102_0304));
        assert_eq!((coded(&[0xc1, 2]), coded(&[0xff]), coded(&[])), (None, None, None));
        assert_eq!((signed(4), signed(5)), (2, -2));
    }

    #[test]
    fn a_length_of_its_own_ends_the_row_before() {
        let found = rows(&[3, 0x10, 4, 8, 0x0b, 0x21, 4, 2]);
        let row = |start, end, line| Row { piece: 0, start, end: Some(end), file: None, line };
        assert_eq!(found, [row(0x10, 0x18, 0), row(0x19, 0x1b, 1)]);
        assert_eq!(rows(&[3]), []);
        assert_eq!(rows(&[3, 1])[0].end, None);
    }

    /// What was moved elsewhere is counted from where it lies, and does not end what stayed.
    #[test]
    fn rows_of_a_part() {
        let found = rows(&[3, 0x10, 4, 8, 2, 1, 3, 4, 4, 6]);
        let row = |piece, start, end| Row { piece, start, end: Some(end), file: None, line: 0 };
        assert_eq!(found, [row(0, 0x10, 0x18), row(1, 4, 10)]);
        let open = rows(&[3, 0x10, 2, 1, 3, 4, 4, 6]);
        assert_eq!((open[0].end, open[1]), (None, row(1, 4, 10)));
    }
}
