//! Registers that code uses before anything has set them.

use iced_x86::{Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, Mnemonic, OpAccess, Register};

/// The register that the instruction at offset `at` of `code` takes an address from although nothing gave it a value.
///
/// `code` begins where a function does. Only straight code is judged: a prolog first (pieces of functions that are
/// reached by jumps have none), no branch or call up to `at`. A function of the x64 calling convention finds values in
/// rcx, rdx, r8 and r9; the other registers are its caller's or nobody's until it writes them. `None` where nothing is
/// amiss or nothing can be said.
pub fn unset_base_x64(code: &[u8], at: usize) -> Option<Register64> {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut given = vec![Register::RCX, Register::RDX, Register::R8, Register::R9, Register::RSP];
    let mut first = true;
    while decoder.position() < at {
        let decoded = decoder.decode();
        let saves = decoded.memory_base() == Register::RSP && decoded.mnemonic() == Mnemonic::Mov;
        let opens = saves
            || decoded.mnemonic() == Mnemonic::Push
            || decoded.mnemonic() == Mnemonic::Sub && decoded.op0_register() == Register::RSP;
        if decoded.is_invalid() || decoded.flow_control() != FlowControl::Next || first && !opens {
            return None;
        }
        first = false;
        let used = info.info(&decoded);
        let written = used.used_registers().iter().filter(|used| {
            !matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None
            )
        });
        given.extend(written.map(|used| used.register().full_register()));
    }
    if first || decoder.position() != at || !decoder.can_decode() {
        return None;
    }
    let decoded = decoder.decode();
    let base = decoded.memory_base();
    let unset = !decoded.is_invalid() && base.is_gpr64() && !given.contains(&base);
    unset.then(|| Register64(base.number()))
}

/// A general register, by its number in the instruction set: 0 is rax.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register64(pub usize);

impl Register64 {
    /// `rax`.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
            "r14", "r15",
        ];
        NAMES.get(self.0).copied().unwrap_or("a register")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sub rsp,28h
    const PROLOG: [u8; 4] = [0x48, 0x83, 0xec, 0x28];

    fn unset(body: &[u8], at: usize) -> Option<&'static str> {
        let code = [&PROLOG, body].concat();
        unset_base_x64(&code, PROLOG.len() + at).map(Register64::name)
    }

    #[test]
    fn what_nobody_wrote_is_no_pointer() {
        // mov rax,[rax+18h]; mov rax,[rbx+18h]
        assert_eq!(unset(&[0x48, 0x8b, 0x40, 0x18], 0), Some("rax"));
        assert_eq!(unset(&[0x48, 0x8b, 0x43, 0x18], 0), Some("rbx"));
    }

    #[test]
    fn arguments_and_what_was_written_may_be() {
        // mov rax,[rcx+18h]
        assert_eq!(unset(&[0x48, 0x8b, 0x41, 0x18], 0), None);
        // mov rax,[rcx+8]; mov rax,[rax+18h]
        assert_eq!(unset(&[0x48, 0x8b, 0x41, 0x08, 0x48, 0x8b, 0x40, 0x18], 4), None);
    }

    #[test]
    fn calls_branches_and_pieces_without_a_prolog_are_not_judged() {
        // call +0; mov rax,[rax+18h]
        assert_eq!(unset(&[0xe8, 0, 0, 0, 0, 0x48, 0x8b, 0x40, 0x18], 5), None);
        // jne +0; the same
        assert_eq!(unset(&[0x75, 0, 0x48, 0x8b, 0x40, 0x18], 2), None);
        assert_eq!(unset_base_x64(&[0x90, 0x48, 0x8b, 0x40, 0x18], 1), None);
        assert_eq!(unset_base_x64(&[0x48, 0x8b, 0x40, 0x18], 0), None);
        assert_eq!(unset_base_x64(&PROLOG, 0x1000), None);
    }
}
