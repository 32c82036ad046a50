//! What the unwind data comes to at one instruction: where the registers and the return address lie. It hangs on the image
//! alone, so that it can be kept for the next frame that stands there.

use super::epilog::{self, Epilog, Free, Leave, Reading};
use super::frame::{MachineFrame, NONVOLATILE, NONVOLATILE_XMM, X64Caller, X64Frame};
use super::function::{Function, LONGEST_CHAIN};
use super::function_table;
use super::unwind_info::{self, Op, UnwindInfo};
use crate::{ImageView, Refusal, Stands};
use stopcode_base::{Memory, Miss, VirtAddr, X64Registers};

const RSP: usize = X64Registers::RSP;

/// What a place is counted from: the stack pointer as it stands, or what a register keeps of an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    StackPointer,
    Register,
}

/// A place on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    from: Origin,
    offset: i32,
}

impl Place {
    const TOP: Self = Self { from: Origin::StackPointer, offset: 0 };

    /// No stack is as large as that a place overflows.
    fn plus(self, by: u64) -> Result<Self, Refusal> {
        let by = i32::try_from(by).map_err(|_| Refusal::Malformed)?;
        let offset = self.offset.checked_add(by).ok_or(Refusal::Malformed)?;
        Ok(Self { offset, ..self })
    }
}

/// Where registers of one sort lie; bit and index are the register's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Saved {
    from_rsp: u16,
    from_register: u16,
    at: [i32; 16],
}

impl Saved {
    fn put(&mut self, register: u8, place: Place) {
        let Some(slot) = self.at.get_mut(usize::from(register)) else { return };
        *slot = place.offset;
        self.forget(register);
        match place.from {
            Origin::StackPointer => self.from_rsp |= 1 << register,
            Origin::Register => self.from_register |= 1 << register,
        }
    }

    const fn forget(&mut self, register: u8) {
        self.from_rsp &= !(1 << register);
        self.from_register &= !(1 << register);
    }

    const fn mask(&self) -> u16 {
        self.from_rsp | self.from_register
    }

    fn offset(&self, register: u8) -> Option<i32> {
        self.at.get(usize::from(register)).copied().filter(|_| self.mask() >> register & 1 != 0)
    }

    const fn keep(&mut self, mask: u16) {
        self.from_rsp &= mask;
        self.from_register &= mask;
    }

    /// Each register that was saved, and its address.
    fn addresses(&self, origins: Origins) -> impl Iterator<Item = (u8, VirtAddr)> + '_ {
        let mut left = self.mask();
        std::iter::from_fn(move || {
            let register = left.trailing_zeros() as u8;
            let offset = *self.at.get(usize::from(register))?;
            left &= left - 1;
            let from_rsp = self.from_rsp >> register & 1 != 0;
            let from = if from_rsp { Origin::StackPointer } else { Origin::Register };
            Some((register, origins.address(Place { from, offset })))
        })
    }
}

/// What places are counted from, in one frame.
#[derive(Clone, Copy)]
struct Origins {
    rsp: u64,
    register: u64,
}

impl Origins {
    const fn address(self, place: Place) -> VirtAddr {
        let from = match place.from {
            Origin::StackPointer => self.rsp,
            Origin::Register => self.register,
        };
        VirtAddr(from.wrapping_add_signed(place.offset as i64))
    }
}

/// How to come from a frame to its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rule {
    /// The register that [`Origin::Register`] means, and how far above the origin it points.
    register: Option<(u8, i64)>,
    /// Where the return address lies, or the machine frame.
    end: Place,
    /// If it is a machine frame: the lowest stack pointer of the code that was entered.
    entered_at: Option<Place>,
    lost_xmm: u16,
    gpr: Saved,
    xmm: Saved,
}

impl Rule {
    /// A leaf's: it changes neither the stack pointer nor a register that it would have to give back.
    pub(super) const LEAF: Self = Self {
        register: None,
        end: Place::TOP,
        entered_at: None,
        lost_xmm: 0,
        gpr: Saved { from_rsp: 0, from_register: 0, at: [0; 16] },
        xmm: Saved { from_rsp: 0, from_register: 0, at: [0; 16] },
    };

    /// Becomes the rule for a frame that stands on the instruction at `rva`, or on the one after it. After an error it
    /// is no frame's. In place, because moving a rule takes as long as finding it.
    pub(super) fn find(&mut self, image: &ImageView<'_>, rva: u32, stands: Stands) -> Result<(), Refusal> {
        self.register = None;
        self.end = Place::TOP;
        self.entered_at = None;
        self.lost_xmm = 0;
        self.gpr.keep(0);
        self.xmm.keep(0);
        match function_table::find(image, rva)? {
            Some(function) => self.function(image, &function, rva, stands)?,
            None if stands == Stands::AfterCall => return Err(Refusal::NoEntry),
            None => {}
        }
        // The stack pointer is nothing that is saved; a code that says so only moves it.
        self.gpr.keep(NONVOLATILE & !(1 << RSP));
        self.xmm.keep(NONVOLATILE_XMM);
        Ok(())
    }

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
    fn base(&mut self, info: &UnwindInfo, offset: u32) -> Result<Place, Refusal> {
        let Some(frame) = info.frame else { return Ok(Place::TOP) };
        let mut is_set = offset >= u32::from(info.prolog) || info.is_chained();
        for step in info.steps() {
            let step = step?;
            is_set |= step.op == Op::SetFrame && u32::from(step.offset) <= offset;
        }
        if is_set { self.kept_in(frame) } else { Ok(Place::TOP) }
    }

    /// The stack pointer that a register keeps. Of one that was given back already it does not.
    fn kept_in(&mut self, (register, distance): (u8, i64)) -> Result<Place, Refusal> {
        let was_restored = self.gpr.mask().checked_shr(u32::from(register)).is_none_or(|mask| mask & 1 != 0);
        if was_restored || self.register.is_some_and(|kept| kept != (register, distance)) {
            return Err(Refusal::Malformed);
        }
        self.register = Some((register, distance));
        Ok(Place { from: Origin::Register, offset: 0 })
    }

    fn codes(&mut self, info: &UnwindInfo, base: Place, offset: u32) -> Result<(), Refusal> {
        for step in info.steps() {
            let step = step?;
            if u32::from(step.offset) > offset || matches!(step.op, Op::Epilog(..) | Op::Nothing) {
                continue;
            }
            if self.entered_at.is_some() {
                // The processor pushed it before the first instruction ran.
                return Err(Refusal::Malformed);
            }
            match step.op {
                Op::Epilog(..) | Op::Nothing => {}
                Op::Push(register) => self.pop(register)?,
                Op::Allocate(size) => self.end = self.end.plus(size)?,
                Op::SetFrame => self.end = self.kept_in(info.frame.ok_or(Refusal::Malformed)?)?,
                Op::Save(register, at) => self.gpr.put(register, base.plus(at)?),
                Op::SaveXmm(register, at) => {
                    self.xmm.put(register, base.plus(at)?);
                    self.lost_xmm &= !(1 << register);
                }
                Op::LoseXmm(register) => {
                    self.xmm.forget(register);
                    self.lost_xmm |= 1 << register;
                }
                Op::MachineFrame { error_code } => {
                    self.end = self.end.plus(if error_code { 8 } else { 0 })?;
                    self.entered_at = Some(base);
                }
            }
        }
        Ok(())
    }

    fn pop(&mut self, register: u8) -> Result<(), Refusal> {
        self.gpr.put(register, self.end);
        self.end = self.end.plus(8)?;
        Ok(())
    }

    fn epilog(&mut self, epilog: &Epilog) -> Result<(), Refusal> {
        match epilog.free {
            Free::Nothing => {}
            Free::Add(size) => {
                self.end.offset = i32::try_from(size).map_err(|_| Refusal::Malformed)?;
            }
            Free::Frame(register, distance) => self.end = self.kept_in((register, -distance))?,
        }
        epilog.pops().iter().try_for_each(|register| self.pop(*register))
    }

    /// The register that all places are counted from and how far above their origin it points, if it is one register
    /// and the caller is found by a return address.
    pub(super) fn only_origin(&self) -> Option<(u8, i64)> {
        if self.entered_at.is_some() || self.lost_xmm != 0 {
            return None;
        }
        let (from_register, from_rsp) =
            (self.gpr.from_register | self.xmm.from_register, self.gpr.from_rsp | self.xmm.from_rsp);
        match self.end.from {
            Origin::StackPointer => (from_register == 0).then_some((RSP as u8, 0)),
            Origin::Register => self.register.filter(|_| from_rsp == 0),
        }
    }

    /// Where the return address lies, from its origin.
    pub(super) const fn end_offset(&self) -> i32 {
        self.end.offset
    }

    /// Where a general register was saved.
    pub(super) fn gpr_offset(&self, register: u8) -> Option<i32> {
        self.gpr.offset(register)
    }

    /// Where an XMM register was saved.
    pub(super) fn xmm_offset(&self, register: u8) -> Option<i32> {
        self.xmm.offset(register)
    }

    /// The caller of `frame`, which stands where the rule is for.
    pub(super) fn apply(&self, memory: &dyn Memory, frame: &X64Frame) -> Result<X64Caller, Refusal> {
        let rsp = frame.rsp();
        let register = match self.register {
            None => rsp,
            Some((register, distance)) => frame
                .get(register)
                .ok_or(Refusal::RegisterUnknown(register))?
                .wrapping_add_signed(distance.wrapping_neg()),
        };
        let origins = Origins { rsp, register };
        let slot = origins.address(self.end);
        let mut caller = X64Caller { frame: *frame, slot, interrupted: None };
        let found = &mut caller.frame;
        for (register, at) in self.gpr.addresses(origins) {
            found.set(register, memory.read_u64(at).ok());
        }
        for (register, at) in self.xmm.addresses(origins) {
            let mut bytes = [0; 16];
            let read = memory.read(at, &mut bytes);
            found.set_xmm(register, read.is_ok().then(|| u128::from_le_bytes(bytes)));
        }
        found.keep_nonvolatile();
        found.known_xmm &= !self.lost_xmm;
        if let Some(entered_at) = self.entered_at {
            caller.machine_frame(memory, origins.address(entered_at))?;
        } else {
            found.rip = memory.read_u64(slot).map_err(Refusal::StackMissing)?;
            found.gpr[RSP] = slot.0.wrapping_add(8);
        }
        Ok(caller)
    }
}

impl X64Caller {
    fn machine_frame(&mut self, memory: &dyn Memory, entered_at: VirtAddr) -> Result<(), Refusal> {
        let at = self.slot;
        let word = |offset| memory.read_u64(at.plus(offset)).map_err(Refusal::StackMissing);
        let (rip, cs, eflags, rsp, ss) = (word(0)?, word(8)?, word(16)?, word(24)?, word(32)?);
        // The selectors of 64-bit Windows: the kernel's, user mode's, and its for 32-bit code.
        if !matches!(cs as u16, 0x10 | 0x33 | 0x23) {
            return Err(Refusal::NotMachineFrame { at, cs: cs as u16 });
        }
        self.frame.rip = rip;
        self.frame.gpr[RSP] = rsp;
        self.interrupted = Some(MachineFrame {
            address: at,
            cs: cs as u16,
            eflags: eflags as u32,
            ss: ss as u16,
            entered_at,
        });
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
