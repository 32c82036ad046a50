//! Real dumps end to end: facts against a second reader, and what is known of the two published ones.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use common::form::{each, faults_of_dump, faults_of_series};
use common::plain::{Plain, ticks};
use common::*;
use serde_json::Value;
use std::collections::BTreeSet;

/// Published frames of `triage_x64.dmp` on its bug check's stack and on its exception's: two less than were found
/// when this was written (34 of 36 and 27 of 28), so that a change in the unwinder may cost little, not much.
const BUG_CHECK_FRAMES: usize = 32;
const EXCEPTION_FRAMES: usize = 25;

fn hex(value: impl Into<u64>) -> String {
    format!("{:#x}", value.into())
}

#[test]
fn facts_agree_with_a_second_reader() {
    let Some(root) = shared("facts_agree_with_a_second_reader", "data/dumps") else { return };
    let (mut read, mut unread) = (0, 0);
    for path in dumps(&root) {
        let (file, content) = (name(&path), bytes(&path));
        let run = analyze([&path]);
        let report = run.json();
        assert_eq!(faults_of_dump(&report), [""; 0], "{file}");
        assert_eq!(report["input"]["size"], content.len(), "{file}");
        assert_eq!(run.stderr, "", "{file}");
        let plain = Plain(&content);
        if !plain.is_written() {
            assert_eq!(run.code, Some(2), "{file}");
            assert!(report["verdict"].is_null() && !each(&report, "problems/*/hint").is_empty(), "{file}");
            unread += 1;
            continue;
        }
        assert_eq!(run.code, Some(0), "{file}");
        facts(&file, &report, &plain);
        read += 1;
    }
    say(&format!("{read} dumps compared with a second reader, {unread} empty or never written"));
    assert!(read >= 37 && unread >= 3, "{read}, {unread}");
}

fn facts(file: &str, report: &Value, plain: &Plain<'_>) {
    let (stop, system) = (&report["stop"], &report["system"]);
    assert_eq!(stop["code"], hex(plain.stop_code()), "{file}");
    assert_eq!(stop["base_code"], hex(plain.base_code()), "{file}");
    let arguments: Vec<&Value> = each(stop, "arguments/*/value");
    assert_eq!(
        arguments,
        plain.arguments().map(|value| Value::from(hex(value))).iter().collect::<Vec<_>>(),
        "{file}"
    );
    assert_eq!(system["build"], plain.build(), "{file}");
    assert_eq!(system["processors"], plain.processors(), "{file}");
    assert_eq!(system["architecture"], plain.architecture(), "{file}");
    let uptime = system["uptime_seconds"].as_f64().unwrap();
    assert!((uptime - plain.uptime_seconds()).abs() <= 0.001, "{file}: {uptime}");
    assert_eq!(ticks(system["crash_time"].as_str().unwrap()), plain.system_time(), "{file}");
    let version = system["os_version"].as_str().unwrap();
    assert!(version.split('.').any(|part| part == plain.build().to_string()), "{file}: {version}");
    let modules: Vec<(String, u64)> = each(report, "modules/*")
        .into_iter()
        .map(|module| (module["base"].as_str().unwrap().to_owned(), module["size"].as_u64().unwrap()))
        .collect();
    let theirs: Vec<(String, u64)> =
        plain.modules().into_iter().map(|(base, size)| (hex(base), size)).collect();
    assert_eq!(modules, theirs, "{file}");
    assert_eq!(report["unloaded_modules"].as_array().unwrap().len(), plain.unloaded_count(), "{file}");
    assert!(!each(&report["stacks"][0], "frames/*").is_empty(), "{file}: no stack");
}

#[test]
fn every_dump_together_is_a_series() {
    let Some(root) = shared("every_dump_together_is_a_series", "data/dumps") else { return };
    let run = analyze([&root]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let series = run.json();
    assert_eq!(faults_of_series(&series), [""; 0]);
    assert_eq!(series["dumps"].as_array().unwrap().len(), dumps(&root).len());
    // The readable dumps of a laptop's and of a desktop's series each come from one machine.
    for (folder, least) in [("laptop-81", 20), ("desktop-19041", 5)] {
        let of_folder = |case: &&Value| {
            each(case, "members/*").iter().filter(|path| path.as_str().unwrap().contains(folder)).count()
        };
        let counts: Vec<usize> =
            each(&series, "cases/*").iter().map(of_folder).filter(|count| *count > 0).collect();
        assert_eq!(counts.len(), 1, "{folder}: {counts:?}");
        assert!(counts[0] >= least, "{folder}: {counts:?}");
    }
    assert!(run.stdout == analyze([&root]).stdout, "a second run prints the same");
}

/// What became of drivers between dumps is what their lists of modules say.
#[test]
fn changes_of_drivers_are_those_of_the_lists() {
    let Some(root) = shared("changes_of_drivers_are_those_of_the_lists", "data/dumps") else { return };
    let series = analyze([&root]).json();
    let module = |path: &Value, image: &Value| {
        let dumps = each(&series, "dumps/*");
        let dump = dumps.into_iter().find(|dump| &dump["input"]["path"] == path).unwrap().clone();
        each(&dump, "modules/*").into_iter().find(|module| &module["name"] == image).cloned()
    };
    let mut kinds = BTreeSet::new();
    for change in each(&series, "cases/*/driver_changes/*") {
        let [before, after] = ["before", "after"].map(|side| module(&change[side], &change["image"]));
        match change["change"].as_str().unwrap() {
            "came" => assert!(before.is_none() && after.is_some(), "{change}"),
            "went" => assert!(before.is_some() && after.is_none(), "{change}"),
            "changed" => {
                let dates = [before.unwrap(), after.unwrap()].map(|module| module["link_date"].clone());
                assert_eq!(dates, [change["link_date_before"].clone(), change["link_date_after"].clone()]);
            }
            "at_times" => {
                let (loaded, all) =
                    (change["loaded_in"].as_u64().unwrap(), change["dumps"].as_u64().unwrap());
                assert!((1..all).contains(&loaded), "{change}");
            }
            other => panic!("{other}"),
        }
        kinds.insert(change["change"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["at_times", "came", "changed", "went"]);
    // A graphics driver was exchanged for another version, and crashed on.
    let reasons = each(&series, "cases/*/hypotheses/*/supports/*/text");
    assert!(
        reasons.iter().any(|text| text.as_str().unwrap().contains("another version alone does not mend it"))
    );
}

#[test]
fn the_x64_dump_is_weighed_and_not_condemned() {
    let Some(path) = shared("the_x64_dump_is_weighed_and_not_condemned", "data/dumps/triage_x64.dmp") else {
        return;
    };
    let report = analyze([&path]).json();
    let system = &report["system"];
    assert_eq!((&system["os_version"], &system["processors"]), (&"10.0.19041.804".into(), &16.into()));
    assert!((system["uptime_seconds"].as_f64().unwrap() - 3.7).abs() < 0.05);
    assert_eq!(report["modules"].as_array().unwrap().len(), 151);
    assert_eq!(
        (&report["stop"]["code"], &report["stop"]["base_code"]),
        (&"0x1000007e".into(), &"0x7e".into())
    );
    let exception = &report["exception"];
    assert_eq!((&exception["code"], &exception["symbol"]), (&"0xc0000005".into(), &"amdppm+0x334c".into()));
    let base = each(&report, "modules/*").into_iter().find(|module| module["name"] == "amdppm.sys").unwrap();
    let number =
        |value: &Value| u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert_eq!(number(&exception["address"]), number(&base["base"]) + 0x334c);
    let first = &report["stacks"][0];
    assert_eq!((&first["kind"], &first["frames"][0]["module"]), (&"exception".into(), &"amdppm.sys".into()));

    let hypotheses = each(&report, "verdict/hypotheses/*");
    assert!(hypotheses[0]["confidence"].as_f64().unwrap() < 0.8);
    let named = |module: &Value| hypotheses.iter().find(|h| h["suspect"]["module"] == *module);
    let driver = named(&"amdppm.sys".into()).expect("the driver that ran is named");
    assert!(driver["confidence"].as_f64().unwrap() < 0.8);
    assert!(!each(driver, "contradicts/*").is_empty(), "and something is said for it");
    assert!(hypotheses.iter().any(|h| h["class"] == "firmware_bios"));
    let hypervisor = |h: &&&Value| {
        h["class"] == "os_bug" && h["suspect"]["kind"] == "os" && h["suspect"]["module"].is_null()
    };
    assert!(
        hypotheses.iter().find(hypervisor).unwrap()["suspect"]["name"]
            .as_str()
            .unwrap()
            .contains("hypervisor")
    );

    let evidence =
        hypotheses.iter().flat_map(|h| [each(h, "supports/*"), each(h, "contradicts/*")]).flatten();
    let shown: Vec<&Value> = evidence.filter(|evidence| evidence["command"].is_string()).collect();
    let kinds: BTreeSet<&str> = shown.iter().map(|evidence| evidence["basis"].as_str().unwrap()).collect();
    say(&format!(
        "triage_x64.dmp: {} items of evidence with a command, of these kinds: {kinds:?}",
        shown.len()
    ));
    assert!(kinds.len() >= 3, "{kinds:?}");
    for due in ["context", "code_bytes", "stack", "modules", "environment"] {
        assert!(kinds.contains(due), "{due}: {kinds:?}");
    }
}

#[test]
fn the_arm64_dump_accuses_no_driver() {
    let Some(path) = shared("the_arm64_dump_accuses_no_driver", "data/dumps/triage_arm64.dmp") else {
        return;
    };
    let report = analyze([&path]).json();
    assert_eq!(
        (&report["system"]["build"], &report["system"]["architecture"]),
        (&22000.into(), &"arm64".into())
    );
    assert_eq!(report["system"]["os_version"], "10.0.22000", "a kernel that is in no list has no revision");
    assert_eq!(report["stop"]["code"], "0x1c8");
    for hypothesis in each(&report, "verdict/hypotheses/*") {
        let accused = hypothesis["suspect"]["kind"] == "driver";
        assert!(!accused || hypothesis["confidence"].as_f64().unwrap() < 0.05, "{hypothesis}");
    }
    // A held button has a reason: the hang stands beside it, with what the dump tells of it.
    let hang =
        each(&report, "verdict/hypotheses/*").into_iter().find(|h| h["class"] == "deadlock_or_hang").unwrap();
    assert!(!each(hang, "supports/*").is_empty());
}

/// How many of the published frames a stack has, in order, by instruction and stack pointer.
fn found(published: &[&Value], stack: &Value) -> usize {
    let mut frames = each(stack, "frames/*").into_iter();
    let same = |wanted: &Value, frame: &Value| {
        frame["instruction"] == wanted["instruction"] && frame["stack_pointer"] == wanted["stack_pointer"]
    };
    let mut count = 0;
    for wanted in published {
        let rest = frames.clone();
        if frames.any(|frame| same(wanted, frame)) {
            count += 1;
        } else {
            frames = rest;
        }
    }
    count
}

#[test]
fn published_frames_are_found() {
    let test = "published_frames_are_found";
    let (Some(dumps), Some(golden), Some(symbols)) =
        (shared(test, "data/dumps"), shared(test, "data/golden"), shared(test, "data/isf"))
    else {
        return;
    };
    let stack = |dump: &str, kind: &str, with_symbols: bool| {
        let mut command = stopcode();
        command.args(["analyze", "--format", "json"]).arg(dumps.join(dump));
        if with_symbols {
            command.arg("--symbols").arg(&symbols);
        }
        let report = finish(&mut command).json();
        assert_eq!(faults_of_dump(&report), [""; 0], "{dump}");
        each(&report, "stacks/*").into_iter().find(|stack| stack["kind"] == kind).unwrap().clone()
    };
    let read = |file: &str| -> Value { serde_json::from_slice(&bytes(&golden.join(file))).unwrap() };
    let x64 = read("triage_x64.stack.json");
    let frames = each(&x64, "frames/*");
    // The published stack is the bug check's; from the faulting instruction on it is the exception's too.
    let at =
        frames.iter().position(|frame| frame["symbol"].as_str().unwrap().starts_with("amdppm!")).unwrap();
    for with_symbols in [false, true] {
        let bug_check = found(&frames, &stack("triage_x64.dmp", "bugcheck", with_symbols));
        let exception = found(&frames[at..], &stack("triage_x64.dmp", "exception", with_symbols));
        let how = if with_symbols { "with" } else { "without" };
        say(&format!(
            "triage_x64.dmp, {how} symbols: {bug_check} of {} published frames on the bug check's stack, {exception} \
             of {} on the exception's",
            frames.len(),
            frames.len() - at
        ));
        if with_symbols {
            assert!(bug_check >= BUG_CHECK_FRAMES && exception >= EXCEPTION_FRAMES);
        }
    }
    let arm64 = read("triage_arm64.stack.json");
    let frames = each(&arm64, "frames/*");
    let bug_check = found(&frames, &stack("triage_arm64.dmp", "bugcheck", false));
    say(&format!("triage_arm64.dmp: {bug_check} of {} published frames", frames.len()));
    assert!(bug_check + 2 >= frames.len());
}

#[test]
fn files_that_were_never_written_say_so() {
    let Some(root) = shared("files_that_were_never_written_say_so", "data/dumps/laptop-81") else { return };
    let (mut empty, mut zeros) = (0, 0);
    for path in dumps(&root) {
        let content = bytes(&path);
        if Plain(&content).is_written() {
            continue;
        }
        let report = analyze([&path]).json();
        let problem = &report["problems"][0];
        assert_eq!(problem["severity"], "error", "{}", name(&path));
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.len() > 20), "{}", name(&path));
        let what = problem["what"].as_str().unwrap();
        if content.is_empty() {
            assert!(what.contains("empty"), "{what}");
            empty += 1;
        } else {
            assert!(what.contains("zero"), "{what}");
            zeros += 1;
        }
    }
    assert!(empty >= 1 && zeros >= 1, "{empty} empty, {zeros} zero-filled");
}

/// 0xA0000001 is no code of Microsoft's: a driver passed it, and the call says which.
#[test]
fn a_code_that_a_driver_made_up_is_that_drivers() {
    let Some(root) = shared("a_code_that_a_driver_made_up_is_that_drivers", "data/dumps/laptop-81") else {
        return;
    };
    let mut count = 0;
    for path in dumps(&root) {
        let report = analyze([&path]).json();
        if report["stop"]["code"] != "0xa0000001" {
            continue;
        }
        let file = name(&path);
        assert_eq!(
            (&report["stop"]["base_code"], &report["stop"]["name"]),
            (&"0xa0000001".into(), &Value::Null),
            "{file}"
        );
        assert_eq!(report["system"]["os_version"], "6.3.9600", "{file}");
        let stack = each(&report, "stacks/*").into_iter().find(|stack| stack["kind"] == "bugcheck").unwrap();
        let modules = each(stack, "frames/*/module");
        let caller = modules.iter().find(|module| ***module != "ntoskrnl.exe").unwrap();
        let suspects = each(&report, "verdict/hypotheses/*/suspect/module");
        assert!(suspects.contains(caller), "{file}: {caller} called, {suspects:?} are named");
        count += 1;
    }
    assert!(count >= 10, "{count}");
}
