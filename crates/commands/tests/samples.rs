//! What a reader sees of the samples, command by command.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{sample, session};
use std::sync::atomic::Ordering;
use stopcode_commands::{Status, complete, run, run_one};

/// The commands of lines and what they answer, as at a prompt.
fn shown(name: &str, lines: &[&str]) -> String {
    let mut session = session(&sample(name));
    let mut text = String::new();
    for line in lines {
        for answer in run(&mut session, line) {
            text.push_str(&format!("> {}\n{}", answer.command, answer.text));
            if let Some(reason) = answer.reason {
                text.push_str(&format!("({:?}: {reason})\n", answer.status));
            }
        }
    }
    text
}

#[test]
fn the_posts_crash() {
    let lines = [
        ".bugcheck; .time",
        "r; kb 3; kvn 4; kf 5",
        ".frame 1",
        ".trap fffff880`009b9f30",
        "k 3; ub; u . L1",
        ".cxr",
        "~; ~3k; ~3s; r $ip",
        ".thread; .process",
    ];
    insta::assert_snapshot!(shown("seed-double-fault", &lines));
}

#[test]
fn memory_in_every_shape() {
    let lines = [
        "db @$sp L18; dw @$sp L3; dd @$sp L3; dq @$sp L3; dc @$sp L3; dyb @$sp L5",
        "dps @$sp L3; dqs; dds @$sp L2",
        "dq @$sp @$sp+8; d",
        "dq fffff880`03dccff0 L4; dq 0 L2",
        "da @$sp; dpu @$sp L2",
        "s -q @$sp L40 fffff800`032aa875; s -d 0 L10 1",
    ];
    insta::assert_snapshot!(shown("seed-double-fault", &lines));
}

#[test]
fn modules_and_values() {
    let lines = [
        "lm m k*; lmvm iaStor; lm a fffff880`018443f5; lm t m msahci; lm1m f*",
        "!lmi iaStor; ln fffff880`018443f5; x nt!Ke*; dt nt!_KTHREAD @$thread StackLimit",
        "? 10; n 10; ? 10; n 16; ? poi(@$sp)+1; .formats 4f298f4c; r $t1 = 5; ? $t1 * 2",
        "? nt!PsLoadedModuleList - nt; ? $bug_param1; ? 1/0; ? (1; ? foo!bar",
        "!error c0000005; !error 5; !error 103 1; !error 80070002; !error 12345678; .exr -1; .sympath; frobnicate; .help n",
    ];
    insta::assert_snapshot!(shown("driver-null-write", &lines));
}

#[test]
fn lines_are_completed() {
    let session = session(&sample("seed-double-fault"));
    let completed = |line: &str| complete(&session, line);
    assert_eq!(completed(".bug"), (0, vec![".bugcheck".to_owned()]));
    assert_eq!(completed("k; .ecx"), (3, vec![".ecxr".to_owned()]));
    assert_eq!(completed("u ias"), (2, vec!["iaStor!".to_owned()]));
    assert_eq!(completed("!lmi cla"), (5, vec!["CLASSPNP".to_owned()]));
    assert_eq!(completed("? poi(volm"), (6, vec!["volmgr!".to_owned(), "volmgrx!".to_owned()]));
    assert_eq!(completed("dt _KTHR"), (3, vec!["nt!_KTHREAD".to_owned()]));
    assert_eq!(completed(".help !an"), (6, vec!["!analyze".to_owned()]));
    assert_eq!(completed("frobnicate x").1, [""; 0]);
}

#[test]
fn a_command_that_is_to_end_ends() {
    let mut session = session(&sample("seed-double-fault"));
    session.cancel_flag().store(true, Ordering::Relaxed);
    let answer = run_one(&mut session, "s -b 0 L?ffffffffffff 1");
    assert_eq!((answer.status, answer.reason.as_deref()), (Status::Failed, Some("interrupted")));
    session.resume();
    assert_eq!(run_one(&mut session, "k").status, Status::Answer);
}
