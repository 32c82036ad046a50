//! Instructions as `u`, `ub`, `uf` and `r` show them.

use crate::output::Output;
use crate::session::Session;
use crate::show::address;
use serde_json::{Value, json};
use stopcode_base::{Arch, Memory, VirtAddr};
use stopcode_image::{Instruction, decode_arm64_named, decode_x64_named, decode_x86_named};
use stopcode_kernel::Machine;

/// No instruction is longer.
pub(super) const LONGEST: usize = 15;

/// Decodes the instruction at an address; `None` if its bytes are not there or are none.
pub(super) fn decode(session: &Session, machine: &Machine, at: VirtAddr) -> Option<(Instruction, Vec<u8>)> {
    let mut bytes = session.code(machine).read_available(at, LONGEST);
    let instruction = of_bytes(session, machine.arch(), &bytes, at)?;
    bytes.truncate(instruction.length);
    Some((instruction, bytes))
}

/// The same of bytes at hand.
pub(super) fn of_bytes(session: &Session, arch: Arch, bytes: &[u8], at: VirtAddr) -> Option<Instruction> {
    let name = |at: VirtAddr| session.reference(at);
    match arch {
        Arch::X64 => decode_x64_named(bytes, at, None, &name),
        Arch::Arm64 => decode_arm64_named(bytes, at, &name),
        Arch::X86 => decode_x86_named(bytes, at, None, &name),
        _ => None,
    }
}

/// `fffff800`032aa873 8bfa            mov     edi,edx`.
pub(super) fn line(instruction: &Instruction, bytes: &[u8], arch: Arch) -> String {
    let shown = match arch {
        // An ARM64 instruction is one number.
        Arch::Arm64 => raw(bytes.iter().rev()),
        _ => raw(bytes.iter()),
    };
    let width = if arch == Arch::Arm64 { 8 } else { 15 };
    let address = match arch {
        Arch::X86 => format!("{:08x}", instruction.address.0),
        _ => instruction.address.windbg(),
    };
    format!("{address} {shown:<width$} {}", instruction.text)
}

/// Bytes as hexadecimal digits.
fn raw<'b>(bytes: impl Iterator<Item = &'b u8>) -> String {
    bytes.map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// An instruction as data.
pub(super) fn described(instruction: &Instruction, bytes: &[u8]) -> Value {
    json!({"address": address(instruction.address), "bytes": raw(bytes.iter()), "text": instruction.text})
}

/// Says so where code is not the dump's own.
pub(super) fn tell_origin(machine: &Machine, at: VirtAddr, output: &mut Output) {
    if machine.memory().read_u8(at).is_err() {
        output.missing("code that is not in this dump is shown as the image's file has it");
    }
}

/// `nt!KiIpiSendRequest+0x2eb:`, before the first instruction and where another symbol begins.
pub(super) fn heading(session: &Session, machine: &Machine, at: VirtAddr, first: bool) -> Option<String> {
    let place = machine.place(at);
    let begins = place.symbol.is_some() && place.offset == 0;
    if !first && !begins {
        return None;
    }
    session.name(at).map(|name| format!("{name}:"))
}
