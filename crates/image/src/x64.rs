//! x64 instructions, and those of 32-bit x86, through iced-x86.

use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, FlowControl, Formatter, InstructionInfoFactory, MasmFormatter,
    OpAccess, OpKind, Register, SymbolResolver, SymbolResult,
};
use stopcode_base::{VirtAddr, X64Registers, X86Registers};

/// What an instruction does with memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessKind {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Reads, then writes.
    ReadWrite,
}

impl AccessKind {
    /// In a sentence: `reads`, `writes`.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::ReadWrite => "reads and writes",
        }
    }
}

/// One memory access of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Read or write.
    pub kind: AccessKind,
    /// Bytes touched; 0 where the processor state decides (XSAVE and the like).
    pub size: usize,
    /// Where, if every register needed is known.
    pub address: Option<VirtAddr>,
    /// True if the access goes through FS or GS, whose base the registers do not hold.
    pub segment_based: bool,
}

/// Where control goes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// To a function and back; the target where it is in the instruction.
    Call(Option<VirtAddr>),
    /// Elsewhere for good.
    Jump(Option<VirtAddr>),
    /// Elsewhere or on.
    Branch(Option<VirtAddr>),
    /// Back to the caller.
    Return,
    /// Into a trap or interrupt.
    Interrupt,
}

/// Registers of which some may not be known: a trap frame, say, holds the volatile ones only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownRegisters {
    /// Their values.
    pub registers: X64Registers,
    /// Bit n set: `registers.gpr[n]` is what the processor held. Clear: it is not known.
    pub known: u16,
}

impl From<X64Registers> for KnownRegisters {
    fn from(registers: X64Registers) -> Self {
        Self { registers, known: u16::MAX }
    }
}

impl From<X86Registers> for KnownRegisters {
    /// As the lower halves of their successors.
    fn from(x86: X86Registers) -> Self {
        let mut registers = X64Registers {
            rip: x86.eip.into(),
            eflags: x86.eflags,
            cs: x86.cs,
            ss: x86.ss,
            ..X64Registers::default()
        };
        for (slot, value) in registers.gpr.iter_mut().zip(x86.gpr) {
            *slot = value.into();
        }
        Self { registers, known: 0xff }
    }
}

/// A decoded instruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// Where it stands.
    pub address: VirtAddr,
    /// Its length in bytes.
    pub length: usize,
    /// kd's spelling: `mov     dword ptr [rax+18h],ecx`.
    pub text: String,
    /// Lower-case mnemonic.
    pub mnemonic: String,
    /// Where control goes.
    pub flow: Flow,
    /// Memory it touches, except by fetching itself.
    pub accesses: Vec<Access>,
    /// It may only run in kernel mode.
    pub privileged: bool,
}

/// Decodes the instruction at the start of `bytes`; `None` if they are no whole instruction.
///
/// With `registers` (those *before* the instruction runs) the effective addresses of its accesses are worked out.
pub fn decode_x64(bytes: &[u8], at: VirtAddr, registers: Option<&KnownRegisters>) -> Option<Instruction> {
    decode_x64_named(bytes, at, registers, &|_| None)
}

/// The same with names: `name` tells what stands at the targets of branches and at addresses relative to the instruction. The
/// text then has kd's form for both, the name and the address in parentheses.
pub fn decode_x64_named(
    bytes: &[u8],
    at: VirtAddr,
    registers: Option<&KnownRegisters>,
    name: &dyn Fn(VirtAddr) -> Option<String>,
) -> Option<Instruction> {
    decode(64, bytes, at, registers, name)
}

/// The same for 32-bit code, whose addresses have eight digits.
pub fn decode_x86_named(
    bytes: &[u8],
    at: VirtAddr,
    registers: Option<&KnownRegisters>,
    name: &dyn Fn(VirtAddr) -> Option<String>,
) -> Option<Instruction> {
    decode(32, bytes, VirtAddr(at.0 & 0xffff_ffff), registers, name)
}

fn decode(
    bits: u32,
    bytes: &[u8],
    at: VirtAddr,
    registers: Option<&KnownRegisters>,
    name: &dyn Fn(VirtAddr) -> Option<String>,
) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(bits, bytes, at.0, DecoderOptions::NONE);
    if !decoder.can_decode() {
        return None;
    }
    let decoded = decoder.decode();
    if decoded.is_invalid() {
        return None;
    }
    let target = VirtAddr(decoded.near_branch_target());
    let direct = (decoded.near_branch_target() != 0).then_some(target);
    let flow = match decoded.flow_control() {
        FlowControl::Call | FlowControl::IndirectCall => Flow::Call(direct),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => Flow::Jump(direct),
        FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => Flow::Branch(direct),
        FlowControl::Return => Flow::Return,
        FlowControl::Interrupt | FlowControl::Exception => Flow::Interrupt,
        FlowControl::Next => Flow::Next,
    };
    let mut info = InstructionInfoFactory::new();
    let accesses = info
        .info(&decoded)
        .used_memory()
        .iter()
        .filter_map(|used| {
            let kind = match used.access() {
                OpAccess::Read | OpAccess::CondRead => AccessKind::Read,
                OpAccess::Write | OpAccess::CondWrite => AccessKind::Write,
                OpAccess::ReadWrite | OpAccess::ReadCondWrite => AccessKind::ReadWrite,
                _ => return None,
            };
            let segment_based = matches!(used.segment(), Register::FS | Register::GS);
            let address = if segment_based {
                None
            } else {
                used.virtual_address(0, |register, _, _| value_of(register, registers, &decoded))
                    .map(VirtAddr)
            };
            Some(Access { kind, size: used.memory_size().size(), address, segment_based })
        })
        .collect();
    let mut text = String::new();
    formatter(Named::of(&decoded, name)).format(&decoded, &mut text);
    let mnemonic = format!("{:?}", decoded.mnemonic()).to_lowercase();
    Some(Instruction {
        address: at,
        length: decoded.len(),
        text,
        mnemonic,
        flow,
        accesses,
        privileged: decoded.is_privileged(),
    })
}

/// How a run of code looks at the address right behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Boundary {
    /// Of how many starting points decoding was tried.
    pub tried: usize,
    /// How many of them came to stand exactly at the end of the run.
    pub met: usize,
}

impl Boundary {
    /// An instruction begins there: nearly all ways lead to it.
    pub const fn is_start(self) -> bool {
        self.tried >= 8 && self.met * 4 >= self.tried * 3
    }

    /// No instruction begins there: hardly any way leads to it.
    pub const fn is_inside(self) -> bool {
        self.tried >= 8 && self.met * 8 <= self.tried
    }
}

/// Decodes the code before an address from many starting points and counts how many come to stand at the address.
///
/// x64 code falls into step with itself after a few instructions, wherever decoding starts; so nearly all ways lead to
/// an address where an instruction begins, and hardly any to one inside an instruction.
pub fn boundary_x64(before: &[u8]) -> Boundary {
    /// Enough for decoding to fall into step.
    const SETTLE: usize = 32;
    let last = before.len().saturating_sub(SETTLE);
    let meets = |start: usize| {
        let code = before.get(start..).unwrap_or_default();
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        while decoder.can_decode() {
            if decoder.decode().is_invalid() {
                return false;
            }
        }
        true
    };
    Boundary { tried: last, met: (0..last).filter(|start| meets(*start)).count() }
}

/// Whether the instruction needs a feature that CPUID leaf 1 reports, and which: bit of ECX and name.
pub fn needs_leaf1_ecx(bytes: &[u8]) -> Option<(u32, &'static str)> {
    let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
    let decoded = decoder.decode();
    decoded.cpuid_features().iter().find_map(|feature| match feature {
        CpuidFeature::POPCNT => Some((23, "POPCNT")),
        CpuidFeature::SSE3 => Some((0, "SSE3")),
        CpuidFeature::SSSE3 => Some((9, "SSSE3")),
        CpuidFeature::SSE4_1 => Some((19, "SSE4.1")),
        CpuidFeature::SSE4_2 => Some((20, "SSE4.2")),
        CpuidFeature::MOVBE => Some((22, "MOVBE")),
        CpuidFeature::AVX => Some((28, "AVX")),
        CpuidFeature::F16C => Some((29, "F16C")),
        CpuidFeature::FMA => Some((12, "FMA")),
        _ => None,
    })
}

/// kd's spelling of MASM: lower case, `h` suffix, no leading zero, operands in the ninth column.
fn formatter(named: Option<Named>) -> MasmFormatter {
    let resolver = named.map(|named| Box::new(named) as Box<dyn SymbolResolver>);
    let mut formatter = MasmFormatter::with_options(resolver, None);
    let options = formatter.options_mut();
    options.set_first_operand_char_index(8);
    options.set_add_leading_zero_to_hex_numbers(false);
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(false);
    options.set_show_branch_size(false);
    // kd names the size of every memory operand, also where a register gives it.
    options.set_memory_size_options(iced_x86::MemorySizeOptions::Always);
    formatter
}

/// The one address in an instruction that a name stands for, as kd writes it.
struct Named {
    address: u64,
    text: String,
}

impl Named {
    fn of(decoded: &iced_x86::Instruction, name: &dyn Fn(VirtAddr) -> Option<String>) -> Option<Self> {
        let address = if decoded.is_ip_rel_memory_operand() {
            decoded.ip_rel_memory_address()
        } else {
            Some(decoded.near_branch_target()).filter(|target| *target != 0)?
        };
        let narrow = decoded.code_size() == iced_x86::CodeSize::Code32;
        let shown = if narrow { format!("{address:08x}") } else { VirtAddr(address).windbg() };
        Some(Self {
            address,
            text: name(VirtAddr(address)).map_or(shown.clone(), |name| format!("{name} ({shown})")),
        })
    }
}

impl SymbolResolver for Named {
    fn symbol(
        &mut self,
        instruction: &iced_x86::Instruction,
        _operand: u32,
        instruction_operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        let kind = instruction.op_kind(instruction_operand?);
        let place = matches!(
            kind,
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 | OpKind::Memory
        );
        (place && address == self.address).then(|| SymbolResult::with_str(address, &self.text))
    }
}

/// A register's value before the instruction; segment bases other than FS and GS are 0 in long mode.
fn value_of(
    register: Register,
    registers: Option<&KnownRegisters>,
    decoded: &iced_x86::Instruction,
) -> Option<u64> {
    if register.is_segment_register() {
        return Some(0);
    }
    if register == Register::RIP {
        return Some(decoded.next_ip());
    }
    let full = register.full_register();
    if !full.is_gpr64() {
        return None;
    }
    let registers = registers?;
    if registers.known >> full.number() & 1 == 0 {
        return None;
    }
    let value = *registers.registers.gpr.get(full.number())?;
    Some(match register.size() {
        8 => value,
        4 => value & 0xffff_ffff,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_with_its_effective_address() {
        let mut registers = X64Registers::default();
        registers.gpr[0] = 0x1000;
        // mov [rax+18h],ecx
        let i =
            decode_x64(&[0x89, 0x48, 0x18], VirtAddr(0xfffff800_00000000), Some(&registers.into())).unwrap();
        assert_eq!(i.text, "mov     dword ptr [rax+18h],ecx");
        assert_eq!(i.length, 3);
        assert_eq!(
            i.accesses,
            [Access {
                kind: AccessKind::Write,
                size: 4,
                address: Some(VirtAddr(0x1018)),
                segment_based: false
            }]
        );
        assert_eq!(decode_x64(&[0x89, 0x48, 0x18], VirtAddr(0), None).unwrap().accesses[0].address, None);
        let not_rax = KnownRegisters { registers, known: !1 };
        assert_eq!(
            decode_x64(&[0x89, 0x48, 0x18], VirtAddr(0), Some(&not_rax)).unwrap().accesses[0].address,
            None
        );
    }

    #[test]
    fn names_stand_before_their_addresses() {
        let name = |at: VirtAddr| Some(format!("nt!At{:x}", at.0 & 0xffff));
        let text = |bytes: &[u8], at: u64| decode_x64_named(bytes, VirtAddr(at), None, &name).unwrap().text;
        // From the 2014 post.
        assert_eq!(
            text(&[0xe9, 0xe2, 0xfe, 0xff, 0xff], 0xfffff800_032aa860),
            "jmp     nt!Ata747 (fffff800`032aa747)"
        );
        assert_eq!(
            text(&[0x0f, 0xb7, 0x0d, 0xb4, 0x89, 0x21, 0], 0xfffff800_032aa865),
            "movzx   ecx,word ptr [nt!At3220 (fffff800`034c3220)]"
        );
        // A number is no place.
        assert_eq!(text(&[0xb8, 0x20, 0x32, 0x4c, 3], 0), "mov     eax,34c3220h");
        assert_eq!(
            decode_x64_named(&[0xeb, 0xfe], VirtAddr(0x1000), None, &|_| None).unwrap().text,
            "jmp     00000000`00001000"
        );
    }

    #[test]
    fn gs_has_no_known_base_and_rip_is_relative_to_the_next() {
        let r = KnownRegisters::from(X64Registers::default());
        // mov rax,gs:[188h]
        let gs = decode_x64(&[0x65, 0x48, 0x8b, 0x04, 0x25, 0x88, 1, 0, 0], VirtAddr(0), Some(&r)).unwrap();
        assert!(gs.accesses[0].segment_based && gs.accesses[0].address.is_none());
        // movzx ecx,word ptr [rip+2189b4h], from the 2014 post
        let rip =
            decode_x64(&[0x0f, 0xb7, 0x0d, 0xb4, 0x89, 0x21, 0], VirtAddr(0xfffff800_032aa865), Some(&r))
                .unwrap();
        assert_eq!(rip.accesses[0].address, Some(VirtAddr(0xfffff800_034c3220)));
    }

    #[test]
    fn code_of_32_bits() {
        let mut x86 = X86Registers::default();
        x86.gpr[0] = 0xffff_fff0;
        x86.gpr[X86Registers::EBP] = 0x8000_1000;
        let at = VirtAddr(0x8263_0000);
        let of = |bytes: &[u8]| decode_x86_named(bytes, at, Some(&x86.into()), &|_| None).unwrap();
        let store = of(&[0x89, 0x48, 0x18]);
        assert_eq!(store.text, "mov     dword ptr [eax+18h],ecx");
        // Addresses wrap at 4 GiB.
        assert_eq!(store.accesses[0].address, Some(VirtAddr(8)));
        assert_eq!(of(&[0xe8, 0x0b, 0, 0, 0]).text, "call    82630010");
        // `inc eax` in 32-bit code, a prefix in 64-bit code.
        assert_eq!(
            (of(&[0x40, 0x90]).length, of(&[0x8b, 0x45, 0xf8]).accesses[0].address),
            (1, Some(VirtAddr(0x8000_0ff8)))
        );
        assert!(of(&[0x64, 0xa1, 0x20, 1, 0, 0]).accesses[0].segment_based);
    }

    #[test]
    fn nonsense_is_no_instruction() {
        assert!(decode_x64(&[], VirtAddr(0), None).is_none());
        assert!(decode_x64(&[0x0f], VirtAddr(0), None).is_none());
        assert!(decode_x64(&[0x06], VirtAddr(0), None).is_none());
    }

    #[test]
    fn decoding_falls_into_step() {
        // mov [rsp+8],rbx; push rdi; sub rsp,20h; mov rbx,rcx; call +0; test eax,eax, over and over
        let unit = [
            0x48, 0x89, 0x5c, 0x24, 8, 0x57, 0x48, 0x83, 0xec, 0x20, 0x48, 0x8b, 0xd9, 0xe8, 0, 0, 0, 0,
            0x85, 0xc0,
        ];
        let code: Vec<u8> = unit.iter().copied().cycle().take(unit.len() * 8).collect();
        assert!(boundary_x64(&code).is_start());
        // Two bytes into the next `mov [rsp+8],rbx`.
        let inside: Vec<u8> = code.iter().copied().chain([0x48, 0x89, 0x5c]).collect();
        assert!(boundary_x64(&inside).is_inside(), "{:?}", boundary_x64(&inside));
        assert!(!boundary_x64(&[]).is_start() && !boundary_x64(&[]).is_inside());
    }

    #[test]
    fn instructions_know_what_they_need() {
        assert_eq!(needs_leaf1_ecx(&[0xf3, 0x0f, 0xb8, 0xd8]), Some((23, "POPCNT")));
        assert_eq!(needs_leaf1_ecx(&[0x89, 0x48, 0x18]), None);
        assert_eq!(needs_leaf1_ecx(&[]), None);
    }

    #[test]
    fn calls() {
        let call = decode_x64(&[0xe8, 0x0b, 0, 0, 0], VirtAddr(0x1000), None).unwrap();
        assert_eq!(call.flow, Flow::Call(Some(VirtAddr(0x1010))));
        assert_eq!(decode_x64(&[0xff, 0xd0], VirtAddr(0x1000), None).unwrap().flow, Flow::Call(None));
    }
}
