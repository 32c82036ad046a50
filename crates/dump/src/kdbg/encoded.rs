//! The debugger data block as a running system keeps it since Windows 8: every word encoded.
//!
//! Windows XORs a word with `KiWaitNever`, rotates it left by that variable's low bits, XORs it with an address, swaps
//! its bytes and XORs it with `KiWaitAlways` to decode it. Rotation and byte swap distribute over XOR, so all three
//! values fold into one: a word decodes to `mix ^ swap(rotate(word))`, with one `mix` and one rotation for the whole
//! block. Two words of known content tell both. The kernel's base gives `mix` for each of 64 rotations, and the
//! owner's tag, a likely size and a list head that points to the same place twice say which is right. Neither symbols
//! nor the kernel's code are needed.

use super::SIZES;

/// How one block is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Coding {
    rotate: u32,
    mix: u64,
}

/// `KDBG`, as the low half of the third word.
const TAG: u32 = u32::from_le_bytes(*b"KDBG");

impl Coding {
    /// The coding of a block that starts with these words, in a kernel that is loaded at `base`.
    pub(super) fn of(words: [u64; 4], base: u64) -> Option<Self> {
        let [flink, blink, tag, kern_base] = words;
        // An empty list points to its head, twice; so do the words that encode it.
        if flink != blink || flink == 0 {
            return None;
        }
        (0..64).map(|rotate| Self { rotate, mix: base ^ kern_base.rotate_left(rotate).swap_bytes() }).find(
            |coding| {
                let tag = coding.plain(tag);
                tag as u32 == TAG && SIZES.contains(&((tag >> 32) as usize)) && coding.plain(flink) >> 63 == 1
            },
        )
    }

    pub(super) fn plain(self, word: u64) -> u64 {
        self.mix ^ word.rotate_left(self.rotate).swap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The other way, step by step as the kernel does it.
    fn encode(plain: u64, never: u64, always: u64, address: u64) -> u64 {
        let word = (plain ^ always).swap_bytes() ^ address;
        word.rotate_right(never as u32 & 63) ^ never
    }

    proptest! {
        #[test]
        fn the_base_is_enough(never: u64, always: u64, address in 0xffff_f800_0000_0000_u64.., base: u32) {
            let base = 0xffff_f800_0000_0000 | u64::from(base) << 12;
            let plain = [base + 0x64_0770, base + 0x64_0770, 0x380 << 32 | u64::from(TAG), base, 0, 0x1234];
            let words = plain.map(|word| encode(word, never, always, address));
            let coding = Coding::of([words[0], words[1], words[2], words[3]], base);
            // Zeros only if the list's words encode to nothing, one in 2^64.
            let coding = coding.unwrap();
            prop_assert_eq!(words.map(|word| coding.plain(word)), plain);
            prop_assert_eq!(Coding::of([words[0], words[1], words[2], words[3]], base + 0x1000), None);
        }

        #[test]
        fn anything_else_is_none(words: [u64; 4], base: u64) {
            prop_assert_eq!(Coding::of(words, base), None);
            prop_assert_eq!(Coding::of([words[0], words[0], words[1], words[2]], base), None);
        }
    }
}
