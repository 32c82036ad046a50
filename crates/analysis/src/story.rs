//! What was going on, in two or three sentences, and what each frame does in a few words: from what is known of the
//! functions and drivers on the stack. Facts of the stack, never a judgement.

use crate::facts::{Facts, Standing, standing};
use stopcode_kernel::{Frame, Stack};
use stopcode_knowledge::{self as knowledge, FunctionRole};

/// Names of drivers in a sentence.
const NAMED: usize = 5;

/// What a frame's function does, or what its driver is; `None` where neither is known for certain.
pub fn frame_note(frame: &Frame) -> Option<String> {
    let place = &frame.place;
    if let Some(known) = function(frame) {
        return Some(known.what);
    }
    let image = place.image.as_deref()?;
    if standing(image) == Standing::Core {
        return None;
    }
    let known = knowledge::driver(image)?;
    Some(match known.product.as_str() {
        "" => format!("Driver by {}.", known.vendor),
        product if product.contains(known.vendor.as_str()) => format!("{product}."),
        product => format!("{product}, by {}.", known.vendor),
    })
}

/// What is known of the function a frame stands in: only where the name is its own and was confirmed.
fn function(frame: &Frame) -> Option<knowledge::Function> {
    let symbol = frame.place.symbol.as_deref().filter(|_| !frame.place.uncertain)?;
    let known = knowledge::function(frame.place.display.as_deref()?, symbol)?;
    known.verified.is_some().then_some(known)
}

/// The sentences: how it began, which way it went, what came up.
pub(crate) fn story(facts: &Facts<'_>) -> Vec<String> {
    let Some(stack) = facts.judged().filter(|stack| stack.frames.len() > 1) else { return Vec::new() };
    let mut sentences: Vec<String> =
        [beginning(facts, stack), way(facts, stack), end(stack)].into_iter().flatten().collect();
    sentences.extend(crate::code::story(facts));
    sentences
}

/// What the thread was doing on the whole, by its outermost known frames.
fn beginning(facts: &Facts<'_>, stack: &Stack) -> Option<String> {
    let roles: Vec<(FunctionRole, &str)> = stack
        .frames
        .iter()
        .rev()
        .filter_map(|frame| Some((function(frame)?.role, frame.place.symbol.as_deref()?)))
        .collect();
    let process = facts.witness.thread().process.value().map(|name| format!(" of {name}"));
    let process = process.unwrap_or_default();
    let has = |name: &str| roles.iter().any(|(_, symbol)| symbol.starts_with(name));
    let first = roles.first()?;
    let what = match first {
        _ if has("KiIdleLoop") && roles.iter().any(|(role, _)| *role == FunctionRole::Dpc) => {
            "An otherwise idle processor was running deferred calls (DPCs)".to_owned()
        }
        _ if has("KiIdleLoop") => "The processor was idle".to_owned(),
        (_, symbol)
            if symbol.starts_with("KiStartSystemThread") || symbol.starts_with("PspSystemThreadStartup") =>
        {
            if has("ExpWorkerThread") {
                "A worker thread of the kernel was running a queued work item".to_owned()
            } else {
                "A thread of the kernel itself was running".to_owned()
            }
        }
        (FunctionRole::Syscall, _) => format!("A thread{process} had called into Windows"),
        _ => return None,
    };
    Some(format!("{what}."))
}

/// The drivers it went through, from the caller inwards.
fn way(facts: &Facts<'_>, stack: &Stack) -> Option<String> {
    let mut images: Vec<&str> = Vec::new();
    let standees: Vec<_> = facts.standees(stack).filter(|s| s.standing != Standing::Core).collect();
    for standee in standees.iter().rev() {
        let image = standee.frame.place.image.as_deref()?;
        if !images.contains(&image) {
            images.push(image);
        }
    }
    let left_out = images.len().saturating_sub(NAMED);
    let shown = images.get(left_out..)?;
    let more = if left_out > 0 { format!("{left_out} other drivers, then ") } else { String::new() };
    let sure = standees.iter().all(|standee| standee.frame.trust.is_high());
    let seems = if sure { "It went" } else { "It seems to have gone (frames found by search among them)" };
    match shown {
        [] => Some("Only the kernel itself stands on the stack.".to_owned()),
        [only] if left_out == 0 => Some(format!("{seems} through {only}.")),
        [others @ .., last] => Some(format!("{seems} through {more}{} and {last}.", others.join(", "))),
    }
}

/// What stopped it, by the innermost frames.
fn end(stack: &Stack) -> Option<String> {
    let inner = stack.frames.iter().take(8);
    let known: Vec<(&Frame, knowledge::Function)> =
        inner.filter_map(|frame| Some((frame, function(frame)?))).collect();
    let reports = |role: FunctionRole| matches!(role, FunctionRole::BugcheckPath | FunctionRole::TrapHandler);
    let trap = known.iter().rev().find(|(_, function)| function.role == FunctionRole::TrapHandler);
    if let Some((frame, _)) = trap {
        let label = frame.place.label()?;
        let at = stack.frames.iter().position(|other| std::ptr::eq(other, *frame))?;
        let interrupted = stack.frames.get(at + 1).and_then(|frame| frame.place.label())?;
        return Some(format!("There {interrupted} was interrupted by a fault, which {label} took."));
    }
    let (frame, function) = known.iter().find(|(_, function)| !reports(function.role))?;
    let what = function.what.trim_end_matches('.');
    Some(format!("It ended in {} ({}).", frame.place.label()?, lower(what)))
}

/// With a lower-case first letter, unless the word is a name.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn told(fake: &Fake) -> String {
        story(&Facts::new(fake)).join(" ")
    }

    #[test]
    fn a_stack_is_told_from_its_beginning() {
        let fake = Fake::new(0xd1, [0; 4]).stack(&[
            "nt!KeBugCheckEx",
            "nt!KiBugCheckDispatch",
            "nt!KiPageFault",
            "guilty.sys",
            "fltmgr.sys",
            "nt!IofCallDriver",
            "nt!KiSystemServiceCopyEnd",
        ]);
        let told = told(&fake);
        assert!(
            told.starts_with("A thread had called into Windows. It went through fltmgr.sys and guilty.sys."),
            "{told}"
        );
        assert!(told.contains("guilty+0x10 was interrupted by a fault"), "{told}");
    }

    #[test]
    fn idle_processors_and_bare_kernels_are_said_to_be_such() {
        let fake = Fake::new(0x101, [0; 4]).stack(&["nt!KeBugCheckEx", "nt!KiIdleLoop"]);
        assert!(told(&fake).starts_with("The processor was idle. Only the kernel"), "{}", told(&fake));
        assert!(told(&Fake::new(0x101, [0; 4])).is_empty());
    }
}
