//! The prompt as a user meets it at a terminal: history, completion, Ctrl-C, pages, colour, the end.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use common::sample;
use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};
use std::path::Path;
use std::process::Command;

/// More than any answer takes, in milliseconds.
const PATIENCE: u64 = 30_000;

/// A session at a terminal of its own; lines are kept in `home`.
fn prompt(home: &Path, environment: &[(&str, &str)]) -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stopcode"));
    command.arg("debug").arg("--symbols").arg(sample("symbols")).arg(sample("seed-double-fault-kernel.dmp"));
    command
        .env("XDG_STATE_HOME", home)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(environment.to_vec());
    let mut session = spawn_command(command, Some(PATIENCE)).unwrap();
    session.exp_string("4: kd> ").unwrap();
    session
}

/// What comes before `wanted`.
fn until(session: &mut PtySession, wanted: &str) -> String {
    session.exp_string(wanted).unwrap()
}

/// The session is over, and all was well.
fn ended_well(session: &PtySession) {
    assert!(matches!(session.process().wait(), Ok(WaitStatus::Exited(_, 0))));
}

fn send(session: &mut PtySession, keys: &str) {
    session.send(keys).unwrap();
    session.flush().unwrap();
}

#[test]
fn lines_are_answered_completed_and_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut session = prompt(home.path(), &[]);
    send(&mut session, ".bugcheck\r");
    until(&mut session, "Bugcheck code 0000007F");
    until(&mut session, "4: kd> ");
    // A command, a symbol, a module and a type, each the only one that begins so.
    for (start, whole) in [
        (".bu", ".bugcheck"),
        ("u nt!KeBug", "u nt!KeBugCheckEx"),
        ("lmvm iaS", "lmvm iaStor"),
        ("dt _KTHR", "dt nt!_KTHREAD"),
    ] {
        send(&mut session, &format!("{start}\t"));
        until(&mut session, whole);
        send(&mut session, "\u{3}");
        until(&mut session, "4: kd> ");
    }
    // The processor that is selected shows in the prompt.
    send(&mut session, "~2s\r");
    until(&mut session, "2: kd> ");
    // An empty line goes on where `u` ended.
    send(&mut session, "u nt!KeBugCheckEx L1\r");
    until(&mut session, "fffff800`0328bbc0 48894c2408");
    until(&mut session, "2: kd> ");
    send(&mut session, "\r");
    until(&mut session, "fffff800`0328bbc5");
    until(&mut session, "2: kd> ");
    send(&mut session, "q\r");
    session.exp_eof().unwrap();
    ended_well(&session);

    // The next session begins with the lines of the last: `q`, then `u`.
    let mut session = prompt(home.path(), &[]);
    send(&mut session, "\u{1b}[A\u{1b}[A");
    until(&mut session, "u nt!KeBugCheckEx L1");
    // The end of the input is the end of the session.
    send(&mut session, "\u{15}\u{4}");
    session.exp_eof().unwrap();
    ended_well(&session);
}

#[test]
fn ctrl_c_ends_a_long_command_and_not_the_session() {
    let home = tempfile::tempdir().unwrap();
    let mut session = prompt(home.path(), &[]);
    send(&mut session, "s -b 0 L?ffffffffffffffff 41 41 41 42\r");
    // The line is taken: from here on Ctrl-C is a signal.
    until(&mut session, "\u{1b}[?2004l");
    std::thread::sleep(std::time::Duration::from_millis(300));
    session.send_control('c').unwrap();
    until(&mut session, "error: interrupted");
    until(&mut session, "4: kd> ");
    send(&mut session, "unfinished\u{3}");
    until(&mut session, "4: kd> ");
    send(&mut session, "? 1+1\r");
    until(&mut session, "Evaluate expression: 2");
}

#[test]
fn long_answers_come_in_pages() {
    let home = tempfile::tempdir().unwrap();
    let mut session = prompt(home.path(), &[]);
    for end in ["q", "\u{3}"] {
        send(&mut session, "x nt!*; k\r");
        until(&mut session, "-- more");
        send(&mut session, " ");
        until(&mut session, "-- more");
        send(&mut session, end);
        let rest = until(&mut session, "4: kd> ");
        assert!(!rest.contains("Child-SP"), "{rest}");
    }
}

#[test]
fn colours_are_left_out_where_nobody_wants_them() {
    let home = tempfile::tempdir().unwrap();
    let red = "\u{1b}[31merror: ";
    let mut session = prompt(home.path(), &[]);
    send(&mut session, "frobnicate\r");
    until(&mut session, red);
    let mut session = prompt(home.path(), &[("NO_COLOR", "1")]);
    send(&mut session, "frobnicate\r");
    let before = until(&mut session, "error: Couldn't resolve");
    assert!(!before.contains("\u{1b}[31m") && !before.contains("\u{1b}[1m"), "{before:?}");
}
