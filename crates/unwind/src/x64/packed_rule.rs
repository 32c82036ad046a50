//! A rule in the form it is kept in: with what it hangs on, one cache line.

use super::frame::{NONVOLATILE_XMM, X64Caller, X64Frame};
use super::rule::Rule;
use crate::{ImageView, Refusal, Stands};
use stopcode_base::{Memory, VirtAddr, X64Registers};

/// The general registers that a function gives back, but for rsp.
const GPR: [u8; 8] = [3, 5, 6, 7, 12, 13, 14, 15];
/// The first XMM register that a function gives back.
const FIRST_XMM: u8 = NONVOLATILE_XMM.trailing_zeros() as u8;

const WORD: i32 = 8;
/// So many words are read at once: the pushes, the return address and the home space of parameters above it.
const AT_ONCE: usize = 16;

/// What a rule hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    base: VirtAddr,
    pdata: (u32, u32),
    rva: u32,
    stands: Stands,
}

impl Key {
    pub(super) const fn new(image: &ImageView<'_>, rva: u32, stands: Stands) -> Self {
        Self { base: image.base, pdata: image.pdata, rva, stands }
    }

    /// Neighbours in one image get slots of their own; images are told apart by pages, so their bases are folded in.
    pub(super) const fn slot(&self, slots: usize) -> usize {
        let image = (self.base.0 >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (self.rva as usize ^ image as usize) % slots
    }
}

/// A [`Rule`] whose places are all counted from one register and lie near each other: nearly every one. Those of
/// machine frames have no room here.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct PackedRule {
    key: Key,
    /// From the origin to the window, in bytes.
    low: i32,
    /// Bit n: xmm(6+n) was saved.
    xmm: u16,
    /// Words from the window's start.
    xmm_at: [i16; 10],
    /// The register that all is counted from.
    origin: u8,
    /// Words that the saved general registers and the return address span: the window.
    words: u8,
    /// Where in it the return address lies.
    end: u8,
    /// Bit n: `GPR[n]` was saved.
    gpr: u8,
    gpr_at: [u8; 8],
}

const _: () = assert!(size_of::<Option<PackedRule>>() == 64, "one cache line");

impl PackedRule {
    /// `None` for the rare rule that does not fit.
    pub(super) fn new(key: Key, rule: &Rule) -> Option<Self> {
        let (origin, distance) = rule.only_origin()?;
        let end = rule.end_offset();
        let low = GPR.into_iter().filter_map(|register| rule.gpr_offset(register)).fold(end, i32::min);
        let words_up =
            |at: i32| at.checked_sub(low).filter(|bytes| bytes % WORD == 0).map(|bytes| bytes / WORD);
        let end = u8::try_from(words_up(end)?).ok()?;
        let mut packed = Self {
            key,
            low: i32::try_from(i64::from(low) - distance).ok()?,
            xmm: 0,
            xmm_at: [0; 10],
            origin,
            words: end.checked_add(1)?,
            end,
            gpr: 0,
            gpr_at: [0; 8],
        };
        for (n, (slot, register)) in packed.gpr_at.iter_mut().zip(GPR).enumerate() {
            if let Some(at) = rule.gpr_offset(register) {
                *slot = u8::try_from(words_up(at)?).ok()?;
                packed.gpr |= 1 << n;
                packed.words = packed.words.max(slot.checked_add(1)?);
            }
        }
        for (n, (slot, register)) in packed.xmm_at.iter_mut().zip(FIRST_XMM..).enumerate() {
            if let Some(at) = rule.xmm_offset(register) {
                *slot = i16::try_from(words_up(at)?).ok()?;
                packed.xmm |= 1 << n;
            }
        }
        Some(packed)
    }

    pub(super) fn is_for(&self, key: &Key) -> bool {
        self.key == *key
    }

    /// As [`Rule::apply`].
    pub(super) fn apply(&self, memory: &dyn Memory, frame: &X64Frame) -> Result<X64Caller, Refusal> {
        let origin = frame.get(self.origin).ok_or(Refusal::RegisterUnknown(self.origin))?;
        let low = VirtAddr(origin.wrapping_add_signed(self.low.into()));
        let window = Window::read(memory, low, self.words);
        let slot = low.plus(8 * u64::from(self.end));
        let mut caller = X64Caller { frame: *frame, slot, interrupted: None };
        let found = &mut caller.frame;
        found.rip = window.word(self.end).map_err(Refusal::StackMissing)?;
        let mut left = self.gpr;
        while left != 0 {
            let n = left.trailing_zeros() as usize;
            left &= left - 1;
            if let (Some(register), Some(at)) = (GPR.get(n), self.gpr_at.get(n)) {
                found.set(*register, window.word(*at).ok());
            }
        }
        let mut left = self.xmm;
        while left != 0 {
            let n = left.trailing_zeros() as u8;
            left &= left - 1;
            let at = self.xmm_at.get(usize::from(n)).copied().unwrap_or(0);
            let at = VirtAddr(low.0.wrapping_add_signed(i64::from(at) * i64::from(WORD)));
            let mut bytes = [0; 16];
            let read = memory.read(at, &mut bytes);
            found.set_xmm(FIRST_XMM + n, read.is_ok().then(|| u128::from_le_bytes(bytes)));
        }
        found.keep_nonvolatile();
        found.gpr[X64Registers::RSP] = slot.0.wrapping_add(8);
        Ok(caller)
    }
}

/// The words that a rule needs, read at once where that can be done.
struct Window<'a> {
    memory: &'a dyn Memory,
    low: VirtAddr,
    bytes: [u8; 8 * AT_ONCE],
    is_read: bool,
}

impl<'a> Window<'a> {
    fn read(memory: &'a dyn Memory, low: VirtAddr, words: u8) -> Self {
        let mut bytes = [0; 8 * AT_ONCE];
        let is_read =
            bytes.get_mut(..8 * usize::from(words)).is_some_and(|wanted| memory.read(low, wanted).is_ok());
        Self { memory, low, bytes, is_read }
    }

    fn word(&self, at: u8) -> Result<u64, stopcode_base::Miss> {
        let (words, _) = self.bytes.as_chunks::<8>();
        match words.get(usize::from(at)) {
            Some(word) if self.is_read => Ok(u64::from_le_bytes(*word)),
            _ => self.memory.read_u64(self.low.plus(8 * u64::from(at))),
        }
    }
}
