//! ARM64 instructions through yaxpeax-arm.

use crate::{Flow, Instruction};
use stopcode_base::VirtAddr;
use yaxpeax_arch::{Arch, Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{ARMv8, Opcode, Operand};

/// Bytes of every instruction.
const LENGTH: usize = 4;

/// Decodes the instruction at the start of `bytes`; `None` if they are no whole instruction.
///
/// The text has kd's form: `fp` and `lr` for x29 and x30, no spaces between operands, and for the targets of branches and of
/// `adr` and `adrp` the address, behind its name where `name` knows one.
pub fn decode_arm64_named(
    bytes: &[u8],
    at: VirtAddr,
    name: &dyn Fn(VirtAddr) -> Option<String>,
) -> Option<Instruction> {
    let word: [u8; LENGTH] = bytes.get(..LENGTH)?.try_into().ok()?;
    let mut reader = U8Reader::new(&word);
    let decoded = <ARMv8 as Arch>::Decoder::default().decode(&mut reader).ok()?;
    let offset = decoded.operands.iter().find_map(|operand| match operand {
        Operand::PCOffset(offset) => Some(*offset as u64),
        _ => None,
    });
    let from = if decoded.opcode == Opcode::ADRP { at.page() } else { at };
    let target = offset.map(|offset| from.plus(offset));
    let text = decoded.to_string();
    let (mnemonic, operands) = text.split_once(' ').unwrap_or((&text, ""));
    let mut shown = operands_as_kd(operands);
    if let Some(target) = target
        && let Some(start) = shown.rfind('$')
    {
        let address = target.windbg();
        shown.truncate(start);
        shown.push_str(&name(target).map_or(address.clone(), |name| format!("{name} ({address})")));
    }
    let text = format!("{mnemonic:<11} {shown}").trim_end().to_owned();
    Some(Instruction {
        address: at,
        length: LENGTH,
        text,
        mnemonic: mnemonic.to_owned(),
        flow: flow(mnemonic, target),
        accesses: Vec::new(),
        privileged: matches!(mnemonic, "eret" | "hvc" | "smc"),
    })
}

fn flow(mnemonic: &str, target: Option<VirtAddr>) -> Flow {
    match mnemonic {
        "bl" | "blr" | "blraa" | "blrab" | "blraaz" | "blrabz" => Flow::Call(target),
        "b" | "br" | "braa" | "brab" | "braaz" | "brabz" => Flow::Jump(target),
        "cbz" | "cbnz" | "tbz" | "tbnz" => Flow::Branch(target),
        "ret" | "retaa" | "retab" | "eret" => Flow::Return,
        "svc" | "hvc" | "smc" | "brk" | "hlt" | "udf" => Flow::Interrupt,
        _ if mnemonic.starts_with("b.") => Flow::Branch(target),
        _ => Flow::Next,
    }
}

/// Without spaces behind commas, and with the names that Windows gives x29 and x30.
fn operands_as_kd(operands: &str) -> String {
    let mut shown = String::new();
    let mut rest = operands;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, behind) = match end {
            0 => rest.split_at(first.len_utf8()),
            end => rest.split_at(end),
        };
        shown.push_str(match word {
            "x29" => "fp",
            "x30" => "lr",
            " " if shown.ends_with(',') => "",
            word => word,
        });
        rest = behind;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(word: u32, at: u64) -> String {
        let name = |at: VirtAddr| (at.0 == 0xffff_f800_0000_2000).then(|| "nt!There".to_owned());
        decode_arm64_named(&word.to_le_bytes(), VirtAddr(at), &name).map(|i| i.text).unwrap_or_default()
    }

    #[test]
    fn instructions_in_kds_form() {
        for (word, shown) in [
            (0xa9bf_7bfd, "stp         fp,lr,[sp,#-0x10]!"),
            (0x9100_03fd, "mov         fp,sp"),
            (0xd65f_03c0, "ret"),
            (0x9400_0400, "bl          nt!There (fffff800`00002000)"),
            (0x9400_0401, "bl          fffff800`00002004"),
            (0xd503_201f, "nop"),
        ] {
            assert_eq!(text(word, 0xffff_f800_0000_1000), shown);
        }
        assert_eq!(text(0, 0), "udf         #0x0");
        assert!(decode_arm64_named(&[0, 0, 0], VirtAddr(0), &|_| None).is_none());
    }

    #[test]
    fn any_word_is_an_instruction_or_none() {
        // A stride that meets every kind of encoding.
        for word in (0..=u32::MAX).step_by(10_007) {
            let _ = text(word, 0x1000);
        }
    }

    #[test]
    fn flow_and_targets() {
        let flow =
            |word: u32| decode_arm64_named(&word.to_le_bytes(), VirtAddr(0x1000), &|_| None).unwrap().flow;
        assert_eq!(flow(0x9400_0001), Flow::Call(Some(VirtAddr(0x1004))));
        assert_eq!(flow(0x1400_0001), Flow::Jump(Some(VirtAddr(0x1004))));
        assert_eq!(flow(0x5400_0020), Flow::Branch(Some(VirtAddr(0x1004))));
        assert_eq!(flow(0xb400_0020), Flow::Branch(Some(VirtAddr(0x1004))));
        assert_eq!(flow(0xd63f_0000), Flow::Call(None));
        assert_eq!(flow(0xd65f_03c0), Flow::Return);
    }
}
