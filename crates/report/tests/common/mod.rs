//! Reports to write: a full one after the published double fault that started the project, one of an input that
//! could not be read, and a series. Every string goes through `t`, so that a test can make all of them hostile.
#![allow(dead_code, reason = "each test file uses its own part of these")]

use stopcode_case::*;
use stopcode_report::{Format, Style, write};

/// What becomes of every string of a report.
pub(crate) type Text<'a> = &'a dyn Fn(&str) -> String;

pub(crate) fn plain(text: &str) -> String {
    text.to_owned()
}

pub(crate) fn written(report: &Report, format: Format, style: Style) -> String {
    let mut out = Vec::new();
    assert!(write(report, format, &style, &mut out).is_ok());
    String::from_utf8_lossy(&out).into_owned()
}

fn evidence(
    t: Text<'_>,
    text: &str,
    command: Option<&str>,
    address: Option<&str>,
    basis: &str,
) -> EvidenceReport {
    EvidenceReport {
        text: t(text),
        command: command.map(t),
        address: address.map(str::to_owned),
        weight: 1.5,
        basis: t(basis),
    }
}

fn argument(t: Text<'_>, value: &str, meaning: Option<&str>) -> ArgumentReport {
    ArgumentReport { value: value.to_owned(), meaning: meaning.map(t) }
}

fn frame(
    t: Text<'_>,
    sp: u64,
    ip: u64,
    module: &str,
    symbol: Option<&str>,
    offset: u64,
    trust: &str,
) -> FrameReport {
    let image =
        if module == "nt" { "ntoskrnl.exe".to_owned() } else { format!("{}.sys", module.to_lowercase()) };
    FrameReport {
        instruction: Some(format!("{ip:#x}")),
        stack_pointer: Some(format!("{sp:#x}")),
        module: Some(t(&image)),
        display: Some(t(module)),
        symbol: symbol.map(t),
        offset: Some(offset),
        trust: t(trust),
        gap_before: false,
        crossing: None,
        uncertain: false,
        unloaded: false,
        note: (symbol == Some("KiDoubleFaultAbort")).then(|| t("Trap entry for double faults.")),
    }
}

fn frames(t: Text<'_>) -> Vec<FrameReport> {
    let mut frames = vec![
        frame(t, 0xfffff880009b9de8, 0xfffff800032951c0, "nt", Some("KeBugCheckEx"), 0, "context"),
        frame(t, 0xfffff880009b9df0, 0xfffff8000328b169, "nt", Some("KiBugCheckDispatch"), 0x69, "unwind"),
        frame(t, 0xfffff880009b9f30, 0xfffff80003289632, "nt", Some("KiDoubleFaultAbort"), 0xb2, "unwind"),
        frame(
            t,
            0xfffff88003dccfd0,
            0xfffff800032aa875,
            "nt",
            Some("KiIpiSendRequest"),
            0x305,
            "machine_frame",
        ),
        frame(
            t,
            0xfffff88003dcd090,
            0xfffff800032909ba,
            "nt",
            Some("KeFlushMultipleRangeTb"),
            0x22a,
            "unwind",
        ),
        frame(
            t,
            0xfffff88003dcd460,
            0xfffff8000372f371,
            "nt",
            Some("MmVerifierTrimMemory"),
            0xf1,
            "scan_call",
        ),
        frame(t, 0xfffff88003dcd530, 0xfffff880018443f5, "iaStor", None, 0x253f5, "unwind"),
        frame(t, 0xfffff88003dcd560, 0xfffff880018222a2, "iaStor", None, 0x32a2, "scan"),
    ];
    frames[5].gap_before = true;
    frames[3].crossing = Some(CrossingReport {
        turn: t("double_fault"),
        text: t("double fault here"),
        from: Some(t("IST stack 1")),
        to: Some(t("thread stack")),
        trap_frame: Some("0xfffff880009b9f30".to_owned()),
    });
    frames.push(FrameReport {
        instruction: Some("0xfffffa800cd2b060".to_owned()),
        stack_pointer: None,
        module: None,
        display: None,
        symbol: None,
        offset: None,
        trust: t("scan"),
        gap_before: false,
        crossing: None,
        uncertain: false,
        unloaded: false,
        note: None,
    });
    frames
}

fn module(
    t: Text<'_>,
    name: &str,
    base: u64,
    date: Option<&str>,
    vendor: Option<&str>,
    role: Option<&str>,
) -> ModuleReport {
    ModuleReport {
        name: t(name),
        base: format!("{base:#x}"),
        size: 0x3a4000,
        path: Some(t(&format!("\\SystemRoot\\system32\\DRIVERS\\{name}"))),
        link_date: date.map(|date| format!("{date}T19:15:24Z")),
        link_date_missing: if date.is_none() { Some(t("the stamp is a hash of the build")) } else { None },
        version: None,
        vendor: vendor.map(t),
        role: role.map(t),
    }
}

fn modules(t: Text<'_>) -> Vec<ModuleReport> {
    vec![
        module(t, "ntoskrnl.exe", 0xfffff80003213000, Some("2014-03-04"), Some("Microsoft"), Some("os")),
        module(t, "klif.sys", 0xfffff880042e1000, Some("2013-08-13"), Some("Kaspersky"), Some("antivirus")),
        module(t, "iaStor.sys", 0xfffff8800181f000, Some("2012-02-01"), Some("Intel"), Some("storage")),
        module(t, "ndis.sys", 0xfffff88001a00000, Some("2012-08-22"), Some("Microsoft"), Some("network")),
        module(t, "oddity.sys", 0xfffff88005a00000, None, None, None),
    ]
}

fn hypotheses(t: Text<'_>) -> Vec<HypothesisReport> {
    let suspect = |kind: &str, module: Option<&str>, name: &str| {
        Some(SuspectReport { kind: kind.to_owned(), module: module.map(t), name: t(name) })
    };
    vec![
        HypothesisReport {
            class: "driver_bug".to_owned(),
            suspect: suspect("driver", Some("iastor.sys"), "iaStor.sys (Intel Rapid Storage Technology)"),
            confidence: 0.724,
            supports: vec![
                evidence(
                    t,
                    "iaStor.sys took a spin lock at the frame below Driver Verifier's check",
                    Some("k"),
                    Some("0xfffff880018443f5"),
                    "stack",
                ),
                evidence(
                    t,
                    "iaStor.sys was linked on 2012-02-01, 2 years before this crash",
                    Some("lmvm iaStor"),
                    None,
                    "modules",
                ),
            ],
            contradicts: vec![evidence(
                t,
                "the processor that faulted was inside nt, not inside iaStor.sys",
                None,
                Some("0xfffff800032aa875"),
                "context",
            )],
        },
        HypothesisReport {
            class: "kernel_stack_overflow".to_owned(),
            suspect: None,
            confidence: 0.18,
            supports: vec![evidence(
                t,
                "the stack pointer stood at the lowest address of its stack",
                Some("!thread"),
                Some("0xfffff88003dccfd0"),
                "context",
            )],
            contradicts: vec![],
        },
        HypothesisReport {
            class: "unknown".to_owned(),
            suspect: None,
            confidence: 0.0004,
            supports: vec![],
            contradicts: vec![],
        },
    ]
}

fn steps(t: Text<'_>) -> Vec<NextStepReport> {
    vec![
        NextStepReport {
            text: t(
                "Replace the Intel Rapid Storage driver by Windows' own AHCI driver, or by the newest one from the maker of the board.",
            ),
            reason: t("The driver is old and stands on the stack."),
            undo: Some(t(
                "Choose the previous driver in Device Manager: Properties, Driver, Roll Back Driver.",
            )),
        },
        NextStepReport {
            text: t("Leave Driver Verifier on until there is another dump."),
            reason: t("A second dump shows whether the same driver is there again."),
            undo: None,
        },
    ]
}

pub(crate) fn full_dump(t: Text<'_>) -> DumpReport {
    DumpReport {
        schema_version: SCHEMA_VERSION,
        input: InputReport { path: t("dumps/081314-01.dmp"), kind: t("triage64"), size: 291_192 },
        stop: Some(StopReport {
            code: "0x1000007f".to_owned(),
            base_code: "0x7f".to_owned(),
            name: Some(t("UNEXPECTED_KERNEL_MODE_TRAP")),
            arguments: vec![
                argument(t, "0x8", Some("EXCEPTION_DOUBLE_FAULT: a fault while another was being delivered")),
                argument(t, "0x80050033", Some("CR0")),
                argument(t, "0x406f8", Some("CR4")),
                argument(t, "0xfffff800032aa875", None),
            ],
        }),
        system: Some(SystemReport {
            os_version: Some(t("6.1.7601.18409")),
            product: Some(t("Windows 7 Service Pack 1")),
            os_version_source: Some(t("by the kernel's own stamp and size")),
            fingerprint: None,
            kernel_key: None,
            build: Some(7601),
            architecture: Some(t("x64")),
            processors: Some(8),
            uptime_seconds: Some(184_320.5),
            crash_time: Some(t("2014-08-13T09:41:07.5000000Z")),
            processor_name: Some(t("Intel(R) Core(TM) i7-2600K")),
            microcode: Some(t("0x28")),
            machine: None,
            firmware: None,
            process: Some(t("System")),
            verifier_flags: Some(t("0x9bb")),
        }),
        exception: Some(ExceptionReport {
            code: "0xc0000005".to_owned(),
            name: Some(t("STATUS_ACCESS_VIOLATION")),
            address: "0xfffff800032aa875".to_owned(),
            symbol: Some(t("nt!KiIpiSendRequest+0x305")),
        }),
        stacks: vec![
            StackReport {
                kind: "bugcheck".to_owned(),
                thread: Some("0xfffffa800cd2b060".to_owned()),
                processor: Some(4),
                frames: frames(t),
                ended: t("the minidump holds no more of this stack"),
                refused: vec![RefusedReport { frame: 4, why: t("the unwind data is missing: paged out") }],
            },
            StackReport {
                kind: "processor".to_owned(),
                thread: None,
                processor: Some(5),
                frames: frames(t).split_off(4),
                ended: t("top of the stack"),
                refused: Vec::new(),
            },
        ],
        modules: modules(t),
        unloaded_modules: vec![UnloadedModuleReport {
            name: t("crashdmp.sys"),
            base: "0xfffff88001c00000".to_owned(),
            size: 57_344,
        }],
        secondary_data: Vec::new(),
        verdict: Some(VerdictReport {
            summary: t(
                "Windows stopped because processor 4 faulted twice at once while it sent an interrupt to the other processors. Intel's storage driver iaStor.sys had asked for the lock that led there.",
            ),
            story: vec![
                t("A worker thread of the kernel was running a queued work item."),
                t("It went through iaStor.sys."),
            ],
            bucket: BucketReport {
                id: t("6f1d9a30c2b4e875"),
                version: 1,
                text: t("0x7f|8|iastor.sys+0x253f5"),
            },
            hypotheses: hypotheses(t),
            next_steps: steps(t),
            missing: vec![t("the stacks of the other processors: a minidump holds only one")],
        }),
        problems: vec![ProblemReport {
            severity: "warning".to_owned(),
            what: t("the list of unloaded drivers is cut"),
            place: t("triage header, offset 0x2078"),
            hint: None,
        }],
    }
}

pub(crate) fn unreadable_dump(t: Text<'_>, path: &str) -> DumpReport {
    DumpReport {
        schema_version: SCHEMA_VERSION,
        input: InputReport { path: t(path), kind: t("unreadable"), size: 0 },
        stop: None,
        system: None,
        exception: None,
        stacks: vec![],
        modules: vec![],
        unloaded_modules: vec![],
        secondary_data: Vec::new(),
        verdict: None,
        problems: vec![ProblemReport {
            severity: "error".to_owned(),
            what: t("the file is empty"),
            place: t("offset 0"),
            hint: Some(t("copy it again from C:\\Windows\\Minidump with an administrator's rights.")),
        }],
    }
}

pub(crate) fn full(t: Text<'_>) -> Report {
    Report::One(Box::new(full_dump(t)))
}

pub(crate) fn unreadable(t: Text<'_>) -> Report {
    Report::One(Box::new(unreadable_dump(t, "081414-01.dmp")))
}

pub(crate) fn series(t: Text<'_>) -> Report {
    let mut second = full_dump(t);
    second.input.path = t("dumps/081514-02.dmp");
    let dumps = vec![full_dump(t), unreadable_dump(t, "dumps/081414-01.dmp"), second];
    let members = vec![dumps[0].input.path.clone(), dumps[2].input.path.clone()];
    Report::Many(SeriesReport {
        schema_version: SCHEMA_VERSION,
        dumps,
        cases: vec![CaseReport {
            machine: MachineReport {
                name: t("Intel(R) Core(TM) i7-2600K, 8 processors"),
                grouped_by: vec![t("same processor"), t("same kernel base family")],
            },
            members,
            summary: t("Both dumps stop in the same place with the same driver below it."),
            hypotheses: hypotheses(t),
            next_steps: steps(t),
            driver_changes: changes(t),
        }],
    })
}

fn changes(t: Text<'_>) -> Vec<DriverChangeReport> {
    let change = |image: &str, change: &str, before: Option<&str>, after: Option<&str>| DriverChangeReport {
        image: t(image),
        change: change.to_owned(),
        before: t("dumps/081414-02.dmp"),
        after: t("dumps/081514-02.dmp"),
        link_date_before: before.map(t),
        link_date_after: after.map(t),
        loaded_in: 1,
        dumps: 2,
    };
    let (old, new) = (Some("2012-02-01T19:15:24Z"), Some("2014-08-14T00:00:00Z"));
    vec![
        change("iastor.sys", "changed", old, new),
        change("klif.sys", "came", None, new),
        change("a-very-long-name-of-a-driver.sys", "went", old, None),
        change("procmon24.sys", "at_times", None, None),
    ]
}
