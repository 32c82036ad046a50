//! What prologues and epilogues have done and will do, by their instructions. Both are told only where every instruction is
//! understood: then what comes of them is no guess.

/// Long enough for any prologue or epilogue that is told.
pub(super) const WINDOW: usize = 48;

const EBP: u8 = 5;
const ESP: u8 = 4;

/// Where the stack pointer is counted from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum From {
    Esp,
    Ebp,
}

/// Where return address and caller's EBP lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Way {
    pub(super) from: From,
    /// From there to the return address.
    pub(super) slot: i32,
    /// From there to the caller's EBP; in EBP still, if nowhere.
    pub(super) ebp: Option<i32>,
}

/// Inside a prologue: `done` are the bytes from the function's first to the instruction that is next.
pub(super) fn prolog(done: &[u8]) -> Option<Way> {
    let mut rest = done;
    let mut depth = 0_i32;
    let mut ebp = None;
    while !rest.is_empty() {
        rest = match rest {
            [0x50..=0x57, after @ ..] => {
                depth += 4;
                if rest.first() == Some(&(0x50 + EBP)) {
                    ebp.get_or_insert(depth);
                }
                after
            }
            [0x6a, _, after @ ..] | [0x68, _, _, _, _, after @ ..] => {
                depth += 4;
                after
            }
            [0x83, 0xec, n, after @ ..] if *n < 0x80 => {
                depth += i32::from(*n);
                after
            }
            [0x81, 0xec, a, b, c, d, after @ ..] => {
                let size = i32::from_le_bytes([*a, *b, *c, *d]);
                depth = depth.checked_add(size).filter(|_| size > 0)?;
                after
            }
            // mov ebp, esp; mov eax, imm; mov eax, [cookie]; mov eax, fs:[0]; xor eax, ebp; mov [ebp-n], r
            [0x8b, 0xec, after @ ..] | [0x89, 0xe5, after @ ..] | [0x33, 0xc5, after @ ..] => after,
            [0xb8 | 0xa1, _, _, _, _, after @ ..] | [0x64, 0xa1, _, _, _, _, after @ ..] => after,
            [0x89, modrm, _, after @ ..] if modrm & 0xc7 == 0x45 => after,
            _ => padding(rest)?,
        };
    }
    Some(Way { from: From::Esp, slot: depth, ebp: ebp.map(|at| depth - at) })
}

/// `mov edi, edi`, which leaves room for a patch.
fn padding(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [0x8b, 0xff, after @ ..] | [0x90, after @ ..] => Some(after),
        _ => None,
    }
}

/// From an instruction to a return, if there is nothing between but what frees the stack, gives registers back, and loads
/// the result.
pub(super) fn epilog(bytes: &[u8]) -> Option<Way> {
    let mut rest = bytes;
    let mut way = Way { from: From::Esp, slot: 0, ebp: None };
    loop {
        rest = match rest {
            [0xc3 | 0xc2, ..] => return Some(way),
            [0x83, 0xc4, n, after @ ..] => {
                way.slot = way.slot.checked_add(i32::from(*n as i8))?;
                after
            }
            [0x81, 0xc4, a, b, c, d, after @ ..] => {
                way.slot = way.slot.checked_add(i32::from_le_bytes([*a, *b, *c, *d]))?;
                after
            }
            [0x8b, 0xe5, after @ ..] => {
                way.free_to_ebp(0)?;
                after
            }
            [0x8d, 0x65, n, after @ ..] => {
                way.free_to_ebp(i32::from(*n as i8))?;
                after
            }
            [0xc9, after @ ..] => {
                way.free_to_ebp(0)?;
                way.pop(EBP)?;
                after
            }
            [pop @ 0x58..=0x5f, after @ ..] if *pop != 0x58 + ESP => {
                way.pop(pop - 0x58)?;
                after
            }
            // mov eax, r; mov al, r; xor eax, eax; xor al, al; mov eax, imm; mov al, imm
            [0x8b | 0x8a, 0xc0..=0xc7, after @ ..] | [0x33 | 0x32, 0xc0, after @ ..] => after,
            [0xb8, _, _, _, _, after @ ..] | [0xb0, _, after @ ..] => after,
            _ => return None,
        };
    }
}

impl Way {
    /// EBP keeps the stack pointer only while it was not popped.
    fn free_to_ebp(&mut self, distance: i32) -> Option<()> {
        self.ebp.is_none().then(|| *self = Self { from: From::Ebp, slot: distance, ebp: None })
    }

    fn pop(&mut self, register: u8) -> Option<()> {
        if register == EBP {
            self.ebp = Some(self.slot);
        }
        self.slot = self.slot.checked_add(4)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prologues_up_to_every_instruction() {
        let way = |slot, ebp| Some(Way { from: From::Esp, slot, ebp });
        // mov edi, edi; push ebp; mov ebp, esp; sub esp, 14h; push ebx; push esi
        let code = [0x8b, 0xff, 0x55, 0x8b, 0xec, 0x83, 0xec, 0x14, 0x53, 0x56];
        let at = |length: usize| prolog(&code[..length]);
        assert_eq!([at(0), at(2)], [way(0, None), way(0, None)]);
        assert_eq!([at(3), at(5)], [way(4, Some(0)), way(4, Some(0))]);
        assert_eq!([at(8), at(9), at(10)], [way(0x18, Some(0x14)), way(0x1c, Some(0x18)), way(0x20, Some(0x1c))]);
        assert_eq!(at(4), None, "within an instruction");
        assert_eq!(prolog(&[0xe8, 0, 0, 0, 0]), None, "a call");
    }

    #[test]
    fn epilogues_from_every_instruction() {
        // xor eax, eax; pop edi; pop esi; mov esp, ebp; pop ebp; ret 8
        let code = [0x33, 0xc0, 0x5f, 0x5e, 0x8b, 0xe5, 0x5d, 0xc2, 8, 0];
        let framed = Some(Way { from: From::Ebp, slot: 4, ebp: Some(0) });
        assert_eq!([0, 2, 3, 4].map(|at| epilog(&code[at..])), [framed; 4]);
        assert_eq!(epilog(&code[6..]), Some(Way { from: From::Esp, slot: 4, ebp: Some(0) }));
        assert_eq!(epilog(&code[7..]), Some(Way { from: From::Esp, slot: 0, ebp: None }));
        assert_eq!(epilog(&[0xc9, 0xc3]), framed);
        assert_eq!(epilog(&[0x83, 0xc4, 0xc, 0x5e, 0xc3]), Some(Way { from: From::Esp, slot: 0x10, ebp: None }));
        for none in [&[][..], &[0x5e], &[0x5d, 0xc9, 0xc3], &[0x5c, 0xc3], &[0xe9, 0, 0, 0, 0]] {
            assert_eq!(epilog(none), None, "{none:x?}");
        }
    }
}
