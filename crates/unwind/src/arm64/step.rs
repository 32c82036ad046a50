//! One ARM64 frame up, by the unwind data of the function that runs.

use super::codes::{At, Op};
use super::record::{self, Plan};
use super::{FP, LR, without_signature};
use crate::{ImageView, Refusal, Stands};
use stopcode_base::{Arm64Registers, Memory, Miss, VirtAddr};

/// x19 to x29: what a function gives back as it got it.
const NONVOLATILE: u32 = 0x3ff8_0000;

/// The registers of one ARM64 frame, with what of them is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arm64Frame {
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// x0 to x28, x29 (fp), x30 (lr).
    pub x: [u64; 31],
    /// Bit n: `x[n]` is known.
    pub known: u32,
    /// d8 to d15, the only float registers that a function gives back.
    pub d: [u64; 8],
    /// Bit n: `d[n]` is known.
    pub known_d: u8,
}

impl Arm64Frame {
    /// All integer registers known, no others.
    #[must_use]
    pub const fn of_registers(registers: &Arm64Registers) -> Self {
        Self { pc: registers.pc, sp: registers.sp, x: registers.x, known: 0x7fff_ffff, d: [0; 8], known_d: 0 }
    }

    /// An integer register, if it is known.
    #[must_use]
    pub fn get(&self, register: u8) -> Option<u64> {
        let known = self.known.checked_shr(u32::from(register)).is_some_and(|mask| mask & 1 != 0);
        self.x.get(usize::from(register)).copied().filter(|_| known)
    }

    fn set(&mut self, register: u8, value: Option<u64>) {
        let Some(slot) = self.x.get_mut(usize::from(register)) else { return };
        *slot = value.unwrap_or(0);
        let bit = 1 << register;
        self.known = if value.is_some() { self.known | bit } else { self.known & !bit };
    }

    fn set_float(&mut self, register: u8, value: Option<u64>) {
        let Some(index) = register.checked_sub(8) else { return };
        let Some(slot) = self.d.get_mut(usize::from(index)) else { return };
        *slot = value.unwrap_or(0);
        let bit = 1 << index;
        self.known_d = if value.is_some() { self.known_d | bit } else { self.known_d & !bit };
    }
}

/// One ARM64 frame further up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arm64Caller {
    /// Its registers; after a call, the volatile ones are not known.
    pub frame: Arm64Frame,
    /// Where the `KTRAP_FRAME` or machine frame lies through which it was reached, if it was interrupted.
    pub interrupted: Option<VirtAddr>,
}

/// The caller of `frame`, by the unwind data of `image`, which holds its program counter.
///
/// `memory` is the stack's. A saved register that cannot be read becomes unknown; without the return address there is
/// no caller. Signatures of pointer authentication are taken off the return address.
pub fn unwind_arm64(
    image: &ImageView<'_>,
    memory: &dyn Memory,
    frame: &Arm64Frame,
    stands: Stands,
) -> Result<Arm64Caller, Refusal> {
    let interrupted = stands == Stands::Interrupted;
    let pc = VirtAddr(frame.pc);
    let rva = image.rva(if interrupted { pc } else { pc.minus(4) }).ok_or(Refusal::NoImage)?;
    let mut undo = Undo { frame: *frame, memory, interrupted: None };
    match record::find(image, rva)? {
        Some((data, offset)) => {
            let run = offset / 4 + u32::from(!interrupted);
            undo.undo(&record::plan(image, data, run, interrupted)?)?;
        }
        None if !interrupted => return Err(Refusal::NoEntry),
        // A leaf: the return address is still in lr.
        None => {}
    }
    undo.leave()
}

struct Undo<'a> {
    frame: Arm64Frame,
    memory: &'a dyn Memory,
    interrupted: Option<VirtAddr>,
}

impl Undo<'_> {
    fn undo(&mut self, plan: &Plan) -> Result<(), Refusal> {
        let mut skip = plan.skip;
        // How many pairs more the next save holds.
        let mut pairs = 0_u8;
        for op in plan.sequence.ops() {
            let op = op?;
            if skip > 0 && op.is_instruction() && !matches!(op, Op::End | Op::EndOfPiece) {
                skip -= 1;
                continue;
            }
            match op {
                Op::End => return Ok(()),
                Op::EndOfPiece | Op::Nothing | Op::SignLink | Op::ClearUnwoundToCall => {}
                Op::Allocate(size) => self.frame.sp = self.frame.sp.wrapping_add(size),
                Op::SetFrame(distance) => {
                    let fp = self.frame.get(FP as u8).ok_or(Refusal::RegisterUnknown(FP as u8))?;
                    self.frame.sp = fp.wrapping_sub(distance);
                }
                Op::SaveNext => pairs = pairs.saturating_add(1).min(8),
                Op::Save { first, count, at } => {
                    let count = count + 2 * std::mem::take(&mut pairs);
                    self.load(at, count, |frame, index, value| frame.set(first + index, value));
                }
                Op::SaveWithLink { register, at } => self.load(at, 2, |frame, index, value| {
                    frame.set(if index == 0 { register } else { LR as u8 }, value);
                }),
                Op::SaveFloat { first, count, at } => {
                    let count = count + 2 * std::mem::take(&mut pairs);
                    self.load(at, count, |frame, index, value| frame.set_float(first + index, value));
                }
                Op::TrapFrame => self.trap_frame().map_err(Refusal::StackMissing)?,
                Op::MachineFrame => self.machine_frame().map_err(Refusal::StackMissing)?,
            }
        }
        Ok(())
    }

    fn load(&mut self, at: At, count: u8, set: impl Fn(&mut Arm64Frame, u8, Option<u64>)) {
        let (offset, pushed) = match at {
            At::Offset(offset) => (offset, 0),
            At::Pushed(size) => (0, size),
        };
        let from = VirtAddr(self.frame.sp).plus(offset);
        for index in 0..count {
            let value = self.memory.read_u64(from.plus(8 * u64::from(index))).ok();
            set(&mut self.frame, index, value);
        }
        self.frame.sp = self.frame.sp.wrapping_add(pushed);
    }

    /// The `KTRAP_FRAME` of `ntddk.h`: sp at 98, x0 to x18 from a0 on, lr 138, fp 140, pc 148.
    fn trap_frame(&mut self) -> Result<(), Miss> {
        let at = VirtAddr(self.frame.sp);
        let word = |offset: u64| self.memory.read_u64(at.plus(offset));
        let (sp, lr, fp, pc) = (word(0x98)?, word(0x138)?, word(0x140)?, word(0x148)?);
        for register in 0..19_u8 {
            self.frame.set(register, word(0xa0 + 8 * u64::from(register)).ok());
        }
        self.frame.set(LR as u8, Some(lr));
        self.frame.set(FP as u8, Some(fp));
        (self.frame.sp, self.frame.pc, self.interrupted) = (sp, pc, Some(at));
        Ok(())
    }

    /// sp, then pc.
    fn machine_frame(&mut self) -> Result<(), Miss> {
        let at = VirtAddr(self.frame.sp);
        let (sp, pc) = (self.memory.read_u64(at)?, self.memory.read_u64(at.plus(8))?);
        (self.frame.sp, self.frame.pc, self.interrupted) = (sp, pc, Some(at));
        Ok(())
    }

    fn leave(mut self) -> Result<Arm64Caller, Refusal> {
        if self.interrupted.is_none() {
            let lr = self.frame.get(LR as u8).ok_or(Refusal::RegisterUnknown(LR as u8))?;
            self.frame.pc = without_signature(lr).0;
            // The call to the function that was left overwrote lr.
            self.frame.known &= NONVOLATILE;
        }
        Ok(Arm64Caller { frame: self.frame, interrupted: self.interrupted })
    }
}
