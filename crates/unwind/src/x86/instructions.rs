//! What prologues and epilogues have done and will do, by their instructions: along a straight line of them, as long as each
//! can be told what it does to ESP and EBP. Then what comes of them is no guess.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};
use stopcode_base::VirtAddr;

/// Long enough for any prologue or epilogue that is told.
pub(super) const WINDOW: usize = 48;

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
    let mut info = InstructionInfoFactory::new();
    let mut depth = 0_i32;
    let mut ebp = None;
    for instruction in &mut Decoder::new(32, done, DecoderOptions::NONE) {
        match instruction.mnemonic() {
            Mnemonic::Push if instruction.stack_pointer_increment() == -4 => {
                depth = depth.checked_add(4)?;
                if instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::EBP {
                    ebp.get_or_insert(depth);
                }
            }
            Mnemonic::Sub if writes_esp(&instruction) => {
                let size = immediate_to_esp(&instruction).filter(|size| *size >= 0)?;
                depth = depth.checked_add(size)?;
            }
            // Once it is saved, EBP may become anything.
            _ => keeps(&mut info, &instruction, Register::ESP)
                .filter(|()| ebp.is_some() || keeps(&mut info, &instruction, Register::EBP).is_some())?,
        }
    }
    Some(Way { from: From::Esp, slot: depth, ebp: ebp.map(|at| depth - at) })
}

/// From the instruction at `address` to where the function is left. `begins_another` tells of a jump's target whether
/// another function begins there.
pub(super) fn epilog(
    bytes: &[u8],
    address: VirtAddr,
    begins_another: impl Fn(VirtAddr) -> bool,
) -> Option<Way> {
    let mut info = InstructionInfoFactory::new();
    let mut way = Way { from: From::Esp, slot: 0, ebp: None };
    for instruction in &mut Decoder::with_ip(32, bytes, address.0, DecoderOptions::NONE) {
        match instruction.mnemonic() {
            Mnemonic::Ret => return Some(way),
            Mnemonic::Jmp if leaves(&instruction, &begins_another) => return Some(way),
            Mnemonic::Add if writes_esp(&instruction) => {
                way.slot = way.slot.checked_add(immediate_to_esp(&instruction)?)?;
            }
            Mnemonic::Mov | Mnemonic::Lea if writes_esp(&instruction) => {
                way.free_to_ebp(distance_from_ebp(&instruction)?)?;
            }
            Mnemonic::Leave => {
                way.free_to_ebp(0)?;
                way.pop(Register::EBP)?;
            }
            Mnemonic::Pop
                if instruction.op0_kind() == OpKind::Register
                    && instruction.stack_pointer_increment() == 4 =>
            {
                way.pop(instruction.op0_register())?;
            }
            _ => {
                keeps(&mut info, &instruction, Register::ESP)?;
                keeps(&mut info, &instruction, Register::EBP)?;
            }
        }
    }
    None
}

/// Leads nowhere but to the next instruction, and leaves a register as it is.
fn keeps(info: &mut InstructionInfoFactory, instruction: &Instruction, register: Register) -> Option<()> {
    let written = |access| {
        !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    };
    let goes_on = instruction.flow_control() == FlowControl::Next && !instruction.is_invalid();
    let mut used = info.info(instruction).used_registers().iter();
    let changes = used.any(|used| used.register().full_register32() == register && written(used.access()));
    (goes_on && !changes).then_some(())
}

/// A jump to another function, or through a fixed place in memory, as to an import. A switch jumps through a register.
fn leaves(instruction: &Instruction, begins_another: impl Fn(VirtAddr) -> bool) -> bool {
    match instruction.op0_kind() {
        OpKind::NearBranch32 => begins_another(VirtAddr(instruction.near_branch_target())),
        OpKind::Memory => [instruction.memory_base(), instruction.memory_index()] == [Register::None; 2],
        _ => false,
    }
}

fn writes_esp(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::ESP
}

/// What is added to ESP, or subtracted from it.
fn immediate_to_esp(instruction: &Instruction) -> Option<i32> {
    if !writes_esp(instruction) {
        return None;
    }
    match instruction.op1_kind() {
        OpKind::Immediate8to32 => Some(instruction.immediate8to32()),
        OpKind::Immediate32 => Some(instruction.immediate32().cast_signed()),
        _ => None,
    }
}

/// Of `mov esp, ebp` and `lea esp, [ebp-n]`.
fn distance_from_ebp(instruction: &Instruction) -> Option<i32> {
    match (instruction.mnemonic(), instruction.op1_kind()) {
        (Mnemonic::Mov, OpKind::Register) => (instruction.op1_register() == Register::EBP).then_some(0),
        (Mnemonic::Lea, _) => ([instruction.memory_base(), instruction.memory_index()]
            == [Register::EBP, Register::None])
        .then(|| instruction.memory_displacement32().cast_signed()),
        _ => None,
    }
}

impl Way {
    /// EBP keeps the stack pointer only while it was not popped.
    fn free_to_ebp(&mut self, distance: i32) -> Option<()> {
        self.ebp.is_none().then(|| *self = Self { from: From::Ebp, slot: distance, ebp: None })
    }

    fn pop(&mut self, register: Register) -> Option<()> {
        match register {
            Register::EBP => self.ebp = Some(self.slot),
            Register::ESP => return None,
            _ => {}
        }
        self.slot = self.slot.checked_add(4)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: VirtAddr = VirtAddr(0x8260_0100);

    #[test]
    fn prologues_up_to_every_instruction() {
        let way = |slot, ebp| Some(Way { from: From::Esp, slot, ebp });
        // mov edi, edi; push ebp; mov ebp, esp; sub esp, 14h; push ebx; push esi
        let code = [0x8b, 0xff, 0x55, 0x8b, 0xec, 0x83, 0xec, 0x14, 0x53, 0x56];
        let at = |length: usize| prolog(&code[..length]);
        assert_eq!([at(0), at(2)], [way(0, None), way(0, None)]);
        assert_eq!([at(3), at(5)], [way(4, Some(0)), way(4, Some(0))]);
        assert_eq!(
            [at(8), at(9), at(10)],
            [way(0x18, Some(0x14)), way(0x1c, Some(0x18)), way(0x20, Some(0x1c))]
        );
        assert_eq!(at(4), None, "within an instruction");
        // mov ecx, [imm32]; push ebx
        assert_eq!(prolog(&[0x8b, 0xd, 4, 0x4e, 1, 0, 0x53]), way(4, None));
        for none in
            [&[0xe8, 0, 0, 0, 0][..], &[0x83, 0xe4, 0xf8], &[0x8b, 0xec], &[0x74, 0], &[0x83, 0xec, 0x80]]
        {
            assert_eq!(prolog(none), None, "{none:x?}: a call, an alignment, EBP lost, a jump, a release");
        }
    }

    #[test]
    fn epilogues_from_every_instruction() {
        let epilog = |bytes: &[u8]| epilog(bytes, AT, |_| false);
        // xor eax, eax; pop edi; pop esi; mov esp, ebp; pop ebp; ret 8
        let code = [0x33, 0xc0, 0x5f, 0x5e, 0x8b, 0xe5, 0x5d, 0xc2, 8, 0];
        let framed = Some(Way { from: From::Ebp, slot: 4, ebp: Some(0) });
        assert_eq!([0, 2, 3, 4].map(|at| epilog(&code[at..])), [framed; 4]);
        assert_eq!(epilog(&code[6..]), Some(Way { from: From::Esp, slot: 4, ebp: Some(0) }));
        assert_eq!(epilog(&code[7..]), Some(Way { from: From::Esp, slot: 0, ebp: None }));
        assert_eq!(epilog(&[0xc9, 0xc3]), framed);
        let freed = Some(Way { from: From::Esp, slot: 0x10, ebp: None });
        assert_eq!(epilog(&[0x83, 0xc4, 0xc, 0x5e, 0xc3]), freed);
        for none in [&[][..], &[0x5e], &[0x5d, 0xc9, 0xc3], &[0x5c, 0xc3], &[0x53, 0xc3], &[0x8b, 0xe8, 0xc3]]
        {
            assert_eq!(epilog(none), None, "{none:x?}");
        }
    }

    #[test]
    fn epilogues_that_end_in_a_jump() {
        let another = |target| target == VirtAddr(AT.0 + 0x106);
        // pop ebp; jmp to 100h bytes behind it
        let code = [0x5d, 0xe9, 0, 1, 0, 0];
        let popped = Some(Way { from: From::Esp, slot: 4, ebp: Some(0) });
        assert_eq!(epilog(&code, AT, another), popped);
        assert_eq!(epilog(&code, AT, |_| false), None, "a jump within the function");
        // pop ebp; jmp [imm32], and jmp [eax*4+imm32]
        assert_eq!(epilog(&[0x5d, 0xff, 0x25, 0x18, 0x42, 1, 0], AT, |_| false), popped);
        assert_eq!(epilog(&[0x5d, 0xff, 0x24, 0x85, 0x18, 0x42, 1, 0], AT, |_| true), None);
    }
}
