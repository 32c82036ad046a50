//! The command as a user and a script meet it: exit codes, streams, formats, kinds of input.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use common::form::{PROMISED, each, faults_of_dump, faults_of_series};
use common::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::process::Stdio;

const ESCAPE: char = '\x1b';
/// What a user of a debugger would paste; invented.
const PASTED: &[u8] = include_bytes!("common/pasted.txt");

#[test]
fn help_teaches_the_exit_codes() {
    let help = run(["analyze", "--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    let (_, exit) = help.stdout.split_once("Exit status:").unwrap();
    for (code, about) in [("0 ", "verdict"), ("2 ", "no verdict"), ("64 ", "usage")] {
        let line = exit.lines().find(|line| line.trim_start().starts_with(code)).unwrap();
        assert!(line.contains(about), "{line}");
    }
    for option in ["--format", "--output", "--symbols", "--online"] {
        assert!(help.stdout.contains(option), "{option}");
    }
    assert!(!help.stdout.contains(ESCAPE));
    let version = run(["--version"]);
    assert_eq!((version.code, version.stderr.as_str()), (Some(0), ""));
    assert_eq!(version.stdout, concat!("stopcode ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn wrong_usage_is_64_and_says_why_on_standard_error() {
    let wrong: [&[&str]; 7] = [
        &[],
        &["analyze"],
        &["frobnicate"],
        &["analyze", "--frobnicate", "x.dmp"],
        &["analyze", "--format", "xml", "x.dmp"],
        &["analyze", "x.dmp", "--output"],
        &["analyze", "x.dmp", "--symbols"],
    ];
    for arguments in wrong {
        let run = run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(
            run.stderr.contains("Usage:") || run.stderr.contains("--help"),
            "{arguments:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn what_cannot_be_read_is_2_and_still_a_report() {
    let folder = Folder::new("unreadable");
    let files = [
        folder.path().join("not-there.dmp"),
        folder.write("empty.dmp", b""),
        folder.write("zeros.dmp", &[0; 0x4000]),
        folder.write("cut.dmp", b"PAGEDU64\x0f\0\0\0"),
        folder.write("binary.dmp", &[0x80, 0x01, 0xfe, 0x00].repeat(0x1000)),
        folder.write("program.exe", b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0\xb8\0\0\0\0\0\0\0\x40\0\0\0"),
        folder.write("broken.zip", b"PK\x03\x04\x14\0\0\0\x08\0 and then the download stopped"),
    ];
    for file in &files {
        let run = analyze([file]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(2), ""), "{}", name(file));
        let report = run.json();
        // A broken archive is an archive all the same.
        assert_eq!(report["dumps"].is_array(), name(file) == "broken.zip");
        let dump = if report["dumps"].is_array() { &report["dumps"][0] } else { &report };
        assert_eq!(faults_of_dump(dump), [""; 0], "{}", name(file));
        assert!(dump["verdict"].is_null() && dump["stop"].is_null(), "{}", name(file));
        assert_eq!(dump["input"]["path"], file.to_str().unwrap());
        assert!(!each(dump, "problems/*/hint").is_empty(), "{}", name(file));
        let hint = each(dump, "problems/*/hint")[0].as_str().unwrap();
        let start: Vec<&str> = hint.split(' ').take(2).collect();
        for format in ["text", "markdown"] {
            let shown = common::run(["analyze", "--format", format, file.to_str().unwrap()]);
            assert_eq!((shown.code, shown.stderr.as_str()), (Some(2), ""), "{}", name(file));
            // The Markdown of a series is an overview; the hints are in the other formats.
            let wanted =
                if format == "markdown" && report["dumps"].is_array() { name(file) } else { start.join(" ") };
            assert!(shown.stdout.contains(&wanted), "{}: {}", name(file), shown.stdout);
        }
    }
}

#[test]
fn messages_never_mix_with_results() {
    for sample in samples() {
        let quiet = analyze([&sample]);
        assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""), "{}", name(&sample));
        let told = run(["analyze", "--online", "--format", "json", sample.to_str().unwrap()]);
        assert_eq!(told.code, Some(0));
        assert!(told.stderr.starts_with("note: "), "{}", told.stderr);
        assert_eq!(told.stdout, quiet.stdout);
    }
}

#[test]
fn output_goes_to_the_file_that_was_named() {
    let folder = Folder::new("output");
    for format in ["text", "json", "markdown"] {
        let path = sample("driver-null-write.dmp");
        let arguments = ["analyze", "--format", format, path.to_str().unwrap()];
        let printed = run(arguments);
        assert_eq!(printed.code, Some(0));
        let file = folder.path().join(format);
        let written = finish(stopcode().args(arguments).arg("-o").arg(&file));
        assert_eq!((written.code, written.stdout.as_str(), written.stderr.as_str()), (Some(0), "", ""));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), printed.stdout);
        assert!(printed.stdout.ends_with('\n') && !printed.stdout.contains(ESCAPE));
    }
    let nowhere = folder.path().join("no such folder/report");
    let failed = finish(stopcode().args(["analyze", "-o"]).arg(nowhere).arg(sample("driver-null-write.dmp")));
    assert!(failed.code.is_some_and(|code| code != 0 && code != 64), "{:?}", failed.code);
    assert!(failed.stdout.is_empty() && failed.stderr.starts_with("error: "), "{}", failed.stderr);
}

#[test]
fn a_pipe_gets_no_escapes() {
    let sample = sample("seed-double-fault.dmp");
    for format in ["text", "json", "markdown"] {
        for (variable, value) in [("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1"), ("TERM", "xterm-256color")] {
            let mut command = stopcode();
            let run = finish(command.env(variable, value).args(["analyze", "--format", format]).arg(&sample));
            assert_eq!(run.code, Some(0));
            assert!(!run.stdout.contains(ESCAPE), "{format} with {variable}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_gets_colours_unless_told_otherwise() {
    let line = format!(
        "'{}' analyze '{}'",
        env!("CARGO_BIN_EXE_stopcode"),
        sample("seed-double-fault.dmp").display()
    );
    let on_terminal = |no_colour: bool| {
        let mut script = std::process::Command::new("script");
        script.args(["-q", "-e", "-c", &line, "/dev/null"]).env("TERM", "xterm-256color");
        for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            script.env_remove(variable);
        }
        if no_colour {
            script.env("NO_COLOR", "1");
        }
        script.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())
    };
    let (Some(coloured), Some(plain)) = (on_terminal(false), on_terminal(true)) else {
        return skipped("a_terminal_gets_colours_unless_told_otherwise", "no `script` to be the terminal");
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(text(&coloured.stdout).contains("\x1b["));
    assert!(!text(&plain.stdout).contains("\x1b["));
    assert!(text(&plain.stdout).contains("UNEXPECTED_KERNEL_MODE_TRAP"));
}

#[test]
fn standard_input_is_read() {
    let sample = sample("memory-bit-flip.dmp");
    let by_name = analyze([&sample]).json();
    let run = feed(stopcode().args(["analyze", "--format", "json", "-"]), &bytes(&sample));
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let mut report = run.json();
    assert_eq!(report["input"]["path"], "-");
    assert_eq!(report["input"]["size"], by_name["input"]["size"]);
    report["input"] = by_name["input"].clone();
    assert_eq!(report, by_name);
    let nothing = feed(stopcode().args(["analyze", "--format", "json", "-"]), b"");
    assert_eq!(nothing.code, Some(2));
    assert_eq!(faults_of_dump(&nothing.json()), [""; 0]);
}

#[test]
fn pasted_text_is_read_like_a_dump() {
    let run = feed(stopcode().args(["analyze", "--format", "json", "-"]), PASTED);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let report = run.json();
    assert_eq!(faults_of_dump(&report), [""; 0]);
    assert_eq!((&report["input"]["kind"], &report["stop"]["base_code"]), (&"text".into(), &"0x7e".into()));
    assert_eq!(report["exception"]["symbol"], "disk+0x5678");
    let suspects = each(&report, "verdict/hypotheses/*/suspect/module");
    assert!(suspects.contains(&&Value::from("disk.sys")), "{suspects:?}");
}

/// As `stopcode analyze … | head -1` does it.
#[test]
fn a_reader_that_has_enough_is_no_error() {
    let sample = sample("driver-null-write.dmp");
    let paths: Vec<&Path> = std::iter::repeat_n(sample.as_path(), 20).collect();
    // More than any pipe holds: the writer must meet the closed end.
    assert!(analyze(&paths).stdout.len() > 0x4_0000);
    for wanted in [0, 1] {
        let mut command = stopcode();
        command.args(["analyze", "--format", "json"]).args(&paths);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdout.take().unwrap();
        pipe.read_exact(&mut vec![0; wanted]).unwrap();
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    }
}

#[test]
fn several_inputs_give_a_series() {
    let folder = Folder::new("series");
    for (index, sample) in samples().iter().enumerate() {
        folder.write(&format!("{index}.dmp"), &bytes(sample));
    }
    folder.write("9.dmp", b"");
    folder.write("notes.md", b"not an input");
    let paths = dumps(folder.path());
    let runs = [
        ("paths", analyze(&paths)),
        ("folder", analyze([folder.path()])),
        ("zip", analyze([folder.write("all.zip", &zip(&paths))])),
    ];
    for (kind, run) in runs {
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{kind}");
        let series = run.json();
        assert_eq!(
            series.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["schema_version", "dumps", "cases"]
        );
        assert_eq!(faults_of_series(&series), [""; 0], "{kind}");
        let shown = |dump: &Value| {
            dump["input"]["path"].as_str().unwrap().rsplit(['/', '!']).next().unwrap().to_owned()
        };
        let names: Vec<String> = each(&series, "dumps/*").into_iter().map(shown).collect();
        assert_eq!(names, paths.iter().map(|path| name(path)).collect::<Vec<_>>(), "{kind}");
        let unread: Vec<bool> =
            each(&series, "dumps/*").into_iter().map(|dump| dump["verdict"].is_null()).collect();
        assert_eq!(unread.iter().position(|unread| *unread), Some(names.len() - 1), "{kind}");
        // Two of the samples are one crash, whole and small; no others are grouped.
        let members: Vec<usize> = each(&series, "cases/*")
            .into_iter()
            .map(|case| case["members"].as_array().unwrap().len())
            .collect();
        assert_eq!(members, [1, 1, 1, 2], "{kind}");
        for case in each(&series, "cases/*") {
            for name in ["machine", "members", "summary", "hypotheses"] {
                assert!(case.get(name).is_some_and(|value| !value.is_null()), "{kind}: {name}");
            }
        }
    }
}

#[test]
fn one_file_in_a_folder_or_an_archive_is_still_a_series() {
    let (folder, elsewhere) = (Folder::new("one"), Folder::new("one-archive"));
    let file = folder.write("only.dmp", &bytes(&sample("driver-null-write.dmp")));
    let archive = elsewhere.write("one.zip", &zip(&[&file]));
    let single = analyze([&file]).json();
    assert!(single.get("dumps").is_none() && single["verdict"].is_object());
    for (path, inner) in [(archive.as_path(), "one.zip!only.dmp"), (folder.path(), "only.dmp")] {
        let series = analyze([path]).json();
        assert_eq!(faults_of_series(&series), [""; 0]);
        assert_eq!(
            (series["dumps"].as_array().unwrap().len(), series["cases"].as_array().unwrap().len()),
            (1, 1)
        );
        let shown = series["dumps"][0]["input"]["path"].as_str().unwrap();
        assert!(shown.ends_with(inner), "{shown}");
        assert_eq!(series["dumps"][0]["verdict"], single["verdict"]);
    }
}

#[test]
fn a_series_of_unreadable_files_has_no_verdict() {
    let folder = Folder::new("all-unreadable");
    folder.write("a.dmp", b"");
    folder.write("b.dmp", &[0; 0x3000]);
    let run = analyze([folder.path()]);
    assert_eq!(run.code, Some(2));
    let series = run.json();
    assert_eq!(faults_of_series(&series), [""; 0]);
    assert_eq!(
        (series["dumps"].as_array().unwrap().len(), series["cases"].as_array().unwrap().len()),
        (2, 0)
    );
}

#[test]
fn two_runs_print_the_same() {
    let all = samples();
    for paths in [&all[..1], &all[1..2], &all[2..], &all[..]] {
        let first = analyze(paths);
        assert!(first.stdout.len() > 1000);
        for _ in 0..2 {
            assert!(analyze(paths).stdout == first.stdout, "{paths:?}");
        }
    }
}

#[test]
fn every_report_keeps_the_form() {
    let folder = Folder::new("form");
    let mut reports: Vec<Value> = samples().iter().map(|path| analyze([path]).json()).collect();
    reports.push(analyze([folder.write("empty.dmp", b"")]).json());
    reports.push(analyze([folder.write("pasted.txt", PASTED)]).json());
    let mut met = BTreeSet::new();
    for report in &reports {
        assert_eq!(faults_of_dump(report), [""; 0], "{}", report["input"]["path"]);
        met.extend(
            PROMISED.iter().filter(|(place, _)| !each(report, place).is_empty()).map(|(place, _)| *place),
        );
    }
    let never: Vec<&str> =
        PROMISED.iter().map(|(place, _)| *place).filter(|place| !met.contains(place)).collect();
    assert_eq!(never, [""; 0], "nothing was checked there");
}

/// Something done to a report.
type Change<'c> = &'c dyn Fn(&mut Value);

/// The check above finds what it looks for, or it would prove nothing.
#[test]
fn a_report_out_of_form_is_found() {
    let good = analyze([sample("driver-null-write.dmp")]).json();
    let faults: [(&str, Change<'_>); 12] = [
        ("left out", &|report| drop(report.as_object_mut().unwrap().remove("exception"))),
        ("not in the schema", &|report| report["guess"] = Value::from(1)),
        ("padded", &|report| report["stop"]["code"] = Value::from("0x000000d1")),
        ("upper case", &|report| report["modules"][0]["base"] = Value::from("0xFFFFF80000000000")),
        ("null table", &|report| report["modules"] = Value::Null),
        ("class", &|report| report["verdict"]["hypotheses"][0]["class"] = Value::from("bad_luck")),
        ("no hypothesis", &|report| report["verdict"]["hypotheses"] = Value::Array(Vec::new())),
        ("order", &|report| report["verdict"]["hypotheses"].as_array_mut().unwrap().reverse()),
        ("sum", &|report| report["verdict"]["hypotheses"][1]["confidence"] = Value::from(0.5)),
        ("command", &|report| {
            report["verdict"]["hypotheses"][0]["supports"][0]["command"] = Value::from("!magic");
        }),
        ("time", &|report| report["system"]["crash_time"] = Value::from("2021-02-21 01:38:22")),
        ("silence", &|report| report["verdict"] = Value::Null),
    ];
    assert_eq!(faults_of_dump(&good), [""; 0]);
    for (what, change) in faults {
        let mut report = good.clone();
        change(&mut report);
        assert!(!faults_of_dump(&report).is_empty(), "{what}");
    }
}

#[test]
fn every_sample_is_read_right_in_every_format() {
    let expected = [
        ("driver-null-write.dmp", "0xd1", "10.0.19041.804", "driver_bug", Some("exnetflt.sys")),
        ("memory-bit-flip.dmp", "0x1a", "10.0.19041.804", "memory_hardware", None),
        ("seed-double-fault.dmp", "0x7f", "6.1.7601", "kernel_stack_overflow", None),
    ];
    for (file, stop, version, class, module) in expected {
        let path = sample(file);
        let report = analyze([&path]).json();
        assert_eq!(
            (&report["stop"]["code"], &report["input"]["kind"]),
            (&stop.into(), &"triage64".into()),
            "{file}"
        );
        let found = report["system"]["os_version"].as_str().unwrap();
        assert!(found.starts_with(version), "{file}: {found}");
        let first = &report["verdict"]["hypotheses"][0];
        assert_eq!(first["class"], class, "{file}");
        if let Some(module) = module {
            assert_eq!(first["suspect"]["module"], module, "{file}");
        }
        let stop_name = report["stop"]["name"].as_str().unwrap();
        for format in ["text", "markdown"] {
            let shown = run(["analyze", "--format", format, path.to_str().unwrap()]).stdout;
            assert!(
                shown.contains(stop_name) || shown.contains(&stop_name.replace('_', "\\_")),
                "{file}: {shown}"
            );
            assert!(module.is_none_or(|module| shown.contains(module)), "{file}: {shown}");
        }
    }
}

/// An archive of files, as any packer makes one.
fn zip(files: &[impl AsRef<Path>]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(name(file.as_ref()), options).unwrap();
        archive.write_all(&bytes(file.as_ref())).unwrap();
    }
    archive.finish().unwrap().into_inner()
}
