//! The best supported chain of return addresses on one x64 stack (the algorithm is told in the crate's header).
//!
//! Scores are tenths of a bit: ten mean "twice as likely".

use crate::call_site::{self, CallSite};
use crate::frame_size;
use crate::trap_frame::{self, TrapFrame};
use crate::{Code, CodeAt, StackRange};
use stopcode_base::{Memory, VirtAddr};

/// A candidate passed over is a stale word within a frame: about one in eight aligned words of locals is.
const PASSED_OVER: i32 = 30;
/// A candidate above the thread's first frame: nothing was ever pushed there, so hardly one is stale.
const ABOVE_FIRST_FRAME: i32 = 70;
/// A direct call to the very function of the frame above.
const CALLS_CALLEE: i32 = 50;
/// The same, when the callee's start is not known and the target only lies a little before its instruction.
const CALLS_NEAR_CALLEE: i32 = 30;
/// A direct call elsewhere. Live ones exist (guarded and tail calls), but nearly every stale call is one.
const CALLS_OTHER: i32 = -20;
/// An indirect call.
const CALLS_INDIRECTLY: i32 = 10;
/// In an image with symbols but far behind the nearest.
const FAR_FROM_SYMBOL: i32 = -30;
/// Inside a saved register set; an old, partly overwritten one can hold live frames.
const INSIDE_CONTEXT: i32 = -100;
/// A whole plausible trap frame exactly above the return address.
const HAS_TRAP_FRAME: i32 = 80;
/// The return address at the stack pointer of a function that has not begun.
const CALLEE_AT_ENTRY: i32 = 100;

/// A function reaches no further than this, when only its start or its call's target is known.
const LONGEST_FUNCTION: u64 = 0x4000;
/// No return address is nearer to its function's start: a push and a call through a register are three bytes.
const SHORTEST_PROLOG: u64 = 3;

/// Bytes in an x64 `CONTEXT`.
const CONTEXT_SIZE: u64 = 0x4d0;

/// Code that stands somewhere, and its stack pointer: what a frame hands to the search for its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) instruction: VirtAddr,
    pub(crate) stack_pointer: VirtAddr,
    /// Registers were read, so the function may be anywhere in its code: it may be a leaf, or not have begun.
    pub(crate) interrupted: bool,
    start: Option<VirtAddr>,
    offset: Option<u64>,
    at_entry: bool,
}

impl Standing {
    pub(crate) fn interrupted(instruction: VirtAddr, stack_pointer: VirtAddr, code: &dyn Code) -> Self {
        let at_entry = code.at(instruction) == CodeAt::Start;
        Self { interrupted: true, at_entry, ..Self::after_call(instruction, stack_pointer, code) }
    }

    fn after_call(instruction: VirtAddr, stack_pointer: VirtAddr, code: &dyn Code) -> Self {
        let start = code.function_start(instruction);
        let offset = start.and_then(|start| instruction.offset_from(start));
        Self { instruction, stack_pointer, interrupted: false, start, offset, at_entry: false }
    }

    /// The lowest address its return address can lie at.
    fn lowest_slot(&self) -> VirtAddr {
        let least = if self.interrupted { 0 } else { frame_size::SMALLEST - 8 };
        self.stack_pointer.plus(least)
    }
}

/// A word that can be a return address.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) slot: VirtAddr,
    pub(crate) value: VirtAddr,
    pub(crate) call: CallSite,
    pub(crate) known_function: bool,
    /// Its call goes to a jump: what runs then is somewhere else.
    calls_jump: bool,
    pub(crate) trap: Option<TrapFrame>,
    /// What to look for a caller from: the function returned to, or what its trap frame interrupted.
    then: Standing,
    own_score: i32,
    in_context: bool,
    /// The trap frame leads off this stack: nothing here can follow.
    leaves: bool,
}

/// One step of the chain.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) node: Node,
    pub(crate) calls_callee: bool,
    pub(crate) callee_at_entry: bool,
    pub(crate) gap_before: bool,
}

/// How a direct call fits the frame above it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Callee,
    NearCallee,
    Elsewhere,
    Open,
}

/// The stack words from a stack pointer on, and everything that says what they mean.
pub(crate) struct Search<'a> {
    pub(crate) memory: &'a dyn Memory,
    pub(crate) code: &'a dyn Code,
    pub(crate) stack: &'a StackRange,
}

impl Search<'_> {
    /// The best chain from `from` on; `words` are the stack from its stack pointer (a multiple of 8).
    pub(crate) fn best_chain(&self, from: &Standing, words: &[u64]) -> Vec<Step> {
        let nodes = self.nodes(from.stack_pointer, words);
        let previous = link(from, &nodes);
        let mut chain = Vec::new();
        let mut at = previous.last;
        while let Some(index) = at {
            let (Some(node), Some(before)) = (nodes.get(index), previous.of.get(index)) else { break };
            let callee = before.and_then(|before| nodes.get(before)).map_or(*from, |callee| callee.then);
            chain.push(step(&callee, node));
            // Predecessors always lie before: this ends.
            at = *before;
        }
        chain.reverse();
        chain
    }

    fn nodes(&self, base: VirtAddr, words: &[u64]) -> Vec<Node> {
        let contexts = context_records(base, words);
        let mut contexts = contexts.iter().copied().peekable();
        let mut nodes = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let slot = base.plus(index as u64 * 8);
            if slot.0 & 0xf != 8 {
                continue;
            }
            while contexts.next_if(|context| context.plus(CONTEXT_SIZE) <= slot).is_some() {}
            let in_context = contexts.peek().is_some_and(|context| *context <= slot);
            nodes.extend(self.node(slot, VirtAddr(*word), in_context));
        }
        nodes
    }

    fn node(&self, slot: VirtAddr, value: VirtAddr, in_context: bool) -> Option<Node> {
        let (known_function, mut own_score) = match self.code.at(value) {
            CodeAt::NotCode | CodeAt::Data | CodeAt::Start => return None,
            CodeAt::Module => (false, 0),
            CodeAt::FarFromSymbol => (false, FAR_FROM_SYMBOL),
            CodeAt::Function { offset, .. } if offset < SHORTEST_PROLOG => return None,
            CodeAt::Function { offset, size: Some(size) } if offset > size => (false, FAR_FROM_SYMBOL),
            CodeAt::Function { .. } => (true, 0),
        };
        let call = call_site::x64(self.memory, value);
        if call == CallSite::NotCall {
            return None;
        }
        let calls_jump =
            matches!(call, CallSite::Direct(target) if call_site::x64_is_jump(self.memory, target));
        if in_context {
            own_score += INSIDE_CONTEXT;
        }
        let top = slot.plus(8);
        let trap = (self.code.is_trap_entry(value) != Some(false))
            .then(|| trap_frame::plausible_at(self.memory, top, self.code, self.stack))
            .flatten();
        if trap.is_some() {
            own_score += HAS_TRAP_FRAME;
        }
        let then = match &trap {
            Some(trap) => Standing::interrupted(trap.rip(), trap.rsp(), self.code),
            None => Standing::after_call(value, top, self.code),
        };
        let leaves = trap.is_some_and(|trap| !self.stack.contains(trap.rsp()));
        Some(Node { slot, value, call, known_function, calls_jump, trap, then, own_score, in_context, leaves })
    }
}

/// What a chain's end is worth, when `passed` is what passing over all candidates behind it would cost.
fn above_first_frame(passed: i32) -> i32 {
    -(passed / PASSED_OVER * ABOVE_FIRST_FRAME)
}

struct Links {
    of: Vec<Option<usize>>,
    last: Option<usize>,
}

fn fit(callee: &Standing, node: &Node) -> Fit {
    let CallSite::Direct(target) = node.call else { return Fit::Open };
    match callee.start {
        Some(start) if start == target => Fit::Callee,
        None if callee.instruction.offset_from(target).is_some_and(|d| d < LONGEST_FUNCTION) => {
            Fit::NearCallee
        }
        _ if node.calls_jump => Fit::Open,
        _ => Fit::Elsewhere,
    }
}

/// What it is worth that `node` is the return address of `callee`.
fn pair_score(callee: &Standing, node: &Node) -> i32 {
    let call = match fit(callee, node) {
        Fit::Callee => CALLS_CALLEE,
        Fit::NearCallee => CALLS_NEAR_CALLEE,
        Fit::Elsewhere => CALLS_OTHER,
        Fit::Open if node.call == CallSite::Indirect => CALLS_INDIRECTLY,
        Fit::Open => 0,
    };
    if callee.at_entry && node.slot == callee.stack_pointer {
        return call + CALLEE_AT_ENTRY;
    }
    let size = frame_bytes(callee, node).max(frame_size::SMALLEST);
    call - frame_size::cost(size, callee.offset)
}

fn step(callee: &Standing, node: &Node) -> Step {
    let fit = fit(callee, node);
    Step {
        node: node.clone(),
        calls_callee: matches!(fit, Fit::Callee | Fit::NearCallee),
        callee_at_entry: callee.at_entry && node.slot == callee.stack_pointer,
        gap_before: fit == Fit::Elsewhere
            || (!matches!(fit, Fit::Callee) && frame_bytes(callee, node) > frame_size::SUSPICIOUS),
    }
}

/// For each node the best node before it. Nodes are in address order, so one pass suffices; a frame larger than
/// [`frame_size::LARGEST`] costs the same whatever its size, which keeps the pass from being quadratic.
fn link(from: &Standing, nodes: &[Node]) -> Links {
    let passed = passed_before(nodes);
    let passed_at = |index: usize| passed.get(index).copied().unwrap_or(0);
    let total = passed_at(nodes.len());
    let mut links = Links { of: Vec::with_capacity(nodes.len()), last: None };
    // Score of the best chain that ends with a node, plus what had been passed over by its stack pointer.
    let mut scores: Vec<Option<i32>> = Vec::with_capacity(nodes.len());
    let mut best_end = above_first_frame(total);
    let mut window = 0;
    let mut far: Option<(i32, Option<usize>)> = None;
    for (index, node) in nodes.iter().enumerate() {
        let before = passed_at(index);
        let mut best: Option<(i32, Option<usize>)> = None;
        let mut offer = |score: i32, from: Option<usize>| {
            if best.is_none_or(|(known, _)| score > known) {
                best = Some((score, from));
            }
        };
        if node.slot >= from.lowest_slot() {
            offer(pair_score(from, node), None);
        }
        while let Some(left) = nodes.get(window).filter(|n| n.slot.plus(frame_size::LARGEST) <= node.slot) {
            let score = scores.get(window).copied().flatten().filter(|_| !left.leaves);
            if let Some(score) = score.filter(|score| far.is_none_or(|(known, _)| *score > known)) {
                far = Some((score, Some(window)));
            }
            window += 1;
        }
        if let Some((score, from)) = far {
            offer(score - frame_size::HUGE_COST, from);
        }
        for (earlier, callee) in nodes.iter().enumerate().take(index).skip(window) {
            let Some(score) = scores.get(earlier).copied().flatten() else { continue };
            if !callee.leaves && node.slot >= callee.then.lowest_slot() {
                offer(score + pair_score(&callee.then, node), Some(earlier));
            }
        }
        let score = best.map(|(score, _)| score + node.own_score - before);
        links.of.push(best.and_then(|(_, from)| from));
        if let Some(score) = score {
            // Behind a switch to another stack the rest of this one is not passed over: it is not looked at.
            let rest = total - passed_by(node, nodes, &passed);
            let end = if node.leaves { score } else { score + above_first_frame(rest) };
            if end > best_end {
                best_end = end;
                links.last = Some(index);
            }
        }
        scores.push(score.map(|score| score + passed_by(node, nodes, &passed)));
    }
    links
}

/// What would have been passed over below the stack pointer that follows `node`: nothing of that is a loss.
fn passed_by(node: &Node, nodes: &[Node], passed: &[i32]) -> i32 {
    let next = nodes.partition_point(|other| other.slot < node.then.stack_pointer);
    passed.get(next).copied().unwrap_or(0)
}

/// From the stack pointer while the callee runs up to and including its return address.
fn frame_bytes(callee: &Standing, node: &Node) -> u64 {
    node.slot.plus(8).offset_from(callee.stack_pointer).unwrap_or(u64::MAX)
}

/// Running cost of passing over the nodes before each index.
fn passed_before(nodes: &[Node]) -> Vec<i32> {
    let mut sum = 0;
    let mut sums = Vec::with_capacity(nodes.len() + 1);
    for node in nodes {
        sums.push(sum);
        sum += if node.in_context { 0 } else { PASSED_OVER };
    }
    sums.push(sum);
    sums
}

/// Addresses of `CONTEXT` records among the words, in order: the exception dispatcher keeps two on the stack, full of
/// values of other frames.
fn context_records(base: VirtAddr, words: &[u64]) -> Vec<VirtAddr> {
    let word = |index: usize, offset: usize| words.get(index + offset / 8).copied();
    (0..words.len())
        .filter(|index| base.plus(*index as u64 * 8).0.trailing_zeros() >= 4)
        .filter(|index| {
            let (Some(flags), Some(segments), Some(flags_and_ss)) =
                (word(*index, 0x30), word(*index, 0x38), word(*index, 0x40))
            else {
                return false;
            };
            is_context(flags as u32, segments as u16, (flags_and_ss >> 16) as u16, (flags_and_ss >> 32) as u32)
        })
        .map(|index| base.plus(index as u64 * 8))
        .collect()
}

/// `ContextFlags` of AMD64 with control registers, selectors of one ring, and flags with the bit that is always set.
fn is_context(flags: u32, cs: u16, ss: u16, eflags: u32) -> bool {
    const AMD64_CONTROL: u32 = 0x0010_0001;
    // Parts of a context (0x7f), and what the kernel adds about exceptions (0x08, 0x10, 0x20, 0x40, 0x80 on top).
    const KNOWN: u32 = 0xf810_007f;
    flags & AMD64_CONTROL == AMD64_CONTROL
        && flags & !KNOWN == 0
        && matches!((cs, ss), (0x10, 0x18 | 0) | (0x33 | 0x23, 0x2b))
        && eflags & 2 != 0
        && eflags >> 22 == 0
}
