//! `!analyze`: the stop code explained, and what the analysis concludes.

use crate::answer::Stop;
use crate::command::Command;
use crate::output::Output;
use crate::parameter::{Kind, Parameter};
use crate::session::Session;
use crate::show::hex;
use serde_json::{Value, json};
use stopcode_analysis::{Evidence, Hypothesis, Verdict, confidence_words};
use stopcode_kernel::StopCode;
use stopcode_knowledge::{base_code, bug_check};

pub(super) const ANALYZE: Command = Command {
    name: "!analyze",
    aliases: &[],
    letters: "",
    parameters: &[Parameter::switch("-v"), Parameter::optional("OPTIONS", Kind::Rest)],
    what: "the stop code, its arguments, and what the analysis concludes",
    details: "`-v` adds the stack and everything that was weighed. The causes are stopcode's own, with their probability; \
              `!why` shows what they rest on.",
    examples: &[("!analyze -v", "in full")],
    run: |session, arguments, output| {
        let full = arguments.switch("-v");
        let machine = session.machine();
        let stop = machine.stop();
        let known = explain(&stop, output)?;
        let verdict = session.verdict();
        output.line("")?;
        for paragraph in wrapped(&verdict.summary) {
            output.line(paragraph)?;
        }
        if full {
            output.line("")?;
            context(session, output)?;
            output.line("STACK_TEXT:")?;
            stack(session, output)?;
            output.line("")?;
        }
        causes(&verdict, full, output)?;
        if full {
            output.line("")?;
            output.line(format!("FAILURE_BUCKET_ID: {}", verdict.bucket.text))?;
        }
        Ok(json!({
            "code": hex(stop.code), "arguments": stop.arguments.map(hex), "name": known,
            "summary": verdict.summary, "bucket": {"id": verdict.bucket.id, "text": verdict.bucket.text},
            "hypotheses": verdict.hypotheses.iter().map(described).collect::<Vec<_>>(),
            "missing": verdict.missing,
        }))
    },
};

pub(super) const WHY: Command = Command {
    name: "!why",
    aliases: &[],
    letters: "",
    parameters: &[],
    what: "what the verdict rests on, and the command that shows each item",
    details: "`+` stands before what speaks for a cause, `-` before what speaks against it, strongest first.",
    examples: &[("!why", "run the commands in it to check every word")],
    run: |session, _, output| {
        let verdict = session.verdict();
        for hypothesis in &verdict.hypotheses {
            output.line(headline(hypothesis))?;
            let items = hypothesis.supports.iter().map(|item| ('+', item));
            for (sign, item) in items.chain(hypothesis.contradicts.iter().map(|item| ('-', item))) {
                evidence(sign, item, output)?;
            }
        }
        for missing in &verdict.missing {
            output.line(format!("missing: {missing}"))?;
        }
        Ok(json!({
            "hypotheses": verdict.hypotheses.iter().map(described).collect::<Vec<_>>(), "missing": verdict.missing,
        }))
    },
};

/// Name, meaning and arguments of a stop code, as WinDbg begins.
fn explain(stop: &StopCode, output: &mut Output) -> Result<Option<String>, Stop> {
    let known = bug_check(base_code(stop.code).base);
    let name = known.as_ref().map(|known| known.name.clone());
    output.line(format!("{} ({:x})", name.as_deref().unwrap_or("Unknown bugcheck code"), stop.code))?;
    if let Some(known) = &known {
        for line in wrapped(&known.summary) {
            output.line(line)?;
        }
    }
    output.line("Arguments:")?;
    let meanings = known.as_ref().map(|known| known.arguments(&stop.arguments));
    for (number, value) in stop.arguments.iter().enumerate() {
        let meaning = meanings.as_ref().and_then(|meanings| meanings.get(number));
        let words = meaning.map_or_else(String::new, |meaning| match &meaning.value_text {
            Some(value) if meaning.text.is_empty() => format!(", {value}"),
            Some(value) => format!(", {value} ({})", meaning.text),
            None if meaning.text.is_empty() => String::new(),
            None => format!(", {}", meaning.text),
        });
        output.line(format!("Arg{}: {}{words}", number + 1, output.word(*value)))?;
    }
    Ok(name)
}

fn context(session: &Session, output: &mut Output) -> Result<(), Stop> {
    let machine = session.machine();
    let Some(context) = machine.context().value() else { return Ok(()) };
    output.line(format!("CONTEXT: {} ({})", context.command, context.origin))?;
    let at = context.registers.instruction();
    let name = session.name(at).unwrap_or_default();
    output.line(format!("FAULTING_IP: {} {name}", output.at(at)))?;
    if let Some(process) = machine.thread().process.value() {
        output.line(format!("PROCESS_NAME: {process} (what ran at the time; context, not cause)"))?;
    }
    Ok(())
}

fn stack(session: &Session, output: &mut Output) -> Result<(), Stop> {
    let machine = session.machine();
    let Some(stack) = machine.stacks().first() else { return output.line("(no stack is in this dump)") };
    for (number, frame) in stack.frames.iter().enumerate() {
        if frame.gap_before {
            output.line("~~~~~ frames may be missing here ~~~~~")?;
        }
        let returns = super::shared::return_address(stack, number);
        let (returns, site) =
            (super::shared::known(output, returns), super::shared::call_site(output, frame));
        output.line(format!("{} {returns}     {site}", output.at(frame.stack_pointer)))?;
    }
    Ok(())
}

fn causes(verdict: &Verdict, full: bool, output: &mut Output) -> Result<(), Stop> {
    let shown = if full { verdict.hypotheses.len() } else { 1 };
    for hypothesis in verdict.hypotheses.iter().take(shown) {
        output.line(headline(hypothesis))?;
        if full {
            for item in &hypothesis.supports {
                output.line(format!("  + {}", item.text))?;
            }
            for item in &hypothesis.contradicts {
                output.line(format!("  - {}", item.text))?;
            }
        }
    }
    Ok(())
}

/// `Cause: kernel_stack_overflow, iaStor.sys: likely (72%)`.
fn headline(hypothesis: &Hypothesis) -> String {
    let suspect =
        hypothesis.suspect.as_ref().map_or_else(String::new, |suspect| format!(", {}", suspect.name));
    let percent = (hypothesis.confidence * 100.0).round();
    format!(
        "Cause: {}{suspect}: {} ({percent}%)",
        hypothesis.class.id(),
        confidence_words(hypothesis.confidence)
    )
}

fn evidence(sign: char, item: &Evidence, output: &mut Output) -> Result<(), Stop> {
    output.line(format!("  {sign} {}", item.text))?;
    match &item.command {
        Some(command) => output.line(format!("      {command}")),
        None => Ok(()),
    }
}

fn described(hypothesis: &Hypothesis) -> Value {
    let items = |items: &[Evidence]| -> Vec<Value> {
        let item =
            |item: &Evidence| json!({"text": item.text, "command": item.command, "weight": item.weight});
        items.iter().map(item).collect()
    };
    json!({
        "class": hypothesis.class.id(), "suspect": hypothesis.suspect.as_ref().map(|suspect| &suspect.name),
        "confidence": hypothesis.confidence, "supports": items(&hypothesis.supports),
        "contradicts": items(&hypothesis.contradicts),
    })
}

/// Lines of at most 80 columns.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = lines.last().is_some_and(|line| line.chars().count() + word.chars().count() < 80);
        match lines.last_mut() {
            Some(line) if fits || line.is_empty() => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
