//! Which candidates are on the chain of live return addresses (the algorithm is told in the crate's header).
//!
//! A chain is a sequence of candidates in address order, each the return address of the one before. Its weight is
//! the product of what its candidates, its frames, and the candidates it passes over are worth. Summing over all
//! chains, from the bottom up and from the top down, gives for each candidate the share of the weight that goes
//! through it: how probable it is. Given are those that are more likely on the chain than not; two that exclude each
//! other are never both.

use crate::call_site::CallSite;
use crate::candidate::{CONTEXT_SIZE, Candidate, Frameless, Search, Standing, context_records};
use crate::frame_size;
use std::f64::consts::LOG2_E;
use stopcode_base::VirtAddr;

// Scores in tenths of a bit.

/// A candidate passed over is a stale word within a frame: about one in ten aligned words of locals is.
const PASSED_OVER: i32 = -33;
/// A candidate above the thread's first frame: nothing was ever pushed there, so hardly one is stale.
const ABOVE_FIRST_FRAME: i32 = -100;
/// A direct call to the very function of the frame above.
const CALLS_CALLEE: i32 = 45;
/// The same, when the callee's start is not known and the target only lies a little before its instruction.
const CALLS_NEAR_CALLEE: i32 = 30;
/// A direct call elsewhere. Nearly every stale call is one; guarded calls and tail calls make it common on live stacks
/// too, above all between the layers of a driver stack.
const CALLS_OTHER: i32 = -12;
/// A call that checks a stack cookie returns or stops the system: it is live only below the code that does that.
const CHECKS_COOKIE: i32 = -60;
/// Caller and callee belong to the same part of the kernel, or not. Of 195 neighbours on the stacks of 95 published
/// crashes 41 % do; of frames three or more apart, which stand for calls that are not each other's, one in eight.
const SAME_FAMILY: i32 = 17;
const OTHER_FAMILY: i32 = -6;
/// The return address at the stack pointer of a function that has not begun.
const CALLEE_AT_ENTRY: i32 = 100;
/// The same of what looks like that, or like a leaf; half-run prologs are rare.
const CALLEE_WITHOUT_FRAME: i32 = 40;

/// Hardly a function reaches further than this from where a call enters it.
const LONGEST_FUNCTION: u64 = 0x1000;

/// One step of the chain.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) candidate: Candidate,
    pub(crate) calls_callee: bool,
    pub(crate) callee_at_entry: bool,
    pub(crate) gap_before: bool,
}

/// The chain from `from` on; `words` are the stack from its stack pointer (a multiple of 8).
pub(crate) fn find(search: &Search<'_>, from: &Standing, words: &[u64]) -> Vec<Step> {
    let contexts = context_records(from.stack_pointer, words);
    let candidates = search.candidates(from.stack_pointer, words, &contexts);
    let mut passed = Vec::with_capacity(candidates.len() + 1);
    let mut sum = 0;
    passed.push(sum);
    for candidate in &candidates {
        sum += i32::from(!candidate.in_context);
        passed.push(sum);
    }
    let mut chains = Chains { from, candidates: &candidates, contexts: &contexts, passed, own: Vec::new() };
    chains.own = chains.own_worths();
    chains.likely()
}

struct Chains<'a> {
    from: &'a Standing,
    candidates: &'a [Candidate],
    contexts: &'a [VirtAddr],
    /// How many candidates before each index would be passed over, if all were.
    passed: Vec<i32>,
    /// See [`Chains::own_worths`].
    own: Vec<i32>,
}

/// Logarithms (base 2) of summed weights.
struct Sums {
    /// Per candidate: of all beginnings up to and with it.
    below: Vec<f64>,
    /// Per candidate: of all continuations above it.
    above: Vec<f64>,
    /// Of all chains.
    all: f64,
}

impl Chains<'_> {
    fn likely(&self) -> Vec<Step> {
        let sums = self.sums();
        let probability = |part: f64, whole: f64| (part - whole).exp2();
        let mut steps = Vec::new();
        let mut before: Option<usize> = None;
        for (index, candidate) in self.candidates.iter().enumerate() {
            let (Some(below), Some(above)) = (sums.below.get(index), sums.above.get(index)) else { break };
            let through = below + above;
            if probability(through, sums.all) <= 0.5 {
                continue;
            }
            let callee = before.and_then(|index| self.candidates.get(index)).map_or(self.from, |c| &c.then);
            let start = before.and_then(|index| sums.below.get(index)).copied().unwrap_or(0.0);
            let direct = start + bits(self.pair(callee, candidate) + self.own(index)) + above;
            // Given that this one is live, is the one before it its callee?
            steps.push(step(callee, candidate, probability(direct, through) < 0.5));
            before = Some(index);
        }
        steps
    }

    /// Both passes. A frame of [`frame_size::LARGEST`] or more has one price whatever its size, so that such pairs
    /// need no look one by one: the work is the number of candidates times those within that distance.
    fn sums(&self) -> Sums {
        let count = self.candidates.len();
        let mut below = Vec::with_capacity(count);
        let mut far = Far { next: 0, sum: f64::NEG_INFINITY };
        for (index, candidate) in self.candidates.iter().enumerate() {
            let mut sum = if candidate.slot >= self.from.lowest_slot() {
                bits(self.pair(self.from, candidate))
            } else {
                f64::NEG_INFINITY
            };
            while let Some(callee) = self.candidates.get(far.next).filter(|callee| is_far(callee, candidate))
            {
                if !callee.leaves {
                    far.sum = add(far.sum, below.get(far.next).copied().unwrap_or(f64::NEG_INFINITY));
                }
                far.next += 1;
            }
            sum = add(sum, far.sum - bits(frame_size::HUGE_COST));
            let near = self.candidates.iter().zip(&below).take(index).skip(far.next);
            for (callee, weight) in near.filter(|(callee, _)| follows(candidate, callee)) {
                sum = add(sum, weight + bits(self.pair(&callee.then, candidate)));
            }
            below.push(sum + bits(self.own(index)));
        }
        let above = self.sums_above();
        let whole =
            self.candidates.iter().enumerate().filter(|(_, c)| c.slot >= self.from.lowest_slot()).fold(
                bits(self.end(self.from, false)),
                |sum, (index, candidate)| {
                    let rest = above.get(index).copied().unwrap_or(f64::NEG_INFINITY);
                    add(sum, bits(self.pair(self.from, candidate) + self.own(index)) + rest)
                },
            );
        Sums { below, above, all: whole }
    }

    fn sums_above(&self) -> Vec<f64> {
        let ends = self.candidates.iter().map(|c| bits(self.end(&c.then, c.leaves)));
        let mut above: Vec<f64> = ends.collect();
        // Callers that are far above the candidate at hand; going down, more and more are.
        let mut far = Far { next: self.candidates.len(), sum: f64::NEG_INFINITY };
        for (index, callee) in self.candidates.iter().enumerate().rev() {
            if callee.leaves {
                continue;
            }
            let mut sum = above.get(index).copied().unwrap_or(f64::NEG_INFINITY);
            while let Some(last) = far.next.checked_sub(1).filter(|last| *last > index) {
                let (Some(caller), Some(weight)) = (self.candidates.get(last), above.get(last)) else {
                    break;
                };
                if !is_far(callee, caller) {
                    break;
                }
                far.sum = add(far.sum, weight + bits(self.own(last)));
                far.next = last;
            }
            sum = add(sum, far.sum - bits(frame_size::HUGE_COST));
            let near = self.candidates.iter().zip(&above).enumerate().take(far.next).skip(index + 1);
            for (at, (caller, weight)) in near.filter(|(_, (caller, _))| follows(caller, callee)) {
                sum = add(sum, weight + bits(self.pair(&callee.then, caller) + self.own(at)));
            }
            if let Some(slot) = above.get_mut(index) {
                *slot = sum;
            }
        }
        above
    }

    /// What a candidate is worth on the chain, wherever the chain came from: itself, and that what lies between it
    /// and the stack pointer that follows (its trap frame) is not passed over.
    fn own_worths(&self) -> Vec<i32> {
        let passed = self.candidates.iter().zip(&self.passed);
        passed.map(|(c, before)| c.score + PASSED_OVER * (before - self.passed_below(&c.then))).collect()
    }

    fn own(&self, index: usize) -> i32 {
        self.own.get(index).copied().unwrap_or(0)
    }

    /// What it is worth that the chain ends with `last`.
    fn end(&self, last: &Standing, leaves: bool) -> i32 {
        let below = self.passed_below(last);
        // What is above a switch to another stack is not passed over: it is not looked at.
        let above = if leaves { 0 } else { self.passed_at(self.candidates.len()) - below };
        PASSED_OVER * below + ABOVE_FIRST_FRAME * above
    }

    fn passed_at(&self, index: usize) -> i32 {
        self.passed.get(index).copied().unwrap_or(0)
    }

    fn passed_below(&self, standing: &Standing) -> i32 {
        self.passed_at(self.candidates.partition_point(|c| c.slot < standing.stack_pointer))
    }

    /// What it is worth that `caller` is the return address of `callee`.
    fn pair(&self, callee: &Standing, caller: &Candidate) -> i32 {
        let call = match fit(callee, caller) {
            Fit::Callee => CALLS_CALLEE,
            Fit::NearCallee => CALLS_NEAR_CALLEE,
            Fit::Elsewhere if caller.checks_cookie => CHECKS_COOKIE,
            Fit::Elsewhere => CALLS_OTHER,
            Fit::Open => 0,
        };
        if caller.slot == callee.stack_pointer {
            match callee.frameless {
                Frameless::Surely => return call + CALLEE_AT_ENTRY,
                Frameless::Likely => return call + CALLEE_WITHOUT_FRAME,
                Frameless::No => {}
            }
        }
        let call = call + kinship(callee.family, caller.family);
        let size = frame_bytes(callee, caller) - self.context_bytes(callee.stack_pointer, caller.slot);
        call - frame_size::cost(size.max(frame_size::SMALLEST), callee.offset, callee.length)
    }

    /// A frame that holds a `CONTEXT` is that much larger than the function would need otherwise.
    fn context_bytes(&self, low: VirtAddr, high: VirtAddr) -> u64 {
        let first = self.contexts.partition_point(|context| *context < low);
        let holds = self.contexts.get(first).is_some_and(|context| context.plus(CONTEXT_SIZE) <= high);
        if holds { CONTEXT_SIZE } else { 0 }
    }
}

/// Candidates that are further than the largest frame from the one at hand, and the sum of their weights.
struct Far {
    next: usize,
    sum: f64,
}

fn kinship(callee: Option<u16>, caller: Option<u16>) -> i32 {
    match callee.zip(caller) {
        Some((callee, caller)) if callee == caller => SAME_FAMILY,
        Some(_) => OTHER_FAMILY,
        None => 0,
    }
}

/// How a call fits the frame above it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Callee,
    NearCallee,
    Elsewhere,
    Open,
}

fn fit(callee: &Standing, caller: &Candidate) -> Fit {
    let CallSite::Direct(target) = caller.call else { return Fit::Open };
    match callee.start {
        Some(start) if start == target => Fit::Callee,
        None if callee.instruction.offset_from(target).is_some_and(|d| d < LONGEST_FUNCTION) => {
            Fit::NearCallee
        }
        _ if caller.calls_jump => Fit::Open,
        _ => Fit::Elsewhere,
    }
}

fn step(callee: &Standing, caller: &Candidate, gap_before: bool) -> Step {
    Step {
        candidate: caller.clone(),
        calls_callee: fit(callee, caller) == Fit::Callee,
        callee_at_entry: callee.frameless == Frameless::Surely && caller.slot == callee.stack_pointer,
        gap_before,
    }
}

/// Whether `caller` can be the return address of what `callee` leads to.
fn follows(caller: &Candidate, callee: &Candidate) -> bool {
    !callee.leaves && caller.slot >= callee.then.lowest_slot()
}

fn is_far(callee: &Candidate, caller: &Candidate) -> bool {
    caller.slot.offset_from(callee.slot).is_some_and(|distance| distance >= frame_size::LARGEST)
}

/// From the stack pointer while the callee runs up to and including its return address.
fn frame_bytes(callee: &Standing, caller: &Candidate) -> u64 {
    caller.slot.offset_from(callee.stack_pointer).map_or(0, |bytes| bytes + 8)
}

fn bits(tenths: i32) -> f64 {
    f64::from(tenths) / 10.0
}

/// The logarithm of the sum, of two logarithms.
fn add(a: f64, b: f64) -> f64 {
    let (small, large) = if a < b { (a, b) } else { (b, a) };
    if small == f64::NEG_INFINITY { large } else { large + (small - large).exp2().ln_1p() * LOG2_E }
}
