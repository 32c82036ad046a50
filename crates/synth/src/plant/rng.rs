//! Numbers that follow from a seed.

use crate::vary::mix;

/// A source of numbers.
pub(super) struct Rng {
    seed: u64,
    drawn: u64,
}

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed: mix(seed), drawn: 0 }
    }

    /// The next number.
    pub(super) fn word(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed ^ self.drawn.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// A number below `end`, which is not zero.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.word() % end.max(1)
    }

    /// One of them; there is at least one.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        choices.get(self.below(choices.len() as u64) as usize).copied()
    }

    pub(super) fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
}
