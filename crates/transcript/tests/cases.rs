//! Every real case, printed as somebody would have pasted it, in every layout and state of damage.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use stopcode_analysis::{Topic, Witness};
use stopcode_transcript::{Crash, parse};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
const LAYOUTS: [&str; 5] = ["analyze", "k", "kn", "kb", "kv"];
const MANGLES: [&str; 5] = ["none", "quote", "wrap", "html", "tabs"];

/// Prints all cases in all layouts and states of damage in one run of the shared program: one JSON array of
/// `[id, layout, mangle, text]` a line.
const DRIVER: &str = r#"
import json, os, sys
sys.path.insert(0, sys.argv[1])
from render_case import render
for name in sorted(os.listdir(sys.argv[2])):
    with open(os.path.join(sys.argv[2], name)) as f:
        case = json.load(f)
    for layout in sys.argv[3].split(","):
        for mangle in sys.argv[4].split(","):
            print(json.dumps([name, layout, mangle, render(case, True, layout, mangle)]))
"#;

struct Rendered {
    file: String,
    layout: String,
    mangle: String,
    text: String,
}

/// All renderings, or nothing (said aloud) where the program or the cases are not there.
fn rendered(test: &str) -> Option<Vec<Rendered>> {
    let (tools, cases) = (Path::new(SHARED).join("tools"), Path::new(SHARED).join("data/cases"));
    if !tools.join("render_case.py").exists() || !cases.is_dir() {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED: {test}: ../shared is not beside the checkout\n").as_bytes(),
        );
        return None;
    }
    let output = Command::new("python3")
        .args(["-B", "-c", DRIVER])
        .args([&tools, &cases])
        .args([LAYOUTS.join(","), MANGLES.join(",")])
        .output();
    let Ok(output) = output else {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED: {test}: python3 is not installed\n").as_bytes(),
        );
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let parts = lines.lines().map(|line| serde_json::from_str::<[String; 4]>(line).unwrap());
    Some(parts.map(|[file, layout, mangle, text]| Rendered { file, layout, mangle, text }).collect())
}

fn case(file: &str) -> Value {
    let path: PathBuf = Path::new(SHARED).join("data/cases").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value) -> Option<u64> {
    let text = value.as_str()?.replace('`', "");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// The stop code and the arguments that were printed, cut to 32 bits for x86 as the text is.
fn stop_is_right(crash: &Crash, case: &Value) -> bool {
    let mask = if case["arch"] == "x86" { u64::from(u32::MAX) } else { u64::MAX };
    let Some(stop) = crash.stop() else { return false };
    let arguments = case["bugcheck_args"].as_array().unwrap();
    let printed =
        arguments.iter().enumerate().filter_map(|(index, value)| Some((index, number(value)? & mask)));
    let mut known = [false; 4];
    let right = printed.into_iter().all(|(index, value)| {
        known[index] = true;
        stop.arguments[index] == value
    });
    right && known == crash.arguments_known() && Some(u64::from(stop.code)) == number(&case["bugcheck_code"])
}

/// The label that a symbol of a case has in a frame: source lines are left out.
fn label(symbol: &str) -> String {
    symbol.split(" [").next().unwrap().to_owned()
}

/// How many frames there should be, and how many have the right name, stack pointer and address.
fn frames_right(crash: &Crash, case: &Value, layout: &str) -> (usize, usize) {
    let Some(expected) = case["stack"].as_array().filter(|stack| !stack.is_empty()) else { return (0, 0) };
    let Some(stack) = crash.stacks().first() else { return (expected.len(), 0) };
    let mut right = 0;
    let mut address = None;
    for (index, want) in expected.iter().enumerate() {
        let inline = want.get("inline").is_some();
        let symbol = label(want["symbol"].as_str().unwrap());
        let Some(frame) = stack.frames.get(index) else { break };
        let name = match frame.place.label() {
            Some(name) => name == symbol,
            None => number(&want["symbol"]) == Some(frame.instruction.0),
        };
        let pointer =
            number(&want["child_sp"]).is_none_or(|sp| layout == "kb" || frame.stack_pointer.0 == sp);
        let instruction = address.is_none_or(|address: u64| address == 0 || frame.instruction.0 == address);
        right += usize::from(name && pointer && instruction);
        if !inline {
            address = want.get("ret_addr").and_then(number);
        }
    }
    // A frame too many is a wrong frame.
    (expected.len(), right.saturating_sub(stack.frames.len().saturating_sub(expected.len())))
}

#[test]
fn stops_and_stacks_survive_every_rendering() {
    let Some(all) = rendered("stops_and_stacks_survive_every_rendering") else { return };
    let total = all.len();
    let (mut stops, mut frames, mut frames_total) = (0, 0, 0);
    let mut wrong = Vec::new();
    for one in &all {
        let case = case(&one.file);
        let place = format!("{} {} {}", one.file, one.layout, one.mangle);
        let crashes = parse(one.text.as_bytes()).unwrap_or_else(|error| panic!("{place}: {error}"));
        if crashes.len() != 1 {
            wrong.push(format!("{place}: {} crashes", crashes.len()));
            continue;
        }
        let stop = stop_is_right(&crashes[0], &case);
        stops += usize::from(stop);
        let (want, right) = frames_right(&crashes[0], &case, &one.layout);
        frames_total += want;
        frames += right;
        if !stop || want != right {
            wrong.push(format!("{place}: stop {stop}, frames {right} of {want}"));
        }
    }
    eprintln!("{total} texts: stop and arguments right in {stops}, frames right {frames} of {frames_total}");
    eprintln!("{}", wrong.join("\n"));
    assert_eq!(stops, total);
    assert!(frames * 100 >= frames_total * 98, "{}", wrong.join("\n"));
    let undamaged = wrong.iter().filter(|line| !line.contains(" wrap:")).count();
    assert_eq!(undamaged, 0, "{}", wrong.join("\n"));
}

/// Breaks lines at blanks as mail programs do, whatever is in them.
fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut column = 0;
        for word in line.split(' ') {
            if column > 0 && column + 1 + word.len() > width {
                out.push('\n');
                column = 0;
            } else if column > 0 || word.is_empty() {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += word.len();
        }
        out.push('\n');
    }
    out
}

/// What else happens to text on its way.
fn damaged(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let squeezed: String =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect();
    let utf16 = [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let quoted: String =
        wrapped(text, 72).lines().flat_map(|line| ["> > ", line, "\r\n"].map(str::to_owned)).collect();
    vec![
        ("crlf", text.replace('\n', "\r\n").into_bytes()),
        ("double spaced", text.replace('\n', "\n\n").into_bytes()),
        ("no-break spaces", text.replace(' ', "\u{a0}").into_bytes()),
        ("one blank for many", squeezed.into_bytes()),
        ("blank lines lost", text.replace("\n\n", "\n").into_bytes()),
        ("UTF-16", utf16),
        ("typographic quotes", text.replace('`', "\u{2018}").into_bytes()),
        (
            "web page source",
            format!("<pre>{}</pre>", text.replace('<', "&lt;").replace('\n', "<br>")).into_bytes(),
        ),
        ("wrapped at 66", wrapped(text, 66).into_bytes()),
        ("wrapped at 80", wrapped(text, 80).into_bytes()),
        ("wrapped, then quoted twice", quoted.into_bytes()),
    ]
}

#[test]
fn stops_and_stacks_survive_further_damage() {
    let Some(all) = rendered("stops_and_stacks_survive_further_damage") else { return };
    let mut counts: std::collections::BTreeMap<&str, [usize; 4]> = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    for one in all.iter().filter(|one| one.mangle == "none") {
        let case = case(&one.file);
        for (damage, bytes) in damaged(&one.text) {
            let place = format!("{} {} {damage}", one.file, one.layout);
            let crashes = parse(&bytes).unwrap_or_else(|error| panic!("{place}: {error}"));
            let stop = crashes.len() == 1 && stop_is_right(&crashes[0], &case);
            let (want, right) = frames_right(&crashes[0], &case, &one.layout);
            let [texts, stops, total, frames] = counts.entry(damage).or_default();
            *texts += 1;
            *stops += usize::from(stop);
            *total += want;
            *frames += right;
            if !stop || want != right {
                wrong.push(format!(
                    "{place}: {} crashes, stop {stop}, frames {right} of {want}",
                    crashes.len()
                ));
            }
        }
    }
    eprintln!("{}", wrong.join("\n"));
    for (damage, [texts, stops, total, frames]) in counts {
        eprintln!("{damage}: stop right in {stops} of {texts}, frames {frames} of {total}");
        assert_eq!(stops, texts, "{damage}");
        assert!(frames * 100 >= total * 98, "{damage}");
    }
}

#[test]
fn facts_beside_the_stack() {
    let Some(all) = rendered("facts_beside_the_stack") else { return };
    let mut wrong = Vec::new();
    let mut checked = 0;
    for one in &all {
        let case = case(&one.file);
        let crashes = parse(one.text.as_bytes()).unwrap();
        let crash = &crashes[0];
        let mut check = |what: &str, right: bool| {
            checked += 1;
            if !right {
                wrong.push(format!("{} {} {}: {what}", one.file, one.layout, one.mangle));
            }
        };
        let system = crash.system();
        if let Some(build) = case["windows_build"].as_str() {
            check("build", system.build == build.parse().ok());
            check(
                "arch",
                system.arch.map(|arch| arch.to_string()).as_deref()
                    == Some(case["arch"].as_str().unwrap_or("x64")),
            );
            let count = case["cpu_count"].as_u64().map(|count| count as u32);
            check("processors", count.is_none_or(|count| system.processors == Some(count)));
        }
        if case["uptime"].is_string() {
            check("uptime", system.uptime_seconds.get().is_some_and(|seconds| seconds > 0.0));
        }
        if let Some(process) = case["process_name"].as_str() {
            check("process", crash.thread().process.value().map(String::as_str) == Some(process));
        }
        let registers = case["trap_frame_registers"].as_object();
        if let Some(registers) = registers.filter(|registers| registers.contains_key("rip")) {
            let context = crash.context();
            let named = context.value().map(|context| context.registers.named()).unwrap_or_default();
            check(
                "registers",
                registers.iter().all(|(name, value)| {
                    name == "rip"
                        || named.iter().any(|(of, have)| of == name && Some(*have) == number(value))
                        || !name.starts_with('r')
                }),
            );
            check("rip", context.value().map(|c| c.registers.instruction().0) == number(&registers["rip"]));
        }
        if let Some(blame) = case["windbg_blame"]["image_name"].as_str() {
            let first = crash.remarks().iter().find(|remark| remark.topic == Topic::DebuggerBlame);
            check("blame", first.is_some_and(|remark| remark.text.eq_ignore_ascii_case(blame)));
        }
        if let Some(list) = case["modules"].as_array().filter(|list| list.len() >= 5) {
            check("modules", crash.modules().len() >= list.len());
        }
        // The program prints no prose: nobody can have said anything in it.
        check(
            "no prose",
            crash.remarks().iter().all(|remark| !matches!(remark.topic, Topic::Theory | Topic::Product)),
        );
    }
    eprintln!("{checked} facts checked, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
