//! `r`

use super::code;
use crate::answer::{Outcome, Stop};
use crate::command::Command;
use crate::expression::{Names, evaluate};
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::registers::flags_text;
use crate::scope::Scope;
use crate::session::Session;
use crate::show::hex;
use serde_json::{Map, Value, json};
use stopcode_base::{Arch, Arm64Registers, Registers, X64Registers, X86Registers};
use stopcode_image::{KnownRegisters, decode_x64, decode_x86_named};

pub(super) const COMMAND: Command = Command {
    name: "r",
    aliases: &["rM"],
    letters: "",
    parameters: &[Parameter::optional("REGISTER", Kind::Rest)],
    what: "the registers of the selected context",
    details: "Several names are parted by commas or spaces. `r $t0 = EXPRESSION` sets one of `$t0` to `$t19`; the registers \
              of a dump stay as they are. A register that the context does not hold is shown as question marks.",
    examples: &[
        ("r", "all of them, and the instruction"),
        ("r $ip, $sp", "two of them"),
        ("r $t0 = @$sp+8", "a name for a value"),
    ],
    run: |session, arguments, output| match arguments.text("REGISTER") {
        None => all(session, output),
        Some(text) => match text.split_once('=') {
            Some((name, value)) => assign(session, name, value, output),
            // A mask says which kinds of registers to show; a dump holds one kind.
            None if u64::from_str_radix(text.trim_start_matches("0x"), 16).is_ok() => all(session, output),
            None => some(session, text, output),
        },
    },
};

fn assign(session: &mut Session, name: &str, value: &str, output: &mut Output) -> Outcome {
    let name = name.trim().trim_start_matches('@');
    let value = evaluate(value, session)?;
    if !session.set_temporary(name, value) {
        return Err(Stop::failed(format!(
            "Bad register error at '{name}': only $t0 to $t19 can be set in a dump"
        )));
    }
    output.line(format!("{name}={}", output.word(value)))?;
    Ok(json!({name: hex(value)}))
}

fn some(session: &Session, text: &str, output: &mut Output) -> Outcome {
    let mut values = Map::new();
    for name in
        text.split([',', ' ']).map(|name| name.trim_start_matches('@')).filter(|name| !name.is_empty())
    {
        match session.register(name) {
            Some(Ok(value)) => {
                output.line(format!("{name}={}", output.word(value)))?;
                values.insert(name.to_owned(), hex(value));
            }
            Some(Err(why)) => return Err(Stop::Unknown(why)),
            None if session.scope().is_err() => session.scope().map(|_| ())?,
            None => return Err(Stop::failed(format!("Bad register error at '{name}'"))),
        }
    }
    Ok(Value::Object(values))
}

/// All registers of the selected context, and the instruction.
pub(super) fn all(session: &Session, output: &mut Output) -> Outcome {
    of(session, session.scope()?, output)
}

/// The same of a context.
pub(super) fn of(session: &Session, scope: &Scope, output: &mut Output) -> Outcome {
    match &scope.registers {
        Registers::X64(registers) => x64(registers, scope, output)?,
        Registers::Arm64(registers) => arm64(registers, scope, output)?,
        Registers::X86(registers) => x86(registers, scope, output)?,
        _ => return Err(Stop::unknown("registers of this architecture are not shown yet")),
    }
    if scope.known != u32::MAX {
        output.missing(format!("{} does not hold all registers", scope.origin));
    }
    let at = scope.registers.instruction();
    if let Some(name) = session.name(at) {
        output.line(format!("{name}:"))?;
    }
    let instruction = instruction(session, scope, output)?;
    let known = |(number, (name, value)): (usize, (String, u64))| {
        let held = scope.known >> number & 1 == 1;
        (name, if held { hex(value) } else { Value::Null })
    };
    let named: Map<String, Value> = scope.registers.named().into_iter().enumerate().map(known).collect();
    Ok(json!({
        "origin": scope.origin, "instruction": hex(at.0), "stack_pointer": hex(scope.registers.stack_pointer().0),
        "registers": named, "code": instruction,
    }))
}

/// The instruction, and the memory that it reads or writes.
fn instruction(session: &Session, scope: &Scope, output: &mut Output) -> Outcome {
    let machine = session.machine();
    let at = scope.registers.instruction();
    let Some((instruction, bytes)) = code::decode(session, &machine, at) else { return Ok(Value::Null) };
    let mut line = code::line(&instruction, &bytes, machine.arch());
    let mut accesses = Vec::new();
    let known = match scope.registers {
        Registers::X64(registers) => Some(KnownRegisters::from(registers)),
        Registers::X86(registers) => Some(KnownRegisters::from(registers)),
        _ => None,
    };
    if let Some(known) = known {
        let known = KnownRegisters { known: known.known & scope.known as u16, ..known };
        let narrow = machine.arch() == Arch::X86;
        let decoded = if narrow {
            decode_x86_named(&bytes, at, Some(&known), &|_| None)
        } else {
            decode_x64(&bytes, at, Some(&known))
        };
        for access in decoded.iter().flat_map(|decoded| &decoded.accesses) {
            let Some(target) = access.address else { continue };
            let width = access.size.clamp(1, 8);
            let held = session.read(target.0, if width.is_power_of_two() { width } else { 8 }).ok();
            let held_shown = held.map_or_else(
                || "?".repeat(width * 2),
                |value| format!("{value:0width$x}", width = width * 2),
            );
            let place = if narrow { format!("0023:{:08x}", target.0) } else { output.at(target) };
            line.push_str(&format!(" ds:{place}={held_shown}"));
            accesses.push(json!({
                "kind": access.kind.verb(), "address": hex(target.0), "size": access.size, "value": held.map(hex),
            }));
        }
    }
    output.line(line)?;
    let mut data = code::described(&instruction, &bytes);
    if let Some(data) = data.as_object_mut() {
        data.insert("accesses".to_owned(), Value::Array(accesses));
    }
    Ok(data)
}

fn x64(registers: &X64Registers, scope: &Scope, output: &mut Output) -> Result<(), Stop> {
    let value = |number: usize| match registers.gpr.get(number) {
        Some(value) if scope.known >> number & 1 == 1 => format!("{value:016x}"),
        _ => "?".repeat(16),
    };
    output.line(format!("rax={} rbx={} rcx={}", value(0), value(3), value(1)))?;
    output.line(format!("rdx={} rsi={} rdi={}", value(2), value(6), value(7)))?;
    output.line(format!("rip={:016x} rsp={} rbp={}", registers.rip, value(4), value(5)))?;
    output.line(format!(" r8={}  r9={} r10={}", value(8), value(9), value(10)))?;
    output.line(format!("r11={} r12={} r13={}", value(11), value(12), value(13)))?;
    output.line(format!("r14={} r15={}", value(14), value(15)))?;
    let flags = registers.eflags;
    if flags == 0 {
        // Bit 1 is always set: unwinding gives no flags back, and no segments.
        return Ok(());
    }
    output.line(format!("iopl={}         {}", flags >> 12 & 3, flags_text(flags)))?;
    output.line(format!("cs={:04x}  ss={:04x}{:46}efl={flags:08x}", registers.cs, registers.ss, ""))
}

fn x86(registers: &X86Registers, scope: &Scope, output: &mut Output) -> Result<(), Stop> {
    let value = |number: usize| match registers.gpr.get(number) {
        Some(value) if scope.known >> number & 1 == 1 => format!("{value:08x}"),
        _ => "?".repeat(8),
    };
    output.line(format!(
        "eax={} ebx={} ecx={} edx={} esi={} edi={}",
        value(0),
        value(3),
        value(1),
        value(2),
        value(6),
        value(7)
    ))?;
    let flags = registers.eflags;
    output.line(format!(
        "eip={:08x} esp={} ebp={} iopl={}         {}",
        registers.eip,
        value(4),
        value(5),
        flags >> 12 & 3,
        flags_text(flags)
    ))?;
    let [ds, es, fs, gs] = registers.data_segments;
    output.line(format!(
        "cs={:04x}  ss={:04x}  ds={ds:04x}  es={es:04x}  fs={fs:04x}  gs={gs:04x}{:13}efl={flags:08x}",
        registers.cs, registers.ss, ""
    ))
}

fn arm64(registers: &Arm64Registers, scope: &Scope, output: &mut Output) -> Result<(), Stop> {
    let name = |number: usize| match number {
        29 => " fp".to_owned(),
        30 => " lr".to_owned(),
        _ => format!("{:>3}", format!("x{number}")),
    };
    let value = |number: usize, value: u64| {
        if scope.known >> number & 1 == 1 { format!("{value:016x}") } else { "?".repeat(16) }
    };
    let numbered = registers.x.iter().enumerate();
    let mut shown: Vec<String> =
        numbered.map(|(number, held)| format!("{}={}", name(number), value(number, *held))).collect();
    shown.push(format!(" sp={:016x}", registers.sp));
    for line in shown.chunks(4) {
        output.line(line.join("  "))?;
    }
    let flag = |bit: u32, letter: char| if registers.cpsr >> bit & 1 == 1 { letter } else { '-' };
    let flags: String =
        [(31, 'N'), (30, 'Z'), (29, 'C'), (28, 'V')].map(|(bit, letter)| flag(bit, letter)).iter().collect();
    output.line(format!(
        " pc={:016x} psr={:08x} {flags} EL{}",
        registers.pc,
        registers.cpsr,
        registers.cpsr >> 2 & 3
    ))
}
