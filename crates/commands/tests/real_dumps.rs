//! Every command on every dump: an answer, or the reason why there is none; never a failure, never long.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{real_dumps, samples, session_with, shared};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stopcode_commands::{Answer, Session, Status, commands, run, run_one};

/// A command takes no longer than this, even unoptimized and beside other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lines for every command: without arguments where it needs none, its own examples, and what a reader of the dump would ask.
fn questions() -> Vec<String> {
    let bare = commands().filter(|command| command.parameters.iter().all(|parameter| !parameter.required));
    let bare = bare.filter(|command| command.name != "q").map(|command| command.name.to_owned());
    let examples = commands().flat_map(|command| command.examples.iter().map(|(line, _)| (*line).to_owned()));
    // Not every machine has a processor 2 or 3.
    let examples = examples.filter(|line| !line.starts_with("~3") && *line != "!pcr 2");
    let asked = [
        "? poi(@$sp) + 8",
        "? @$thread; ? @$proc; ? @$ra; ? @$retreg; ? $bug_param1",
        "r $ip; r $t0 = @$sp; ? $t0",
        "kvn; kf; kc; kp 3; k -a",
        "~0s; k; .cxr",
        ".frame /r 0; .frame /r 1",
        "~*k 2; ~*r $ip; k = @$csp @$ip; k = 0 @$csp @$ip 3; kn L2; dpp @$csp L3; r cr3, idtr; x /n nt!Ke*",
        "? @$teb; ? @$peb; ? @$exentry; ? @$tid; ? @$tpid; .process /p @$proc; .thread /p @$thread; .thread",
        "u @$ip L20; ub @$ip L20; uf @$ip",
        "dps @$sp @$sp+200; db @$sp L?100; dc @$ip L4; dyb @$ip L1; dds @$sp L3; dpu @$sp L3",
        "dq 0; db 7fff0000 L10; du 0; da fffff780`00000000 L20",
        "ln @$ip; x nt!*Bug*; lmv; lm t n; lmDvmnt; u L5; ub L3; db L8; lm a @$ip; !lmi nt",
        "dt nt!_KTHREAD @$thread; dt nt!_K*; dt _EPROCESS @$proc ImageFileName",
        "s -d @$sp L100 0; s -u @$sp L100 \"a\"",
        ".exr -1; .exr @$sp; .trap @$sp; .cxr @$sp; .cxr 0",
        ".thread @$thread; .process @$proc; .thread 0",
        "!irp @$sp; !chkimg nt; !chkimg -v -d -lo 3 !nt; !error c0000005",
    ];
    bare.chain(examples).chain(asked.map(str::to_owned)).collect()
}

/// Asks everything; what is wrong with the answers.
fn faults(session: &mut Session, name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for line in questions() {
        let start = Instant::now();
        let answers = run(session, &line);
        if start.elapsed() > PATIENCE {
            faults.push(format!("{name}: {line} took {:?}", start.elapsed()));
        }
        for answer in answers {
            faults.extend(fault(&answer).map(|fault| format!("{name}: {line}: {}: {fault}", answer.command)));
        }
    }
    faults
}

fn fault(answer: &Answer) -> Option<String> {
    let reason = answer.reason.as_deref().unwrap_or_default();
    if answer.status == Status::Failed {
        return Some(format!("failed: {reason}"));
    }
    if answer.status == Status::Unknown && reason.len() < 10 {
        return Some("unknown, without a reason".to_owned());
    }
    let shown = format!("{reason}{}", answer.text);
    shown.chars().any(|c| c.is_control() && c != '\n').then(|| "a control character".to_owned())
}

#[test]
fn no_command_fails_on_any_dump() {
    let mut faults_found = Vec::new();
    for path in samples().into_iter().chain(real_dumps("no_command_fails_on_any_dump")) {
        let mut session = session_with(&path, None).unwrap();
        faults_found.extend(faults(&mut session, &name(&path)));
    }
    assert!(faults_found.is_empty(), "{}", faults_found.join("\n"));
}

#[test]
fn no_command_fails_with_symbols() {
    let Some(data) = shared("no_command_fails_with_symbols") else { return };
    let path = data.join("dumps/triage_x64.dmp");
    let symbols: PathBuf = data.join("isf");
    let mut session = session_with(&path, Some(&symbols)).unwrap();
    assert_eq!(faults(&mut session, &name(&path)), [""; 0]);
    let answer = run_one(&mut session, "ln nt!KeBugCheckEx");
    assert!(answer.text.contains("nt!KeBugCheckEx"), "{answer:?}");
}

/// What the verdict cites can be run as it stands.
#[test]
fn evidence_can_be_repeated() {
    for path in samples().into_iter().chain(real_dumps("evidence_can_be_repeated")) {
        let mut session = session_with(&path, None).unwrap();
        let verdict = session.verdict();
        let evidence = verdict.hypotheses.iter().flat_map(|h| h.supports.iter().chain(&h.contradicts));
        let cited: Vec<String> = evidence.filter_map(|item| item.command.clone()).collect();
        assert!(!cited.is_empty(), "{}", name(&path));
        for line in cited {
            run(&mut session, ".cxr");
            for answer in run(&mut session, &line) {
                assert_eq!(fault(&answer), None, "{}: {line}: {answer:?}", name(&path));
            }
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[test]
fn every_process_that_the_list_names_is_shown() {
    let mut missing = 0;
    for path in samples().into_iter().chain(real_dumps("every_process_that_the_list_names_is_shown")) {
        let mut session = session_with(&path, None).unwrap();
        let answer = run(&mut session, "!process 0 0").remove(0);
        let Some(last) = answer.text.lines().rfind(|line| line.contains(" process")) else { continue };
        let shown = answer.text.lines().filter(|line| line.starts_with("PROCESS ")).count();
        assert!(last.starts_with(&format!("{shown} process")), "{}: {}", name(&path), answer.text);
        missing += answer.text.matches("    unknown: ").count();
    }
    let line = format!("{missing} processes are named that their dumps lack\n");
    std::io::Write::write_all(&mut std::io::stderr().lock(), line.as_bytes()).unwrap();
}
