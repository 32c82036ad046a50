//! `UNWIND_INFO`: what a prologue did, told backwards. (Microsoft, "x64 exception handling"; version 2 as compilers
//! since Visual Studio 2019 write it, with codes that say where the epilogues are.)

use super::function::{self, Function};
use crate::{ImageView, Refusal};

/// `UNW_FLAG_CHAININFO`: another entry follows the codes, whose codes are to be undone as well.
const CHAINED: u8 = 4;

/// Bytes of codes that are kept in place; few functions have more, and none more than 510.
const USUAL_BYTES: usize = 32;

/// One `UNWIND_INFO` without what follows its codes.
pub(crate) struct UnwindInfo {
    version: u8,
    flags: u8,
    /// Bytes of the prologue.
    pub(crate) prolog: u8,
    /// The register that the stack pointer is kept in, and how far above the stack pointer it points.
    pub(crate) frame: Option<(u8, i64)>,
    /// The first codes, or all of them.
    first: [u8; USUAL_BYTES],
    /// All codes, where they are more than that.
    all: Vec<u8>,
    slots: u8,
    rva: u32,
}

/// One unwind code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Push(u8),
    Allocate(u64),
    SetFrame,
    /// A register that was stored this far above the frame's base.
    Save(u8, u64),
    SaveXmm(u8, u64),
    /// Only half of an XMM register was stored: the first compilers' way.
    LoseXmm(u8),
    /// Version 2: an epilogue.
    Epilog(u8, u8),
    Nothing,
    MachineFrame {
        error_code: bool,
    },
}

/// A code, and how far into the prologue its instruction ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) offset: u8,
    pub(crate) op: Op,
}

impl UnwindInfo {
    pub(crate) fn read(image: &ImageView<'_>, rva: u32) -> Result<Self, Refusal> {
        let mut head = [0; 4];
        image.read(rva, &mut head).map_err(Refusal::DataMissing)?;
        let [version, prolog, slots, frame] = head;
        let (version, flags) = (version & 7, version >> 3);
        if !matches!(version, 1 | 2) {
            return Err(Refusal::Version(version));
        }
        let (length, at) = (2 * usize::from(slots), rva.wrapping_add(4));
        let mut first = [0; USUAL_BYTES];
        let mut all = Vec::new();
        let codes = if let Some(codes) = first.get_mut(..length) {
            codes
        } else {
            all.resize(length, 0);
            &mut all
        };
        image.read(at, codes).map_err(Refusal::DataMissing)?;
        let frame = (frame & 0xf != 0).then_some((frame & 0xf, i64::from(frame >> 4) * 16));
        Ok(Self { version, flags, prolog, frame, first, all, slots, rva })
    }

    pub(crate) const fn is_chained(&self) -> bool {
        self.flags & CHAINED != 0
    }

    /// The entry this one continues.
    pub(crate) fn chained(&self, image: &ImageView<'_>) -> Result<Option<Function>, Refusal> {
        if !self.is_chained() {
            return Ok(None);
        }
        let codes = u32::from(self.slots).next_multiple_of(2) * 2;
        Function::read(image, self.rva.wrapping_add(4 + codes)).map(Some)
    }

    /// The codes, the last instruction of the prologue first. Ends after the first that cannot be understood.
    pub(crate) fn steps(&self) -> Steps<'_> {
        let length = 2 * usize::from(self.slots);
        Steps { version: self.version, rest: self.first.get(..length).unwrap_or(&self.all) }
    }

    /// Whether `rva` lies in an epilogue, as version 2 lists them; `None` in version 1, which does not.
    pub(crate) fn in_listed_epilog(&self, function: &Function, rva: u32) -> Result<Option<bool>, Refusal> {
        if self.version < 2 {
            return Ok(None);
        }
        // The first code gives the length of every epilogue, and whether one ends with the function.
        let mut length = None;
        for step in self.steps() {
            let Op::Epilog(low, high) = step?.op else { break };
            let distance = match length {
                None => {
                    length = Some(u32::from(low));
                    if high & 1 == 0 {
                        continue;
                    }
                    u32::from(low)
                }
                Some(_) => u32::from(low) | u32::from(high) << 8,
            };
            let begin = function.end.saturating_sub(distance);
            if distance != 0 && rva >= begin && rva - begin < length.unwrap_or(0) {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }
}

/// See [`UnwindInfo::steps`].
pub(crate) struct Steps<'a> {
    version: u8,
    rest: &'a [u8],
}

impl Steps<'_> {
    fn take(&mut self) -> Option<[u8; 2]> {
        let (slot, rest) = self.rest.split_first_chunk::<2>()?;
        self.rest = rest;
        Some(*slot)
    }

    /// The 16 bits of the next slot, counted in units of `scale` bytes.
    fn scaled(&mut self, scale: u64) -> Result<u64, Refusal> {
        let slot = self.take().ok_or(Refusal::Malformed)?;
        Ok(u64::from(u16::from_le_bytes(slot)) * scale)
    }

    /// The 32 bits of the next two slots.
    fn far(&mut self) -> Result<u64, Refusal> {
        Ok(self.scaled(1)? | self.scaled(1)? << 16)
    }

    fn op(&mut self, code: u8, info: u8, offset: u8) -> Result<Op, Refusal> {
        Ok(match (code, self.version) {
            (0, _) => Op::Push(info),
            (1, _) => match info {
                0 => Op::Allocate(self.scaled(8)?),
                1 => Op::Allocate(self.far()?),
                _ => return Err(Refusal::Malformed),
            },
            (2, _) => Op::Allocate(u64::from(info) * 8 + 8),
            (3, _) => Op::SetFrame,
            (4, _) => Op::Save(info, self.scaled(8)?),
            (5, _) => Op::Save(info, self.far()?),
            (6, 1) => {
                self.scaled(8)?;
                Op::LoseXmm(info)
            }
            (6, _) => Op::Epilog(offset, info),
            (7, 1) => {
                self.far()?;
                Op::LoseXmm(info)
            }
            (7, _) => {
                self.scaled(1)?;
                Op::Nothing
            }
            (8, _) => Op::SaveXmm(info, self.scaled(16)?),
            (9, _) => Op::SaveXmm(info, self.far()?),
            (10, _) if info < 2 => Op::MachineFrame { error_code: info == 1 },
            (10, _) => return Err(Refusal::Malformed),
            _ => return Err(Refusal::Code(code)),
        })
    }
}

impl Iterator for Steps<'_> {
    type Item = Result<Step, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let [offset, op] = self.take()?;
        let step = self.op(op & 0xf, op >> 4, offset).map(|op| Step { offset, op });
        if step.is_err() {
            self.rest = &[];
        }
        Some(step)
    }
}

/// The entry a chained one belongs to, with indirect entries followed.
pub(crate) fn parent(image: &ImageView<'_>, info: &UnwindInfo) -> Result<Option<Function>, Refusal> {
    info.chained(image)?.map(|function| function::resolve(image, function)).transpose()
}
