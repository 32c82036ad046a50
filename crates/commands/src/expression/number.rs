//! Numbers as the debugger reads them.

/// A text that begins like a number and is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLarge;

/// The number that `word` is: `0x`, `0n`, `0t` and `0y` give the base (a prefix alone is 0), an `h` at the end is
/// hexadecimal, all else is of the base `radix`. A back quote parts the upper from the lower 32 bits. `None` if it is no number.
pub(crate) fn number(word: &str, radix: u32) -> Option<Result<u64, TooLarge>> {
    let lower = word.to_ascii_lowercase();
    let prefixed = [("0x", 16), ("0n", 10), ("0t", 8), ("0y", 2)];
    for (prefix, base) in prefixed {
        if let Some(digits) = lower.strip_prefix(prefix) {
            return if digits.is_empty() { Some(Ok(0)) } else { halves(digits, base) };
        }
    }
    if let Some(digits) = lower.strip_suffix('h').filter(|digits| !digits.is_empty()) {
        return halves(digits, 16);
    }
    halves(&lower, radix)
}

fn halves(digits: &str, radix: u32) -> Option<Result<u64, TooLarge>> {
    match digits.split_once('`') {
        None => plain(digits, radix),
        Some((high, low)) => {
            let high = plain(high, radix)?;
            let low = plain(low, radix)?;
            Some(match (high, low) {
                (Ok(high), Ok(low)) if high >> 32 == 0 && low >> 32 == 0 => Ok(high << 32 | low),
                _ => Err(TooLarge),
            })
        }
    }
}

fn plain(digits: &str, radix: u32) -> Option<Result<u64, TooLarge>> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(u64::from_str_radix(digits, radix).map_err(|_| TooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_base() {
        for (word, value) in [
            ("10", 0x10),
            ("0n10", 10),
            ("0t17", 15),
            ("0y101", 5),
            ("0x", 0),
            ("4aB3H", 0x4ab3),
            ("0X4aB3", 0x4ab3),
            ("fffff880`03dccfd0", 0xffff_f880_03dc_cfd0),
            ("0xfffff880`03dccfd0", 0xffff_f880_03dc_cfd0),
            ("1`1", 0x1_0000_0001),
        ] {
            assert_eq!(number(word, 16), Some(Ok(value)), "{word}");
        }
        assert_eq!(number("19", 8), None);
        assert_eq!(number("0n1f", 16), None);
        assert_eq!(number("nt", 16), None);
        assert_eq!(number("`", 16), None);
        assert_eq!(number("h", 16), None);
        assert_eq!(number("10000000000000000", 16), Some(Err(TooLarge)));
        assert_eq!(number("100000000`0", 16), Some(Err(TooLarge)));
    }
}
