//! Nothing reaches for a network that was not told to: not in effect, not in its system calls. And no room can: only the
//! host has a crate for it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use common::*;
use std::path::PathBuf;
use std::process::Command;

/// Crates that open connections, or are there for those that do.
const NETWORK: &[&str] = &[
    "async-std",
    "attohttpc",
    "aws-lc-rs",
    "curl",
    "curl-sys",
    "h2",
    "hickory-resolver",
    "hyper",
    "isahc",
    "mio",
    "minreq",
    "native-tls",
    "openssl",
    "openssl-sys",
    "quinn",
    "reqwest",
    "ring",
    "rustls",
    "smol",
    "socket2",
    "surf",
    "tokio",
    "tungstenite",
    "ureq",
    "webpki",
    "winhttp",
];

/// A sample, and the real x64 dump where it is.
fn inputs(test: &str) -> Vec<PathBuf> {
    let mut inputs = vec![sample("seed-double-fault.dmp")];
    inputs.extend(shared(test, "data/dumps/triage_x64.dmp"));
    inputs
}

/// True if the command can be started here and does its work.
fn works(command: &str, arguments: &[&str]) -> bool {
    Command::new(command).args(arguments).output().is_ok_and(|output| output.status.success())
}

#[test]
fn without_a_network_the_report_is_the_same() {
    let test = "without_a_network_the_report_is_the_same";
    if !works("unshare", &["-rn", "true"]) {
        return skipped(test, "`unshare -rn` is not allowed here");
    }
    for input in inputs(test) {
        let with = analyze([&input]);
        assert_eq!(with.code, Some(0));
        let mut command = Command::new("unshare");
        command.args(["-rn", env!("CARGO_BIN_EXE_stopcode"), "analyze", "--format", "json"]).arg(&input);
        let without = finish(&mut command);
        assert_eq!((without.code, without.stderr.as_str()), (Some(0), ""), "{}", name(&input));
        assert!(with.stdout == without.stdout, "{}", name(&input));
    }
}

#[test]
fn no_system_call_is_for_a_network() {
    let test = "no_system_call_is_for_a_network";
    let folder = Folder::new("strace");
    let log = folder.path().join("log");
    let trace = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=%network,execve", "-e", "signal=none", "-o"]).arg(&log);
        let ended = command.arg(env!("CARGO_BIN_EXE_stopcode")).args(arguments).output();
        ended.is_ok_and(|output| output.status.success())
    };
    if !trace(&["--version".as_ref()]) {
        return skipped(test, "`strace` is not there or not allowed");
    }
    for input in inputs(test) {
        // Not even where a symbol path names a server.
        for symbols in ["--symbols=srv*/nonexistent*http://127.0.0.1:9", "--format=json"] {
            assert!(trace(&["analyze".as_ref(), symbols.as_ref(), input.as_os_str()]), "{}", name(&input));
            let log = std::fs::read_to_string(&log).unwrap();
            let (start, rest): (Vec<&str>, Vec<&str>) =
                log.lines().partition(|line| line.contains("execve("));
            assert_eq!(start.len(), 1, "the trace works: {log}");
            assert_eq!(rest, [""; 0], "{}", name(&input));
        }
    }
}

#[test]
fn no_room_is_built_with_a_network_crate() {
    let test = "no_room_is_built_with_a_network_crate";
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = |target: &[&str]| {
        let mut command = Command::new(&cargo);
        command
            .args(["tree", "-p", "stopcode", "--no-default-features"])
            .args(["-e", "normal", "--offline", "--prefix", "none"])
            .args(target);
        command.current_dir(ROOT).output().ok().filter(|output| output.status.success())
    };
    // Crates for other systems may not have been fetched.
    let Some(output) = tree(&["--target", "all"]).or_else(|| tree(&[])) else {
        return skipped(test, "`cargo tree` does not work here");
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(crates.contains(&"stopcode-dump") && crates.contains(&"clap"), "{text}");
    let found: Vec<&&str> = crates.iter().filter(|name| NETWORK.contains(name)).collect();
    assert!(found.is_empty(), "{found:?}");
}
