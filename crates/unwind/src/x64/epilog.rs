//! Epilogues, recognised by their instructions.
//!
//! The ABI allows an epilogue only these: one `add rsp, n` or `lea rsp, [frame+n]`, then `pop`s of whole registers,
//! then a return or a jump to another function. No prologue or body has such a sequence, so code that stands on one
//! is in an epilogue, and what is left to be undone is what the sequence would do.

/// Enough for the longest epilogue: `lea`, sixteen two-byte `pop`s, the longest jump.
pub(crate) const WINDOW: usize = 8 + 2 * MOST_POPS + 7;
const MOST_POPS: usize = 16;

/// How the stack is freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Free {
    /// It is already.
    Nothing,
    /// `add rsp, n`
    Add(i64),
    /// `lea rsp, [register+n]`
    Frame(u8, i64),
}

/// What ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    Return,
    /// A jump this far from the epilogue's first byte: only to another function it is the end of this one.
    Jump(i64),
    /// A jump through memory, or through a register in the form that is kept for tail calls (REX.W).
    JumpAway,
}

/// What an epilogue would still do, if `bytes` are one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Epilog {
    pub(crate) free: Free,
    pops: [u8; MOST_POPS],
    count: usize,
    pub(crate) leave: Leave,
}

impl Epilog {
    pub(crate) fn pops(&self) -> &[u8] {
        self.pops.get(..self.count).unwrap_or_default()
    }
}

/// What reading an epilogue came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    Epilog(Epilog),
    /// These instructions are none.
    Other,
    /// So far they could be one, and there are no more bytes.
    Cut,
}

/// Reads the instructions at `bytes`. In an epilogue that unwind data lists (`listed`), any instruction may end it:
/// the dispatcher of guarded calls is nothing but `jmp rax`.
pub(crate) fn read(bytes: &[u8], listed: bool) -> Reading {
    let (free, mut rest) = free(bytes);
    let mut pops = [0; MOST_POPS];
    let mut count = 0;
    loop {
        let (register, after) = match rest {
            [op @ 0x58..=0x5f, after @ ..] => (op - 0x58, after),
            [rex @ 0x40..=0x4f, op @ 0x58..=0x5f, after @ ..] => (op - 0x58 + (rex & 1) * 8, after),
            _ => break,
        };
        let Some(slot) = pops.get_mut(count) else { return Reading::Other };
        *slot = register;
        count += 1;
        rest = after;
    }
    let position = bytes.len() - rest.len();
    match leave(rest, position) {
        Ok(Some(leave)) => Reading::Epilog(Epilog { free, pops, count, leave }),
        Ok(None) if listed => Reading::Epilog(Epilog { free, pops, count, leave: Leave::JumpAway }),
        // The longest way to free the stack has not been seen whole.
        Ok(None) if matches!(bytes, [0x48 | 0x49, 0x81 | 0x83 | 0x8d, ..]) && bytes.len() < 7 => Reading::Cut,
        Ok(None) => Reading::Other,
        Err(Short) => Reading::Cut,
    }
}

/// More bytes were needed.
struct Short;

fn free(bytes: &[u8]) -> (Free, &[u8]) {
    match bytes {
        [0x48, 0x83, 0xc4, n, rest @ ..] => (Free::Add(i64::from(*n as i8)), rest),
        [0x48, 0x81, 0xc4, a, b, c, d, rest @ ..] => (Free::Add(displacement([*a, *b, *c, *d])), rest),
        // lea rsp, [register+n]; a register of 4 would mean a SIB byte.
        [rex @ (0x48 | 0x49), 0x8d, modrm, rest @ ..]
            if modrm & 0x3f == 0x20 | modrm & 7 && modrm & 7 != 4 =>
        {
            let register = (modrm & 7) + (rex & 1) * 8;
            match (modrm >> 6, rest) {
                (0, _) if modrm & 7 != 5 => (Free::Frame(register, 0), rest),
                (1, [n, rest @ ..]) => (Free::Frame(register, i64::from(*n as i8)), rest),
                (2, [a, b, c, d, rest @ ..]) => (Free::Frame(register, displacement([*a, *b, *c, *d])), rest),
                _ => (Free::Nothing, bytes),
            }
        }
        _ => (Free::Nothing, bytes),
    }
}

fn leave(bytes: &[u8], position: usize) -> Result<Option<Leave>, Short> {
    // A return or jump may carry REP (for old branch predictors) or BND.
    let (bytes, position) = match bytes {
        [0xf2 | 0xf3, rest @ ..] => (rest, position + 1),
        _ => (bytes, position),
    };
    let jump = |length: usize, by: i64| Some(Leave::Jump((position + length) as i64 + by));
    Ok(match bytes {
        [0xc3 | 0xc2, ..] => Some(Leave::Return),
        [0xeb, n, ..] => jump(2, i64::from(*n as i8)),
        [0xe9, a, b, c, d, ..] => jump(5, displacement([*a, *b, *c, *d])),
        // jmp [rip+n]
        [0xff, 0x25, ..] => Some(Leave::JumpAway),
        // With REX.W, jmp to any operand.
        [0x48..=0x4f, 0xff, modrm, ..] if modrm >> 3 & 7 == 4 => Some(Leave::JumpAway),
        [] | [0xe9, ..] | [0xeb | 0xff | 0x40..=0x4f] | [0x48..=0x4f, 0xff] => return Err(Short),
        _ => None,
    })
}

fn displacement(bytes: [u8; 4]) -> i64 {
    i64::from(i32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epilog(bytes: &[u8]) -> Option<(Free, Vec<u8>, Leave)> {
        match read(bytes, false) {
            Reading::Epilog(epilog) => Some((epilog.free, epilog.pops().to_vec(), epilog.leave)),
            Reading::Other | Reading::Cut => None,
        }
    }

    #[test]
    fn the_forms_the_abi_allows() {
        let ret = |free, pops: &[u8]| Some((free, pops.to_vec(), Leave::Return));
        assert_eq!(epilog(&[0xc3]), ret(Free::Nothing, &[]));
        assert_eq!(epilog(&[0xf3, 0xc3]), ret(Free::Nothing, &[]));
        assert_eq!(epilog(&[0xc2, 8, 0]), ret(Free::Nothing, &[]));
        assert_eq!(epilog(&[0x48, 0x83, 0xc4, 0x28, 0xc3]), ret(Free::Add(0x28), &[]));
        assert_eq!(
            epilog(&[0x48, 0x81, 0xc4, 0, 1, 0, 0, 0x41, 0x5f, 0x5d, 0xc3]),
            ret(Free::Add(0x100), &[15, 5])
        );
        assert_eq!(epilog(&[0x48, 0x8d, 0x65, 0x10, 0x5d, 0xc3]), ret(Free::Frame(5, 0x10), &[5]));
        assert_eq!(epilog(&[0x49, 0x8d, 0x63, 0xf0, 0xc3]), ret(Free::Frame(11, -0x10), &[]));
        assert_eq!(epilog(&[0x48, 0x8d, 0xa5, 0, 1, 0, 0, 0xc3]), ret(Free::Frame(5, 0x100), &[]));
        let away = |bytes: &[u8]| epilog(bytes).map(|(_, _, leave)| leave);
        assert_eq!(away(&[0xeb, 0x10]), Some(Leave::Jump(0x12)));
        assert_eq!(away(&[0x5b, 0xe9, 0xfa, 0xff, 0xff, 0xff]), Some(Leave::Jump(0)));
        assert_eq!(away(&[0xff, 0x25, 0, 0, 0, 0]), Some(Leave::JumpAway));
        assert_eq!(away(&[0x48, 0xff, 0xe0]), Some(Leave::JumpAway));
    }

    #[test]
    fn a_listed_one_ends_anyhow() {
        let Reading::Epilog(epilog) = read(&[0x5f, 0xff, 0xe0], true) else { panic!() };
        assert_eq!((epilog.pops(), epilog.leave), (&[7][..], Leave::JumpAway));
    }

    #[test]
    fn what_is_none() {
        for bytes in [
            &[0x90][..],
            &[0x48, 0x83, 0xec, 0x28, 0xc3, 0, 0], // sub rsp
            &[0xff, 0xe0],                         // jmp rax: a switch
            &[0x48, 0x8d, 0x64, 0x24, 8, 0xc3, 0], // lea rsp, [rsp+8]
            &[0x48, 0x8d, 0x45, 0x10, 0xc3, 0, 0], // lea rax, [rbp+10]
            &[0x48, 0xff, 0xd0],                   // call rax
        ] {
            assert_eq!(read(bytes, false), Reading::Other, "{bytes:x?}");
        }
        assert_eq!(read(&[0x5b; 40], false), Reading::Other, "more pops than registers");
        for bytes in [&[][..], &[0x5b], &[0xe9, 0], &[0x48], &[0x48, 0xff], &[0xf3], &[0x48, 0x83, 0xc4]] {
            assert_eq!(read(bytes, false), Reading::Cut, "{bytes:x?}");
        }
    }
}
