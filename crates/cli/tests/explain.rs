//! `stopcode explain`, as a user runs it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

fn explain(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stopcode")).arg("explain").args(arguments).output().unwrap()
}

fn text(arguments: &[&str]) -> String {
    let output = explain(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_stop_code_is_known_by_number_and_by_name() {
    let by_number = text(&["7F"]);
    for form in ["0x7f", "7f", "UNEXPECTED_KERNEL_MODE_TRAP", "unexpected_kernel_mode_trap"] {
        assert_eq!(text(&[form]), by_number);
    }
    assert!(by_number.starts_with("UNEXPECTED_KERNEL_MODE_TRAP (7f)\n"));
    assert!(by_number.contains("0x8: double fault"));
    assert!(text(&["1000007f"]).contains("bit 28"));
}

#[test]
fn statuses_drivers_functions_and_matters_are_known() {
    assert!(text(&["c0000005"]).starts_with("STATUS_ACCESS_VIOLATION (c0000005)\n"));
    assert!(text(&["STATUS_ACCESS_VIOLATION"]).contains("c0000005"));
    assert!(text(&["iaStor.sys"]).contains("unless you use RAID"));
    assert!(text(&["KiIpiSendRequest"]).starts_with("nt!KiIpiSendRequest\n"));
    assert_eq!(text(&["double", "fault"]), text(&["double-fault"]));
    let both = text(&["c000021a"]);
    assert!(both.contains("WINLOGON_FATAL_ERROR") && both.contains("STATUS_SYSTEM_PROCESS_TERMINATED"));
}

#[test]
fn json_holds_what_text_cuts() {
    let json: serde_json::Value = serde_json::from_str(&text(&["c4", "--format", "json"])).unwrap();
    let [code] = json.as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!(code["kind"], "stop_code");
    assert!(code["subcodes"].as_array().unwrap().len() > 100);
    assert!(text(&["c4"]).contains("more (--format json shows all)"));
}

#[test]
fn what_nobody_knows_is_2_with_a_hint_and_no_noise() {
    let unknown = explain(&["Doubl"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(unknown.stdout.is_empty());
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        said.contains("nothing is known of Doubl") && said.contains("hint: perhaps nt!KiDouble"),
        "{said}"
    );
    let odd = explain(&["\u{1b}[31m", "--format", "json"]);
    assert_eq!(odd.status.code(), Some(2));
    assert_eq!(String::from_utf8(odd.stdout).unwrap().trim(), "[]");
    assert!(!String::from_utf8(odd.stderr).unwrap().contains('\u{1b}'));
}
