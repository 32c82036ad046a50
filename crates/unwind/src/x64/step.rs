//! One frame up: the caller's registers, by the unwind data of the function that runs.

use super::epilog::{self, Epilog, Free, Leave, Reading};
use super::function_table::{self, Function, LONGEST_CHAIN};
use super::unwind_info::{self, Op, UnwindInfo};
use crate::{ImageView, Refusal, Stands};
use stopcode_base::{Memory, Miss, VirtAddr, X64Registers};

const RSP: usize = X64Registers::RSP;

/// rbx, rsp, rbp, rsi, rdi, r12 to r15: what a function gives back as it got it.
const NONVOLATILE: u16 = 0xf0f8;
/// xmm6 to xmm15.
const NONVOLATILE_XMM: u16 = 0xffc0;

/// The registers of one frame, with what of them is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct X64Frame {
    /// Instruction pointer.
    pub rip: u64,
    /// In the processor's numbering (rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15).
    pub gpr: [u64; 16],
    /// Bit n: `gpr[n]` is known. rsp always is.
    pub known: u16,
    /// xmm0 to xmm15.
    pub xmm: [u128; 16],
    /// Bit n: `xmm[n]` is known.
    pub known_xmm: u16,
}

impl X64Frame {
    /// All integer registers known, no others.
    #[must_use]
    pub const fn of_registers(registers: &X64Registers) -> Self {
        Self { rip: registers.rip, gpr: registers.gpr, known: 0xffff, xmm: [0; 16], known_xmm: 0 }
    }

    /// The stack pointer.
    #[must_use]
    pub const fn rsp(&self) -> u64 {
        self.gpr[RSP]
    }

    /// A general register, if it is known.
    #[must_use]
    pub fn get(&self, register: u8) -> Option<u64> {
        let known = self.known.checked_shr(u32::from(register)).is_some_and(|mask| mask & 1 != 0);
        self.gpr.get(usize::from(register)).copied().filter(|_| known)
    }

    pub(crate) fn set(&mut self, register: u8, value: Option<u64>) {
        let Some(slot) = self.gpr.get_mut(usize::from(register)) else { return };
        *slot = value.unwrap_or(0);
        let bit = 1 << register;
        self.known = if value.is_some() { self.known | bit } else { self.known & !bit };
    }

    fn set_xmm(&mut self, register: u8, value: Option<u128>) {
        let Some(slot) = self.xmm.get_mut(usize::from(register)) else { return };
        *slot = value.unwrap_or(0);
        let bit = 1 << register;
        self.known_xmm = if value.is_some() { self.known_xmm | bit } else { self.known_xmm & !bit };
    }

    fn move_rsp(&mut self, by: u64) {
        self.gpr[RSP] = self.gpr[RSP].wrapping_add(by);
    }
}

/// What the processor pushed when it interrupted code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineFrame {
    /// Where it lies: the address of the interrupted RIP.
    pub address: VirtAddr,
    /// Code segment selector; its low two bits are the privilege level.
    pub cs: u16,
    /// Flags.
    pub eflags: u32,
    /// Stack segment selector.
    pub ss: u16,
    /// The lowest stack pointer of the code that was entered; a `KTRAP_FRAME` lies between it and the machine
    /// frame, or there is none.
    pub entered_at: VirtAddr,
}

impl MachineFrame {
    /// True if user mode was interrupted.
    #[must_use]
    pub const fn is_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// One frame further up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct X64Caller {
    /// Its registers. After a call the volatile ones are not known. After an interrupt neither are they: they are
    /// not in the unwind data, only in the `KTRAP_FRAME`.
    pub frame: X64Frame,
    /// Where the return address (or the interrupted RIP) was read.
    pub slot: VirtAddr,
    /// The machine frame through which it was reached, if it was interrupted and did not call.
    pub interrupted: Option<MachineFrame>,
}

/// The caller of `frame`, by the unwind data of `image`, which holds its instruction pointer.
///
/// `memory` is the stack's. A saved register that cannot be read becomes unknown; without the return address or the
/// stack pointer there is no caller.
pub fn unwind_x64(
    image: &ImageView<'_>,
    memory: &dyn Memory,
    frame: &X64Frame,
    stands: Stands,
) -> Result<X64Caller, Refusal> {
    let rip = VirtAddr(frame.rip);
    let called_from = if stands == Stands::AfterCall { rip.minus(1) } else { rip };
    let rva = image.rva(called_from).ok_or(Refusal::NoImage)?;
    let mut undo = Undo { frame: *frame, memory, slot: rip, interrupted: None };
    match function_table::find(image, rva)? {
        Some(function) => undo.function(image, &function, rva, stands)?,
        None if stands == Stands::AfterCall => return Err(Refusal::NoEntry),
        // A leaf: it changes neither the stack pointer nor a register that it would have to give back.
        None => {}
    }
    undo.leave()?;
    Ok(X64Caller { frame: undo.frame, slot: undo.slot, interrupted: undo.interrupted })
}

struct Undo<'a> {
    frame: X64Frame,
    memory: &'a dyn Memory,
    slot: VirtAddr,
    interrupted: Option<MachineFrame>,
}

impl Undo<'_> {
    fn function(
        &mut self,
        image: &ImageView<'_>,
        function: &Function,
        rva: u32,
        stands: Stands,
    ) -> Result<(), Refusal> {
        let mut info = UnwindInfo::read(image, function.info)?;
        // An entry that covers the address can have been replaced by another one, whose code is elsewhere.
        let offset = rva.checked_sub(function.begin).ok_or(Refusal::Malformed)?;
        // The address a call returns to is the offset that counts: what ends there has run.
        let offset = offset + u32::from(stands == Stands::AfterCall);
        // Also within the prologue's bytes: where a compiler saves registers late, an early way out lies among them.
        if stands == Stands::Interrupted
            && let Some(epilog) = running_epilog(image, function, &info, rva)?
        {
            return self.epilog(&epilog);
        }
        let base = self.base(&info, offset)?;
        self.codes(&info, base, offset)?;
        for _ in 0..LONGEST_CHAIN {
            let Some(parent) = unwind_info::parent(image, &info)? else { return Ok(()) };
            info = UnwindInfo::read(image, parent.info)?;
            // Its prologue has run whole.
            self.codes(&info, base, u32::MAX)?;
        }
        Err(Refusal::ChainTooLong)
    }

    /// What saved registers are addressed from: the stack pointer, or what the frame register keeps of it once it
    /// is set.
    fn base(&self, info: &UnwindInfo, offset: u32) -> Result<u64, Refusal> {
        let Some((register, distance)) = info.frame else { return Ok(self.frame.rsp()) };
        let mut is_set = offset >= u32::from(info.prolog) || info.is_chained();
        for step in info.steps() {
            let step = step?;
            is_set |= step.op == Op::SetFrame && u32::from(step.offset) <= offset;
        }
        if !is_set {
            return Ok(self.frame.rsp());
        }
        let value = self.frame.get(register).ok_or(Refusal::RegisterUnknown(register))?;
        Ok(value.wrapping_sub(distance))
    }

    fn codes(&mut self, info: &UnwindInfo, base: u64, offset: u32) -> Result<(), Refusal> {
        for step in info.steps() {
            let step = step?;
            let has_run = u32::from(step.offset) <= offset;
            match step.op {
                Op::Epilog(..) | Op::Nothing => {}
                _ if !has_run => {}
                Op::Push(register) => self.pop(register),
                Op::Allocate(size) => self.frame.move_rsp(size),
                Op::SetFrame => {
                    let (register, distance) = info.frame.ok_or(Refusal::Malformed)?;
                    let value = self.frame.get(register).ok_or(Refusal::RegisterUnknown(register))?;
                    self.frame.gpr[RSP] = value.wrapping_sub(distance);
                }
                Op::Save(register, at) => {
                    let value = self.memory.read_u64(VirtAddr(base.wrapping_add(at))).ok();
                    self.restore(register, value);
                }
                Op::SaveXmm(register, at) => {
                    let mut bytes = [0; 16];
                    let read = self.memory.read(VirtAddr(base.wrapping_add(at)), &mut bytes);
                    self.frame.set_xmm(register, read.is_ok().then(|| u128::from_le_bytes(bytes)));
                }
                Op::LoseXmm(register) => self.frame.set_xmm(register, None),
                Op::MachineFrame { error_code } => {
                    self.frame.move_rsp(if error_code { 8 } else { 0 });
                    self.machine_frame(base)?;
                }
            }
        }
        Ok(())
    }

    fn pop(&mut self, register: u8) {
        let value = self.memory.read_u64(VirtAddr(self.frame.rsp())).ok();
        self.restore(register, value);
        self.frame.move_rsp(8);
    }

    /// The stack pointer is nothing that is saved; a code that says so only moves it.
    fn restore(&mut self, register: u8, value: Option<u64>) {
        if usize::from(register) != RSP {
            self.frame.set(register, value);
        }
    }

    fn machine_frame(&mut self, base: u64) -> Result<(), Refusal> {
        let at = VirtAddr(self.frame.rsp());
        let word = |offset| self.memory.read_u64(at.plus(offset)).map_err(Refusal::StackMissing);
        let (rip, cs, eflags, rsp, ss) = (word(0)?, word(8)?, word(16)?, word(24)?, word(32)?);
        // The selectors of 64-bit Windows: the kernel's, user mode's, and its for 32-bit code.
        if !matches!(cs as u16, 0x10 | 0x33 | 0x23) {
            return Err(Refusal::NotMachineFrame { at, cs: cs as u16 });
        }
        self.frame.rip = rip;
        self.frame.gpr[RSP] = rsp;
        self.slot = at;
        self.interrupted = Some(MachineFrame {
            address: at,
            cs: cs as u16,
            eflags: eflags as u32,
            ss: ss as u16,
            entered_at: VirtAddr(base),
        });
        Ok(())
    }

    fn epilog(&mut self, epilog: &Epilog) -> Result<(), Refusal> {
        match epilog.free {
            Free::Nothing => {}
            Free::Add(size) => self.frame.move_rsp(size as u64),
            Free::Frame(register, distance) => {
                let value = self.frame.get(register).ok_or(Refusal::RegisterUnknown(register))?;
                self.frame.gpr[RSP] = value.wrapping_add(distance as u64);
            }
        }
        for register in epilog.pops() {
            self.pop(*register);
        }
        Ok(())
    }

    /// The return itself.
    fn leave(&mut self) -> Result<(), Refusal> {
        if self.interrupted.is_none() {
            self.slot = VirtAddr(self.frame.rsp());
            self.frame.rip = self.memory.read_u64(self.slot).map_err(Refusal::StackMissing)?;
            self.frame.move_rsp(8);
        }
        self.frame.known &= NONVOLATILE;
        self.frame.known_xmm &= NONVOLATILE_XMM;
        Ok(())
    }
}

/// The epilogue that `rva` stands in, as far as it has not run.
fn running_epilog(
    image: &ImageView<'_>,
    function: &Function,
    info: &UnwindInfo,
    rva: u32,
) -> Result<Option<Epilog>, Refusal> {
    let listed = info.in_listed_epilog(function, rva)?;
    if listed == Some(false) {
        return Ok(None);
    }
    let mut window = [0; epilog::WINDOW];
    let missing: Option<Miss> = image.read(rva, &mut window).err();
    let bytes = window.get(..missing.map_or(epilog::WINDOW, |miss| miss.got)).unwrap_or_default();
    let epilog = match (epilog::read(bytes, listed == Some(true)), missing) {
        (Reading::Epilog(epilog), _) => epilog,
        (Reading::Cut, Some(miss)) => return Err(Refusal::CodeMissing(miss)),
        // The unwind data lists an epilogue where none can be.
        _ if listed == Some(true) => return Err(Refusal::Malformed),
        _ => return Ok(None),
    };
    let is_one = match (epilog.free, epilog.leave) {
        _ if listed == Some(true) => true,
        (Free::Frame(register, _), _) if info.frame.is_none_or(|(frame, _)| frame != register) => false,
        (_, Leave::Jump(by)) => leaves(image, function, info, i64::from(rva) + by)?,
        (_, Leave::Return | Leave::JumpAway) => true,
    };
    Ok(is_one.then_some(epilog))
}

/// Whether a jump to `target` leaves the function: to its very start it is a call of itself, to another piece of it
/// it is not.
fn leaves(
    image: &ImageView<'_>,
    function: &Function,
    info: &UnwindInfo,
    target: i64,
) -> Result<bool, Refusal> {
    let Ok(target) = u32::try_from(target) else { return Ok(true) };
    if function.contains(target) {
        return Ok(target == function.begin && !info.is_chained());
    }
    let Some(other) = function_table::find(image, target)? else { return Ok(true) };
    let (whole, own) = (function_table::primary(image, other)?, function_table::primary(image, *function)?);
    Ok(whole != own || target == own.begin)
}
