//! The small parts that type records are made of.

use crate::pdb::{u16_at, u32_at};

/// Reads one field after the other.
pub(super) struct Cursor<'b>(pub(super) &'b [u8]);

impl<'b> Cursor<'b> {
    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let value = u16_at(self.0, 0)?;
        self.skip(2)?;
        Some(value)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let value = u32_at(self.0, 0)?;
        self.skip(4)?;
        Some(value)
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    /// A number: itself if below 0x8000, else a code for what follows (`LF_CHAR` and so on).
    pub(super) fn number(&mut self) -> Option<i128> {
        let code = self.u16()?;
        let (bytes, signed) = match code {
            0..0x8000 => return Some(code.into()),
            0x8000 => (1, true),
            0x8001 => (2, true),
            0x8002 => (2, false),
            0x8003 => (4, true),
            0x8004 => (4, false),
            0x8009 => (8, true),
            0x800a => (8, false),
            _ => return None,
        };
        let raw = self.0.get(..bytes)?.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        self.skip(bytes)?;
        let unused = 64 - bytes * 8;
        Some(if signed { i128::from((raw << unused).cast_signed() >> unused) } else { raw.into() })
    }

    /// A number that cannot be negative: a size or an offset.
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        u64::try_from(self.number()?).ok()
    }

    /// A string up to its NUL; up to the end if there is none.
    pub(super) fn name(&mut self) -> Option<&'b [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let name = self.0.get(..end.unwrap_or(self.0.len()))?;
        self.0 = end.and_then(|end| self.0.get(end + 1..)).unwrap_or_default();
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn numbers_of_every_width() {
        for (bytes, value) in [
            (&[0x34, 0x12][..], Some(0x1234)),
            (&[0, 0x80, 0xff], Some(-1)),
            (&[1, 0x80, 0xfe, 0xff], Some(-2)),
            (&[2, 0x80, 0xfe, 0xff], Some(0xfffe)),
            (&[3, 0x80, 0, 0, 0, 0x80], Some(-0x8000_0000)),
            (&[4, 0x80, 0, 0, 0, 0x80], Some(0x8000_0000)),
            (&[9, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x80], Some(i64::MIN.into())),
            (&[10, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some(u64::MAX.into())),
            (&[10, 0x80, 0], None),
            (&[5, 0x80, 0, 0, 0, 0], None),
            (&[1], None),
        ] {
            assert_eq!(Cursor(bytes).number(), value, "{bytes:x?}");
        }
        let mut cursor = Cursor(b"ab\0c");
        assert_eq!((cursor.name(), cursor.name(), cursor.0), (Some(&b"ab"[..]), Some(&b"c"[..]), &b""[..]));
    }
}
