//! One bit for every page frame: the containers of Windows 8 and later, and the summary dump before it.
//!
//! A page lies in the file behind as many others as there are bits set before its own. Counts for every 64 bits are
//! made once, when the bitmap is read, which is also when its own count is checked; the rest is counted on demand.

use super::PAGE_SIZE;

/// Bits of a word of the bitmap, and words that share a count from the start: so few that those from there fit 32 bits.
const WORD: u64 = 64;
const WORDS_PER_COUNT: usize = 1 << 20;

/// The bitmap of a file.
pub(super) struct Bitmap {
    words: Vec<u64>,
    /// Bits set before each group of [`WORDS_PER_COUNT`] words.
    before: Vec<u64>,
    /// Bits set before each word in its group.
    within: Vec<u32>,
    set: u64,
    first_page: u64,
    bits: u64,
}

impl Bitmap {
    /// `bytes` hold the bits, the lowest of the first byte being page 0; bits from `bits` on do not count. Pages lie
    /// in the file from `first_page` on.
    pub(super) fn new(bytes: &[u8], bits: u64, first_page: u64) -> Self {
        let (whole, rest) = bytes.as_chunks::<8>();
        let mut words: Vec<u64> = Vec::with_capacity(whole.len() + 1);
        words.extend(whole.iter().map(|word| u64::from_le_bytes(*word)));
        words.push(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        let whole = usize::try_from(bits / WORD).unwrap_or(usize::MAX);
        words.truncate(whole.saturating_add(1));
        if let Some(last) = words.get_mut(whole) {
            *last &= (1 << (bits % WORD)) - 1;
        }
        let (mut set, mut before, mut within) = (0, Vec::new(), Vec::with_capacity(words.len()));
        for group in words.chunks(WORDS_PER_COUNT) {
            before.push(set);
            let mut count = 0;
            within.extend(group.iter().map(|word| {
                let start = count;
                count += word.count_ones();
                start
            }));
            set += u64::from(count);
        }
        Self { words, before, within, set, first_page, bits }
    }

    /// File offset of page `pfn`.
    pub(super) fn offset(&self, pfn: u64) -> Option<u64> {
        let word = usize::try_from(pfn / WORD).ok()?;
        let bit = 1 << (pfn % WORD);
        let own = *self.words.get(word).filter(|own| **own & bit != 0)?;
        let earlier = self.before.get(word / WORDS_PER_COUNT)? + u64::from(*self.within.get(word)?);
        let rank = earlier + u64::from((own & (bit - 1)).count_ones());
        Some(self.first_page.saturating_add(rank.saturating_mul(PAGE_SIZE)))
    }

    /// The file offset after the last page.
    pub(super) fn end(&self) -> u64 {
        self.first_page.saturating_add(self.set.saturating_mul(PAGE_SIZE))
    }

    /// How many pages it tells of, held or not.
    pub(super) fn bits(&self) -> u64 {
        self.bits
    }

    pub(super) fn page_count(&self) -> u64 {
        self.set
    }

    pub(super) fn next_run(&self, from: u64) -> Option<(u64, u64)> {
        let start = self.next(from, |word| word)?;
        let bits = self.words.len() as u64 * WORD;
        let end = self.next(start, |word| !word).unwrap_or(bits);
        Some((start, end - start))
    }

    /// The first bit at or after `from` that is set once `see` has been applied to its word.
    fn next(&self, from: u64, see: impl Fn(u64) -> u64) -> Option<u64> {
        let first = usize::try_from(from / WORD).ok()?;
        let words = self.words.get(first..)?;
        words.iter().zip(first as u64..).find_map(|(word, number)| {
            let below = if number == from / WORD { (1 << (from % WORD)) - 1 } else { 0 };
            let seen = see(*word) & !below;
            (seen != 0).then(|| number * WORD + u64::from(seen.trailing_zeros()))
        })
    }
}

/// How many bits are set in `bytes` before bit `bits`.
pub(super) fn count(bytes: &[u8], bits: u64) -> u64 {
    Bitmap::new(bytes, bits, 0).page_count()
}

impl std::fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bitmap of {} pages from {:#x} on", self.set, self.first_page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_past_the_end_do_not_count() {
        let bitmap = Bitmap::new(&[0xff; 16], 70, 0x2000);
        assert_eq!((bitmap.page_count(), bitmap.end()), (70, 0x2000 + 70 * PAGE_SIZE));
        assert_eq!(bitmap.offset(69), Some(0x2000 + 69 * PAGE_SIZE));
        assert_eq!((bitmap.offset(70), bitmap.offset(u64::MAX)), (None, None));
        assert_eq!((bitmap.next_run(3), bitmap.next_run(70)), (Some((3, 67)), None));
        assert_eq!(Bitmap::new(&[], 100, 0).next_run(0), None);
        assert_eq!(count(&[0xff; 8], 64), 64);
        assert_eq!(count(&[0xff; 8], 0), 0);
    }

    proptest! {
        #[test]
        fn a_page_lies_behind_those_before_it(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0..9u64) {
            let bits = (bytes.len() as u64 * 8).saturating_sub(cut);
            let bitmap = Bitmap::new(&bytes, bits, 0x5000);
            let mut next = 0x5000;
            let is_set = |bit: u64| bit < bits && bytes[bit as usize / 8] >> (bit % 8) & 1 == 1;
            for bit in 0..bits + 10 {
                prop_assert_eq!(bitmap.offset(bit), is_set(bit).then_some(next));
                next += if is_set(bit) { PAGE_SIZE } else { 0 };
            }
            prop_assert_eq!(bitmap.end(), next);
            let mut from = 0;
            let mut seen = 0;
            while let Some((start, length)) = bitmap.next_run(from) {
                prop_assert!((start..start + length).all(is_set) && !is_set(start + length));
                prop_assert!((from..start).all(|bit| !is_set(bit)));
                seen += length;
                from = start + length;
            }
            prop_assert_eq!(seen, bitmap.page_count());
        }
    }
}
