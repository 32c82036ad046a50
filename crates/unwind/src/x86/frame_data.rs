//! Frame data out of PDBs: programs in reverse notation that compute a caller's registers.
//!
//! (Microsoft's Debug Interface Access SDK tells the notation at `IDiaFrameData::get_program`.) Operands are numbers,
//! registers and temporaries (`$eip`, `$T0`), and sizes (`.cbLocals`); operators stand behind their operands: `+ - * / % @`,
//! `^` reads a word, `=` assigns. `.raSearch` is the place of the return address: the first word above the function's
//! locals and saved registers that a call can have left.

use super::is_code;
use crate::Sources;
use crate::call_site::{self, CallSite};
use stopcode_base::VirtAddr;

/// More than twice the longest program compilers write.
const MOST_TOKENS: usize = 128;
const MOST_OPERANDS: usize = 16;
/// So many words are searched for the return address: arguments that were pushed for calls lie below it.
const MOST_SEARCHED: u32 = 64;

/// How an x86 function, or a part of it, uses the stack, as its PDB tells; sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameData<'a> {
    /// The first byte it holds for.
    pub start: VirtAddr,
    /// Local variables.
    pub locals: u32,
    /// Parameters on the stack.
    pub parameters: u32,
    /// Saved registers.
    pub saved: u32,
    /// How many bytes from `start` on are the prologue.
    pub prolog: u32,
    /// True if `start` is a function's.
    pub is_function: bool,
    /// False if EBP is used for something else and the program does not tell what becomes of it.
    pub keeps_ebp: bool,
    /// How the caller's registers are computed.
    pub program: &'a str,
}

/// The registers that a program starts with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) esp: u32,
    pub(super) ebp: Option<u32>,
    /// Bytes above the stack pointer that are the callee's parameters.
    pub(super) callee_parameters: u32,
}

/// The caller's registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    pub(super) eip: u32,
    pub(super) esp: u32,
    pub(super) ebp: Option<u32>,
    /// The return address was searched for.
    pub(super) searched: bool,
}

/// The caller, if the program can be followed and what it reads is there.
pub(super) fn caller(data: &FrameData<'_>, given: Given, sources: &Sources<'_>) -> Option<Caller> {
    let mut run = Run { data, given, sources, variables: Vec::new(), searched: false };
    let mut operands: Vec<Operand<'_>> = Vec::new();
    let mut tokens = data.program.split_ascii_whitespace();
    for token in tokens.by_ref().take(MOST_TOKENS) {
        run.token(token, &mut operands)?;
        if operands.len() > MOST_OPERANDS {
            return None;
        }
    }
    if tokens.next().is_some() || !operands.is_empty() {
        return None;
    }
    let ebp = run.assigned("$ebp").or(given.ebp.filter(|_| data.keeps_ebp));
    Some(Caller { eip: run.assigned("$eip")?, esp: run.assigned("$esp")?, ebp, searched: run.searched })
}

#[derive(Clone, Copy)]
enum Operand<'a> {
    Name(&'a str),
    Value(u32),
}

struct Run<'a> {
    data: &'a FrameData<'a>,
    given: Given,
    sources: &'a Sources<'a>,
    variables: Vec<(&'a str, u32)>,
    searched: bool,
}

impl<'a> Run<'a> {
    fn token(&mut self, token: &'a str, operands: &mut Vec<Operand<'a>>) -> Option<()> {
        let result = match token {
            "+" | "-" | "*" | "/" | "%" | "@" => {
                let right = self.value(operands.pop()?)?;
                let left = self.value(operands.pop()?)?;
                arithmetic(token, left, right)?
            }
            "^" => self.word(self.value(operands.pop()?)?)?,
            "=" => {
                let value = self.value(operands.pop()?)?;
                let Operand::Name(name) = operands.pop()? else { return None };
                self.variables.push((name, value));
                return Some(());
            }
            ".cbLocals" => self.data.locals,
            ".cbParams" => self.data.parameters,
            ".cbSavedRegs" => self.data.saved,
            ".raSearch" => self.search()?,
            name if name.starts_with('$') => {
                operands.push(Operand::Name(name));
                return Some(());
            }
            number => number.parse().ok()?,
        };
        operands.push(Operand::Value(result));
        Some(())
    }

    fn assigned(&self, name: &str) -> Option<u32> {
        self.variables.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn value(&self, operand: Operand<'_>) -> Option<u32> {
        match operand {
            Operand::Value(value) => Some(value),
            Operand::Name(name) => self.assigned(name).or(match name {
                "$esp" => Some(self.given.esp),
                "$ebp" => self.given.ebp,
                _ => None,
            }),
        }
    }

    fn word(&self, at: u32) -> Option<u32> {
        self.sources.memory.read_u32(VirtAddr(at.into())).ok()
    }

    fn search(&mut self) -> Option<u32> {
        self.searched = true;
        let Given { esp, callee_parameters, .. } = self.given;
        let above = callee_parameters.checked_add(self.data.locals)?.checked_add(self.data.saved)?;
        let start = esp.checked_add(above)?;
        (0..MOST_SEARCHED).filter_map(|word| start.checked_add(4 * word)).find(|at| {
            self.word(*at).is_some_and(|value| {
                let value = VirtAddr(value.into());
                is_code(value, self.sources.code)
                    && call_site::x86(self.sources.memory, value) != CallSite::NotCall
            })
        })
    }
}

fn arithmetic(operator: &str, left: u32, right: u32) -> Option<u32> {
    Some(match operator {
        "+" => left.wrapping_add(right),
        "-" => left.wrapping_sub(right),
        "*" => left.wrapping_mul(right),
        "/" => left.checked_div(right)?,
        "%" => left.checked_rem(right)?,
        // Aligns downwards.
        _ => left.checked_sub(left.checked_rem(right)?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, CodeAt, NoImages};
    use proptest::prelude::*;
    use stopcode_base::SliceMemory;

    const STACK: u32 = 0x9000_0000;
    const CODE: u32 = 0x8260_0000;

    struct Everything;

    impl Code for Everything {
        fn at(&self, address: VirtAddr) -> CodeAt {
            if address.0 & 0xfff0_0000 == u64::from(CODE) { CodeAt::Module } else { CodeAt::NotCode }
        }
    }

    /// Word n of the stack is what `words` has there.
    fn run(program: &str, words: &[u32], ebp: Option<u32>) -> Option<Caller> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let memory = SliceMemory { base: VirtAddr(STACK.into()), bytes: &bytes };
        let sources = Sources { memory: &memory, images: &NoImages, code: &Everything };
        let data = FrameData {
            start: VirtAddr(CODE.into()),
            locals: 8,
            parameters: 4,
            saved: 4,
            prolog: 0,
            is_function: true,
            keeps_ebp: true,
            program,
        };
        caller(&data, Given { esp: STACK, ebp, callee_parameters: 0 }, &sources)
    }

    #[test]
    fn frames_by_ebp() {
        let program = "$T0 $ebp = $eip $T0 4 + ^ = $ebp $T0 ^ = $esp $T0 8 + = $L $T0 .cbSavedRegs - = \
                       $P $T0 8 + .cbParams + = $ebx $T0 8 - ^ =";
        let words = [0, 0, STACK + 0x40, CODE + 5];
        let found = run(program, &words, Some(STACK + 8));
        let expected = Caller { eip: CODE + 5, esp: STACK + 16, ebp: Some(STACK + 0x40), searched: false };
        assert_eq!(found, Some(expected));
        assert_eq!(run(program, &words, None), None, "EBP is not known");
        assert_eq!(run(program, &words, Some(STACK + 16)), None, "there is no stack");
    }

    /// Words within locals and saved registers, and such that are no code, are not taken.
    #[test]
    fn a_return_address_is_searched_above_locals_and_saved_registers() {
        let program = "$T0 .raSearch = $eip $T0 ^ = $esp $T0 4 + =";
        let words = [CODE, CODE, CODE, 7, STACK, CODE + 9, CODE];
        let expected = Caller { eip: CODE + 9, esp: STACK + 24, ebp: Some(3), searched: true };
        assert_eq!(run(program, &words, Some(3)), Some(expected));
        assert_eq!(run(program, &words[..5], None), None);
    }

    #[test]
    fn operators() {
        let value = |formula: &str| {
            let program = format!("$eip {formula} = $esp 0 =");
            run(&program, &[11, 22], None).map(|caller| caller.eip)
        };
        assert_eq!(value("7 2 +"), Some(9));
        assert_eq!(value("2 7 -"), Some(u32::MAX - 4));
        assert_eq!(value("7 2 *"), Some(14));
        assert_eq!([value("7 2 /"), value("7 2 %"), value("47 16 @")], [Some(3), Some(1), Some(32)]);
        assert_eq!([value("7 0 /"), value("7 0 %"), value("7 0 @")], [None; 3]);
        assert_eq!(value("$esp 4 + ^"), Some(22));
        for malformed in ["", "+", "1 +", "1 2", "$T9", "-", "x", "4294967296", "= ="] {
            assert_eq!(value(malformed), None, "{malformed}");
        }
        assert_eq!(run("$eip 1 =", &[], None), None, "the stack pointer is missing");
        assert_eq!(value(&format!("1 {}", "1 + ".repeat(MOST_TOKENS))), None, "too long");
        assert_eq!(value(&"1 ".repeat(2 * MOST_OPERANDS)), None, "too many operands");
    }

    proptest! {
        #[test]
        fn any_program_ends(tokens in prop::collection::vec(prop::sample::select(vec![
            "$eip", "$esp", "$ebp", "$T0", "=", "^", "+", "-", "*", "/", "%", "@", "4", ".raSearch", ".cbLocals", "4294967295",
        ]), 0..200), words in prop::collection::vec(any::<u32>(), 0..20), ebp: Option<u32>) {
            run(&tokens.join(" "), &words, ebp);
        }
    }
}
