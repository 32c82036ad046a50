//! Registers by name: the processor's own, their parts, and the debugger's.

use crate::scope::Scope;
use stopcode_base::{Arm64Registers, Fact, Registers, X64Registers, X86Registers};
use stopcode_image::KnownRegisters;
use stopcode_kernel::Machine;

/// The value of a register of the processor, without `@`. `None` if it has none of this name; an error if this context does not
/// hold it.
pub(crate) fn of_processor(scope: &Scope, name: &str) -> Option<Result<u64, String>> {
    match &scope.registers {
        Registers::X64(registers) => x64(registers, scope, name),
        Registers::X86(registers) => x86(registers, scope, name),
        Registers::Arm64(registers) => {
            let (value, number) = arm64(registers, name)?;
            let held = number.is_none_or(|number| scope.known >> number & 1 == 1);
            Some(if held { Ok(value) } else { Err(format!("{} does not hold {name}", scope.origin)) })
        }
        _ => None,
    }
}

fn x64(registers: &X64Registers, scope: &Scope, name: &str) -> Option<Result<u64, String>> {
    // Bit 1 of the flags is always set: where none is, neither these nor the segments were given back.
    if registers.eflags == 0
        && (matches!(name, "efl" | "eflags" | "rflags" | "cs" | "ss") || flag(name).is_some())
    {
        return Some(Err(format!("{} does not hold {name}", scope.origin)));
    }
    match name {
        "rip" => return Some(Ok(registers.rip)),
        "eip" => return Some(Ok(registers.rip & 0xffff_ffff)),
        "efl" | "eflags" | "rflags" => return Some(Ok(registers.eflags.into())),
        "cs" => return Some(Ok(registers.cs.into())),
        "ss" => return Some(Ok(registers.ss.into())),
        _ => {}
    }
    if let Some(bit) = flag(name) {
        return Some(Ok(u64::from(registers.eflags >> bit & 1)));
    }
    let (number, shift, bits) = part_of(name)?;
    if scope.known >> number & 1 == 0 {
        return Some(Err(format!("{} does not hold {}", scope.origin, X64Registers::NAMES.get(number)?)));
    }
    let value = registers.gpr.get(number)? >> shift;
    Some(Ok(if bits == 64 { value } else { value & ((1 << bits) - 1) }))
}

fn x86(registers: &X86Registers, scope: &Scope, name: &str) -> Option<Result<u64, String>> {
    let segment = X86Registers::DATA_SEGMENTS.iter().position(|known| *known == name);
    if let Some(selector) = segment.and_then(|number| registers.data_segments.get(number)) {
        return Some(Ok((*selector).into()));
    }
    // The names are a part of x64's: those of registers that came with it are not this processor's.
    let later = name.starts_with('r') || matches!(name, "spl" | "bpl" | "sil" | "dil");
    if later {
        return None;
    }
    x64(&KnownRegisters::from(*registers).registers, scope, name)
}

/// A control, debug or table register of an x64 or x86 processor, as it was saved when the processor was stopped. `None` if
/// there is none of this name.
pub(crate) fn special(machine: &Machine, processor: u32, name: &str) -> Option<Result<u64, String>> {
    const NAMES: [&str; 18] = [
        "cr0", "cr2", "cr3", "cr4", "cr8", "dr0", "dr1", "dr2", "dr3", "dr6", "dr7", "gdtr", "gdtl", "idtr",
        "idtl", "tr", "ldtr", "mxcsr",
    ];
    let number = NAMES.iter().position(|known| *known == name)?;
    let state = machine.processor_states().into_iter().find(|state| state.number == processor);
    let Some(state) = state else {
        return Some(Err(format!("the KPRCB of processor {processor} is not in this dump")));
    };
    let special = match state.special {
        Fact::Known { value, .. } => value,
        Fact::Missing { reason } => return Some(Err(reason.into_owned())),
    };
    let [dr0, dr1, dr2, dr3, dr6, dr7] = special.debug;
    let values = [
        Some(special.cr0),
        Some(special.cr2),
        Some(special.cr3),
        Some(special.cr4),
        special.cr8,
        Some(dr0),
        Some(dr1),
        Some(dr2),
        Some(dr3),
        Some(dr6),
        Some(dr7),
        Some(special.gdtr.base.0),
        Some(special.gdtr.limit.into()),
        Some(special.idtr.base.0),
        Some(special.idtr.limit.into()),
        Some(special.tr.into()),
        Some(special.ldtr.into()),
        special.mxcsr.map(u64::from),
    ];
    values.get(number).copied()?.map(Ok)
}

/// Flags that `r` shows.
fn flag(name: &str) -> Option<u32> {
    let flags =
        [("cf", 0), ("pf", 2), ("af", 4), ("zf", 6), ("sf", 7), ("tf", 8), ("if", 9), ("df", 10), ("of", 11)];
    flags.iter().find(|(flag, _)| *flag == name).map(|(_, bit)| *bit)
}

/// Which general register `name` is or is a part of, the first of its bits, and how many.
fn part_of(name: &str) -> Option<(usize, u32, u32)> {
    if let Some(number) = X64Registers::NAMES.iter().position(|known| *known == name) {
        return Some((number, 0, 64));
    }
    let old = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    let letters = ["a", "c", "d", "b"];
    if let Some(number) = old.iter().position(|known| *known == name) {
        return Some((number, 0, 16));
    }
    if let Some(rest) = name.strip_prefix('e') {
        return Some((old.iter().position(|known| *known == rest)?, 0, 32));
    }
    if let Some(rest) = name.strip_suffix('h') {
        return Some((letters.iter().position(|known| *known == rest)?, 8, 8));
    }
    if let Some(rest) = name.strip_suffix('l') {
        let number = letters.iter().position(|known| *known == rest);
        return Some((number.or_else(|| old.iter().position(|known| *known == rest))?, 0, 8));
    }
    let bits = match name.chars().last()? {
        'd' => 32,
        'w' => 16,
        'b' => 8,
        _ => return None,
    };
    let whole = name.get(..name.len() - 1).filter(|whole| whole.starts_with('r'))?;
    let number = X64Registers::NAMES.iter().position(|known| *known == whole)?;
    (number >= 8).then_some((number, 0, bits))
}

/// The value, and the number of a general register.
fn arm64(registers: &Arm64Registers, name: &str) -> Option<(u64, Option<usize>)> {
    let numbered = |number: usize| Some((*registers.x.get(number)?, Some(number)));
    match name {
        "pc" => Some((registers.pc, None)),
        "sp" => Some((registers.sp, None)),
        "fp" => numbered(29),
        "lr" => numbered(30),
        "psr" | "cpsr" => Some((registers.cpsr.into(), None)),
        _ => match name.strip_prefix('w') {
            Some(half) => {
                let (value, number) = numbered(half.parse().ok()?)?;
                Some((value & 0xffff_ffff, number))
            }
            None => numbered(name.strip_prefix('x')?.parse().ok()?),
        },
    }
}

/// `nv up ei pl zr na po nc`.
pub(crate) fn flags_text(eflags: u32) -> String {
    let names = [
        (11, "ov", "nv"),
        (10, "dn", "up"),
        (9, "ei", "di"),
        (7, "ng", "pl"),
        (6, "zr", "nz"),
        (4, "ac", "na"),
        (2, "pe", "po"),
        (0, "cy", "nc"),
    ];
    let shown = names.map(|(bit, set, clear)| if eflags >> bit & 1 == 1 { set } else { clear });
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<Result<u64, String>> {
        let mut registers = X64Registers { rip: 0x10, eflags: 0x246, ..X64Registers::default() };
        registers.gpr[0] = 0x1122_3344_5566_7788;
        registers.gpr[8] = 0xffff_ffff_1234_5678;
        let scope = Scope::new(Registers::X64(registers), "a trap frame").knowing(!8);
        of_processor(&scope, name)
    }

    #[test]
    fn x86_has_its_own_names_only() {
        let mut registers = X86Registers { eip: 0x8263_0000, eflags: 0x246, ..X86Registers::default() };
        registers.gpr[0] = 0x1122_3344;
        registers.data_segments = [0x23, 0x23, 0x30, 0];
        let scope = Scope::new(Registers::X86(registers), "a context");
        let value = |name: &str| of_processor(&scope, name).map(Result::unwrap);
        assert_eq!(
            ["eax", "ah", "eip", "fs", "zf"].map(value),
            [0x1122_3344, 0x33, 0x8263_0000, 0x30, 1].map(Some)
        );
        assert_eq!(["rax", "rip", "r8", "spl"].map(value), [None; 4]);
    }

    #[test]
    fn registers_and_their_parts() {
        for (name, expected) in [
            ("rax", 0x1122_3344_5566_7788),
            ("eax", 0x5566_7788),
            ("ax", 0x7788),
            ("ah", 0x77),
            ("al", 0x88),
            ("r8d", 0x1234_5678),
            ("r8w", 0x5678),
            ("r8b", 0x78),
            ("rip", 0x10),
            ("zf", 1),
            ("cf", 0),
        ] {
            assert_eq!(value(name), Some(Ok(expected)), "{name}");
        }
        assert_eq!(value("rbx"), Some(Err("a trap frame does not hold rbx".to_owned())));
        for none in ["", "r", "rb", "raxd", "r16", "e", "l", "hh"] {
            assert_eq!(value(none), None, "{none}");
        }
        assert_eq!(flags_text(0x246), "nv up ei pl zr na pe nc");
    }
}
