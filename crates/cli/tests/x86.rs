//! 32-bit machines, through the binary: what a machine is described with is what commands show, out of every kind of dump and
//! for kernels of every age, with the address extension and without.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use common::{ROOT, finish, stopcode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use stopcode_synth::container::{self, Kind};
use stopcode_synth::{Hex, Machine};

/// Kernels with structures of their own, each as Windows had it: the address extension became a must with Windows 8.
const KERNELS: [(u32, bool); 7] =
    [(2600, false), (2600, true), (3790, true), (7601, false), (7601, true), (9600, true), (19041, true)];

fn machine(build: u32, pae: bool) -> Machine {
    let path = format!("{ROOT}/samples/driver-null-write-x86.json");
    let described = Machine::read(Path::new(&path)).unwrap();
    // The page tables are the writer's own: those described are at other places than a complete dump has room for.
    Machine { build, pae, pages: Vec::new(), ..described }
}

/// What each command answers with, as data, and its text.
fn asked(dump: &Path, line: &str) -> BTreeMap<String, (Value, String)> {
    let mut command = stopcode();
    command.arg("debug").arg(dump).args(["--format", "json", "-c", line]);
    let run = finish(&mut command);
    assert_eq!(run.stderr, "");
    let answers = run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    answers
        .map(|answer| {
            let text = answer["text"].as_str().unwrap().to_owned();
            (answer["command"].as_str().unwrap().to_owned(), (answer["data"].clone(), text))
        })
        .collect()
}

fn hex(value: Hex) -> Value {
    json!(format!("{:#x}", value.0))
}

/// Writes each kind that holds memory of each kernel, and shows it to `check`.
fn each(check: impl Fn(&Machine, Kind, &Path, &str)) {
    let folder = tempfile::tempdir().unwrap();
    for (build, pae) in KERNELS {
        let machine = machine(build, pae);
        for kind in [Kind::Full, Kind::Summary, Kind::BitmapFull, Kind::BitmapKernel, Kind::Triage] {
            if kind.is_of(machine.arch) {
                let path = folder.path().join("machine.dmp");
                container::write_to(&machine, kind, &mut File::create(&path).unwrap()).unwrap();
                check(&machine, kind, &path, &format!("build {build}, PAE {pae}, {kind:?}"));
            }
        }
    }
}

#[test]
fn registers_and_stack_are_those_of_the_fault() {
    each(|machine, _, dump, what| {
        let answers = asked(dump, ".bugcheck; .ecxr; r; k; dd @$csp+1c L2; .trap 8d9c6920");
        let stop = &answers[".bugcheck"].0;
        assert_eq!(stop["code"], hex(machine.bug_check.code), "{what}");
        assert_eq!(stop["arguments"], json!(machine.bug_check.arguments.map(hex)), "{what}");
        let trap = machine.traps[0].registers;
        for command in ["r", ".trap 8d9c6920"] {
            let shown = &answers[command].0;
            assert_eq!(shown["instruction"], hex(trap.rip), "{what}");
            let expected = [
                ("eax", trap.rax),
                ("ecx", trap.rcx),
                ("edx", trap.rdx),
                ("ebx", trap.rbx),
                ("esp", trap.rsp),
                ("ebp", trap.rbp),
                ("esi", trap.rsi),
                ("edi", trap.rdi),
            ];
            for (name, value) in expected {
                assert_eq!(shown["registers"][name], hex(value), "{what}: {command}: {name}");
            }
        }
        // Behind the frame pointer lie the caller's and the return address.
        let [_, own, caller, ..] = machine.stacks[0].frames.as_slice() else { panic!("{what}") };
        let words = &answers["dd @$csp+1c L2"].0;
        assert_eq!(words["start"], hex(own.sp), "{what}");
        assert_eq!(words["values"], json!([hex(caller.sp), hex(own.ret)]), "{what}");
        let called: Vec<&Value> =
            answers["k"].0["frames"].as_array().unwrap().iter().map(|frame| &frame["instruction"]).collect();
        let returns = machine.stacks[0].frames.iter().map(|frame| frame.ret).filter(|at| at.0 != 0);
        let expected: Vec<Value> = returns.map(hex).collect();
        assert_eq!(called, expected.iter().collect::<Vec<_>>(), "{what}");
    });
}

#[test]
fn processors_threads_and_processes_are_the_machines() {
    each(|machine, kind, dump, what| {
        let crashed = &machine.processors[1];
        let thread = machine.threads.iter().find(|thread| thread.at == crashed.thread).unwrap();
        let process = machine.processes.iter().find(|process| process.at == thread.process).unwrap();
        let answers = asked(dump, "!pcr; !prcb; !thread; !process; ~; !process 0 0");
        let pcr = &answers["!pcr"].0;
        assert_eq!(pcr["processor"], 1, "{what}");
        assert_eq!(pcr["pcr"], hex(Hex(crashed.prcb.0 - 0x120)), "{what}");
        assert_eq!(pcr["prcb"], hex(crashed.prcb), "{what}");
        assert_eq!(pcr["current_thread"], hex(crashed.thread), "{what}");
        assert_eq!(pcr["idle_thread"], hex(crashed.idle_thread), "{what}");
        for (name, value) in [
            ("cr0", crashed.cr0),
            ("cr2", crashed.cr2),
            ("cr3", process.directory_table_base),
            ("cr4", crashed.cr4),
            ("idtr", crashed.idt),
            ("gdtr", crashed.gdt),
        ] {
            assert_eq!(pcr["special"][name], hex(value), "{what}: {name}");
        }
        assert_eq!(pcr["special"]["cr8"], Value::Null, "x86 has none: {what}");
        let prcb = &answers["!prcb"].0;
        assert_eq!(prcb["vendor"], json!(machine.cpu.vendor), "{what}");
        assert_eq!(prcb["mhz"], machine.cpu.mhz, "{what}");
        let (shown, text) = &answers["!thread"];
        assert_eq!(shown["address"], hex(thread.at), "{what}");
        assert_eq!(shown["thread_id"], thread.id.0, "{what}");
        assert_eq!(shown["process_id"], process.id.0, "{what}");
        assert_eq!(shown["attached_process"], hex(process.at), "{what}");
        assert_eq!(shown["stack_limit"], hex(thread.stack_limit), "{what}");
        assert_eq!(shown["stack_base"], hex(thread.stack_base), "{what}");
        assert_eq!(shown["start_address"], hex(thread.start_address), "{what}");
        assert_eq!(shown["priority"], thread.priority, "{what}");
        assert!(!text.contains('`'), "addresses have eight digits: {what}: {text}");
        let shown = &answers["!process"].0;
        assert_eq!(shown["address"], hex(process.at), "{what}");
        assert_eq!(shown["image"], json!(process.name), "{what}");
        assert_eq!(shown["directory_table_base"], hex(process.directory_table_base), "{what}");
        let processors = answers["~"].0.as_array().unwrap();
        for (shown, processor) in processors.iter().zip(&machine.processors) {
            assert_eq!(shown["prcb"], hex(processor.prcb), "{what}");
            assert_eq!(shown["thread"], hex(processor.thread), "{what}");
            assert_eq!(shown["instruction"], hex(processor.registers.rip), "{what}");
        }
        assert_eq!(processors.len(), machine.processors.len(), "{what}");
        if kind != Kind::Triage {
            let listed: Vec<&Value> =
                answers["!process 0 0"].0.as_array().unwrap().iter().map(|it| &it["address"]).collect();
            // The idle process is in no list.
            let expected: Vec<Value> = machine.processes.iter().skip(1).map(|it| hex(it.at)).collect();
            assert_eq!(listed, expected.iter().collect::<Vec<_>>(), "{what}");
        }
    });
}

#[test]
fn modules_and_page_tables_are_the_machines() {
    each(|machine, kind, dump, what| {
        let answers = asked(dump, "lm; .ecxr; !pte @$csp; version");
        let (shown, text) = &answers["lm"];
        let loaded: BTreeMap<&str, &Value> = shown["modules"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["path"].as_str().unwrap(), &it["start"]))
            .collect();
        let bases: Vec<Value> = machine.modules.iter().map(|module| hex(module.base)).collect();
        let names = machine.modules.iter().map(|module| module.path.as_str());
        assert_eq!(loaded, names.zip(&bases).collect(), "{what}");
        let ends: Vec<Value> = machine.unloaded.iter().map(|driver| hex(driver.end)).collect();
        let unloaded: Vec<&Value> =
            shown["unloaded"].as_array().unwrap().iter().map(|driver| &driver["end"]).collect();
        assert_eq!(unloaded, ends.iter().collect::<Vec<_>>(), "{what}");
        assert!(text.contains("8f212000 8f220000   exnetflt"), "{what}: {text}");
        assert!(answers["version"].1.contains("x86"), "{what}");
        if kind == Kind::Triage {
            return;
        }
        // The self-map begins at c0000000; an entry is as wide as the extension makes it.
        let stack = machine.traps[0].registers.rsp.0;
        let width = if machine.pae { 8 } else { 4 };
        let entry = |at: u64| 0xc000_0000 + at / 0x1000 * width;
        let entries = answers["!pte @$csp"].0["entries"].as_array().unwrap().clone();
        let places: Vec<&Value> = entries.iter().map(|entry| &entry["address"]).collect();
        let expected = [hex(Hex(entry(entry(stack)))), hex(Hex(entry(stack)))];
        assert_eq!(places, expected.iter().collect::<Vec<_>>(), "{what}");
        let value = |entry: &Value| {
            u64::from_str_radix(entry["value"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
        };
        let page = value(&entries[1]) & 0xf_ffff_f000 | stack & 0xfff;
        assert_eq!(answers["!pte @$csp"].0["physical"], hex(Hex(page)), "{what}");
    });
}

#[test]
fn the_driver_whose_instruction_faulted_is_the_suspect() {
    each(|_, _, dump, what| {
        let verdict = &common::analyze([dump]).json()["verdict"];
        let first = &verdict["hypotheses"][0];
        assert_eq!(first["suspect"]["module"], "exnetflt.sys", "{what}: {verdict}");
        let fault = "the instruction that faulted is exnetflt+0x2b1c";
        assert!(
            first["supports"].as_array().unwrap().iter().any(|it| it["text"] == fault),
            "{what}: {verdict}"
        );
        // Every command that is evidence's shows something.
        let commands = first["supports"].as_array().unwrap().iter().map(|it| it["command"].as_str().unwrap());
        for command in commands {
            let mut debug = stopcode();
            let run = finish(debug.arg("debug").arg(dump).args(["-c", command]));
            assert_eq!(run.code, Some(0), "{what}: {command}: {}", run.stdout);
            assert!(!run.stdout.contains("unknown:"), "{what}: {command}: {}", run.stdout);
        }
    });
}
