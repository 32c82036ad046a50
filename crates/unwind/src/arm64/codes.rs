//! ARM64 unwind codes. (Microsoft, "ARM64 exception handling".) Each stands for one instruction of a prologue or
//! epilogue; what it tells is how to undo it.

use crate::Refusal;

/// Where registers were stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    /// This many bytes above the stack pointer.
    Offset(u64),
    /// At the stack pointer, which was lowered by this many bytes for it.
    Pushed(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Allocate(u64),
    /// `count` registers from x`first` on.
    Save {
        first: u8,
        count: u8,
        at: At,
    },
    /// x`register` and lr.
    SaveWithLink {
        register: u8,
        at: At,
    },
    /// `count` registers from d`first` on.
    SaveFloat {
        first: u8,
        count: u8,
        at: At,
    },
    /// The save that follows holds one pair more.
    SaveNext,
    /// sp was kept in x29, so many bytes below it.
    SetFrame(u64),
    SignLink,
    Nothing,
    /// A `KTRAP_FRAME` lies at sp.
    TrapFrame,
    /// sp and pc of the interrupted code lie at sp.
    MachineFrame,
    ClearUnwoundToCall,
    End,
    /// What follows was done by the function this is a piece of.
    EndOfPiece,
}

impl Op {
    /// Marks of special frames stand for no instruction.
    pub(crate) const fn is_instruction(self) -> bool {
        !matches!(self, Self::TrapFrame | Self::MachineFrame | Self::ClearUnwoundToCall)
    }
}

/// The codes in `bytes`, in order.
pub(crate) struct Codes<'a>(pub(crate) &'a [u8]);

impl Iterator for Codes<'_> {
    type Item = Result<Op, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.0.first()?;
        let length = match first {
            0xc0..=0xdf | 0xe2 => 2,
            0xe7 => 3,
            0xe0 => 4,
            _ => 1,
        };
        let Some((code, rest)) = self.0.split_at_checked(length) else {
            self.0 = &[];
            return Some(Err(Refusal::Malformed));
        };
        self.0 = rest;
        // Codes are stored with their highest byte first.
        let value = code.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        let op = op(first, value);
        if op.is_err() {
            self.0 = &[];
        }
        Some(op)
    }
}

fn op(first: u8, value: u32) -> Result<Op, Refusal> {
    let field = |low: u32, bits: u32| u64::from(value >> low & ((1 << bits) - 1));
    let register = |base: u8, low: u32, bits: u32| base + field(low, bits) as u8;
    let offset = At::Offset(field(0, 6) * 8);
    let pushed = At::Pushed(field(0, 6) * 8 + 8);
    let pushed_short = At::Pushed(field(0, 5) * 8 + 8);
    Ok(match first {
        0..=0x1f => Op::Allocate(field(0, 5) * 16),
        0x20..=0x3f => Op::Save { first: 19, count: 2, at: At::Pushed(field(0, 5) * 8) },
        0x40..=0x7f => Op::Save { first: 29, count: 2, at: offset },
        0x80..=0xbf => Op::Save { first: 29, count: 2, at: pushed },
        0xc0..=0xc7 => Op::Allocate(field(0, 11) * 16),
        0xc8..=0xcb => Op::Save { first: register(19, 6, 4), count: 2, at: offset },
        0xcc..=0xcf => Op::Save { first: register(19, 6, 4), count: 2, at: pushed },
        0xd0..=0xd3 => Op::Save { first: register(19, 6, 4), count: 1, at: offset },
        0xd4 | 0xd5 => Op::Save { first: register(19, 5, 4), count: 1, at: pushed_short },
        0xd6 | 0xd7 => Op::SaveWithLink { register: 19 + 2 * field(6, 3) as u8, at: offset },
        0xd8 | 0xd9 => Op::SaveFloat { first: register(8, 6, 3), count: 2, at: offset },
        0xda | 0xdb => Op::SaveFloat { first: register(8, 6, 3), count: 2, at: pushed },
        0xdc | 0xdd => Op::SaveFloat { first: register(8, 6, 3), count: 1, at: offset },
        0xde => Op::SaveFloat { first: register(8, 5, 3), count: 1, at: pushed_short },
        0xe0 => Op::Allocate(field(0, 24) * 16),
        0xe1 => Op::SetFrame(0),
        0xe2 => Op::SetFrame(field(0, 8) * 8),
        0xe3 => Op::Nothing,
        0xe4 => Op::End,
        0xe5 => Op::EndOfPiece,
        0xe6 => Op::SaveNext,
        0xe8 => Op::TrapFrame,
        0xe9 => Op::MachineFrame,
        0xec => Op::ClearUnwoundToCall,
        0xfc => Op::SignLink,
        // Scalable vectors, any register, whole contexts, and what is reserved.
        code => return Err(Refusal::Code(code)),
    })
}
