//! A witness and its verdict, written down as a report.

use crate::report::{
    ArgumentReport, BucketReport, CrossingReport, DumpReport, EvidenceReport, ExceptionReport, FrameReport,
    HypothesisReport, InputReport, ModuleReport, NextStepReport, ProblemReport, RefusedReport,
    SCHEMA_VERSION, SecondaryDataReport, StackReport, StopReport, SuspectReport, SystemReport,
    UnloadedModuleReport, VerdictReport,
};
use stopcode_analysis::{Basis, Evidence, Hypothesis, NextStep, Verdict, Witness};
use stopcode_base::{Problem, Severity, VirtAddr, visible};
use stopcode_dump::{Blob, Dump};
use stopcode_kernel::{Crossing, Frame, Module, Stack, StackKind, StopCode, System, area_words};
use stopcode_knowledge as knowledge;

/// `0x` and lower-case digits, without padding.
pub(crate) fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn address(value: VirtAddr) -> String {
    hex(value.0)
}

/// The report on an input that was read.
pub(crate) fn dump_report(
    input: InputReport,
    witness: &dyn Witness,
    verdict: &Verdict,
    problems: &[Problem],
) -> DumpReport {
    DumpReport {
        schema_version: SCHEMA_VERSION,
        input,
        stop: witness.stop().map(|code| stop(&code)),
        system: Some(system(witness)),
        exception: exception(witness),
        stacks: witness.stacks().iter().map(stack).collect(),
        modules: witness.modules().iter().map(module).collect(),
        unloaded_modules: witness
            .unloaded()
            .iter()
            .map(|unloaded| UnloadedModuleReport {
                name: visible(&unloaded.name),
                base: address(unloaded.start),
                size: unloaded.end.0.saturating_sub(unloaded.start.0),
            })
            .collect(),
        secondary_data: Vec::new(),
        verdict: Some(verdict_report(verdict)),
        problems: problems.iter().map(problem).collect(),
    }
}

/// The report on an input that could not be read.
pub(crate) fn unreadable(input: InputReport, problems: &[Problem]) -> DumpReport {
    DumpReport {
        schema_version: SCHEMA_VERSION,
        input,
        stop: None,
        system: None,
        exception: None,
        stacks: Vec::new(),
        modules: Vec::new(),
        unloaded_modules: Vec::new(),
        secondary_data: Vec::new(),
        verdict: None,
        problems: problems.iter().map(problem).collect(),
    }
}

pub(crate) fn stop(stop: &StopCode) -> StopReport {
    let base = knowledge::base_code(stop.code).base;
    let known = knowledge::bug_check(base);
    let meaning = |index: usize| {
        let known = known.as_ref()?;
        let meaning = known.argument(index + 1, &stop.arguments)?;
        Some(match meaning.value_text {
            Some(value) if meaning.text.is_empty() => value,
            Some(value) => format!("{}: {value}", meaning.text),
            None => meaning.text,
        })
        .filter(|text| !text.is_empty())
    };
    StopReport {
        code: hex(stop.code.into()),
        base_code: hex(base.into()),
        name: known.as_ref().map(|known| known.name.clone()),
        arguments: stop
            .arguments
            .iter()
            .enumerate()
            .map(|(index, value)| ArgumentReport { value: hex(*value), meaning: meaning(index) })
            .collect(),
    }
}

fn system(witness: &dyn Witness) -> SystemReport {
    let system: &System = witness.system();
    let version_source = match &system.os_version {
        stopcode_base::Fact::Known { source, .. } => source.as_str().to_owned(),
        stopcode_base::Fact::Missing { reason } => reason.to_string(),
    };
    let shown = |text: &Option<String>| text.as_deref().map(visible);
    SystemReport {
        os_version: system.os_version.value().cloned(),
        product: system.product.clone(),
        os_version_source: Some(version_source).filter(|source| !source.is_empty()),
        fingerprint: system.fingerprint.clone(),
        kernel_key: kernel_key(witness),
        build: system.build,
        architecture: system.arch.map(|arch| arch.to_string()),
        processors: system.processors,
        uptime_seconds: system.uptime_seconds.get().map(|seconds| (seconds * 1000.0).round() / 1000.0),
        crash_time: system.crash_time.get().map(|time| time.to_string()),
        processor_name: shown(&system.processor_name),
        microcode: system.microcode.map(hex),
        machine: shown(&system.machine),
        firmware: shown(&system.firmware),
        process: witness.thread().process.value().map(|name| visible(name)),
        verifier_flags: witness.verifier().value().map(|verifier| hex(verifier.flags.into())),
    }
}

/// `0D8333E61046000`: eight digits of TimeDateStamp, SizeOfImage without padding.
fn kernel_key(witness: &dyn Witness) -> Option<String> {
    let kernel = witness.modules().iter().find(|module| module.display == "nt")?;
    Some(format!("{:08X}{:x}", kernel.time_date_stamp?, kernel.size))
}

/// The blobs of a dump's secondary data, by name where they have one.
pub(crate) fn secondary_data(dump: &Dump) -> Vec<SecondaryDataReport> {
    let blob = |blob: &Blob| SecondaryDataReport {
        guid: blob.guid.to_string(),
        owner: blob.name.map(str::to_owned),
        size: blob.data().len() as u64,
    };
    dump.secondary().iter().map(blob).collect()
}

fn exception(witness: &dyn Witness) -> Option<ExceptionReport> {
    let exception = witness.exception();
    let exception = exception.value()?;
    Some(ExceptionReport {
        code: hex(exception.code.into()),
        name: knowledge::ntstatus(exception.code).map(|status| status.name.to_owned()),
        address: address(exception.address),
        symbol: witness.place(exception.address).label().map(|label| visible(&label)),
    })
}

fn stack(stack: &Stack) -> StackReport {
    let kind = match stack.kind {
        StackKind::Exception => "exception",
        StackKind::BugCheck => "bugcheck",
        StackKind::Processor => "processor",
        StackKind::Thread => "thread",
    };
    StackReport {
        kind: kind.to_owned(),
        thread: stack.thread.map(address),
        processor: stack.processor,
        frames: stack.frames.iter().map(frame).collect(),
        ended: stack.ended.clone(),
        refused: stack
            .refused
            .iter()
            .map(|(frame, why)| RefusedReport { frame: *frame, why: why.clone() })
            .collect(),
    }
}

fn crossing(crossing: &Crossing) -> CrossingReport {
    let (from, to) = crossing.switch().unzip();
    CrossingReport {
        turn: crossing.turn.id().to_owned(),
        text: crossing.turn.to_string(),
        from: from.map(area_words),
        to: to.map(area_words),
        trap_frame: crossing.trap_frame.map(address),
    }
}

fn frame(frame: &Frame) -> FrameReport {
    let shown = |text: &Option<String>| text.as_deref().map(visible);
    FrameReport {
        instruction: (frame.instruction.0 != 0).then(|| address(frame.instruction)),
        stack_pointer: (frame.stack_pointer.0 != 0).then(|| address(frame.stack_pointer)),
        module: shown(&frame.place.image),
        display: shown(&frame.place.display),
        symbol: shown(&frame.place.symbol),
        offset: frame.place.image.is_some().then_some(frame.place.offset),
        trust: frame.trust.id().to_owned(),
        gap_before: frame.gap_before,
        crossing: frame.crossing.as_ref().map(crossing),
        uncertain: frame.place.uncertain,
        unloaded: frame.place.unloaded,
        note: stopcode_analysis::frame_note(frame),
    }
}

fn module(module: &Module) -> ModuleReport {
    let known = knowledge::driver(&module.image);
    ModuleReport {
        name: visible(&module.image),
        base: address(module.base),
        size: module.size,
        path: (!module.path.is_empty()).then(|| visible(&module.path)),
        link_date: module.link_date.get().map(|date| date.to_string()),
        link_date_missing: module.link_date.reason().map(str::to_owned),
        version: module.version.clone(),
        vendor: known.as_ref().map(|known| known.vendor.clone()),
        role: known.map(|known| known.role().as_str().to_owned()),
    }
}

fn problem(problem: &Problem) -> ProblemReport {
    let severity = match problem.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    ProblemReport {
        severity: severity.to_owned(),
        what: visible(&problem.what),
        place: visible(&problem.place),
        hint: (!problem.hint.is_empty()).then(|| problem.hint.clone()),
    }
}

fn verdict_report(verdict: &Verdict) -> VerdictReport {
    VerdictReport {
        summary: visible(&verdict.summary),
        story: verdict.story.iter().map(|sentence| visible(sentence)).collect(),
        bucket: BucketReport {
            id: verdict.bucket.id.clone(),
            version: verdict.bucket.version,
            text: visible(&verdict.bucket.text),
        },
        hypotheses: verdict.hypotheses.iter().map(hypothesis).collect(),
        next_steps: verdict.next_steps.iter().map(next_step).collect(),
        missing: verdict.missing.iter().map(|missing| visible(missing)).collect(),
    }
}

pub(crate) fn hypothesis(hypothesis: &Hypothesis) -> HypothesisReport {
    HypothesisReport {
        class: hypothesis.class.id().to_owned(),
        suspect: hypothesis.suspect.as_ref().map(|suspect| SuspectReport {
            kind: suspect.kind.id().to_owned(),
            module: suspect.module.as_deref().map(visible),
            name: visible(&suspect.name),
        }),
        confidence: hypothesis.confidence,
        supports: hypothesis.supports.iter().map(evidence).collect(),
        contradicts: hypothesis.contradicts.iter().map(evidence).collect(),
    }
}

fn evidence(evidence: &Evidence) -> EvidenceReport {
    let basis = match evidence.basis {
        Basis::Arguments => "arguments",
        Basis::Context => "context",
        Basis::CodeBytes => "code_bytes",
        Basis::Stack => "stack",
        Basis::Modules => "modules",
        Basis::Memory => "memory",
        Basis::Environment => "environment",
        Basis::Verifier => "verifier",
        Basis::Series => "series",
        Basis::Knowledge => "knowledge",
    };
    EvidenceReport {
        text: visible(&evidence.text),
        command: evidence.command.as_deref().map(visible),
        address: evidence.address.map(address),
        weight: evidence.weight,
        basis: basis.to_owned(),
    }
}

pub(crate) fn next_step(step: &NextStep) -> NextStepReport {
    NextStepReport { text: visible(&step.text), reason: step.reason.clone(), undo: step.undo.clone() }
}
