//! Is there a call right before this address?

use stopcode_base::{Memory, VirtAddr};

/// What the bytes before a return address are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallSite {
    /// A call to this address.
    Direct(VirtAddr),
    /// A call through a register or memory.
    Indirect,
    /// The bytes are there and no call ends in front of the address.
    NotCall,
    /// Too few bytes are there to say.
    Unknown,
}

/// The longest x64 call: REX, FF, ModRM, SIB and four bytes of displacement.
const LONGEST_X64: usize = 8;

/// Looks at the bytes in front of `address` for an x64 call: `E8 rel32`, or `FF /2` with any operand.
///
/// The instruction stream cannot be decoded backwards, so a call is believed where one *can* end; data hardly ever
/// looks so.
pub fn x64(memory: &dyn Memory, address: VirtAddr) -> CallSite {
    let mut buffer = [0; LONGEST_X64];
    // A code window of a minidump may begin just in front of the address: take the longest run that is there.
    for length in (2..=LONGEST_X64).rev() {
        let Some(window) = buffer.get_mut(..length) else { continue };
        if memory.read(address.minus(length as u64), window).is_err() {
            continue;
        }
        return match x64_call_at_end(window, address) {
            Some(call) => call,
            None if length == LONGEST_X64 => CallSite::NotCall,
            None => CallSite::Unknown,
        };
    }
    CallSite::Unknown
}

/// The same of 32-bit code, where targets wrap at 4 GiB: `E8 rel32`, or `FF /2`.
pub fn x86(memory: &dyn Memory, address: VirtAddr) -> CallSite {
    match x64(memory, address) {
        CallSite::Direct(target) => CallSite::Direct(VirtAddr(target.0 & 0xffff_ffff)),
        other => other,
    }
}

fn x64_call_at_end(window: &[u8], address: VirtAddr) -> Option<CallSite> {
    if let Some(&[0xe8, a, b, c, d]) = window.last_chunk::<5>() {
        let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
        return Some(CallSite::Direct(address.plus(distance as u64)));
    }
    (2..=window.len())
        .filter_map(|length| window.get(window.len() - length..))
        .any(is_indirect_call)
        .then_some(CallSite::Indirect)
}

/// True if `bytes` are one whole `call r/m64`.
fn is_indirect_call(bytes: &[u8]) -> bool {
    let (opcode, prefix) = match bytes {
        [0x40..=0x4f, rest @ ..] => (rest, 1),
        _ => (bytes, 0),
    };
    let [0xff, modrm, rest @ ..] = opcode else { return false };
    let (mode, operation, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
    if operation != 2 {
        return false;
    }
    let sib = usize::from(mode != 3 && rm == 4);
    // Without a displacement of its own, rm 5 is RIP-relative and a SIB base of 5 is none at all: both four bytes.
    let base = if sib == 1 { rest.first().map_or(0, |sib| sib & 7) } else { rm };
    let displacement = match mode {
        1 => 1,
        2 => 4,
        0 if base == 5 => 4,
        _ => 0,
    };
    bytes.len() == prefix + 2 + sib + displacement
}

/// True if an x64 or x86 jump stands at `address`: a thunk, or the dispatcher of guarded calls. Such a function never
/// shows on a stack; what it jumps to does. False also if there are no bytes.
pub fn is_jump(memory: &dyn Memory, address: VirtAddr) -> bool {
    let bytes = memory.read_available(address, 3);
    let opcode = match bytes.as_slice() {
        [0x40..=0x4f, rest @ ..] => rest,
        all => all,
    };
    match opcode {
        [0xe9 | 0xeb, ..] => true,
        [0xff, modrm, ..] => modrm >> 3 & 7 == 4,
        _ => false,
    }
}

/// True if the call that ends in front of `address` is `__security_check_cookie`: the compiler undoes the cookie's
/// mixing with RSP right before, `xor rcx, rsp`. Such calls leave stale return addresses all over a stack.
pub fn x64_checks_cookie(memory: &dyn Memory, address: VirtAddr) -> bool {
    let mut bytes = [0; 8];
    memory.read(address.minus(8), &mut bytes).is_ok() && matches!(bytes, [0x48, 0x33, 0xcc, 0xe8, ..])
}

/// Looks at the instruction in front of `address` for an ARM64 call: `BL`, `BLR`, or `BLRA*` with pointer
/// authentication.
pub fn arm64(memory: &dyn Memory, address: VirtAddr) -> CallSite {
    let Ok(word) = memory.read_u32(address.minus(4)) else { return CallSite::Unknown };
    if word >> 26 == 0b10_0101 {
        // imm26, counted in instructions from the call itself.
        let distance = i64::from((word << 6) as i32 >> 6) * 4;
        return CallSite::Direct(address.minus(4).plus(distance as u64));
    }
    let plain = word & 0xffff_fc1f == 0xd63f_0000;
    let authenticated = word & 0xfeff_f800 == 0xd63f_0800;
    if plain || authenticated { CallSite::Indirect } else { CallSite::NotCall }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stopcode_base::SliceMemory;

    fn site(bytes: &[u8]) -> CallSite {
        let mut padded = vec![0x90; 16];
        padded.extend_from_slice(bytes);
        let memory = SliceMemory { base: VirtAddr(0x1000), bytes: &padded };
        x64(&memory, VirtAddr(0x1000 + padded.len() as u64))
    }

    #[test]
    fn x64_forms() {
        assert_eq!(site(&[0xe8, 0xfb, 0xff, 0xff, 0xff]), CallSite::Direct(VirtAddr(0x1010)));
        for bytes in [
            &[0xff, 0xd0][..],                        // call rax
            &[0x41, 0xff, 0xd2],                      // call r10
            &[0xff, 0x15, 1, 2, 3, 4],                // call [rip+x]
            &[0x48, 0xff, 0x15, 1, 2, 3, 4],          // the same as import calls are emitted
            &[0xff, 0x50, 0x18],                      // call [rax+18]
            &[0xff, 0x54, 0x24, 0x20],                // call [rsp+20]
            &[0xff, 0x90, 0x88, 0, 0, 0],             // call [rax+88]
            &[0x41, 0xff, 0x94, 0xc4, 0x70, 0, 0, 0], // call [r12+rax*8+70]
            &[0xff, 0x14, 0xc5, 0, 0, 0, 0],          // call [rax*8+0]
        ] {
            assert_eq!(site(bytes), CallSite::Indirect, "{bytes:x?}");
        }
        for bytes in [&[0xff, 0xe0][..], &[0xff, 0xc0], &[0xff, 0x25, 0, 0, 0, 0], &[0x48, 0x8b, 0xc3]] {
            assert_eq!(site(bytes), CallSite::NotCall, "{bytes:x?}");
        }
    }

    #[test]
    fn a_window_that_begins_late() {
        let bytes = [0xff, 0xd0, 0x90, 0x90, 0x90];
        let memory = SliceMemory { base: VirtAddr(0x1000), bytes: &bytes };
        assert_eq!(x64(&memory, VirtAddr(0x1002)), CallSite::Indirect);
        assert_eq!(x64(&memory, VirtAddr(0x1005)), CallSite::Unknown, "a longer call could end here");
        assert_eq!(x64(&memory, VirtAddr(0)), CallSite::Unknown);
    }

    #[test]
    fn jumps() {
        let is_jump = |bytes: &[u8]| is_jump(&SliceMemory { base: VirtAddr(0), bytes }, VirtAddr(0));
        assert!(is_jump(&[0xff, 0xe0]) && is_jump(&[0x48, 0xff, 0x25]) && is_jump(&[0xe9]));
        assert!(!is_jump(&[0xff, 0xd0]) && !is_jump(&[0x48, 0x89, 0x5c]) && !is_jump(&[]));
    }

    #[test]
    fn cookie_checks() {
        let checks = |bytes: &[u8]| {
            let memory = SliceMemory { base: VirtAddr(0x1000), bytes };
            x64_checks_cookie(&memory, VirtAddr(0x1008))
        };
        assert!(checks(&[0x48, 0x33, 0xcc, 0xe8, 1, 2, 3, 4]));
        assert!(!checks(&[0x48, 0x33, 0xc4, 0xe8, 1, 2, 3, 4]));
        assert!(!checks(&[0x48, 0x33, 0xcc]));
    }

    #[test]
    fn arm64_forms() {
        let site = |word: u32| {
            let bytes = word.to_le_bytes();
            arm64(&SliceMemory { base: VirtAddr(0x1000), bytes: &bytes }, VirtAddr(0x1004))
        };
        assert_eq!(site(0x97ff_ffff), CallSite::Direct(VirtAddr(0xffc)));
        assert_eq!(site(0x9400_0002), CallSite::Direct(VirtAddr(0x1008)));
        assert_eq!(site(0xd63f_0100), CallSite::Indirect); // blr x8
        assert_eq!(site(0xd63f_091f), CallSite::Indirect); // blraaz x8
        assert_eq!(site(0xd63f_0d1f), CallSite::Indirect); // blrabz x8
        assert_eq!(site(0xd73f_0910), CallSite::Indirect); // blraa x8, x16
        assert_eq!(site(0xd61f_0100), CallSite::NotCall); // br x8
        assert_eq!(site(0xaa1f_03e0), CallSite::NotCall); // mov x0, xzr
    }
}
