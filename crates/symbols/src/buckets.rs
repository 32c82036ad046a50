//! A sorted list of addresses divided evenly, so that a search looks at a few of them only.

use std::ops::Range;

/// How many addresses lie before each multiple of a power of two.
#[derive(Clone, Default, Debug)]
pub(crate) struct Buckets {
    before: Vec<u32>,
    shift: u32,
    all: usize,
}

impl Buckets {
    /// Divides addresses, which are in order: into about two buckets an address, whatever they are.
    pub(crate) fn new(addresses: impl ExactSizeIterator<Item = u32> + DoubleEndedIterator + Clone) -> Self {
        let all = addresses.len();
        let last = addresses.clone().next_back().unwrap_or(0);
        let shift = (0..32).find(|shift| (last >> shift) as usize <= all * 2).unwrap_or(31);
        let mut rest = addresses.peekable();
        let mut index = 0;
        let before = (0..=last >> shift)
            .map(|bucket| {
                while rest.next_if(|address| *address < bucket << shift).is_some() {
                    index += 1;
                }
                index
            })
            .collect();
        Self { before, shift, all }
    }

    /// Which of the addresses have to be looked at: all before are not above this one, all after are.
    pub(crate) fn around(&self, address: u32) -> Range<usize> {
        let bucket = (address >> self.shift) as usize;
        let bound = |bucket: usize| self.before.get(bucket).map_or(self.all, |index| *index as usize);
        bound(bucket)..bound(bucket + 1)
    }
}
