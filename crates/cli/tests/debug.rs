//! `stopcode debug` as a user and a script meet it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use common::*;
use serde_json::Value;
use std::ffi::OsStr;

fn debug<S: AsRef<OsStr>>(arguments: &[S]) -> Run {
    let mut command = stopcode();
    command.arg("debug").arg(sample("seed-double-fault.dmp")).args(arguments);
    finish(&mut command)
}

/// The answers of a run with `--format json`.
fn answers(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn commands_are_answered_in_windbgs_shape() {
    let run = debug(&["-c", ".bugcheck; ub fffff800`032aa875 L3", "-c", "? 0n10+6"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        run.stdout,
        "4: kd> .bugcheck\n\
         Bugcheck code 0000007F\n\
         Arguments 00000000`00000008 00000000`80050033 00000000`000406f8 fffff800`032aa875\n\
         4: kd> ub fffff800`032aa875 L3\n\
         nt+0x94865:\n\
         fffff800`032aa865 0fb70db4892100  movzx   ecx,word ptr [nt+0x2ad220 (fffff800`034c3220)]\n\
         fffff800`032aa86c 0fb705af892100  movzx   eax,word ptr [nt+0x2ad222 (fffff800`034c3222)]\n\
         fffff800`032aa873 8bfa            mov     edi,edx\n\
         4: kd> ? 0n10+6\n\
         Evaluate expression: 16 = 00000000`00000010\n"
    );
}

#[test]
fn json_is_an_object_a_command_with_typed_data() {
    let run = debug(&["--format", "json", "-c", ".bugcheck; dq 0; frobnicate; lmvm iaStor"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(1), ""));
    let answers = answers(&run);
    let status: Vec<&str> = answers.iter().map(|answer| answer["status"].as_str().unwrap()).collect();
    assert_eq!(status, ["answer", "unknown", "failed", "answer"]);
    for answer in &answers {
        let keys: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["command", "status", "reason", "text", "data"]);
        assert_eq!(answer["reason"].is_null(), answer["status"] == "answer", "{answer}");
    }
    assert_eq!(answers[0]["data"]["code"], "0x7f");
    assert!(answers[1]["reason"].as_str().unwrap().contains("not in this dump"));
    let module = &answers[3]["data"]["modules"][0];
    assert_eq!(
        (module["name"].as_str(), module["start"].as_str()),
        (Some("iaStor"), Some("0xfffff8800181f000"))
    );
    assert_eq!(module["link_date"], "2012-02-01T19:15:24Z");
}

#[test]
fn scripts_and_pipes_are_read_until_q() {
    let folder = Folder::new("script");
    let script = folder.write("questions.txt", b"* a comment\n.echo one\n~3s\n.echo two; q\n.echo three\n");
    let expected = "4: kd> .echo one\none\n4: kd> ~3s\n3: kd> .echo two\ntwo\n3: kd> q\n";
    let run = debug(&[OsStr::new("--script"), script.as_os_str()]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), expected, ""));
    let mut command = stopcode();
    command.arg("debug").arg(sample("seed-double-fault.dmp"));
    let fed = feed(&mut command, b".echo one\n");
    assert_eq!((fed.code, fed.stdout.as_str()), (Some(0), "4: kd> .echo one\none\n"));
}

#[test]
fn exit_codes_tell_what_happened() {
    assert_eq!(debug(&["-c", "dq 0"]).code, Some(0));
    assert_eq!(debug(&["-c", "? 1+"]).code, Some(1));
    assert_eq!(debug(&["--frobnicate"]).code, Some(64));
    assert_eq!(debug(&["--script", "/not/there"]).code, Some(2));
    let run = run(["debug", "-c", "k", "/not/there.dmp"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    assert!(run.stderr.starts_with("error: /not/there.dmp: "), "{}", run.stderr);
}

#[test]
fn what_a_line_holds_never_reaches_the_terminal() {
    let run = debug(&["-c", ".echo \u{1b}[31mred\u{202e}"]);
    assert_eq!(run.stdout, "4: kd> .echo \\u{1b}[31mred\\u{202e}\n\\u{1b}[31mred\\u{202e}\n");
}

#[test]
fn the_symbol_path_can_be_changed() {
    let symbols = sample("symbols");
    let line = format!(".sympath; k 1; .sympath+ \"{0}\"; k 1; .sympath nowhere; k 1", symbols.display());
    let run = debug(&["-c", &line]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let of_the_stop: Vec<&str> = run.stdout.lines().filter_map(|line| line.split("     nt").nth(1)).collect();
    assert_eq!(of_the_stop, ["+0x75bc0", "!KeBugCheckEx", "+0x75bc0"]);
    let paths: Vec<&str> =
        run.stdout.lines().filter_map(|line| line.strip_prefix("Symbol search path is: ")).collect();
    assert!(run.stdout.contains("note: no such file or folder: no symbols come from there (nowhere)\n"));
    assert_eq!(paths, ["<empty>", symbols.to_str().unwrap(), "nowhere"]);
}
