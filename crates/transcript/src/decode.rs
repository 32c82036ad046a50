//! Bytes of a paste → text: byte-order marks, UTF-16 as Notepad and PowerShell write it, UTF-8, else Latin-1.

use std::borrow::Cow;

/// How much of an input is looked at to tell text from binary.
const SAMPLE: usize = 64 * 1024;

/// How an input encodes its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    Utf8,
    Utf16 { big_endian: bool },
}

/// The encoding, and the bytes after a byte-order mark.
fn encoding(bytes: &[u8]) -> (Encoding, &[u8]) {
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => (Encoding::Utf8, rest),
        [0xff, 0xfe, rest @ ..] => (Encoding::Utf16 { big_endian: false }, rest),
        [0xfe, 0xff, rest @ ..] => (Encoding::Utf16 { big_endian: true }, rest),
        _ => match zero_halves(bytes) {
            Some(big_endian) => (Encoding::Utf16 { big_endian }, bytes),
            None => (Encoding::Utf8, bytes),
        },
    }
}

/// UTF-16 without a mark: debugger text is ASCII, so that nearly every unit has one zero byte, always the same one.
fn zero_halves(bytes: &[u8]) -> Option<bool> {
    let sample = bytes.get(..SAMPLE.min(bytes.len()))?;
    let units = sample.len() / 2;
    let zeros = |parity: usize| sample.iter().skip(parity).step_by(2).filter(|byte| **byte == 0).count();
    let (first, second) = (zeros(0), zeros(1));
    match units {
        0..=3 => None,
        _ if second * 10 >= units * 8 && first * 10 <= units => Some(false),
        _ if first * 10 >= units * 8 && second * 10 <= units => Some(true),
        _ => None,
    }
}

/// The text of `bytes`; what cannot be decoded becomes a replacement character or its Latin-1 letter.
pub(crate) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match encoding(bytes) {
        (Encoding::Utf8, rest) => match std::str::from_utf8(rest) {
            Ok(text) => Cow::Borrowed(text),
            // A single stray byte is usual in text saved as Windows-1252; every byte is then a letter.
            Err(_) => Cow::Owned(rest.iter().map(|byte| char::from(*byte)).collect()),
        },
        (Encoding::Utf16 { big_endian }, rest) => {
            let unit = |pair: &[u8; 2]| {
                if big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) }
            };
            let (pairs, _) = rest.as_chunks::<2>();
            let units = pairs.iter().map(unit);
            let text = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            Cow::Owned(text)
        }
    }
}

/// True if `bytes` are plausibly text and not a dump, an archive or an image: a byte-order mark or UTF-16 by its
/// zero bytes, else next to no control characters in the first 64 KiB. Empty input is no text.
pub fn looks_like_text(bytes: &[u8]) -> bool {
    let sample = bytes.get(..SAMPLE.min(bytes.len())).unwrap_or_default();
    if sample.is_empty() {
        return false;
    }
    let text = decode(sample);
    let total = text.chars().count();
    let odd = text
        .chars()
        .filter(|c| (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\x0c')) || *c == '\u{fffd}');
    total > 0 && odd.count() * 50 <= total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
        text.encode_utf16().flat_map(|u| if big_endian { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
    }

    #[test]
    fn encodings() {
        let text = "Arg1: 0000000000000008, Größe";
        assert_eq!(decode(text.as_bytes()), text);
        assert_eq!(decode(&[&[0xef, 0xbb, 0xbf], text.as_bytes()].concat()), text);
        assert_eq!(decode(&[&[0xff, 0xfe], utf16(text, false).as_slice()].concat()), text);
        assert_eq!(decode(&[&[0xfe, 0xff], utf16(text, true).as_slice()].concat()), text);
        assert_eq!(decode(&utf16(text, false)), text);
        assert_eq!(decode(&utf16(text, true)), text);
        assert_eq!(decode(b"Gr\xf6\xdfe:\xa08"), "Größe:\u{a0}8");
    }

    #[test]
    fn text_and_binary() {
        assert!(looks_like_text(b"4: kd> k\r\n"));
        assert!(looks_like_text(&utf16("nt!KeBugCheckEx\r\n", false)));
        assert!(!looks_like_text(b""));
        assert!(!looks_like_text(b"PAGEDU64\x0f\0\0\0\x61\x4a\0\0\0\x20\x1a\0\0\0\0\0\x01\0\0\0"));
        assert!(!looks_like_text(b"PK\x03\x04\x14\0\0\0\x08\0\x12\0\0\0"));
    }
}
