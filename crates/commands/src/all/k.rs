//! `k`

use super::shared::{call_site, known, return_address, stack};
use crate::answer::{Outcome, Stop};
use crate::arguments::Arguments;
use crate::command::Command;
use crate::expression::{evaluate, evaluate_start};
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::address;
use serde_json::{Value, json};
use std::rc::Rc;
use stopcode_base::{Arch, Arm64Registers, Registers, VirtAddr, X64Registers, X86Registers};
use stopcode_kernel::{Frame, Machine, Stack, StackArea, Trust, Turn, area_words};
use stopcode_knowledge as knowledge;
use stopcode_symbols::SourceLine;

/// What may stand behind `k`.
const ASKED: &str = "= [BASE] STACK INSTRUCTION | [L]FRAMES";

pub(super) const COMMAND: Command = Command {
    name: "k",
    aliases: &[],
    letters: "bcnvfpPL",
    parameters: &[Parameter::switch("-a"), Parameter::optional(ASKED, Kind::Rest)],
    what: "the stack of the selected context",
    details: "Letters: `b` with the arguments' home space, `v` with trap frames too, `n` numbered, `f` with the bytes of each \
              frame, `c` call sites only; `L` without source lines; `p` and `P` \
              are as `k`, for dumps hold no arguments. `-a` says \
              of each frame in a few words what it does. A frame that was found by scanning, and not by unwind data, is \
              marked; where frames may be missing, a line of tildes stands. The four words of `kb` are the home space of the \
              first four arguments: functions need not store them there. `k = STACK INSTRUCTION` begins where it is told to, \
              with BASE as the frame pointer where three values stand.",
    examples: &[
        ("k", "the stack"),
        ("k -a", "the stack, explained"),
        ("kf", "which frames take how much of it"),
        ("kn 5", "five frames, numbered"),
        ("~3k", "the stack of processor 3"),
        ("k = @$csp @$ip", "the stack from a stack pointer and an instruction on"),
    ],
    run: |session, arguments, output| {
        let asked = Asked::of(session, arguments.text(ASKED).unwrap_or_default())?;
        let stack = match asked.from {
            Some((registers, known)) => from_there(session, (&registers, known)),
            None => stack(session)?,
        };
        let most = asked.frames.unwrap_or(u64::MAX).min(stack.frames.len() as u64) as usize;
        show(session, arguments, &stack, most, output)
    },
};

/// The stack from such registers on: the selected thread's and processor's, if it is one of theirs.
fn from_there(session: &Session, from: (&Registers, u32)) -> Rc<Stack> {
    let machine = session.machine();
    let mut owner = (None, None);
    if let Ok(scope) = session.scope() {
        // Where the context itself stands more is known than the line tells.
        if agree(&scope.registers, from) {
            return scope.stack(&machine);
        }
        owner = (scope.thread, scope.processor);
    }
    let stack = machine.walk(from, owner);
    let theirs =
        stack.frames.first().and_then(|frame| frame.area).is_some_and(|area| area != StackArea::Other);
    Rc::new(if theirs { stack } else { machine.walk(from, (None, None)) })
}

fn show(
    session: &Session,
    arguments: &Arguments<'_>,
    stack: &Stack,
    most: usize,
    output: &mut Output,
) -> Outcome {
    let machine = session.machine();
    let shape = Shape::of(arguments, session.lines());
    output.line(shape.header(output))?;
    for (number, frame) in stack.frames.iter().take(most).enumerate() {
        if frame.gap_before {
            output.line("~~~~~ frames may be missing here ~~~~~")?;
        }
        output.line(shape.row(output, &machine, stack, number, frame))?;
    }
    if stack.frames.len() > most {
        output.line(format!("... {} more", stack.frames.len() - most))?;
    } else if !arguments.letter('c') {
        output.missing(format!("the walk ended: {}", stack.ended));
    }
    let frames = stack.frames.iter().take(most).enumerate();
    let frames: Vec<Value> =
        frames.map(|(number, frame)| described(&machine, stack, number, frame, shape.arguments)).collect();
    Ok(json!({
        "context": session.scope()?.origin, "thread": stack.thread.map(address), "processor": stack.processor,
        "frames": frames, "ended": stack.ended,
    }))
}

/// True if `own` is what is `told`: the instruction, the stack pointer, and the general registers that are known.
fn agree(own: &Registers, told: (&Registers, u32)) -> bool {
    let here = |registers: &Registers| (registers.instruction(), registers.stack_pointer());
    let mut general = own.named().into_iter().zip(told.0.named()).enumerate();
    here(own) == here(told.0)
        && general.all(|(number, (own, given))| told.1 >> number & 1 == 0 || own == given)
}

/// What the line asks for: where to begin, if not at the selected context, and how many frames.
struct Asked {
    from: Option<(Registers, u32)>,
    frames: Option<u64>,
}

impl Asked {
    fn of(session: &Session, text: &str) -> Result<Self, Stop> {
        let Some(values) = text.strip_prefix('=') else {
            let count = text.strip_prefix(['L', 'l']).unwrap_or(text).trim();
            let frames = if count.is_empty() { None } else { Some(evaluate(count, session)?) };
            return Ok(Self { from: None, frames });
        };
        let mut numbers = Vec::new();
        let mut rest = values.trim();
        while !rest.is_empty() {
            let (value, behind) = evaluate_start(rest, session)?;
            numbers.push(value);
            rest = behind.trim_start();
        }
        let (base, pointer, instruction, frames) = match numbers.as_slice() {
            [pointer, instruction] => (None, *pointer, *instruction, None),
            [base, pointer, instruction] => (Some(*base), *pointer, *instruction, None),
            [base, pointer, instruction, frames] => (Some(*base), *pointer, *instruction, Some(*frames)),
            _ => return Err(Stop::failed("`k = [BASE] STACK INSTRUCTION`: two to four values")),
        };
        let from = begin(session.machine().arch(), base, pointer, instruction);
        let from = from.ok_or_else(|| Stop::unknown("stacks of this architecture are not walked"))?;
        Ok(Self { from: Some(from), frames })
    }
}

/// Registers of which these are known, and which general ones those are.
fn begin(arch: Arch, base: Option<u64>, pointer: u64, instruction: u64) -> Option<(Registers, u32)> {
    let (given, base) = (u32::from(base.is_some()), base.unwrap_or(0));
    Some(match arch {
        Arch::X64 => {
            let mut registers = X64Registers { rip: instruction, ..X64Registers::default() };
            *registers.gpr.get_mut(X64Registers::RSP)? = pointer;
            *registers.gpr.get_mut(X64Registers::RBP)? = base;
            (Registers::X64(registers), 1 << X64Registers::RSP | given << X64Registers::RBP)
        }
        Arch::X86 => {
            let eip = u32::try_from(instruction & 0xffff_ffff).ok()?;
            let mut registers = X86Registers { eip, ..X86Registers::default() };
            *registers.gpr.get_mut(4)? = u32::try_from(pointer & 0xffff_ffff).ok()?;
            *registers.gpr.get_mut(5)? = u32::try_from(base & 0xffff_ffff).ok()?;
            (Registers::X86(registers), 1 << 4 | given << 5)
        }
        Arch::Arm64 => {
            let mut registers = Arm64Registers { pc: instruction, sp: pointer, ..Arm64Registers::default() };
            *registers.x.get_mut(29)? = base;
            (Registers::Arm64(registers), given << 29)
        }
        _ => return None,
    })
}

/// Which columns there are.
struct Shape {
    numbers: bool,
    memory: bool,
    pointers: bool,
    arguments: bool,
    trap_frames: bool,
    words: bool,
    lines: bool,
}

impl Shape {
    fn of(arguments: &Arguments<'_>, lines: bool) -> Self {
        let letter = |letter| arguments.letter(letter);
        Self {
            numbers: letter('n'),
            memory: letter('f'),
            pointers: !letter('c') && (!letter('b') || letter('v')),
            arguments: letter('b') || letter('v'),
            trap_frames: letter('v'),
            words: arguments.switch("-a"),
            lines: lines && !letter('L'),
        }
    }

    fn header(&self, output: &Output) -> String {
        let mut line = String::new();
        if self.numbers {
            line.push_str(" # ");
        }
        if self.memory {
            line.push_str("  Memory  ");
        }
        if self.pointers {
            line.push_str(&format!("{} {}     ", output.column("Child-SP"), output.column("RetAddr")));
        } else if self.arguments {
            line.push_str(&format!("{}     ", output.column("RetAddr")));
        }
        if self.arguments {
            let width = 4 * (output.column("").len() + 1) - 1;
            line.push_str(&format!(": {:<width$} : ", "Args to Child"));
        }
        line.push_str("Call Site");
        line
    }

    fn row(&self, output: &Output, machine: &Machine, stack: &Stack, number: usize, frame: &Frame) -> String {
        let mut line = String::new();
        if self.numbers {
            line.push_str(&format!("{number:02x} "));
        }
        if self.memory {
            let memory = memory(stack, number).map_or_else(String::new, |bytes| format!("{bytes:x}"));
            line.push_str(&format!("{memory:>8}  "));
        }
        let returns = known(output, return_address(stack, number));
        if self.pointers {
            line.push_str(&format!("{} {returns}     ", output.at(frame.stack_pointer)));
        } else if self.arguments {
            line.push_str(&format!("{returns}     "));
        }
        if self.arguments {
            let words = home_space(machine, stack, number);
            let words = words.map(|word| known(output, word.map(VirtAddr)));
            line.push_str(&format!(": {} : ", words.join(" ")));
        }
        line.push_str(&call_site(output, frame));
        if let Some(source) = source(machine, frame, number).filter(|_| self.lines) {
            line.push_str(&format!(" [{} @ {}]", source.file, source.line));
        }
        if matches!(frame.trust, Trust::Scan | Trust::ScanCall) {
            line.push_str("  (scan)");
        }
        if self.trap_frames
            && let Some(at) = frame.trap_frame
        {
            line.push_str(&format!(" (TrapFrame @ {})", output.at(at)));
        }
        if let Some(what) = annotation(frame).filter(|_| self.words) {
            line.push_str(&format!("  <- {what}"));
        }
        line
    }
}

/// The source line of a frame: of a frame that waits for a call, the line of the call.
fn source(machine: &Machine, frame: &Frame, number: usize) -> Option<SourceLine> {
    let exact = match frame.crossing {
        Some(crossing) => !matches!(crossing.turn, Turn::StackSwitch | Turn::SwitchedOut),
        None => number == 0,
    };
    machine.source_line(if exact { frame.instruction } else { frame.instruction.minus(1) })
}

/// Bytes from the frame above to this one, on one stack.
fn memory(stack: &Stack, number: usize) -> Option<u64> {
    stack.bytes(number.checked_sub(1)?)
}

/// The four words above the return address: where a function may store its first four arguments, and x86 has them.
fn home_space(machine: &Machine, stack: &Stack, number: usize) -> [Option<u64>; 4] {
    let caller = stack.frames.get(number + 1).filter(|next| !next.gap_before);
    let slot = caller.and_then(|caller| caller.return_slot);
    let size = machine.arch().pointer_size();
    [1, 2, 3, 4].map(|word| machine.memory().read_word(machine.arch(), slot?.plus(word * size)).ok())
}

/// What the function does, in a few words, and how it came to be left.
fn annotation(frame: &Frame) -> Option<String> {
    let what = purpose(frame);
    let Some(crossing) = frame.crossing else { return what };
    let switch = crossing.switch().map_or_else(String::new, |(from, to)| {
        format!(", from the {} to the {}", area_words(to), area_words(from))
    });
    let turn = format!("{}{switch}", crossing.turn);
    Some(what.map_or(turn.clone(), |what| format!("{}; {turn}", what.trim_end_matches('.'))))
}

fn purpose(frame: &Frame) -> Option<String> {
    let module = frame.place.display.as_deref()?;
    let symbol = frame.place.symbol.as_deref().filter(|_| !frame.place.uncertain);
    let known = symbol.and_then(|symbol| knowledge::function(module, symbol));
    if let Some(function) = known {
        return Some(function.what);
    }
    let driver = knowledge::driver(frame.place.image.as_deref()?)?;
    (module != "nt").then(|| format!("{} ({})", driver.product, driver.vendor))
}

fn described(machine: &Machine, stack: &Stack, number: usize, frame: &Frame, with_arguments: bool) -> Value {
    let words = home_space(machine, stack, number).map(|word| word.map(|word| address(VirtAddr(word))));
    json!({
        "number": number,
        "child_sp": address(frame.stack_pointer),
        "return_address": return_address(stack, number).map(address),
        "instruction": address(frame.instruction),
        "module": frame.place.display, "symbol": frame.place.symbol, "offset": frame.place.offset,
        "windbg": frame.place.windbg_label(), "uncertain": frame.place.uncertain, "unloaded": frame.place.unloaded,
        "trust": frame.trust.id(), "gap_before": frame.gap_before,
        "trap_frame": frame.trap_frame.map(address),
        "turn": frame.crossing.map(|crossing| crossing.turn.id()), "stack": frame.area.map(area_words),
        "bytes": memory(stack, number),
        "home_space": if with_arguments { json!(words) } else { Value::Null },
        "what": annotation(frame),
        "source": source(machine, frame, number).map(|line| json!({"file": line.file, "line": line.line})),
    })
}
