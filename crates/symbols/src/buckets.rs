//! A sorted list of addresses divided evenly, so that a search looks at a few of them only.

use std::ops::Range;

/// How many addresses lie before each multiple of a power of two; at the end, how many there are.
#[derive(Clone, Default, Debug)]
pub(crate) struct Buckets {
    before: Vec<u32>,
    shift: u32,
}

/// So many buckets for an address leave one address to look at in most searches that look at any: code is unevenly spread.
const PER_ADDRESS: usize = 16;
/// 4 MiB of them.
const MOST: usize = 1 << 20;

impl Buckets {
    /// Divides addresses, which are in order.
    pub(crate) fn new(addresses: impl ExactSizeIterator<Item = u32> + DoubleEndedIterator + Clone) -> Self {
        let all = addresses.len();
        let last = addresses.clone().next_back().unwrap_or(0);
        let wanted = (all * PER_ADDRESS).min(MOST);
        let shift = (0..32).find(|shift| (last >> shift) as usize <= wanted).unwrap_or(31);
        let mut rest = addresses.peekable();
        let mut index = 0;
        let starts = (0..=last >> shift).map(|bucket| {
            while rest.next_if(|address| *address < bucket << shift).is_some() {
                index += 1;
            }
            index
        });
        let before = starts.chain([all as u32]).collect();
        Self { before, shift }
    }

    /// Which of the addresses have to be looked at: all before are not above this one, all after are.
    #[inline]
    pub(crate) fn around(&self, address: u32) -> Range<usize> {
        let last = self.before.len().saturating_sub(2);
        let bucket = ((address >> self.shift) as usize).min(last);
        match self.before.get(bucket..).and_then(<[u32]>::first_chunk) {
            Some([start, end]) => *start as usize..*end as usize,
            None => 0..0,
        }
    }
}
