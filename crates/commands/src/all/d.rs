//! `db`, `dw`, `dd`, `dq`, `dp`, `dc`, `dyb`: memory as numbers.

use super::memory::{MOST_MISSING, bytes, letters, missing, range, value};
use crate::answer::Outcome;
use crate::arguments::Arguments;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, POINTER, Parameter};
use crate::session::Session;
use crate::show::{address, hex, quad};
use serde_json::json;
use stopcode_base::{Arch, Memory, VirtAddr};

/// How a line looks.
#[derive(Clone, Copy)]
struct Shape {
    /// Bytes of a value.
    unit: usize,
    /// Values on a line.
    columns: usize,
    /// Lines by default.
    lines: u64,
    /// Letters behind the values.
    letters: bool,
    /// Values as bits.
    bits: bool,
}

const DB: Shape = Shape { unit: 1, columns: 16, lines: 8, letters: true, bits: false };
const DW: Shape = Shape { unit: 2, columns: 8, lines: 8, letters: false, bits: false };
const DD: Shape = Shape { unit: 4, columns: 4, lines: 8, letters: false, bits: false };
const DC: Shape = Shape { letters: true, ..DD };
const DQ: Shape = Shape { unit: 8, columns: 2, lines: 8, letters: false, bits: false };
const DYB: Shape = Shape { unit: 1, columns: 4, lines: 8, letters: false, bits: true };

const DETAILS: &str = "Without a range it goes on where the last one ended. Bytes that the dump does not hold are question marks.";

macro_rules! command {
    ($constant:ident, $name:literal, $aliases:expr, $shape:ident, $parameters:ident, $what:literal, $example:literal) => {
        const $parameters: &[Parameter] = &[Parameter::optional(
            "RANGE",
            Kind::Range { unit: $shape.unit as u64, count: $shape.columns as u64 * $shape.lines },
        )];
        pub(super) const $constant: Command = Command {
            name: $name,
            aliases: $aliases,
            letters: "",
            parameters: $parameters,
            what: $what,
            details: DETAILS,
            examples: &[($example, "from an address on")],
            run: |session, arguments, output| show(session, arguments, $shape, output),
        };
    };
}

command!(BYTES, "db", &["d"], DB, BYTES_ARGUMENTS, "memory as bytes and letters", "db @$sp L40");
command!(WORDS, "dw", &[], DW, WORDS_ARGUMENTS, "memory as 16-bit words", "dw @$sp");
command!(DOUBLES, "dd", &[], DD, DOUBLES_ARGUMENTS, "memory as 32-bit words", "dd @$sp L8");
command!(CHARACTERS, "dc", &[], DC, CHARACTERS_ARGUMENTS, "memory as 32-bit words and letters", "dc @$sp");
command!(QUADS, "dq", &[], DQ, QUADS_ARGUMENTS, "memory as 64-bit words", "dq @$sp @$sp+38");

pub(super) const POINTERS: Command = Command {
    name: "dp",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::optional(
        "RANGE",
        Kind::Range { unit: POINTER, count: DQ.columns as u64 * DQ.lines },
    )],
    what: "memory as words as wide as a pointer",
    details: DETAILS,
    examples: &[("dp @$sp L4", "from an address on")],
    run: |session, arguments, output| {
        let narrow = output.arch().pointer_size() == 4;
        show(session, arguments, if narrow { DD } else { DQ }, output)
    },
};

command!(BITS, "dyb", &[], DYB, BITS_ARGUMENTS, "memory as bits and bytes", "dyb @$sp L4");

fn show(session: &mut Session, arguments: &Arguments<'_>, shape: Shape, output: &mut Output) -> Outcome {
    let range = range(session, arguments, shape.unit as u64, shape.columns as u64 * shape.lines)?;
    let machine = session.machine();
    let view = session.memory(&machine);
    let memory: &dyn Memory = &view;
    let width = (shape.unit * shape.columns) as u64;
    let mut values = Vec::new();
    let (mut done, mut gap) = (0, 0);
    if shape.bits {
        output.line(format!("{}  76543210 76543210 76543210 76543210", output.column("")))?;
        output.line(format!("{}  -------- -------- -------- --------", output.column("")))?;
    }
    while done < range.bytes {
        let at = range.start.plus(done);
        let count = (range.bytes - done).min(width) as usize;
        let bytes = bytes(memory, at, count);
        gap = if bytes.iter().all(Option::is_none) { gap + count as u64 } else { 0 };
        if gap > MOST_MISSING {
            break;
        }
        output.line(line(machine.arch(), at, &bytes, shape))?;
        values.extend(bytes.chunks(shape.unit).map(|bytes| value(bytes).map(hex)));
        done += count as u64;
    }
    session.set_next_data(range.start.plus(done));
    if values.iter().all(Option::is_none) && range.bytes > 0 {
        return Err(missing(machine.arch(), memory, range.start));
    }
    if gap > MOST_MISSING {
        output
            .missing(format!("nothing of {} and behind is in this dump", output.at(range.start.plus(done))));
    }
    Ok(json!({"start": address(range.start), "unit": shape.unit, "values": values}))
}

fn line(arch: Arch, at: VirtAddr, bytes: &[Option<u8>], shape: Shape) -> String {
    let mut line = format!("{} ", arch.windbg(at));
    let margin = line.len() + 1;
    for (number, raw) in bytes.chunks(shape.unit).enumerate() {
        let value = if raw.len() == shape.unit { value(raw) } else { None };
        let dash = shape.unit == 1 && !shape.bits && number == 8;
        line.push(if dash { '-' } else { ' ' });
        line.push_str(&match (shape.unit, value) {
            (1, Some(value)) if shape.bits => format!("{value:08b}"),
            (1, None) if shape.bits => "?".repeat(8),
            (8, Some(value)) => quad(value),
            (8, None) => "????????`????????".to_owned(),
            (unit, Some(value)) => format!("{value:0width$x}", width = unit * 2),
            (unit, None) => "?".repeat(unit * 2),
        });
    }
    if shape.bits {
        let raw = bytes.iter().map(|byte| byte.map_or_else(|| "??".to_owned(), |byte| format!("{byte:02x}")));
        line.push_str(&format!("  {}", raw.collect::<Vec<_>>().join(" ")));
    }
    if shape.letters {
        let width = margin + shape.columns * (shape.unit * 2 + 1);
        line = format!("{line:<width$} {}", letters(bytes));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_windbg_has_them() {
        let at = VirtAddr(0xffff_f880_009b_9de8);
        let bytes: Vec<Option<u8>> =
            [0x69, 0xb1, 0x28, 3, 0, 0xf8, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0].map(Some).to_vec();
        assert_eq!(
            line(Arch::X64, at, &bytes, DB),
            "fffff880`009b9de8  69 b1 28 03 00 f8 ff ff-7f 00 00 00 00 00 00 00  i.(............."
        );
        assert_eq!(line(Arch::X64, at, &bytes, DQ), "fffff880`009b9de8  fffff800`0328b169 00000000`0000007f");
        assert_eq!(line(Arch::X64, at, &bytes, DD), "fffff880`009b9de8  0328b169 fffff800 0000007f 00000000");
        let holes: Vec<Option<u8>> = bytes.iter().enumerate().map(|(n, b)| b.filter(|_| n != 9)).collect();
        assert_eq!(line(Arch::X64, at, &holes, DQ), "fffff880`009b9de8  fffff800`0328b169 ????????`????????");
        assert_eq!(
            line(Arch::X64, at, &holes, DC),
            "fffff880`009b9de8  0328b169 fffff800 ???????? 00000000  i.(......?......"
        );
    }
}
